"""Point groups: the rotations that leave a symmetric map as it is."""

import re

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from morphot_jax.system.errors import InputError, quoted

LARGEST_ORDER = 99  # of an axis


def operators(name: str) -> Float[np.ndarray, "n 3 3"]:
    """The rotations of a point group, the identity first; coordinates along x, y, z.

    ``name``: Cn, an n-fold axis along z; Dn, the same with a two-fold axis along x; T, O or I, with two-fold axes
    along x, y and z. Raises InputError for another name.
    """
    group = name.upper() if isinstance(name, str) else ""
    named = re.fullmatch(r"([CD])([1-9]\d?)|[TOI]", group)
    if named is None:
        raise InputError(
            f"the symmetry {quoted(name)} is unknown: give C1 to C{LARGEST_ORDER}, D1 to D{LARGEST_ORDER}, T, O, I"
        )
    turns = Rotation.create_group(group, axis="Z").as_matrix()
    first = np.argsort(-np.trace(turns, axis1=1, axis2=2), kind="stable")  # the identity has the largest trace
    return turns[first]

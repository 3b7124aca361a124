"""Point groups: the rotations that leave a symmetric map as it is."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from morphot_jax.system.words import point_group


def operators(name: str) -> Float[np.ndarray, "n 3 3"]:
    """The rotations of a point group, the identity first; coordinates along x, y, z.

    ``name``: Cn, an n-fold axis along z; Dn, the same with a two-fold axis along x; T, O or I, with two-fold axes
    along x, y and z. Raises InputError for another name.
    """
    return _turns(point_group(name))


def wider(name: str) -> Float[np.ndarray, "n 3 3"]:
    """Rotations of the axes of a group, one for each way to name them: those that take the group to itself.

    For Cn, which any rotation about z takes to itself, these are its own and the half turns that swap its ends.
    """
    group = operators(name)
    if len(group) == 1:
        return group
    kind, order = point_group(name)[0], name[1:]
    if kind == "D":
        return _turns("O" if order == "2" else f"D{2 * int(order)}")
    return _turns({"C": f"D{order}", "T": "O", "O": "O", "I": "I"}[kind])


def generators(group: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "k 3 3"]:
    """Few rotations of a group, of small angle, whose products are all of it."""
    chosen, made = [], group[:1]
    for turn in group[1:]:
        if _holds(made, turn):
            continue
        chosen.append(turn)
        while (new := next((ab for a in made for b in chosen if not _holds(made, ab := a @ b)), None)) is not None:
            made = np.concatenate([made, new[None]])
    return np.reshape(chosen, (-1, 3, 3))


def _turns(group: str) -> Float[np.ndarray, "n 3 3"]:
    turns = Rotation.create_group(group, axis="Z").as_matrix()
    first = np.argsort(-np.trace(turns, axis1=1, axis2=2), kind="stable")  # the identity has the largest trace
    return turns[first]


def _holds(turns: Float[np.ndarray, "n 3 3"], turn: Float[np.ndarray, "3 3"]) -> bool:
    return bool((np.abs(turns - turn).max(axis=(1, 2)) < 1e-6).any())

"""Words that several rooms share, without slow imports."""

import re
from typing import Literal

from morphot_jax.system.errors import InputError, quoted

KernelKind = Literal["dense", "fft", "log", "heat", "truncated"]
Criterion = Literal["marginal_error", "change_l1", "change_l2"]
Motion = Literal["rigid", "translation"]
View = Literal["z", "y", "x", "tilted"]
Colour = Literal["plain", "displacement", "fading"]
Device = Literal["auto", "cpu", "gpu", "tpu"]

LARGEST_ORDER = 99  # of an axis
SAMPLE = "sample:"  # prefix of the maps that come with the package
SAMPLE_NAMES = ("mmcpn-open", "mmcpn-closed", "adk-open", "adk-closed")


def point_group(name: object) -> str:
    """The name of a point group in capitals: C1 to C99, D1 to D99, T, O or I; InputError for another one."""
    group = name.upper() if isinstance(name, str) else ""
    if re.fullmatch(r"([CD])([1-9]\d?)|[TOI]", group) is None:
        raise InputError(
            f"the symmetry {quoted(name)} is unknown: give C1 to C{LARGEST_ORDER}, D1 to D{LARGEST_ORDER}, T, O, I"
        )
    return group

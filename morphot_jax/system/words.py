"""Words that several rooms share, without slow imports."""

from typing import Literal

KernelKind = Literal["dense", "fft", "log", "heat", "truncated"]
Criterion = Literal["marginal_error", "change_l1", "change_l2"]
Motion = Literal["rigid", "translation"]
View = Literal["z", "y", "x", "tilted"]
Colour = Literal["plain", "displacement"]
Device = Literal["auto", "cpu", "gpu", "tpu"]

SAMPLE = "sample:"  # prefix of the maps that come with the package
SAMPLE_NAMES = ("mmcpn-open", "mmcpn-closed", "adk-open", "adk-closed")

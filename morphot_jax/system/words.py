"""Words that several rooms share, without imports that would slow the command line."""

from typing import Literal

KernelKind = Literal["dense", "fft", "log", "heat", "truncated"]
Criterion = Literal["marginal_error", "change_l1", "change_l2"]
Motion = Literal["rigid", "translation"]
View = Literal["z", "y", "x", "tilted"]
Colour = Literal["plain", "displacement"]
Device = Literal["auto", "cpu", "gpu", "tpu"]

SAMPLE = "sample:"  # what the names of maps that come along begin with
SAMPLE_NAMES = ("mmcpn-open", "mmcpn-closed", "adk-open", "adk-closed")

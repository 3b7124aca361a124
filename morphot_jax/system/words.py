"""The words that users choose from, in one place, without imports that would slow the command line."""

from typing import Literal, get_args

from morphot_jax.system.errors import InputError, did_you_mean

Method = Literal["barycenter", "bridge", "displacement", "mixed", "linear"]
MethodChoice = Literal["auto", "barycenter", "bridge", "displacement", "mixed", "linear"]
Rate = Literal["linear", "sinusoidal", "ramp-up", "ramp-down"]
KernelKind = Literal["dense", "fft", "log", "heat", "truncated"]
KernelChoice = Literal["auto", "dense", "fft", "log", "heat", "truncated"]
Criterion = Literal["marginal_error", "change_l1", "change_l2"]
Mass = Literal["interpolated", "original"]
Precision = Literal["auto", "single", "double"]
Motion = Literal["rigid", "translation"]
Align = Literal["none", "rigid", "translation"]
Match = Literal["none", "mass", "spectrum"]
View = Literal["z", "y", "x", "tilted"]
Colour = Literal["plain", "displacement"]
Device = Literal["auto", "cpu", "gpu", "tpu"]

SAMPLE = "sample:"  # what the names of maps that come along begin with
SAMPLE_NAMES = ("mmcpn-open", "mmcpn-closed", "adk-open", "adk-closed")

PREPARING: dict[str, tuple[str, ...]] = {"align": get_args(Align), "match": get_args(Match)}
SETTINGS: dict[str, tuple[str, ...]] = {
    "method": get_args(MethodChoice),
    "rate": get_args(Rate),
    "kernel": get_args(KernelChoice),
    "criterion": get_args(Criterion),
    "mass": get_args(Mass),
    "precision": get_args(Precision),
}


def check_word(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise InputError, quoting it, for a word that is not to be chosen here."""
    if value not in known:
        meant = did_you_mean(str(value), known)
        raise InputError(f"{name} '{value}' is not known: choose one of {', '.join(known)}{meant}")

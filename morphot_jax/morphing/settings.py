"""What a user can choose about a trajectory, and the checks of it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from morphot_jax.system import words
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Criterion, KernelChoice, Mass, MethodChoice, Precision, Rate

SINGLE_PLAN = {  # methods whose frames all come from one plan, and the kernels that it may have
    "bridge": ("auto", "heat"),
    "displacement": ("auto", "heat", "dense"),
}
DEBIASED = ("barycenter", "mixed")  # methods whose frames are barycenters
MOST_ITERATIONS = 1_000_000  # the history keeps three numbers for each
POSITIVE = (
    "sigma",
    "sigma_angstrom",
    "tolerance",
    "relaxation",
    "iterations",
    "max_iterations",
    "batch",
    "memory",
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be chosen about a trajectory; None and 'auto' are resolved from the maps.

    - ``method``: how to interpolate (``trajectory``); 'auto' as in ``with_method``. ``keyframes``: barycenters per
      pair of the mixed method.
    - ``frames``: how many, ``rate``: at which speed (``frame_times``); or ``times``: explicit t in [0, 1].
    - ``sigma``: standard deviation of the kernel in voxels, or ``sigma_angstrom`` in Å; max(grid) / 60 voxels
      when neither is given. ``kernel``: a kind of ``kernels``.
    - ``criterion``, ``tolerance``, ``max_iterations``: when a solve ends. ``iterations``: make exactly so many.
    - ``relaxation``: over-relaxation w, 1 for the plain iteration; None for the automatic schedule.
    - ``debias``: take the blur of the kernel out of barycenters; the ends are then the maps themselves.
    - ``mass``: 'interpolated' makes the mass of frame t exactly (1 - t) m_0 + t m_1; 'original' multiplies the
      barycenter of the unit-mass maps by the mean of their masses and leaves it there, as the original did.
    - ``precision``: of the solve; frames are always single. ``batch``: frames solved at once. ``memory``: bytes
      that the solve may use.
    """

    method: MethodChoice = "auto"
    frames: int = 25
    times: tuple[float, ...] | None = None
    rate: Rate = "linear"
    keyframes: int = 5
    sigma: float | None = None
    sigma_angstrom: float | None = None
    kernel: KernelChoice = "auto"
    criterion: Criterion = "marginal_error"
    tolerance: float = 1e-6
    max_iterations: int = 500
    iterations: int | None = None
    relaxation: float | None = None
    debias: bool = False
    mass: Mass = "interpolated"
    precision: Precision = "auto"
    batch: int | None = None
    memory: int | None = None


def with_method(settings: Settings) -> tuple[Settings, str]:
    """The settings with one method, and why: displacement, unless something that only barycenters have is set."""
    if settings.method != "auto":
        return settings, "asked for"
    for name, allowed in _single_plan_rules("displacement"):
        value = getattr(settings, name)
        if value not in allowed:
            return replace(settings, method="barycenter"), f"{name} is {value!r}, which belongs to barycenters"
    return replace(settings, method="displacement"), "the nearest to morphs of atoms on every pair that was tried"


def keyframes_between(maps: int, settings: Settings) -> int:
    """Barycenters that the mixed method solves for a sequence of so many maps."""
    return (maps - 1) * (settings.keyframes - 1) + 1


def check_settings(settings: Settings) -> None:
    """Raise InputError, quoting what was given, for settings that cannot be used."""
    for name, known in words.SETTINGS.items():
        words.check_word(name, getattr(settings, name), known)
    for name in POSITIVE:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name} is {value:g}: give a number above 0")
    for name in ("iterations", "max_iterations"):
        if (getattr(settings, name) or 0) > MOST_ITERATIONS:
            raise InputError(f"{name} is {getattr(settings, name)}: give {MOST_ITERATIONS} at most")
    if settings.sigma is not None and settings.sigma_angstrom is not None:
        raise InputError(
            f"sigma is given as {settings.sigma:g} voxels and as {settings.sigma_angstrom:g} Å: give one"
        )
    if settings.relaxation is not None and settings.relaxation >= 2:
        raise InputError(
            f"relaxation is {settings.relaxation:g}: give a number below 2 (1 is the plain iteration)"
        )
    settings, _ = with_method(settings)
    if settings.debias:
        _check_debias(settings)
    if settings.method in SINGLE_PLAN:
        _check_single_plan(settings)
    if settings.keyframes < 2:
        raise InputError(f"keyframes is {settings.keyframes}: the mixed method needs 2 or more")
    _check_times(settings)


def _single_plan_rules(method: str) -> tuple[tuple[str, tuple], ...]:
    """What settings may be where all frames come from one plan."""
    return (
        ("kernel", SINGLE_PLAN[method]),
        ("criterion", ("marginal_error",)),
        ("mass", ("interpolated",)),
        ("precision", ("auto", "double")),  # frames are products of factors that range over hundreds of e-folds
        ("debias", (False,)),
    )


def _check_single_plan(settings: Settings) -> None:
    for name, allowed in _single_plan_rules(settings.method):
        value = getattr(settings, name)
        if value not in allowed:
            raise InputError(
                f"{name} '{value}' does not go with the method '{settings.method}': give {' or '.join(allowed)}"
            )


def _check_debias(settings: Settings) -> None:
    if settings.method not in DEBIASED:
        raise InputError(
            f"method '{settings.method}' has nothing to debias: give {' or '.join(DEBIASED)}, or leave out debias"
        )
    if settings.kernel == "truncated":
        raise InputError("kernel 'truncated' is the original's, which does not debias: give another or auto")
    if settings.relaxation is not None:
        raise InputError(
            f"relaxation is {settings.relaxation:g}: debiased barycenters are not relaxed but mixed; leave it out"
        )


def _check_times(settings: Settings) -> None:
    if settings.times is None:
        if settings.frames < 2:
            raise InputError(f"frames is {settings.frames}: give 2 or more, or explicit times")
        return
    if settings.rate != "linear":
        raise InputError(f"rate '{settings.rate}' and explicit times exclude each other: give one of the two")
    outside = [t for t in settings.times if not 0.0 <= t <= 1.0]
    if outside or not settings.times:
        raise InputError(f"times hold {', '.join(map(str, outside)) or 'nothing'}: give numbers from 0 to 1")


def frame_times(settings: Settings) -> Float[np.ndarray, " t"]:
    """The t of every frame: explicit times as they are, else evenly spaced steps s at the chosen rate.

    linear s; sinusoidal (1 - cos pi s) / 2; ramp-up 1 - cos(pi s / 2); ramp-down sin(pi s / 2).
    """
    if settings.times is not None:
        return np.array(settings.times, np.float64)
    steps = np.linspace(0.0, 1.0, settings.frames)
    times = {
        "linear": steps,
        "sinusoidal": (1.0 - np.cos(np.pi * steps)) / 2.0,
        "ramp-up": 1.0 - np.sin(np.pi * (1.0 - steps) / 2.0),  # 1 - cos(pi s / 2), and exactly 1 at s = 1
        "ramp-down": np.sin(np.pi * steps / 2.0),
    }
    return times[settings.rate]

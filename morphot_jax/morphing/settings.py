"""The options of a trajectory, and which of them go together. Imports neither JAX nor NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_options, declares_options, option
from morphot_jax.system.words import Criterion, KernelKind, point_group

MethodChoice = Literal["auto", "barycenter", "bridge", "displacement", "rigid", "mixed", "linear"]
Rate = Literal["linear", "sinusoidal", "ramp-up", "ramp-down"]
KernelChoice = Literal["auto"] | KernelKind
Mass = Literal["interpolated", "original"]
Precision = Literal["auto", "single", "double"]
BodiesChoice = Literal["none", "auto"]

SINGLE_PLAN = {  # methods whose frames all come from one solve, and the kernels they allow
    "bridge": ("auto", "heat"),
    "displacement": ("auto", "heat", "dense"),
    "rigid": ("auto", "heat"),
}
UNBALANCED = (*SINGLE_PLAN, "barycenter")  # methods that let mass fade and appear
# Options that only the method rigid has, and their values where they are not used.
RIGID_ONLY = {"bodies": "none", "symmetry": "C1"}
DEBIASED = ("barycenter", "mixed")  # methods whose frames are barycenters
STRIDED: tuple[KernelKind, ...] = ("dense", "heat")  # kernels of barycenters on fewer voxels
LARGEST_STRIDE = 8  # voxels between two nodes
ITERATIONS = 500  # by default
MOST_ITERATIONS = 1_000_000  # the history stores three numbers for each
MOST_FRAMES = 10_000  # each is a file
BARYCENTERS = ("morph", "barycenter")  # commands that solve barycenters
WITH_SIGMA = (*BARYCENTERS, "order", "place", "landscape", "field", "bodies")
TRAJECTORY, SOLVE = "Trajectory", "Solve"  # groups of options


@declares_options
@dataclass(frozen=True)
class Settings:
    """The options of a trajectory; None and 'auto' are resolved from the maps.

    The constructor raises InputError for values that cannot be used and for options that do not go together.
    ``with_method`` resolves 'auto' for the method, ``frame_times`` frames and rate, ``plan_for`` the rest.
    """

    method: MethodChoice = option(
        "auto",
        "How to interpolate; auto is rigid, or what the other options ask for.",
        group=TRAJECTORY,
        commands=("morph", "demo", "order"),
    )
    bodies: BodiesChoice = option(
        "none",
        "auto: find parts that move as rigid bodies, for the method rigid.",
        group=TRAJECTORY,
        commands=("morph",),
    )
    symmetry: str = option(
        "C1",
        "Point group of both maps, as in C3, D7 or O: frames have it too. For the method rigid.",
        group=TRAJECTORY,
        commands=("morph",),
    )
    frames: int = option(
        25,
        "How many frames, evenly spaced in time.",
        least=2,
        most=MOST_FRAMES,
        advice=", or explicit times",
        group=TRAJECTORY,
        commands=("morph", "demo", "order"),
    )
    times: Sequence[float] | None = option(
        None,
        "Explicit t in [0, 1], as in 0,0.25,1; 0 is the first map.",
        least=0,
        most=1,
        group=TRAJECTORY,
        commands=("morph",),
    )
    rate: Rate = option("linear", "Speed along the trajectory.", group=TRAJECTORY, commands=("morph",))
    loop: bool = option(
        False,
        "End with the first map again; the last frame comes one step before it.",
        group=TRAJECTORY,
        commands=("morph",),
    )
    weights: Sequence[Sequence[float]] | None = option(
        None,
        "Weights of all maps in one barycenter, as in 0.2,0.5,0.3; repeat for more. [equal weights]",
        least=0,
        group=TRAJECTORY,
        commands=("barycenter",),
    )
    keyframes: int = option(
        5,
        "Barycenters for each pair of maps, for the method mixed.",
        least=2,
        most=MOST_FRAMES,
        group=TRAJECTORY,
        commands=("morph",),
    )
    sigma: float | None = option(
        None,
        "Width of the kernel (standard deviation) in voxels. [longest axis / 60]",
        above=0,
        group=SOLVE,
        commands=WITH_SIGMA,
    )
    sigma_angstrom: float | None = option(None, "The same in Å.", above=0, group=SOLVE, commands=WITH_SIGMA)
    kernel: KernelChoice = option("auto", "How to convolve.", group=SOLVE, commands=BARYCENTERS)
    tolerance: float = option(
        1e-6,
        "A frame is converged when the criterion is at most this.",
        above=0,
        group=SOLVE,
        commands=BARYCENTERS,
    )
    criterion: Criterion = option(
        "marginal_error", "What the tolerance is compared with.", group=SOLVE, commands=BARYCENTERS
    )
    max_iterations: int = option(
        ITERATIONS,
        "The most iterations a frame may take.",
        least=1,
        most=MOST_ITERATIONS,
        group=SOLVE,
        commands=BARYCENTERS,
    )
    iterations: int | None = option(
        None,
        "Make exactly this many iterations.",
        least=1,
        most=MOST_ITERATIONS,
        group=SOLVE,
        commands=BARYCENTERS,
    )
    relaxation: float | None = option(
        None,
        "Over-relaxation: auto, or a number below 2; 1 is the plain iteration.",
        above=0,
        below=2,
        none="auto",
        advice=" (1 is the plain iteration)",
        group=SOLVE,
        commands=BARYCENTERS,
    )
    stride: int | None = option(
        None,
        "Solve barycenters on every so many voxels along each axis, and then on all of them.",
        least=1,
        most=LARGEST_STRIDE,
        none="auto",
        group=SOLVE,
        commands=BARYCENTERS,
    )
    debias: bool = option(
        False,
        "Take the kernel's blur out of barycenters; the ends are the maps.",
        group=SOLVE,
        commands=BARYCENTERS,
    )
    unbalanced: float | None = option(
        None,
        "Reach in Å: what would have to move farther fades and appears instead. All maps on one scale.",
        above=0,
        group=SOLVE,
        commands=BARYCENTERS,
    )
    mass: Mass = option(
        "interpolated",
        "interpolated: frame t has the mass (1-t) m0 + t m1. original: as MorphOT scaled.",
        group=TRAJECTORY,
        commands=("morph",),
    )
    precision: Precision = option(
        "auto", "Of the solve; frames are single precision.", group=SOLVE, commands=BARYCENTERS
    )
    batch: int | None = option(
        None,
        "Frames solved at once: auto or a number.",
        least=1,
        none="auto",
        group=SOLVE,
        commands=BARYCENTERS,
    )
    memory: int | None = option(None, "Bytes that the solve may use.", least=1)

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "symmetry", point_group(self.symmetry))
        _check_together(self)


def with_method(settings: Settings) -> tuple[Settings, str]:
    """The settings with 'auto' resolved to a method, and the reason.

    The method is rigid. Where an option is set that it does not have, it is displacement, or else barycenter.
    """
    if settings.method != "auto":
        return settings, "asked for"
    if settings.weights is not None:
        return replace(settings, method="barycenter"), "weights are given, which only it has"
    for name, without in RIGID_ONLY.items():
        if (value := getattr(settings, name)) != without:
            return replace(settings, method="rigid"), f"{name} is {value!r}, which only it has"
    why = "it is the nearest to morphs of atoms"
    for method, next_method in (("rigid", "displacement"), ("displacement", "barycenter")):
        refused = _refused(method, settings)
        if refused is None:
            return replace(settings, method=method), why
        name, value, _ = refused
        why = f"{name} is {value!r}, which {next_method} has and {method} has not"
    return replace(settings, method="barycenter"), why


def solved_together(settings: Settings) -> int:
    """How many maps a solve joins: two neighbours, or all that have weights."""
    return 2 if settings.weights is None else len(settings.weights[0])


def keyframes_between(maps: int, settings: Settings) -> int:
    """How many barycenters the mixed method solves for a sequence of ``maps`` maps."""
    return (maps - 1) * (settings.keyframes - 1) + 1


def _check_together(settings: Settings) -> None:
    """Raise InputError, quoting both, for options that do not go together."""
    if settings.sigma is not None and settings.sigma_angstrom is not None:
        raise InputError(
            f"sigma is given as {settings.sigma:g} voxels and as {settings.sigma_angstrom:g} Å: give one"
        )
    if settings.times is not None and settings.rate != "linear":
        raise InputError(f"rate is '{settings.rate}' and times are given too: give one of the two")
    if settings.loop and settings.rate != "linear":
        raise InputError(f"rate is '{settings.rate}' and a loop has no ends: leave out one of the two")
    settings, _ = with_method(settings)
    if settings.weights is not None:
        _check_weights(settings, settings.weights)
    for name, without in RIGID_ONLY.items():
        if (value := getattr(settings, name)) != without and settings.method != "rigid":
            raise InputError(
                f"{name} '{value}' does not go with the method '{settings.method}': "
                "give the method rigid, or leave it out"
            )
    if settings.unbalanced is not None:
        _check_unbalanced(settings)
    if settings.debias:
        _check_debias(settings)
    if settings.method in SINGLE_PLAN:
        _check_single_plan(settings)
    if settings.stride is not None and settings.stride > 1 and (why := on_all_voxels(settings)):
        raise InputError(f"stride is {settings.stride} and {why}: leave out one")


def _single_plan_rules(method: str) -> tuple[tuple[str, tuple], ...]:
    """The values that options may have where all frames come from one solve."""
    rounds = (("iterations", (None,)), ("relaxation", (None,)), ("max_iterations", (ITERATIONS,)))
    return (
        *(rounds if method == "rigid" else ()),
        ("kernel", SINGLE_PLAN[method]),
        ("criterion", ("marginal_error",)),
        ("mass", ("interpolated",)),
        ("precision", ("auto", "double")),  # frames are products of factors that range over hundreds of e-folds
        ("debias", (False,)),
    )


def _refused(method: str, settings: Settings) -> tuple[str, object, tuple] | None:
    """The first option that such a method does not have as it is: its name, its value and the allowed ones."""
    for name, allowed in _single_plan_rules(method):
        if (value := getattr(settings, name)) not in allowed:
            return name, value, allowed
    return None


def _check_single_plan(settings: Settings) -> None:
    if refused := _refused(settings.method, settings):
        name, value, allowed = refused
        advice = f"give {' or '.join(map(str, allowed))}" if len(allowed) > 1 else "leave it out"
        raise InputError(f"{name} '{value}' does not go with the method '{settings.method}': {advice}")


def _check_weights(settings: Settings, rows: Sequence[Sequence[float]]) -> None:
    if settings.method != "barycenter":
        raise InputError(
            f"weights are given and the method is '{settings.method}': give barycenter, or leave it out"
        )
    for name, value in (("times", settings.times), ("loop", settings.loop or None)):
        if value is not None:
            raise InputError(
                f"weights and {name} are given: weights say which barycenters to make; give one of the two"
            )
    for row in rows:
        if len(row) != len(rows[0]):
            raise InputError(f"weights has rows of {len(rows[0])} and of {len(row)}: give one weight for each map")
        if not sum(row) > 0:
            raise InputError(
                f"weights holds {', '.join(f'{weight:g}' for weight in row)}: give some map more than 0"
            )
    if len(rows) > MOST_FRAMES:
        raise InputError(f"weights has {len(rows)} rows: give {MOST_FRAMES} or fewer")


def _check_unbalanced(settings: Settings) -> None:
    given = f"unbalanced is {settings.unbalanced:g} Å"
    if settings.method not in UNBALANCED:
        raise InputError(
            f"{given} and the method is '{settings.method}': give {', '.join(UNBALANCED)}, or leave out unbalanced"
        )
    if settings.relaxation is not None:
        raise InputError(
            f"{given} and relaxation is {settings.relaxation:g}, which it does not use: leave out one"
        )
    if settings.debias:
        raise InputError(f"{given} and debias is True: unbalanced barycenters have no blur; leave out debias")
    if settings.kernel == "truncated":
        raise InputError(f"{given} and the kernel is 'truncated', the original's: give another, or auto")


def _check_debias(settings: Settings) -> None:
    if settings.method not in DEBIASED:
        raise InputError(
            f"method '{settings.method}' has nothing to debias: give {' or '.join(DEBIASED)}, or leave out debias"
        )
    if settings.kernel == "truncated":
        raise InputError("kernel 'truncated' is the original's and does not debias: give another kernel, or auto")
    if settings.relaxation is not None:
        raise InputError(
            f"relaxation is {settings.relaxation:g}, which debiased barycenters do not use: leave out one"
        )


def on_all_voxels(settings: Settings) -> str | None:
    """The option that rules out strided barycenters, in words; None where none does."""
    rules = {
        "kernel": ("auto", *STRIDED),
        "precision": ("auto", "double"),
        "debias": (False,),
        "unbalanced": (None,),
        "relaxation": (None,),
        "iterations": (None,),
    }
    for name, allowed in rules.items():
        value = getattr(settings, name)
        if value not in allowed:
            return f"{name} is {value}, which takes all voxels"
    return None


# The default of ``order_maps``, which compares maps with every frame of a morph that is made once.
ORDERING = Settings(method="displacement", frames=101)
# The default of ``place_maps``: barycenters that are compared with maps need no more.
PLACING = Settings(method="barycenter", tolerance=1e-5)
# The default of ``landscape``: values are right to the square of the error.
LANDSCAPE = Settings(method="barycenter", tolerance=1e-3)

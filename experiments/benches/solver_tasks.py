"""The tasks of the solver bench: the rows of each table, in full and with ``--quick``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.benches.roofline import KERNELS, Agreement, Convolution, Roofline
from experiments.maps import side
from experiments.solves import Solve

HALF_WAY = (0.5,)
INNER = (0.25, 0.5)  # frames that represent all where timing every frame would take too long
QUARTERS = (0.25, 0.5, 0.75)
FIVE = (0.0, *QUARTERS, 1.0)
NEAR = 0.2  # of the way between maps 7 sigma apart: close enough for kernels by Fourier transform
SMALL_SIGMA = 1.0  # voxels, in boxes small enough for a cost matrix
PEER_ITERATIONS = 2000
GROWTH_ITERATIONS = 2000  # small kernels need many
PRECISIONS = ("double", "single")


@dataclass(frozen=True)
class Scope:
    """The common settings of the tasks: maps, frames of a trajectory, repeats, and whether to be quick."""

    maps: tuple[str, ...]
    frames: int = 25
    repeats: int = 3
    quick: bool = False


def tasks_of(table: str, scope: Scope) -> Sequence[Solve | Convolution | Agreement | Roofline]:
    """The tasks of one of the tables, in the order of the runs."""
    return {"results": results, "growth": growth, "kernels": kernels, "roofline": roofline}[table](scope)


def results(scope: Scope) -> list[Solve]:
    """Every implementation on boxes of several sizes; the original first, since ratios refer to it."""
    box = _barycenter(scope, "64^3")
    if scope.quick:
        few = replace(_barycenter(scope, "16^3"), timed=INNER)
        peer = [_original(few, INNER), few, _peer(few, "OTT-JAX", "dense", INNER)]
        return [_original(box, FIVE), *_single_plans(box), *peer, *_small(scope)]
    others = [
        ("fft", "double"),
        ("log", "double"),
        ("truncated", "double"),
        ("dense", "single"),
        ("fft", "single"),
    ]
    large, largest = _barycenter(scope, "128^3"), _barycenter(scope, "240^3")
    return [
        _original(box, FIVE),
        *_single_plans(box),
        replace(box, method="displacement", kernel="dense"),
        box,
        replace(box, method="debiased"),
        _peer(box, "OTT-JAX", "dense", INNER),
        _peer(box, "OTT-JAX", "log", HALF_WAY),
        *_small(scope),
        *(replace(box, kernel=kernel, precision=precision, timed=INNER) for kernel, precision in others),
        _original(large, QUARTERS),
        *_single_plans(large),
        replace(large, timed=QUARTERS),
        _original(largest, HALF_WAY),
        *_single_plans(largest),
    ]


def growth(scope: Scope) -> list[Solve]:
    """Bridges, and barycenters by the dense kernel, with growing boxes, numbers of frames and sigmas."""
    if scope.quick:
        grids, grid, frames, sigmas = (16, 24, 32), 24, (5, 9), (0.5, 1.0)
    else:
        grids, grid, frames, sigmas = (32, 48, 64, 96, 128), 64, (5, 25, 100), (0.5, 0.7, 1.0, 2.0, 4.0)
    found = []
    for kind in ("bridge", "barycenter"):

        def base(n: int, sweep: str, method: str = kind) -> Solve:
            kernel, timed = ("heat", ()) if method == "bridge" else ("dense", INNER)
            solve = replace(_barycenter(scope, f"{n}^3"), method=method, kernel=kernel, timed=timed)
            return replace(solve, sweep=sweep, most=GROWTH_ITERATIONS)

        found += [base(n, "grid") for n in grids]
        found += [replace(base(grid, "frames"), frames=count, timed=()) for count in frames]
        found += [replace(base(grid, "sigma"), sigma=sigma) for sigma in sigmas]
    return found


def kernels(scope: Scope) -> list[Convolution | Agreement]:
    """One convolution by each kernel; the barycenter half way by each of those that have the same values."""
    grids = (24,) if scope.quick else (64, 128, 240)
    convolutions = [
        Convolution(kernel, precision, n, n / 60, scope.maps, scope.repeats)
        for n in grids
        for precision in PRECISIONS
        for kernel in KERNELS
    ]
    if scope.quick:
        return [*convolutions, Agreement(16, 0.5, scope.maps), Agreement(16, 0.5, scope.maps, share=NEAR)]
    # In the largest box the log kernel would need most of an hour to converge.
    return [
        *convolutions,
        Agreement(128, 2.0, scope.maps),
        Agreement(128, 2.0, scope.maps, share=NEAR),
        Agreement(240, 4.0, scope.maps, share=NEAR, iterations=10),
    ]


def roofline(scope: Scope) -> list[Roofline]:
    """The dense kernel in either precision."""
    grids, sizes = ((24,), (1024, 2**24)) if scope.quick else ((64, 128, 240), (4096, 2**26))
    return [Roofline(precision, n, *sizes, scope.repeats) for n in grids for precision in PRECISIONS]


def voxels(task: Solve | Convolution | Agreement | Roofline) -> int:
    """Voxels along an axis of the task's box."""
    return task.voxels if isinstance(task, Solve) else task.grid


def _small(scope: Scope) -> list[Solve]:
    """Cases that POT can solve: images by convolutions, and boxes small enough for a cost matrix."""
    image, box = ("32^2", "8^3") if scope.quick else ("64^2", "12^3")
    flat = replace(_barycenter(scope, image), timed=INNER)
    solid = replace(_barycenter(scope, box), timed=HALF_WAY, sigma=SMALL_SIGMA)
    plan = replace(solid, method="plan", frames=1, timed=())
    found = []
    for case, kernel in ((flat, "dense"), (solid, "matrix")):
        found += [_original(case, case.timed), case, _peer(case, "POT", kernel, case.timed)]
    return [*found, plan, _peer(plan, "POT", "matrix", ())]


def _barycenter(scope: Scope, grid: str) -> Solve:
    """The package's barycenters of all frames, at the default sigma."""
    sigma = side(grid) / 60
    case = (grid, sigma, scope.maps, scope.frames)
    return Solve("morphot_jax", "barycenter", "dense", "double", *case, repeats=scope.repeats)


def _single_plans(case: Solve) -> list[Solve]:
    return [replace(case, method=method, kernel="heat") for method in ("bridge", "displacement")]


def _original(case: Solve, timed: tuple[float, ...]) -> Solve:
    return replace(case, implementation="original", kernel="truncated", timed=timed)


def _peer(case: Solve, name: str, kernel: str, timed: tuple[float, ...]) -> Solve:
    return replace(case, implementation=name, kernel=kernel, timed=timed, most=PEER_ITERATIONS)

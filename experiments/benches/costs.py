"""What do the kernels of other ground costs cost in time, how exact are they, and how far do they reach?

    python -m experiments.benches.costs -o OUT

Every kernel of ``costs`` and ``walks``, and those of ``kernels`` beside them, at sigma 1. ``price`` is the time of
K f over that of the dense kernel in the same process, on boxes of 32^3 and 64^3 voxels. ``error`` is the largest
relative error of K f against a matrix over all pairs of voxels of a small box. A spike at the end of a line shows
the range: its values are right to 1e-10, relative, up to ``precise`` voxels, and zero beyond ``end`` (the line has
401 voxels, and a walk there as many steps).

A ball at either end of a U-shaped tube: the bridge of walks inside the tube goes around, and the one of free walks
straight across.

OUT holds ``results.csv`` (a row for each kernel and box), ``costs.png`` (both bridges), ``claims.json``. About a
minute in full on 2 cores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, Claim, conclude
from experiments.options import ShardOptions, command
from morphot_jax import costs, kernels, solve_sinkhorn, walks
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.transport.bridge import walk_frames
from morphot_jax.transport.kernels import Kernel

EDGES, QUICK_EDGES = (32, 64), (16,)  # voxels
SMALL = (5, 6, 7)  # the box of the dense matrices
LINE = 401  # voxels
STEPS = 60  # of the walks whose price is taken; enough for ways across a box of 64^3
REPEATS = 25  # each right after the dense kernel, since other work may share the machine
PRECISE = 1e-10
SIGNED = np.array([[1.2, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 0.8]])  # voxel^2
COLUMNS = ("kernel", "edge", "price", "error", "precise", "end")
TUBE = (9, 24, 24)

Steps = Float[np.ndarray, "*pairs axes"]


@dataclass(frozen=True)
class Asked:
    """A kernel: how it is made for a shape, a covariance and a number of steps, and the log of its law.

    ``law``: of steps and the covariance; None for walks, whose law is the power of their step.
    """

    make: Callable[[kernels.Grid, Float[np.ndarray, "axes axes"], int], Kernel]
    law: Callable[[Steps, Float[np.ndarray, "axes axes"]], Float[np.ndarray, "*pairs"]] | None
    slanted: bool = False


def squared(steps: Steps, covariance: Float[np.ndarray, "axes axes"]) -> Float[np.ndarray, "*pairs"]:
    """d^T A^-1 d."""
    return np.einsum("...i,ij,...j", steps, np.linalg.inv(covariance), steps)


def gaussian(steps: Steps, covariance: Float[np.ndarray, "axes axes"]) -> Float[np.ndarray, "*pairs"]:
    return -squared(steps, covariance) / 2.0


def sd(covariance: Float[np.ndarray, "axes axes"]) -> Float[np.ndarray, " axes"]:
    return np.sqrt(np.diag(covariance))


def power_law(p: float) -> Asked:
    return Asked(
        lambda shape, covariance, _: costs.power(shape, sd(covariance), power=p),
        lambda steps, covariance: -(squared(steps, covariance) ** (p / 2.0)) / p,
    )


KERNELS = {
    "dense": Asked(lambda shape, covariance, _: kernels.dense(shape, sd(covariance)), gaussian),
    "fft": Asked(lambda shape, covariance, _: kernels.fft(shape, sd(covariance)), gaussian),
    "power 1": power_law(1.0),
    "power 1.5": power_law(1.5),
    "capped 4": Asked(
        lambda shape, covariance, _: costs.capped(shape, sd(covariance), cap=4.0),
        lambda steps, covariance: np.maximum(gaussian(steps, covariance), -8.0),
    ),
    "anisotropic": Asked(
        lambda shape, covariance, _: costs.anisotropic(shape, covariance), gaussian, slanted=True
    ),
    "walled": Asked(
        lambda shape, covariance, steps: walks.walled(np.ones(shape, bool), sd(covariance), steps), None
    ),
    "slanted": Asked(walks.slanted, None, slanted=True),
}


def main(options: ShardOptions) -> None:
    """Measure every kernel on boxes, and go around the tube."""
    edges = QUICK_EDGES if options.quick else EDGES
    sweep = Sweep(options.output, grid(study=["costs"], kernel=list(KERNELS), edge=edges), COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with jax.enable_x64(True):
            around, across = tube_frames(inside_tube()), tube_frames(np.ones(TUBE, bool))
        with figures.style():
            figures.save(tube_figure(around, across), options.output / "costs.png")
        conclude(options.output, [*map(exactness, rows), detour(around, across)])


def measure(point: Point) -> Outcome:
    """Price, error and range of a kernel."""
    asked, n = KERNELS[point["kernel"]], point["edge"]
    with jax.enable_x64(True):
        field = jnp.asarray(np.random.default_rng(0).random((n, n, n)))
        both = [made(each, (n, n, n), STEPS) for each in (asked, KERNELS["dense"])]
        ratios = [np.divide(*(seconds(kernel, field) for kernel in both)) for _ in range(1 + REPEATS)]
        precise, end = reach(asked)
        row = {"price": float(np.median(ratios[1:])), "error": error(asked), "precise": precise, "end": end}
    return Outcome([row])


def seconds(kernel: Kernel, field: Float[Array, "z y x"]) -> float:
    """The time of K f; the first time it is compiled too."""
    started = time.perf_counter()
    jax.block_until_ready(applied(kernel, field))
    return time.perf_counter() - started


@jax.jit
def applied(kernel: Kernel, field: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    return kernel.apply(field)


def made(asked: Asked, shape: kernels.Grid, steps: int) -> Kernel:
    return asked.make(shape, SIGNED if asked.slanted else np.eye(3), steps)


def error(asked: Asked) -> float:
    """The largest relative error of K f on the small box; K is brought to the sum of the dense matrix."""
    kernel, field = made(asked, SMALL, STEPS), np.random.default_rng(1).random(SMALL)
    covariance = SIGNED if asked.slanted else np.eye(3)
    places = np.array(list(product(*map(range, SMALL))), float)
    between = places[:, None] - places
    matrix = step_matrix(kernel, between) if asked.law is None else np.exp(asked.law(between, covariance))
    wanted = (matrix @ field.ravel()).reshape(SMALL)
    found = np.asarray(applied(kernel, jnp.asarray(field)))
    return float(np.max(np.abs(found / found.sum() * wanted.sum() / wanted - 1.0)))


def step_matrix(kernel: Kernel, between: Steps) -> Float[np.ndarray, "n n"]:
    """The power of a walk's step between all pairs of voxels, by its definition."""
    step = np.zeros(between.shape[:2])
    for offset, rate in zip(kernel.offsets, np.asarray(kernel.rates), strict=True):
        step += rate * (np.all(between == offset, axis=-1) | np.all(between == np.negative(offset), axis=-1))
    np.fill_diagonal(step, 1.0 - step.sum(axis=1))
    return np.linalg.matrix_power(step, kernel.steps)


def reach(asked: Asked) -> tuple[int, int]:
    """Up to how many voxels a spike's values are right, and how far they go, on a line along x at sigma 1."""
    spike, one = np.zeros(LINE), np.eye(1)
    spike[0] = 1.0
    with np.errstate(divide="ignore"):
        found = np.log(np.asarray(applied(asked.make(spike.shape, one, LINE), jnp.asarray(spike))))
    if asked.law is None:
        wanted = log_walk(LINE, 1.0 / (2.0 * LINE))
    else:
        wanted = asked.law(np.arange(LINE)[:, None], one)
        wanted += found[0] - wanted[0]
    right = np.abs(np.expm1(found - wanted)) < PRECISE * np.maximum(1.0, np.abs(wanted))
    beyond = np.flatnonzero(~right)
    return int(beyond[0]) - 1 if len(beyond) else LINE - 1, int(np.flatnonzero(np.isfinite(found))[-1])


def log_walk(steps: int, rate: float) -> Float[np.ndarray, " x"]:
    """The log of a walk from the end of a line, in extended precision, whose range is ten times as long."""
    values = np.zeros(LINE, np.longdouble)
    values[0] = 1.0
    stays = np.full(LINE, 1.0 - 2.0 * np.longdouble(rate))
    stays[[0, -1]] += rate
    for _ in range(steps):
        values = stays * values + rate * (np.append(values[1:], 0.0) + np.append(0.0, values[:-1]))
    return np.log(values).astype(float)


def exactness(row: Row) -> Claim:
    """A kernel is right against a dense matrix."""
    text = f"{row['kernel']}, {row['edge']}^3: as exact as its dense matrix"
    values = f"{float(row['error']):.0e}; {float(row['price']):.3g} times the dense kernel"
    measured = f"{values}; right to {row['precise']} voxels, ends at {row['end']}"
    return Claim(text, GOAL, f"relative error below {PRECISE:g}", measured, float(row["error"]) < PRECISE)


def inside_tube() -> np.ndarray:
    """A U-shaped tube of seven voxels across."""
    inside = np.zeros(TUBE, bool)
    inside[1:8, 1:22, 1:8] = inside[1:8, 1:22, 16:23] = inside[1:8, 15:22, 1:23] = True
    return inside


def tube_frames(inside: np.ndarray) -> Float[np.ndarray, "t z y x"]:
    """The bridge of walks in a region between balls at both ends of the tube."""
    index = np.indices(TUBE)
    first, last = (
        np.sum((index - np.reshape(centre, (3, 1, 1, 1))) ** 2, axis=0) <= 2.5**2
        for centre in ((4, 4, 4), (4, 4, 19))
    )
    maps = [jnp.asarray(ball / ball.sum()) for ball in (first, last)]
    kernel = walks.walled(inside, 1.0, walks.steps_between(inside, *(np.asarray(a) for a in maps)))
    plan = solve_sinkhorn(*maps, kernel, tolerance=1e-9)
    return np.asarray(walk_frames(*plan.potentials, kernel, jnp.linspace(0.0, 1.0, 9)))


def mean_way(frames: Float[np.ndarray, "t z y x"]) -> Float[np.ndarray, "3 t"]:
    """The centre of mass of every frame, along z, y, x."""
    return np.einsum("tzyx,kzyx->kt", frames, np.indices(TUBE)) / frames.sum(axis=(1, 2, 3))


def detour(around: Float[np.ndarray, "t z y x"], across: Float[np.ndarray, "t z y x"]) -> Claim:
    """Inside the tube nothing leaves it, and mass goes around; free mass goes straight."""
    outside = float(around[:, ~inside_tube()].sum())
    far, straight = (float(np.max(mean_way(frames)[1]) - 4.0) for frames in (around, across))
    lost = float(np.max(np.abs(around.sum(axis=(1, 2, 3)) - 1.0)))
    text = "the bridge inside a U-shaped tube goes around, keeps its mass and leaves the walls empty"
    measured = f"mean way {far:.1f} voxels off the straight line (free: {straight:.1f}), {outside:g} outside, "
    held = outside == 0.0 and far > 10.0 and straight < 1.0 and lost < 1e-9
    return Claim(text, GOAL, "10 voxels or more, exactly zero outside", f"{measured}mass off by {lost:.0e}", held)


def tube_figure(around: Float[np.ndarray, "t z y x"], across: Float[np.ndarray, "t z y x"]) -> Figure:
    """Slices through every second frame, and the mean way; inside the tube, and without walls."""
    figure, axes = figures.panels(2, len(around[::2]), size=(1.5, 1.6))
    for row, frames, name in zip(axes, (around, across), ("inside the tube", "without walls"), strict=True):
        _, y, x = mean_way(frames)
        for panel, frame, share in zip(row, frames[::2], np.linspace(0.0, 1.0, len(frames))[::2], strict=True):
            panel.imshow(frame.sum(axis=0), cmap="Greys", origin="upper")
            panel.contour(inside_tube()[4], levels=[0.5], colors=figures.COLOURS[0], linewidths=0.8)
            panel.plot(x, y, ".-", color=figures.COLOURS[1], linewidth=0.8, markersize=2.0)
            panel.set_title(f"t = {share:g}")
            figures.bare(panel, framed=True)
        row[0].set_ylabel(name)
    return figure


if __name__ == "__main__":
    command(main)()

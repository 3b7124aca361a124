"""One row of a table of times: one implementation solves one case.

Every solve reaches a marginal error of 1e-6 by the package's definition, except debiased ones (1e-5) and the
original's 20 iterations per frame. Times are medians of runs after a first run that compiles. Work that takes
more than ``timing.PATIENCE`` is run once, and its time includes a few seconds of compilation. If only a few frames
are timed, their seconds are scaled up evenly to all frames; for other programs the two ends of a trajectory, which
need hardly an iteration, are not counted. Seconds per iteration are those of one frame. The memory is that of the
process: for every program it includes JAX, which measures the error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments import other_programs
from experiments.maps import is_flat, load, name_of, side, unit_maps
from experiments.methods import ORIGINAL_ITERATIONS, original_barycenter, settings_for, worst
from experiments.other_programs import Limits, Problem
from experiments.timing import median_seconds, timed
from morphot_jax import Settings, kernels, morph, solve_barycenter, solve_sinkhorn
from morphot_jax.system import memory
from morphot_jax.transport.status import Status

TOLERANCE = 1e-6
SINGLE_PLAN = ("bridge", "displacement", "plan")


@dataclass(frozen=True)
class Solve:
    """A solve of one case by one implementation.

    - ``grid``: voxels along an axis and the number of axes, such as 64^3; 64^2 is the projection of the maps.
    - ``timed``: the times of the computed frames, of ``frames`` evenly spaced ones; empty for all of them.
    - ``maps``: two paths or sample:NAME. ``most``: the limit of iterations. ``sweep``: the axis of the growth
      table.
    """

    implementation: str
    method: str
    kernel: str
    precision: str
    grid: str
    sigma: float
    maps: tuple[str, ...]
    frames: int = 25
    timed: tuple[float, ...] = ()
    repeats: int = 3
    most: int = 500
    sweep: str = ""

    def about(self) -> list[dict[str, Any]]:
        shown = ("sweep", "method", "implementation", "kernel", "precision", "grid", "frames", "sigma")
        key = {name: getattr(self, name) for name in shown}
        return [key | {"timed_frames": len(self.timed) or self.frames, "maps": name_of(self.maps)}]

    def rows(self) -> list[dict[str, Any]]:
        outcome = SOLVERS[self.implementation](self)
        (key,) = self.about()
        measured = {
            "seconds": outcome.seconds * self._share(),
            "seconds_per_iteration": outcome.seconds / max(1, sum(outcome.iterations)),
            "iterations": max(outcome.iterations),
            "marginal_error": outcome.marginal_error,
            "peak_memory_bytes": memory.peak(),
            "status": worst(outcome.statuses),
        }
        return [key | measured]

    @property
    def voxels(self) -> int:
        return side(self.grid)

    @property
    def flat(self) -> bool:
        return is_flat(self.grid)

    @property
    def times(self) -> Sequence[float]:
        return self.timed or np.linspace(0.0, 1.0, self.frames).tolist()

    def unit_maps(self) -> Float[np.ndarray, "2 z y x"]:
        return unit_maps(self.maps, self.grid)

    def _share(self) -> float:
        """The factor from the timed frames to all frames."""
        if not self.timed:
            return 1.0
        free = 2 if self.implementation in PEERS and self.frames > 2 else 0
        return (self.frames - free) / len(self.timed)


@dataclass(frozen=True)
class Outcome:
    """Total seconds of the timed frames, iterations and status of each solve, and the largest error."""

    seconds: float
    iterations: list[int]
    marginal_error: float
    statuses: list[str]


def package(task: Solve) -> Outcome:
    """The package: ``morph`` for frames of boxes, the solvers for plans and images."""
    if task.method == "plan" or task.flat:
        return _package_solver(task)
    settings = Settings(
        frames=task.frames,
        times=task.timed or None,
        sigma=task.sigma,
        kernel=task.kernel,
        precision=task.precision,
        tolerance=TOLERANCE,
        max_iterations=task.most,
    )
    pair = load(task.maps, task.voxels)
    seconds, trajectory = timed(lambda: morph(pair, settings_for(task.method, settings)), task.repeats)
    frames = trajectory.frames[:1] if task.method in SINGLE_PLAN else trajectory.frames
    return Outcome(
        seconds,
        [frame.iterations for frame in frames],
        max(frame.marginal_error or 0.0 for frame in frames),
        [str(frame.status) for frame in frames],
    )


def _package_solver(task: Solve) -> Outcome:
    dtype = np.float64 if task.precision == "double" else np.float32
    with jax.enable_x64(task.precision == "double"):
        maps = jnp.asarray(task.unit_maps(), dtype)
        kernel = kernels.make(task.kernel, maps.shape[1:], task.sigma, dtype)
        limits = {"tolerance": TOLERANCE, "max_iterations": task.most}
        weights = jnp.asarray([(1 - t, t) for t in task.times], dtype)

        def work():
            if task.method == "plan":
                return jax.block_until_ready(solve_sinkhorn(maps[0], maps[1], kernel, **limits))
            return jax.block_until_ready(solve_barycenter(maps, weights, kernel, **limits))

        seconds, solution = timed(work, task.repeats)
        iterations, codes = (np.atleast_1d(x) for x in (solution.iterations, solution.status))
        error = float(jnp.max(solution.marginal_error))
    return Outcome(seconds, iterations.tolist(), error, [str(Status(int(code))) for code in codes])


def original(task: Solve) -> Outcome:
    """The original's algorithm in SciPy, 20 iterations per frame."""
    maps, times = task.unit_maps(), task.times

    def work() -> list[float]:
        return [original_barycenter(maps, (1 - t, t), task.sigma)[1] for t in times]

    seconds, errors = timed(work, task.repeats, compiles=False)
    return Outcome(seconds, [ORIGINAL_ITERATIONS] * len(times), max(errors), ["fixed_iterations"])


def ott(task: Solve) -> Outcome:
    """OTT-JAX on the part of the box that this package computes on."""
    maps = other_programs.window(task.unit_maps(), task.sigma)
    return _of_peer(task, maps, partial(other_programs.ott_barycenter, log_mode=task.kernel == "log"))


def pot(task: Solve) -> Outcome:
    """POT on the whole box."""
    if task.method == "plan":
        return _of_peer(task, task.unit_maps(), other_programs.pot_plan)
    return _of_peer(task, task.unit_maps(), partial(other_programs.pot_barycenter, matrix=not task.flat))


def _of_peer(task: Solve, maps: other_programs.Maps, solve: Callable[[Problem], other_programs.Found]) -> Outcome:
    problem = Problem(
        maps, task.sigma, partial(median_seconds, repeats=task.repeats), Limits(TOLERANCE, task.most)
    )
    times = (0.5,) if task.method == "plan" else task.times
    with jax.enable_x64(True):
        peers = [solve(replace(problem, weights=(1 - t, t))) for t in times]
    return Outcome(
        sum(one.seconds for one in peers),
        [one.iterations for one in peers],
        float(np.max([one.marginal_error for one in peers])),  # NaN if any error is NaN
        [one.status for one in peers],
    )


SOLVERS: dict[str, Callable[[Solve], Outcome]] = {
    "morphot_jax": package,
    "original": original,
    "OTT-JAX": ott,
    "POT": pot,
}
PEERS = ("OTT-JAX", "POT")

"""The jobs of ``peers``: a barycenter or a plan by one program, with its time, memory and error."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import other_programs
from experiments.maps import is_flat, load, name_of, side, unit_maps
from experiments.methods import ORIGINAL_ITERATIONS, original_barycenter
from experiments.other_programs import Found, Limits, Maps, Problem
from experiments.solves import TOLERANCE
from experiments.timing import median_seconds
from morphot_jax import Settings, morph, solve_barycenter, solve_sinkhorn
from morphot_jax.system import memory
from morphot_jax.transport.status import Status

SMALL = 16  # voxels: boxes up to this size are for cost matrices, and get a sigma of one voxel
CANNOT = "cannot"
REFERENCE_ERROR = 1e-9

Work = Callable[["Job", Problem], Found]


@dataclass(frozen=True)
class Job:
    """A barycenter or a plan, by one program."""

    job: str
    program: str
    grid: str
    sigma: float
    maps: tuple[str, ...]
    repeats: int = 3
    patience: float = 300.0  # seconds
    most: int = 3000  # iterations

    def rows(self) -> list[dict[str, Any]]:
        """Measure; the peak memory is read before the reference is computed."""
        key = {"maps": name_of(self.maps)}
        maps = unit_maps(self.maps, self.grid)
        if reason := self.why_not(maps):
            return [key | {"status": f"{CANNOT}: {reason}"}]
        timer, limits = partial(median_seconds, repeats=self.repeats), Limits(TOLERANCE, self.most, self.patience)
        problem = Problem(maps, self.sigma, timer, limits)
        with jax.enable_x64(True):
            found = WORK[self.job][self.program](self, problem)
            peak = memory.peak()
            difference = difference_of(self, problem, found)
        row = {"seconds": found.seconds, "iterations": found.iterations, "marginal_error": found.marginal_error}
        return [key | row | {"peak_memory_bytes": peak, "difference": difference, "status": found.status}]

    @property
    def flat(self) -> bool:
        return is_flat(self.grid)

    def why_not(self, maps: Maps) -> str:
        """The reason why the program cannot do this job; empty if it can."""
        if self.program == "original" and self.job == "plan":
            return "it has no plan between two maps"
        if self.program == "GeomLoss" and self.job == "barycenter":
            return "its barycenters are for images, debiased, and on a fixed schedule"
        if self.program == "GeomLoss" and (self.flat or side(self.grid) & (side(self.grid) - 1)):
            return "its grids are cubes whose side is a power of two"
        if self.program == "POT" and not self.flat and side(self.grid) > SMALL:
            masses = [int((data > 0).sum()) for data in maps]
            pairs = maps[0].size ** 2 if self.job == "barycenter" else masses[0] * masses[1]
            return f"it needs a cost matrix of {pairs * 8 / 1e9:.0f} GB, and copies of it"
        return ""


def _own_barycenter(job: Job, problem: Problem) -> Found:
    """The package: ``morph`` on boxes, as users call it; the solver on images."""
    if job.flat:
        return _solver_barycenter(problem)
    prepared = load(job.maps, side(job.grid))
    settings = Settings(
        method="barycenter", times=(0.5,), sigma=job.sigma, tolerance=problem.limits.tolerance, kernel="dense"
    )
    seconds = problem.timer(lambda: morph(prepared, settings))
    found = morph(prepared, settings)
    (frame,) = found.frames
    value = found.densities[0] / found.densities[0].sum(dtype=np.float64)
    return Found(seconds, frame.iterations, frame.marginal_error or 0.0, str(frame.status), value)


def _solver_barycenter(problem: Problem) -> Found:
    maps, weights = jnp.asarray(problem.maps), jnp.array([problem.weights])
    seconds, found = _solved(problem, partial(solve_barycenter, maps, weights, problem.kernel))
    return _found(seconds, found, np.asarray(found.value[0]))


def _own_plan(problem: Problem) -> Found:
    """The package's solver for two maps."""
    kernel = problem.kernel
    seconds, found = _solved(problem, partial(solve_sinkhorn, *map(jnp.asarray, problem.maps), kernel))
    factor = kernel.x[0, 0] * kernel.y[0, 0] * kernel.z[0, 0]
    return _found(seconds, found, (found.potentials[0] + jnp.log(factor), found.potentials[1]))


def _solved(problem: Problem, solve: Callable) -> tuple[float, Any]:
    """Time a solver of this package; return the seconds and the solution."""
    limits = problem.limits

    def work():
        return jax.block_until_ready(solve(tolerance=limits.tolerance, max_iterations=limits.iterations))

    return problem.timer(work), work()


def _found(seconds: float, found: Any, value: Any) -> Found:
    iterations, error, status = (np.ravel(x)[0] for x in (found.iterations, found.marginal_error, found.status))
    return Found(seconds, int(iterations), float(error), str(Status(int(status))), value)


def _original(job: Job, problem: Problem) -> Found:
    def work():
        return original_barycenter(problem.maps, problem.weights, problem.sigma)

    seconds, (value, error) = problem.timer(work), work()
    return Found(seconds, ORIGINAL_ITERATIONS, error, "fixed_iterations", value / value.sum())


def _ott_barycenter(job: Job, problem: Problem, *, log_mode: bool) -> Found:
    """OTT-JAX on the part of the box that this package computes on."""
    inner = other_programs.window(problem.maps, problem.sigma)
    return other_programs.ott_barycenter(replace(problem, maps=inner), log_mode=log_mode)


# By job and by the program's name in tables.
WORK: dict[str, dict[str, Work]] = {
    "barycenter": {
        "morphot_jax": _own_barycenter,
        "original": _original,
        "OTT-JAX, kernel": partial(_ott_barycenter, log_mode=False),
        "OTT-JAX, log": partial(_ott_barycenter, log_mode=True),
        "POT": lambda job, problem: other_programs.pot_barycenter(problem, matrix=not job.flat),
    },
    "plan": {
        "morphot_jax": lambda job, problem: _own_plan(problem),
        "OTT-JAX, kernel": lambda job, problem: other_programs.ott_plan(problem, log_mode=False),
        "OTT-JAX, log": lambda job, problem: other_programs.ott_plan(problem, log_mode=True),
        "POT": lambda job, problem: other_programs.pot_plan(problem),
        "GeomLoss": lambda job, problem: other_programs.geomloss_plan(problem),
    },
}


def difference_of(job: Job, problem: Problem, found: Found) -> float:
    """The relative difference from this package's answer at a much smaller error."""
    exact = replace(problem, timer=_untimed, limits=Limits(REFERENCE_ERROR, job.most))
    if job.job == "plan":
        own = other_programs.plan_value(*_own_plan(exact).value, *problem.maps)
        return abs(other_programs.plan_value(*found.value, *problem.maps) / own - 1)
    if found.value.shape != problem.box:  # solved on the part of the box that matters
        exact = replace(exact, maps=other_programs.window(problem.maps, problem.sigma))
    own = _solver_barycenter(exact).value
    return float(np.linalg.norm(found.value - own) / np.linalg.norm(own))


def _untimed(work: Callable[[], object]) -> float:
    return 0.0

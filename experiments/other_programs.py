"""The same barycenters and plans by other programs, to the same error: OTT-JAX, POT and GeomLoss.

Their kernels are exp(-|x - y|^2 / 2 sigma^2) without a factor; they call this a squared Euclidean cost with
epsilon (or reg) = 2 sigma^2, coordinates in voxels. Whatever their own criterion, the error is this package's,

    sum_k w_k ( || P_k^T 1 - q ||_1 + || P_k 1 - a_k ||_1 ) ,

evaluated from their potentials by the package's dense kernel in double precision (``barycenter_error``). POT's
barycenter of two maps by a cost matrix returns no potentials. It reports d = || P_1^T 1 - P_2^T 1 ||_1 / 2; since
its P_k 1 = a_k and q is the geometric mean of the P_k^T 1, the error is 4 w_1 w_2 d to first order in d. With
unequal weights that function (POT 0.9) meets its marginals at a q that is not the barycenter, because it starts
from the unweighted mean: it is timed with equal weights only.

GeomLoss lowers epsilon from the width of the box and makes one iteration at each step. It has no tolerance; finer
steps (``scaling``) leave a smaller error. Its barycenters are for images only, and debiased.

All functions need JAX in double precision (``jax.enable_x64(True)``). They import their program when called.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax import kernels

Maps = Float[np.ndarray, "k z y x"]
LogField = Float[Array, "z y x"]

CHECK = 10  # iterations between two evaluations of the error, as in both programs
MARGIN = 3.0  # standard deviations around the maps that barycenters may spread into
# OTT-JAX's log mode applies the kernel along one axis after the other, and drops what passes through voxels of
# zero mass: with zeros in the maps it converges to a different result. Adding this mass to a mass of one helps.
FILLING = 1e-100
MOST_THRESHOLDS = 10
SCALINGS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)  # of GeomLoss: factor of the blur at each step


@dataclass(frozen=True)
class Found:
    """A barycenter or plan by another program.

    ``seconds``: of one run of ``iterations`` iterations after compilation; a lower bound unless ``status`` is
    'converged'. ``value``: the barycenter; or log u and log v of a plan, for a kernel that is one at distance
    zero.
    """

    seconds: float
    iterations: int
    marginal_error: float
    status: str
    value: Any = None


@dataclass(frozen=True)
class Limits:
    """When to stop: at the ``tolerance``, or after this number of ``iterations`` or ``seconds``."""

    tolerance: float = 1e-6
    iterations: int = 2000
    seconds: float = 300.0


Timer = Callable[[Callable[[], object]], float]  # returns the seconds that some work takes


@dataclass(frozen=True, eq=False)
class Problem:
    """The barycenter of maps of unit mass with these weights, or the plan between two maps.

    ``sigma``: of the kernel, in voxels. ``timer``: times the work after compilation. ``limits``: when to stop.
    """

    maps: Maps
    sigma: float
    timer: Timer
    limits: Limits
    weights: tuple[float, ...] = (0.5, 0.5)

    @property
    def box(self) -> tuple[int, int, int]:
        """Voxels along z, y and x."""
        return self.maps.shape[1:]

    @property
    def epsilon(self) -> float:
        """The regularisation of the other programs: 2 sigma^2 for the cost |x - y|^2."""
        return 2.0 * self.sigma**2

    @property
    def kernel(self) -> kernels.Kernel:
        """The package's dense kernel, for evaluating errors."""
        return kernels.make("dense", self.box, self.sigma, jnp.float64)


# Takes the program's own threshold; returns the answer, the iterations, and a function for the error.
Run = Callable[[float], tuple[Any, int, Callable[[], float]]]


def window(maps: Maps, sigma: float) -> Maps:
    """The part of the box where barycenters can have mass, cut out as in this package."""
    margin = int(np.ceil(MARGIN * sigma)) + 1
    present = maps.sum(axis=0) > 0
    slices = []
    for axis in range(3):
        index = np.flatnonzero(present.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(max(0, index[0] - margin), index[-1] + 1 + margin))
    return maps[(slice(None), *slices)]


def plan_error(
    log_u: LogField, log_v: LogField, first: LogField, second: LogField, kernel: kernels.Kernel
) -> float:
    """|| P 1 - first ||_1 + || P^T 1 - second ||_1 for P = diag(u) K diag(v) with K[x, x] = 1."""
    log_u, log_v = jnp.asarray(log_u), jnp.asarray(log_v)
    delta = jnp.full(kernel.shape, -jnp.inf).at[0, 0, 0].set(0.0)
    log_u = log_u - kernel.log_apply(delta)[0, 0, 0]  # the package's kernel sums to one instead
    rows = jnp.exp(log_u + kernel.log_apply(log_v))
    columns = jnp.exp(log_v + kernel.log_apply(log_u))
    return float(jnp.sum(jnp.abs(rows - first)) + jnp.sum(jnp.abs(columns - second)))


def plan_value(log_u: LogField, log_v: LogField, first: LogField, second: LogField) -> float:
    """<first, log u> + <second, log v>: the entropic cost of a plan in units of sigma^2."""
    pairs = ((first, np.asarray(log_u)), (second, np.asarray(log_v)))
    return float(sum((mass[mass > 0] * log[mass > 0]).sum() for mass, log in pairs))


def barycenter_error(log_u, log_v, barycenter, maps: Maps, weights, kernel: kernels.Kernel) -> float:
    """sum_k w_k ( || P_k 1 - a_k ||_1 + || P_k^T 1 - q ||_1 )."""
    errors = [
        plan_error(u, v, a, barycenter, kernel) if w > 0 else 0.0
        for u, v, a, w in zip(log_u, log_v, maps, weights, strict=True)
    ]
    return float(np.dot(weights, errors))


def ott_barycenter(problem: Problem, *, log_mode: bool) -> Found:
    """OTT-JAX's FixedBarycenter on a Grid, in kernel or in log mode.

    It runs ten iterations at a time, each run continuing the last, until the error meets the tolerance. Then one
    run of exactly this number of iterations is timed. If the tolerance is not met, the seconds are those of all
    runs.
    """
    limits, kernel = problem.limits, problem.kernel
    solve, potentials = _ott(problem, log_mode)
    found, start, steps = Found(0.0, 0, np.inf, "max_iterations"), (), {}
    while found.iterations < limits.iterations:
        if len(start) not in steps:  # the first step has no start
            steps[len(start)] = _compiled(solve, CHECK, *start)
        started = time.perf_counter()
        output = jax.block_until_ready(steps[len(start)](*start))
        seconds = found.seconds + time.perf_counter() - started
        start = (output.g if log_mode else problem.epsilon * jnp.log(output.g),)
        value = output.histogram.reshape(problem.box)
        error = barycenter_error(*potentials(output), value, problem.maps, problem.weights, kernel)
        found = Found(seconds, found.iterations + CHECK, error, "max_iterations", np.asarray(value))
        if not np.isfinite(error):
            return replace(found, status="nonfinite")
        if error <= limits.tolerance:
            whole = _compiled(solve, found.iterations)
            return replace(found, seconds=problem.timer(partial(_finished, whole)), status="converged")
        if seconds > limits.seconds:
            return replace(found, status="time_limit")
    return found


def _ott(problem: Problem, log_mode: bool):
    """A function of the number of iterations and the start, and one that reads log u and log v from its output."""
    from ott.problems.linear.barycenter_problem import FixedBarycenterProblem  # noqa: PLC0415
    from ott.solvers.linear.discrete_barycenter import FixedBarycenter  # noqa: PLC0415

    maps = problem.maps
    flat = jnp.asarray(maps.reshape(len(maps), -1) + (FILLING if log_mode else 0.0))
    given = FixedBarycenterProblem(_ott_grid(problem), flat, jnp.asarray(problem.weights))

    def solve(iterations: int, start=None):
        solver = FixedBarycenter(
            threshold=0.0, inner_iterations=CHECK, max_iterations=iterations, lse_mode=log_mode
        )
        return solver(given, start)

    def potentials(output):
        logs = (f / problem.epsilon if log_mode else jnp.log(f) for f in (output.f, output.g))
        return tuple(log.reshape(maps.shape) for log in logs)

    return solve, potentials


def _ott_grid(problem: Problem):
    from ott.geometry.grid import Grid  # noqa: PLC0415

    return Grid(x=[jnp.arange(n, dtype=jnp.float64) for n in problem.box], epsilon=problem.epsilon)


def _finished(work: Callable[[], object]) -> object:
    return jax.block_until_ready(work())


def _compiled(solve: Callable, iterations: int, *start: Array) -> Callable:
    """Compile the solve before its first run."""
    return jax.jit(partial(solve, iterations)).lower(*start).compile()


def pot_barycenter(problem: Problem, *, matrix: bool) -> Found:
    """POT's convolutional barycenter of square images (one voxel in z), or of any box with a cost matrix."""
    return _at_threshold(problem, (_pot_matrix if matrix else _pot_convolutional)(problem))


def _pot_convolutional(problem: Problem) -> Run:
    import ot  # noqa: PLC0415

    n = problem.box[-1]
    if problem.box != (1, n, n):
        raise ValueError(f"boxes of {problem.box}: POT's convolutional barycenter takes square images")
    reg = 2.0 * (problem.sigma / (n - 1)) ** 2  # its pixels lie between 0 and 1
    images, weights = problem.maps[:, 0], np.asarray(problem.weights)

    def run(threshold: float):
        value, log = ot.bregman.convolutional_barycenter2d(
            images, reg, weights, numItermax=problem.limits.iterations, stopThr=threshold, log=True
        )

        def error() -> float:
            log_u, log_v = (jnp.log(jnp.asarray(log[name]))[:, None] for name in ("U", "V"))
            return barycenter_error(log_u, log_v, value[None], problem.maps, weights, problem.kernel)

        return value[None], log["niter"] + 1, error

    return run


def _pot_matrix(problem: Problem) -> Run:
    import ot  # noqa: PLC0415

    weights = np.asarray(problem.weights)
    if np.ptp(weights) > 0:
        raise ValueError(f"weights {weights}: POT's barycenter by a cost matrix takes equal ones")
    columns = np.ascontiguousarray(problem.maps.reshape(len(problem.maps), -1).T)
    cost, most = ot.dist(_voxels(problem.box)), problem.limits.iterations

    def run(threshold: float):
        value, log = ot.bregman.barycenter(
            columns, cost, problem.epsilon, weights, numItermax=most, stopThr=threshold, log=True
        )
        error = 4.0 * float(np.prod(weights) * log["err"][-1])
        return value.reshape(problem.box), log["niter"] + 1, lambda: error

    return run


def pot_plan(problem: Problem) -> Found:
    """POT's Sinkhorn plan between two maps, with the cost matrix between the voxels that have mass."""
    import ot  # noqa: PLC0415

    inside = [field > 0 for field in problem.maps]
    cost = ot.dist(*(_voxels(problem.box)[mask.ravel()] for mask in inside))
    masses = [field[mask] for field, mask in zip(problem.maps, inside, strict=True)]

    def run(threshold: float):
        _, log = ot.bregman.sinkhorn(
            *masses, cost, problem.epsilon, numItermax=problem.limits.iterations, stopThr=threshold, log=True
        )

        fields = []
        for mask, scaling in zip(inside, (log["u"], log["v"]), strict=True):
            fields.append(jnp.full(problem.box, -jnp.inf).at[np.nonzero(mask)].set(np.log(scaling)))

        return tuple(fields), log["niter"] + 1, lambda: plan_error(*fields, *problem.maps, problem.kernel)

    return _at_threshold(problem, run)


def ott_plan(problem: Problem, *, log_mode: bool) -> Found:
    """OTT-JAX's Sinkhorn on a Grid, in kernel or in log mode, its threshold tightened until the error is met."""
    from ott.problems.linear.linear_problem import LinearProblem  # noqa: PLC0415
    from ott.solvers.linear.sinkhorn import Sinkhorn  # noqa: PLC0415

    filling = FILLING if log_mode else 0.0
    given = LinearProblem(_ott_grid(problem), *(jnp.asarray(field.ravel() + filling) for field in problem.maps))
    kernel = problem.kernel

    @jax.jit
    def solve(threshold):
        solver = Sinkhorn(
            threshold=threshold,
            inner_iterations=CHECK,
            max_iterations=problem.limits.iterations,
            lse_mode=log_mode,
        )
        found = solver(given)
        return found.f, found.g, found.n_iters

    def run(threshold: float):
        f, g, iterations = jax.block_until_ready(solve(threshold))
        fields = tuple(field.reshape(problem.box) / problem.epsilon for field in (f, g))
        return fields, int(iterations), lambda: plan_error(*fields, *problem.maps, kernel)

    return _at_threshold(problem, run)


def geomloss_plan(problem: Problem) -> Found:
    """GeomLoss' multiscale Sinkhorn on a grid: cubes whose side is a power of two, in double precision.

    Its steps are made finer until the error meets the tolerance or the time is over.
    """
    import torch  # noqa: PLC0415
    from geomloss import sinkhorn_divergence  # noqa: PLC0415

    side = problem.box[0]
    if problem.box != (side, side, side) or side & (side - 1):
        raise ValueError(f"a box of {problem.box}: GeomLoss takes cubes whose side is a power of two")
    a, b = (torch.from_numpy(np.ascontiguousarray(field))[None, None] for field in problem.maps)
    blur = problem.sigma / side  # its voxels lie between 0 and 1
    kernel, limits = problem.kernel, problem.limits

    def solve(scaling: float):
        with torch.no_grad():
            return sinkhorn_divergence(a, b, p=2, blur=blur, scaling=scaling, debias=False, potentials=True)

    def fields_of(potentials) -> list[np.ndarray]:
        with np.errstate(divide="ignore"):
            return [
                np.asarray(field)[0, 0] / blur**2 + np.log(data)
                for field, data in zip(potentials, problem.maps, strict=True)
            ]

    found = Found(0.0, 0, np.inf, "max_iterations")
    for scaling in SCALINGS:
        started = time.perf_counter()
        potentials = solve(scaling)
        seconds = time.perf_counter() - started
        fields = fields_of(potentials)
        reached = plan_error(*fields, *problem.maps, kernel)
        steps = int(np.ceil(np.log(blur) / np.log(scaling))) + 1
        status = "converged" if reached <= limits.tolerance else "max_iterations"
        found = Found(seconds, steps, reached, status, tuple(fields))
        if found.status == "converged":
            return replace(found, seconds=problem.timer(partial(solve, scaling)))
        if seconds * 3 > limits.seconds:
            return replace(found, status="time_limit")
    return found


def _at_threshold(problem: Problem, run: Run) -> Found:
    """Tighten the program's own threshold until the error is at or below the tolerance, then time that run."""
    limits = problem.limits
    threshold = limits.tolerance
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the error shows whether it has converged
        for _ in range(MOST_THRESHOLDS):
            value, iterations, error = run(threshold)
            reached = error()
            if not reached > limits.tolerance or iterations >= limits.iterations:
                break
            threshold *= min(0.9, limits.tolerance / reached)
        seconds = problem.timer(lambda: run(threshold))
    if not np.isfinite(reached):
        return Found(seconds, iterations, reached, "nonfinite", value)
    status = "converged" if reached <= limits.tolerance else "max_iterations"
    return Found(seconds, iterations, reached, status, value)


def _voxels(shape: tuple[int, ...]) -> Float[np.ndarray, "n 3"]:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"), -1).reshape(-1, 3)

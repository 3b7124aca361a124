"""The cost and agreement of kernels, and the speed of a convolution relative to the machine's limits.

These are tasks of the solver bench. The dense convolution of a box of N voxels, z y x along its axes, is three
matrix products:

    2 N (z + y + x) operations ,    at least 6 N + z^2 + y^2 + x^2 numbers read and written .

With the exponentials before and the logarithms after it (``log_apply``), including the maximum, it is at least 11
N numbers. A multilevel iteration of a plan has two such convolutions, and that of a barycenter of k maps 2 k. Of
iterations, the operations are those of these products alone, while bytes and transcendental functions (exp, log,
tanh) are those of all operations of the compiled step, as XLA counts them: traffic that stays in caches too. The
machine's own rates are measured as well: a product of two large square matrices, and a <- b + s a on arrays far
larger than its caches, with three numbers of traffic per element (newly allocated memory would be slower).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments import other_programs
from experiments.maps import load, name_of
from experiments.solves import TOLERANCE
from experiments.timing import median_seconds, timed
from morphot_jax import Settings, kernels, morph, prepare_maps, solve_barycenter, solve_sinkhorn
from morphot_jax.morphing.plan import gap
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.transport import barycenter, sinkhorn
from morphot_jax.transport.barycenter import MultilevelBarycenter
from morphot_jax.transport.loop import Options, Solver
from morphot_jax.transport.sinkhorn import MultilevelSinkhorn
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import side_of

KERNELS = ("dense", "fft", "log", "heat", "truncated")
KERNEL_COLUMNS = ("what", "kernel", "precision", "grid", "sigma", "maps", "seconds", "iterations")
KERNEL_COLUMNS += ("marginal_error", "distance", "difference", "status")
CONVOLUTION, FRAME = "convolution", "frame at t = 0.5"

ROOFLINE_COLUMNS = ("what", "precision", "grid", "operations", "bytes", "transcendentals", "seconds", "gflops")
ROOFLINE_COLUMNS += ("gbytes_per_second", "share_of_matmul", "share_of_bandwidth", "status")
MATMUL, TRIAD = "matrix product", "triad"
ITERATION = {"plan iteration": 2, "barycenter iteration": 4}  # convolutions, for two maps
PARTS = ("three products", "convolution", *ITERATION)
ITERATIONS = (5, 25)  # of two runs: their difference in time is the time of the iterations between them

SOUND = ("converged", "fixed_iterations")


@dataclass(frozen=True)
class Convolution:
    """The time of one convolution of the first map, log f to log K f."""

    kernel: str
    precision: str
    grid: int
    sigma: float
    maps: tuple[str, ...]
    repeats: int = 3

    def about(self) -> list[dict[str, Any]]:
        names = ("kernel", "precision", "sigma")
        key = {name: getattr(self, name) for name in names}
        return [{"what": CONVOLUTION, "grid": f"{self.grid}^3", "maps": name_of(self.maps)} | key]

    def rows(self) -> list[dict[str, Any]]:
        density = load(self.maps, self.grid).volumes[0].data
        with jax.enable_x64(self.precision == "double"):
            dtype = dtype_of(self.precision)
            log_field = jnp.log(jnp.asarray(density, dtype))
            kernel = kernels.make(self.kernel, density.shape, self.sigma, dtype)
            seconds = seconds_of(log_apply, kernel, log_field, repeats=self.repeats)
        return [key | {"seconds": seconds, "status": "timed"} for key in self.about()]


@dataclass(frozen=True)
class Agreement:
    """The difference between barycenters half way, solved by three kernels of the same values.

    ``difference`` of each is the largest relative L2 distance to those whose status is sound. ``iterations``: make
    exactly this number; 0 iterates to convergence. ``share``: if below 1, the second map is replaced by the frame
    at this time of a morph by displacement, so that the maps are near enough for a kernel of short range.
    """

    grid: int
    sigma: float
    maps: tuple[str, ...]
    iterations: int = 0
    share: float = 1.0
    kinds: tuple[str, ...] = ("dense", "fft", "log")

    def about(self) -> list[dict[str, Any]]:
        what = FRAME if self.share == 1.0 else f"{FRAME}, {self.share:g} of the way"
        shared = {"what": what, "precision": "double", "grid": f"{self.grid}^3", "sigma": self.sigma}
        return [shared | {"kernel": name, "maps": name_of(self.maps)} for name in self.kinds]

    def rows(self) -> list[dict[str, Any]]:
        pair = self._pair()
        with jax.enable_x64(True):
            maps = other_programs.window(
                np.stack([unit_mass(data.astype(np.float64)) for data in pair]), self.sigma
            )
            solutions = {name: self._solve(name, maps) for name in self.kinds}
        sound = [name for name, (_, row) in solutions.items() if row["status"] in SOUND]
        differences = differing({name: value for name, (value, _) in solutions.items()}, sound)
        shared = {"distance": gap([pair[0] > 0, pair[1] > 0], (self.sigma,) * 3)}
        return [
            key | solutions[key["kernel"]][1] | shared | {"difference": differences[key["kernel"]]}
            for key in self.about()
        ]

    def _pair(self) -> Float[np.ndarray, "2 z y x"]:
        maps = load(self.maps, self.grid)
        if self.share < 1.0:
            trajectory = morph(maps, Settings(method="displacement", times=(0.0, self.share)))
            maps = prepare_maps([trajectory.volume(i) for i in (0, 1)])
        return np.stack([volume.data for volume in maps.volumes])

    def _solve(self, name: str, maps) -> tuple[np.ndarray, dict[str, Any]]:
        kernel = kernels.make(name, maps.shape[1:], self.sigma, jnp.float64)
        options = {"fixed_iterations": True, "max_iterations": self.iterations} if self.iterations else {}
        weights = jnp.array([[0.5, 0.5]])
        seconds, solution = timed(
            lambda: jax.block_until_ready(
                solve_barycenter(jnp.asarray(maps), weights, kernel, tolerance=TOLERANCE, **options)
            ),
            1,
            compiles=False,
        )
        # The status of a fixed number of iterations does not tell whether the kernel reaches all mass.
        cut_off = float(solution.unreached[0]) > TOLERANCE
        row = {
            "seconds": seconds,
            "iterations": int(solution.iterations[0]),
            "marginal_error": float(solution.marginal_error[0]),
            "status": str(Status.INFEASIBLE if cut_off else Status(int(solution.status[0]))),
        }
        return np.asarray(solution.value[0]), row


@dataclass(frozen=True)
class Measured:
    """The time of a part; its operations, bytes moved, and transcendental functions."""

    seconds: float
    operations: float
    traffic: float
    transcendentals: float = 0.0

    def rates(self) -> dict[str, Any]:
        return {
            "operations": self.operations,
            "bytes": self.traffic,
            "transcendentals": self.transcendentals,
            "seconds": self.seconds,
            "gflops": self.operations / self.seconds / 1e9,
            "gbytes_per_second": self.traffic / self.seconds / 1e9,
        }


@dataclass(frozen=True)
class Roofline:
    """The dense kernel on a box compared with the rates of the machine, in one precision.

    ``matrix``: rows of the square matrices. ``triad``: elements of each array of the triad.
    """

    precision: str
    grid: int
    matrix: int = 4096
    triad: int = 2**26
    repeats: int = 3

    def about(self) -> list[dict[str, Any]]:
        key = {"precision": self.precision, "grid": f"{self.grid}^3"}
        return [key | {"what": what} for what in (MATMUL, TRIAD, *PARTS)]

    def rows(self) -> list[dict[str, Any]]:
        with jax.enable_x64(self.precision == "double"):
            rates = [measured.rates() for measured in (self._matmul(), self._triad(), *self._parts())]
        compute, bandwidth = rates[0]["gflops"], rates[1]["gbytes_per_second"]
        for rate in rates:
            rate["share_of_matmul"] = rate["gflops"] / compute
            rate["share_of_bandwidth"] = rate["gbytes_per_second"] / bandwidth
        return [key | rate | {"status": "timed"} for key, rate in zip(self.about(), rates, strict=True)]

    def _matmul(self) -> Measured:
        n, dtype = self.matrix, dtype_of(self.precision)
        matrix = jax.random.uniform(jax.random.key(0), (n, n), dtype)
        seconds = seconds_of(jnp.matmul, matrix, matrix, repeats=self.repeats)
        return Measured(seconds, 2.0 * n**3, 3.0 * n**2 * dtype.itemsize)

    def _triad(self) -> Measured:
        n, dtype = self.triad, dtype_of(self.precision)
        b, a = (jnp.full((n,), value, dtype) for value in (1.0, 2.0))

        def rounds(count: int):
            return lambda b, a: jax.lax.fori_loop(0, count, lambda _, a: b + 0.5 * a, a)

        few, many = (seconds_of(rounds(count), b, a, repeats=self.repeats) for count in ITERATIONS)
        return Measured((many - few) / (ITERATIONS[1] - ITERATIONS[0]), 2.0 * n, 3.0 * n * dtype.itemsize)

    def _parts(self) -> list[Measured]:
        dtype, box = dtype_of(self.precision), (self.grid,) * 3
        kernel = kernels.make("dense", box, self.grid / 60, dtype)
        maps = jax.random.uniform(jax.random.key(0), (2, *box), dtype)
        plain = seconds_of(lambda kernel, field: kernel.apply(field), kernel, maps[0], repeats=self.repeats)
        in_logs = seconds_of(log_apply, kernel, jnp.log(maps[0]), repeats=self.repeats)
        return [
            Measured(plain, products(box), least_traffic("three products", box, dtype.itemsize)),
            Measured(
                in_logs, products(box), least_traffic("convolution", box, dtype.itemsize), 2.0 * maps[0].size
            ),
            *(self._iteration(what, maps, kernel) for what in ITERATION),
        ]

    def _iteration(self, what: str, maps, kernel: kernels.Kernel) -> Measured:
        """One multilevel iteration of a plan, or of one barycenter."""
        half = jnp.full((1, 2), 0.5, maps.dtype)
        of_plan = what == "plan iteration"

        def solve(iterations: int):
            exact = {"max_iterations": iterations, "fixed_iterations": True}
            if of_plan:
                return lambda kernel, maps: solve_sinkhorn(*maps, kernel, **exact).marginal_error
            return lambda kernel, maps: solve_barycenter(maps, half, kernel, **exact).marginal_error

        few, many = (seconds_of(solve(n), kernel, maps, repeats=self.repeats) for n in ITERATIONS)
        if of_plan:
            problem = sinkhorn.Problem(side_of(maps[0]), side_of(maps[1]), kernel)
            counted = counts_of_step(MultilevelSinkhorn(), problem)
        else:
            counted = counts_of_step(MultilevelBarycenter(), barycenter.Problem(side_of(maps), half, kernel))
        return Measured(
            (many - few) / (ITERATIONS[1] - ITERATIONS[0]),
            ITERATION[what] * products(kernel.shape),
            counted["bytes accessed"],
            counted["transcendentals"],
        )


def counts_of_step(solver: Solver, problem: Any) -> dict[str, float]:
    """What XLA counts of one step of a solver: among others ``bytes accessed`` and ``transcendentals``."""
    state, memory, _ = solver.start(problem, None)
    leaves, form = jax.tree.flatten((state, memory))

    def step(leaves: list[jax.Array]) -> list[jax.Array]:
        return jax.tree.leaves(solver.step(problem, Options(), *form.unflatten(leaves), jnp.int32(5)))

    return jax.jit(step).lower(leaves).compile().cost_analysis()


def products(box: tuple[int, int, int]) -> float:
    """The operations of the three matrix products of a convolution."""
    return 2.0 * float(np.prod(box)) * sum(box)


def least_traffic(what: str, box: tuple[int, int, int], itemsize: int) -> float:
    """The bytes that three products, or a whole convolution of logs, must move at least."""
    passes = 6.0 if what == "three products" else 11.0
    return (passes * float(np.prod(box)) + float(sum(axis**2 for axis in box))) * itemsize


def differing(values: dict[str, np.ndarray], sound: list[str]) -> dict[str, float | None]:
    """The largest relative L2 distance of each to the sound others; None if there is no other."""
    differences = {}
    for name, value in values.items():
        others = [values[other] for other in sound if other != name]
        distances = [float(np.linalg.norm(value - other) / np.linalg.norm(other)) for other in others]
        differences[name] = max(distances, default=None)
    return differences


def log_apply(kernel: kernels.Kernel, log_field: jax.Array) -> jax.Array:
    return kernel.log_apply(log_field)


def seconds_of(work: Callable, *arguments: Any, repeats: int) -> float:
    """The median time of a function of arrays, or of dataclasses of arrays, after compilation."""
    compiled = jax.jit(work)
    return median_seconds(lambda: jax.block_until_ready(compiled(*arguments)), repeats)


def dtype_of(precision: str) -> np.dtype:
    return np.dtype(np.float64 if precision == "double" else np.float32)

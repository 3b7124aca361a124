"""The plan of a morph: every automatic choice for a set of maps, made in one place, with its reason."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt

from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box, widened, window_shape
from morphot_jax.morphing.settings import (
    DEBIASED,
    LARGEST_STRIDE,
    SINGLE_PLAN,
    STRIDED,
    Settings,
    keyframes_between,
    on_all_voxels,
    solved_together,
    with_method,
)
from morphot_jax.morphing.times import frame_times
from morphot_jax.morphing.walls import Walls
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import KernelKind
from morphot_jax.transport import kernels
from morphot_jax.transport.barycenter import DEPTH
from morphot_jax.transport.relaxation import Relaxation, automatic

DEFAULT_MEMORY = 4 * 2**30  # bytes, where the settings give none
FIELDS_PER_MAP = 4  # measured: a lane of two maps needs 11 fields, for potentials, convolutions and the barycenter
FIELDS_PER_LANE = 4
ORIGINAL_GUARD = 1e-30  # the truncated kernel is the original's, which divides by max(K f, 1e-30)
SMALLEST_SIGMA = 0.05  # voxels; at this width the weight of the next voxel is exp(-200)
BARYCENTER_SIGMAS = 2.5  # margin around the maps; farther out a barycenter has 1e-12 of its norm
DETAIL = 1.7  # sigma: finer detail is lost in a barycenter (FSC 0.5; experiments.studies.gamma_and_grid)
ANCHORS = 7  # barycenters that all others start from, by interpolation in time
FEW = 2  # times as many barycenters at least: with fewer it would save little
STRIDED_FROM = 96**3  # voxels: in a smaller box little time is saved
SIGMA_PER_NODE = 1.5  # least sigma, in distances between nodes: sums over them are then right to 1e-6
CPU_BYTES = 32 * 2**20  # of memory for frames solved together on a CPU: more do not fit in its caches


@dataclass(frozen=True)
class Plan:
    """The settings as resolved for one set of maps.

    - ``sigma``: voxels along z, y, x. ``distance``: the largest distance of one map's mass from the next map, in
      sigma. ``spread``: standard deviation of a map's mass along its longest direction, in sigma, averaged over
      the maps.
    - ``extent``: voxels along z, y, x of the largest box of a solve. ``iterations``: the most a solve may make.
      ``guard``: smallest divisor (``solve_barycenter``). ``relaxation``: None for multilevel steps.
    - ``stride``: barycenters are solved on every so many voxels along each axis, and then on all of them.
    - ``reach``: how far mass may move before it fades instead, in sigma; None where it may not fade.
    - ``steps``: of the walks inside a region; None where there are no walls.
    - ``fallback``: the kernel to use instead where the chosen one does not reach across the maps.
    - ``reasons``: for each automatic choice. ``warnings``: settings that may not suit the maps.
    """

    sigma: tuple[float, float, float]
    distance: float
    spread: float
    extent: tuple[int, int, int]
    kernel: KernelKind
    fallback: KernelKind | None
    precision: str
    batch: int
    relaxation: Relaxation | None
    stride: int
    iterations: int
    guard: float | None
    reasons: dict[str, str]
    warnings: tuple[str, ...] = ()
    reach: float | None = None
    steps: int | None = None

    @property
    def dtype(self) -> np.dtype:
        """The data type of the solve."""
        return dtype_of(self.precision)

    def scope(self) -> AbstractContextManager:
        """A scope in which JAX computes in the plan's precision; the caller's global setting stays as it is."""
        return jax.enable_x64(self.precision == "double")

    def fallen_back(self) -> "Plan":
        """The plan with the fallback as its kernel, and no further fallback."""
        reason = f"{self.kernel} was chosen first ({self.reasons['kernel']}) and did not reach"
        assert self.fallback is not None
        reasons = self.reasons | {"kernel": reason}
        stride = self.stride if self.fallback in STRIDED else 1
        if stride != self.stride:
            reasons |= {"stride": f"the kernel {self.fallback} takes all voxels"}
        return replace(self, kernel=self.fallback, fallback=None, stride=stride, reasons=reasons)


def plan_for(volumes: tuple[Volume, ...], settings: Settings, walls: Walls | None = None) -> Plan | None:
    """The plan to morph these maps by, inside walls or not; None for the linear method, which solves nothing."""
    settings, why = with_method(settings)
    if settings.method == "linear":
        return None
    solves = {"barycenter": len(frame_times(settings)), "mixed": keyframes_between(len(volumes), settings)}
    plan = make_plan(volumes, solves.get(settings.method, 1), settings)
    plan = plan if walls is None else _inside(plan, walls)
    return replace(plan, reasons={"method": why} | plan.reasons)


def make_plan(
    volumes: tuple[Volume, ...], lanes: int, settings: Settings, *, together: bool | None = None
) -> Plan:
    """Resolve the settings for maps on one grid and ``lanes`` solves between neighbouring maps.

    ``together``: between any of the maps instead; None: where weights are given.
    """
    together = settings.weights is not None if together is None else together
    sigma, sigma_reason = _sigma(settings, volumes[0])
    if min(sigma) < SMALLEST_SIGMA:
        raise InputError(
            f"sigma is {min(sigma):g} voxels, too narrow to move mass to the next voxel: "
            f"give {SMALLEST_SIGMA:g} or more"
        )
    precision, precision_reason = _precision(settings)
    dtype = dtype_of(precision)
    groups = [volumes] if together else list(pairwise(volumes))
    distance = max(gap([volume.data > 0 for volume in maps], sigma) for maps in groups)
    kernel, fallback, kernel_reason = _kernel(settings, distance, dtype)
    boxes = [solve_window(np.stack([volume.data for volume in maps]), sigma, kernel) for maps in groups]
    extent = max(map(window_shape, boxes), key=prod)
    width = float(np.mean([spread(volume.data, sigma) for volume in volumes]))
    relaxation, relaxation_reason = _relaxation(settings, kernel, width)
    stride, stride_reason = _stride(settings, kernel, sigma, extent)
    joined = solved_together(settings)
    lane = lane_bytes(extent, joined, dtype, relaxation, debias=settings.debias)
    shared = anchor_bytes(extent, lanes, relaxation, debias=settings.debias, maps=joined)
    batch, batch_reason = _batch(settings, lanes, lane, shared)
    return Plan(
        sigma=sigma,
        distance=distance,
        spread=width,
        extent=extent,
        kernel=kernel,
        fallback=fallback,
        precision=precision,
        batch=batch,
        relaxation=relaxation,
        stride=stride,
        iterations=settings.iterations or settings.max_iterations,
        guard=ORIGINAL_GUARD if kernel == "truncated" else None,
        reasons={
            "sigma": sigma_reason,
            "kernel": kernel_reason,
            "precision": precision_reason,
            "batch": batch_reason,
            "relaxation": relaxation_reason,
            "stride": stride_reason,
        },
        warnings=_warnings(kernel, distance, dtype),
        reach=_reach(settings, sigma, volumes[0]),
    )


def _inside(plan: Plan, walls: Walls) -> Plan:
    """The plan for walks inside walls."""
    steps = walls.steps(plan.sigma)
    reason = f"walks of {steps} steps inside the region, where the longest way has {walls.longest}"
    return replace(plan, steps=steps, extent=window_shape(walls.window), reasons=plan.reasons | {"kernel": reason})


def dtype_of(precision: str) -> np.dtype:
    """The data type of a precision."""
    return np.dtype(np.float64 if precision == "double" else np.float32)


def gap(supports: Sequence[Bool[np.ndarray, "z y x"]], sigma) -> float:
    """The largest distance of a voxel of one support from another support, in units of sigma (Hausdorff)."""
    union = np.any(supports, axis=0)
    window = bounding_box(union)
    union, inner = union[window], [support[window] for support in supports]
    spacing = [1.0 / s for s in sigma]
    return max(0.0 if np.array_equal(union, support) else _farthest(union, support, spacing) for support in inner)


def _farthest(union: Bool[np.ndarray, "z y x"], support: Bool[np.ndarray, "z y x"], spacing: list[float]) -> float:
    """The largest distance of a voxel of ``union`` from ``support``."""
    return float(np.asarray(distance_transform_edt(~support, sampling=spacing))[union].max())


def spread(density: Float[np.ndarray, "z y x"], sigma: tuple[float, float, float]) -> float:
    """Standard deviation of the mass along its longest direction, in units of sigma."""
    places = np.argwhere(density)
    mass = density[tuple(places.T)].astype(np.float64)
    offsets = (places - np.average(places, axis=0, weights=mass)) / np.asarray(sigma)
    covariance = (offsets * mass[:, None]).T @ offsets / mass.sum()
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(covariance)[-1])))


def lane_bytes(
    shape: tuple[int, ...], maps: int, dtype: np.dtype, relaxation: Relaxation | None, *, debias: bool = False
) -> int:
    """Bytes that the solve of one barycenter of ``maps`` maps needs."""
    fields = (FIELDS_PER_MAP * maps + FIELDS_PER_LANE) * dtype.itemsize
    mixed = maps if debias else maps - 1 if relaxation is None else 0
    fields += mixed * (3 * dtype.itemsize + 2 * DEPTH * 4)  # what Anderson mixing keeps (``anderson.Memory``)
    return int(np.prod(shape)) * fields


def anchor_count(lanes: int, relaxation: Relaxation | None, *, debias: bool = False, maps: int = 2) -> int:
    """How many of so many barycenters the others start from.

    None where they are few, relaxed, debiased, or of more than two maps.
    """
    return ANCHORS if relaxation is None and not debias and maps == 2 and lanes >= FEW * ANCHORS else 0


def anchor_bytes(
    shape: tuple[int, ...], lanes: int, relaxation: Relaxation | None, *, debias: bool = False, maps: int = 2
) -> int:
    """Bytes of the barycenters that others start from, in single precision."""
    return 4 * anchor_count(lanes, relaxation, debias=debias, maps=maps) * int(np.prod(shape))


def solve_window(
    maps: Float[np.ndarray, "k z y x"], sigma: tuple[float, float, float], kernel: KernelKind
) -> Window:
    """The part of the box where barycenters can have mass; all of it for the original's kernel, which reflects."""
    shape = maps.shape[1:]
    if kernel == "truncated":
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    return widened(bounding_box(maps.sum(axis=0) > 0), sigma, BARYCENTER_SIGMAS, shape)


def _sigma(settings: Settings, volume: Volume) -> tuple[tuple[float, float, float], str]:
    if settings.sigma_angstrom is not None:
        x, y, z = (settings.sigma_angstrom / edge for edge in volume.voxel_size)
        return (z, y, x), "asked for in Å"
    if settings.sigma is not None:
        return (settings.sigma, settings.sigma, settings.sigma), "asked for"
    sigma = max(volume.shape) / 60.0
    reason = "the longest axis / 60"
    if settings.method in DEBIASED and not settings.debias:
        finest = DETAIL * sigma * max(volume.voxel_size)
        reason += f"; barycenters keep detail to about {finest:.3g} Å"
    return (sigma, sigma, sigma), reason


def _reach(settings: Settings, sigma: tuple[float, float, float], volume: Volume) -> float | None:
    """In sigma; in the widest one where the kernel is not round in Å."""
    if settings.unbalanced is None:
        return None
    return settings.unbalanced / max(
        width * edge for width, edge in zip(sigma, volume.voxel_size[::-1], strict=True)
    )


def _kernel(settings: Settings, distance: float, dtype: np.dtype) -> tuple[KernelKind, KernelKind | None, str]:
    """The kernel, its fallback, and the reason."""
    if settings.kernel != "auto":
        return settings.kernel, None, "asked for"
    if settings.method in SINGLE_PLAN:
        return "heat", None, "a semigroup on the lattice that reaches far: mass and ends are exact at every t"
    kernel, reason = kernels.choose(distance, dtype)
    return kernel, "log" if kernel == "dense" else None, reason


def _warnings(kernel: KernelKind, distance: float, dtype: np.dtype) -> tuple[str, ...]:
    """A warning where the maps lie farther apart than the kernel safely reaches."""
    limit = kernels.safe_range(kernel, dtype)
    if distance <= limit:
        return ()
    return (f"the maps lie up to {distance:.1f} sigma apart, and the kernel {kernel} is safe only to {limit:.1f}",)


def _precision(settings: Settings) -> tuple[str, str]:
    if settings.precision == "auto":
        return (
            "double",
            "the potentials of real maps leave the range of single precision, which is no faster on a CPU",
        )
    return settings.precision, "asked for"


def _relaxation(settings: Settings, kernel: KernelKind, width: float) -> tuple[Relaxation | None, str]:
    if settings.debias:
        return None, "debiased barycenters use Anderson mixing, not relaxation"
    if settings.relaxation is not None:
        return Relaxation(settings.relaxation), "asked for"
    if kernel != "truncated":
        return None, "steps on coarse grids beside the plain one take four times fewer iterations"
    reason = f"the maps spread over {width:.1f} sigma (sd); plain at first, then stronger where voxels change less"
    return automatic(width), reason


def _stride(
    settings: Settings, kernel: KernelKind, sigma: tuple[float, float, float], extent: tuple[int, int, int]
) -> tuple[int, str]:
    """How many voxels apart the nodes of barycenters are."""
    if settings.stride is not None:
        return settings.stride, "asked for"
    if settings.method in SINGLE_PLAN:
        return 1, "only barycenters can be solved on fewer voxels"
    if reason := on_all_voxels(settings):
        return 1, reason
    if kernel not in STRIDED:
        return 1, f"the kernel {kernel} takes all voxels"
    stride = min(LARGEST_STRIDE, int(min(sigma) / SIGMA_PER_NODE))
    if stride < 2 or prod(extent) < STRIDED_FROM:
        return 1, "the box is small, or the kernel is narrow"
    return stride, f"barycenters are smooth, and nodes {stride / min(sigma):.2g} sigma apart resolve them"


def _platform() -> str:
    """The platform of the device that JAX computes on, which a caller's ``jax.default_device`` may set."""
    (device,) = jnp.zeros(()).devices()
    return device.platform


def _batch(settings: Settings, lanes: int, lane: int, shared: int) -> tuple[int, str]:
    """How many frames of ``lane`` bytes each to solve at once beside ``shared`` bytes, and the reason."""
    if settings.batch is not None:
        return min(settings.batch, lanes), "asked for"
    memory = max(0, (settings.memory or DEFAULT_MEMORY) - shared)
    fitting, cached = (max(1, room // lane) for room in (memory, CPU_BYTES))
    if _platform() == "cpu" and fitting >= cached:
        return min(lanes, cached), "a CPU is fastest with only as many frames at once as fit in its caches"
    return min(lanes, fitting), f"{fitting} frames fit in {memory / 2**30:.1f} GiB"

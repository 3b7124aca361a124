"""The coordinates of maps among references: the weights whose barycenter is nearest to each (``place_maps``).

The references span a simplex of barycenters (Eq 2.4). Barycenters at a lattice of weights are solved first, all
others are interpolated between them, and the nearest is found by least squares (``transport.simplex``). Then the
barycenter at the weights of each map is solved, and the search goes on from what it differs from the interpolated
one. So a map costs one solve, however many there are.

A barycenter is blurred by about sigma. Each map is blurred by as much as fits best before it is compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from morphot_jax.maps.check import several_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window
from morphot_jax.morphing.batches import Lane, solve_lanes
from morphot_jax.morphing.order import FAR, distances_between
from morphot_jax.morphing.plan import DEFAULT_MEMORY, Plan, make_plan, solve_window
from morphot_jax.morphing.progress import Clock, ProgressReport, shifted
from morphot_jax.morphing.settings import PLACING, Settings
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import percent, silent
from morphot_jax.transport import kernels, simplex
from morphot_jax.transport.simplex import Comparison, Lattice
from morphot_jax.transport.status import Status

BLURS = (0.0, 0.5, 0.75, 1.0, 1.25)  # widths in sigma of which the best is taken for each map
TURNS = 2  # of finding weights with a blur, and the blur with the weights
LEAST_SIGMA = 1.0  # voxels, of the default
AT_ONCE, TOGETHER = 16, 2**26  # maps that are compared together, and their voxels: at most
BLOCKS = 8  # along each axis: for the deviations
INTERPOLATED = 0.05  # relative L2 distance from a solved barycenter: more gets a warning


@dataclass(frozen=True, eq=False, repr=False)
class Coordinates:
    """Maps among references.

    - ``weights``: of the nearest barycenter, one row for each map. ``deviations``: their standard deviations.
    - ``residuals``: sqrt(1 - correlation^2) of each map and its nearest barycenter, both as blurred.
    - ``blurs``: how much each map was blurred, in sigma. ``span``: the largest distance between two references.
    - ``lanes``: the solve of the barycenter at the weights of each map.
    - ``interpolation``: the largest relative L2 distance of the interpolated barycenters from the solved ones.
    """

    weights: Float[np.ndarray, "maps k"]
    deviations: Float[np.ndarray, "maps k"]
    residuals: Float[np.ndarray, " maps"]
    blurs: Float[np.ndarray, " maps"]
    span: float
    interpolation: float
    lanes: tuple[Lane, ...]
    settings: Settings
    plan: Plan
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    clock: Clock

    def __repr__(self) -> str:
        maps, k = self.weights.shape
        return f"Coordinates({maps} maps among {k}, residuals up to {self.residuals.max():.3f})"

    @property
    def references(self) -> int:
        """How many references there are."""
        return self.weights.shape[1]

    @property
    def complete(self) -> bool:
        """Whether every barycenter was solved to the tolerance."""
        return all(lane.status is Status.CONVERGED for lane in self.lanes)

    @property
    def far(self) -> Bool[np.ndarray, " maps"]:
        """The maps whose residual is more than half of ``span``: they may not lie among the references."""
        return self.residuals > FAR * self.span


def place_maps(
    maps: Prepared | Iterable[Volume],
    among: Iterable[Volume] | int,
    settings: Settings | None = None,
    *,
    report: ProgressReport = silent,
) -> Coordinates:
    """Find the weights on the simplex whose barycenter is nearest to each map.

    - ``maps``: one or more. ``among``: two or more references; the first gives the grid.
    - ``maps`` may be the result of ``prepare_maps``, the references first; then ``among`` is their number.
    - ``settings``: of the barycenters, which are not debiased. Sigma: the longest axis / 60, and at least a voxel.

    Raises InputError for anything but maps, for maps that cannot be used, and for too few.
    """
    settings = PLACING if settings is None else settings
    check_is("settings", settings, Settings)
    if settings.method not in ("auto", "barycenter") or settings.debias:
        what = "debias is True" if settings.debias else f"the method is '{settings.method}'"
        raise InputError(f"{what}: maps are placed among plain barycenters; leave it out")
    if not isinstance(maps, Prepared):
        if isinstance(among, int):
            raise InputError(f"among is {among}: give the references, or prepared maps")
        references = several_maps(among, "place_maps needs references")
        maps, among = prepare_maps([*references, *several_maps(maps, "place_maps needs maps")]), len(references)
    count = among if isinstance(among, int) else 0
    if not 2 <= count < len(maps.volumes):
        raise InputError(
            f"{count} references and {len(maps.volumes) - count} maps were given: give two or more and one or more"
        )
    return _placed(maps, count, settings, report)


def _placed(prepared: Prepared, count: int, settings: Settings, report: ProgressReport) -> Coordinates:
    """Place all maps after the first ``count`` among these."""
    references, others = prepared.volumes[:count], prepared.volumes[count:]
    degree = simplex.degree_for(count)
    nodes = simplex.nodes_of(count, degree)
    settings = replace(_with_sigma(settings, references[0]), weights=nodes.tolist())
    plan, clock = make_plan(references, len(nodes), settings), Clock()
    data = np.stack([volume.data for volume in references])
    window = solve_window(data, plan.sigma, plan.kernel)
    data = data[(slice(None), *window)]
    _check_memory(len(nodes) * data[0].size, settings)

    def solved(rows: Float[np.ndarray, "r k"], before: int) -> list[Lane]:
        shown, wanted = shifted(report, before, len(nodes) + len(others)), np.ones(len(rows), bool)
        lanes = solve_lanes(data, rows, plan, settings, wanted, clock=clock, report=shown)
        return [lane for _, lane in sorted(lanes, key=lambda pair: pair[0])]

    corners = np.stack([lane.value for lane in solved(nodes / degree, 0)])
    voxels = (corners > simplex.SMALLEST * corners.max(axis=(1, 2, 3), keepdims=True)).any(axis=0)
    with plan.scope(), clock.solving():
        lattice = Lattice(nodes, simplex.log_of(corners[:, voxels], plan.dtype))
        compared = _Compared(others, window, voxels, plan, lattice)
        rough = [compared.first_guess(chunk) for chunk in compared.chunks]
    weights, blurs = (np.concatenate(parts) for parts in zip(*rough, strict=True))
    lanes = solved(weights, len(nodes))
    with plan.scope(), clock.solving():
        final = [compared.refined(chunk, weights[chunk], blurs[chunk], lanes) for chunk in compared.chunks]
    weights, misfits, spread, off = (np.concatenate(parts) for parts in zip(*final, strict=True))
    ends = corners[nodes.max(axis=1) == degree]
    interpolation = float(off.max())
    warnings = prepared.warnings + plan.warnings
    if interpolation > INTERPOLATED:
        warnings += (
            f"barycenters between those that were solved are off by {percent(interpolation)}: "
            "weights may be less exact than their deviations; give a larger --sigma or fewer references",
        )
    return Coordinates(
        weights=weights,
        deviations=spread,
        residuals=np.sqrt(np.maximum(misfits, 0.0)),
        blurs=np.array(BLURS)[blurs],
        span=float(distances_between(ends, ends).max()),
        interpolation=interpolation,
        lanes=tuple(lanes),
        settings=settings,
        plan=plan,
        actions=prepared.actions,
        warnings=warnings,
        clock=clock,
    )


def _check_memory(values: int, settings: Settings) -> None:
    """Raise InputError where so many values, and their logs, need more than the memory of the settings."""
    needed, given = 16 * values, settings.memory or DEFAULT_MEMORY
    if needed > given:
        raise InputError(
            f"the barycenters to compare with need {needed / 2**20:.0f} MiB and {given / 2**20:.0f} MiB may be "
            "used: give a smaller --grid, or fewer references"
        )


def _with_sigma(settings: Settings, volume: Volume) -> Settings:
    """The settings with a default sigma of a voxel at least: narrower barycenters are interpolated less well."""
    if settings.sigma is not None or settings.sigma_angstrom is not None:
        return settings
    return replace(settings, sigma=max(LEAST_SIGMA, max(volume.shape) / 60.0))


@dataclass(frozen=True)
class _Compared:
    """Maps that are compared with barycenters on a list of voxels, some at a time.

    - ``window``: the part of the box where barycenters have mass; ``voxels``: those of it that are compared.
    """

    maps: tuple[Volume, ...]
    window: Window
    voxels: Bool[np.ndarray, "z y x"]
    plan: Plan
    lattice: Lattice

    @property
    def chunks(self) -> list[list[int]]:
        """The indices of the maps that are compared together."""
        count, size = len(self.maps), min(AT_ONCE, max(1, TOGETHER // self.maps[0].data.size))
        return [list(range(first, min(first + size, count))) for first in range(0, count, size)]

    def first_guess(self, chunk: list[int]) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, " m"]]:
        """The nearest weights by interpolation, and which of ``BLURS`` fits best."""
        maps, norms = self.blurred(chunk)
        offsets = jnp.zeros_like(maps[0])
        choice = np.full(len(chunk), BLURS.index(1.0))
        q = jnp.exp(self.lattice.log_q)
        cosines = kernels.product(maps[0], q.T) / jnp.linalg.norm(q, axis=1)
        weights = self.lattice.weights[np.asarray(jnp.argmax(cosines, axis=1))]
        for _ in range(TURNS):
            compared = Comparison(*_of_choice(maps, norms, choice), self.lattice, offsets)
            weights, _ = simplex.nearest_weights(compared, weights)
            others = (compared._replace(maps=m, norms=n) for m, n in zip(maps, norms, strict=True))
            misfits = [simplex.fits(weights, other).misfit for other in others]
            choice = np.argmin(np.stack([np.asarray(misfit) for misfit in misfits]), axis=0)
        return weights, choice

    def refined(
        self, chunk: list[int], weights: Float[np.ndarray, "m k"], blurs: Int[np.ndarray, " m"], lanes: list[Lane]
    ) -> tuple[np.ndarray, ...]:
        """The nearest weights, F, the deviations, and how far interpolation was off, by what was solved there."""
        maps, norms = _of_choice(*self.blurred(chunk), blurs)
        q = np.stack([lanes[index].value[self.voxels] for index in chunk])
        solved = simplex.log_of(q, self.plan.dtype)
        expected = simplex.log_barycenters(jnp.asarray(weights, self.plan.dtype), self.lattice)
        off = jnp.linalg.norm(jnp.exp(expected) - q, axis=1) / np.linalg.norm(q, axis=1)
        compared = Comparison(maps, norms, self.lattice, solved - expected)
        weights, misfits = simplex.nearest_weights(compared, weights)
        spread = simplex.deviations(weights, compared, self.blocks)
        return weights, misfits, spread, np.asarray(off)

    def blurred(self, chunk: list[int]) -> tuple[Float[Array, "b m n"], Float[Array, "b m"]]:
        """The maps of unit mass, blurred by each of ``BLURS``, on the voxels; and their squared norms."""
        given = jnp.asarray(np.stack([self.maps[i].data / self.maps[i].mass for i in chunk]), self.plan.dtype)
        maps, norms = [], []
        for width in BLURS:
            kernel = kernels.make("heat", self.maps[0].shape, width * np.array(self.plan.sigma), self.plan.dtype)
            data = kernel.apply(given)
            norms.append(jnp.sum(data**2, axis=(1, 2, 3)))
            maps.append(data[(slice(None), *self.window)][:, self.voxels])
        return jnp.stack(maps), jnp.stack(norms)

    @property
    def blocks(self) -> Int[np.ndarray, " n"]:
        """The block of each voxel, of ``BLOCKS`` along each axis."""
        places = np.argwhere(self.voxels)
        inside = places * BLOCKS // np.array(self.voxels.shape)
        return np.unique(np.ravel_multi_index(tuple(inside.T), (BLOCKS,) * 3), return_inverse=True)[1]


def _of_choice(
    maps: Float[Array, "b m n"], norms: Float[Array, "b m"], choice: Int[np.ndarray, " m"]
) -> tuple[Float[Array, "m n"], Float[Array, " m"]]:
    """Each map as blurred by its choice, and its squared norm."""
    rows = np.arange(len(choice))
    return maps[choice, rows], norms[choice, rows]

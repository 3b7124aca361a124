"""The displacement field from one map to another, and the motion of a map's parts.

A field gives, at each voxel of the first map that has mass, how far that mass moves: ``field[:, k, j, i]`` are the
x, y and z of a vector in Å; NaN elsewhere. The axes of the grid are ``z y x``, like those of every map.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from morphot_jax.maps.check import several_maps
from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import places_of
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box, widened
from morphot_jax.morphing.bodies import (
    ROUNDS,
    SETTLED,
    Body,
    Round,
    bodies_of,
    check_holds,
    combined,
    settled,
)
from morphot_jax.morphing.pair import averaged_displacement, solve_pair
from morphot_jax.morphing.plan import Plan, plan_for
from morphot_jax.morphing.progress import Clock, Progress, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import silent
from morphot_jax.transport.status import Status

NO_DOMAINS: Mapping[str, Volume] = MappingProxyType({})
ERROR = 1e-3  # of the plans in rounds: angles agree with those at 1e-6 to some hundredths of a degree
ROUGH = 1e-2  # error accepted in rounds after the most iterations: mass that crosses a gap is slow to balance
SPARE_SIGMAS = 2.0  # margin around the maps in the box of all solves, for bodies that overshoot
MUCH = 1.0  # voxels, root mean square: a body with more displacement left gets a warning
SPARE_ROOM = 1.1  # times the voxels with mass: their number grows when bodies move apart


@dataclass(frozen=True)
class Domain:
    """The motion of a part of a map.

    - ``share``: of the map's mass. ``mean``: mean displacement of that mass, Å along x, y, z; ``length``: mean
      length of the displacement, Å.
    - ``pose``: the rigid motion nearest to the field, weighted by mass; ``rest``: its residual, root mean square
      in Å.
    - ``rounds``: how many rounds of transport and fit were made; ``change``: how far one more round would move the
      part, root mean square in Å (``bodies``); ``settled``: whether that is little enough. They are None for a
      part that is not moved as a body.
    """

    name: str
    share: float
    mean: tuple[float, float, float]
    length: float
    pose: Pose
    rest: float
    rounds: int | None = None
    change: float | None = None
    settled: bool | None = None


@dataclass(frozen=True, eq=False)
class Displacement:
    """The field between two maps (x, y, z in Å; NaN without mass), and the motion of its parts.

    ``domains``: the whole map, named 'all', then each part. ``warnings``: parts whose motion is doubtful.
    """

    field: Float[np.ndarray, "3 z y x"] = dataclasses.field(repr=False)
    domains: tuple[Domain, ...]
    warnings: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the motion of every body was found."""
        return all(domain.settled is not False for domain in self.domains)


def displacement_field(
    maps: Prepared | Iterable[Volume],
    settings: Settings | None = None,
    *,
    domains: Mapping[str, Volume] = NO_DOMAINS,
    report: ProgressReport = silent,
) -> Float[np.ndarray, "3 z y x"]:
    """How far the mass of the first of two maps moves to become the second: x, y, z in Å; NaN without mass.

    ``field[:, k, j, i]`` is the vector at voxel (k, j, i): first axis x, y, z, then the grid's z, y, x. It is the
    averaged displacement D of the module ``displacement``, by the plan that the method 'displacement' would use.

    ``domains``: masks, 0 to 1, by name, of parts of the first map that move as rigid bodies. Without them a
    rotation comes out too small, since transport takes short cuts. With them the bodies are moved until the
    remaining displacement d moves none of them any more (``bodies``): D(x) = P x + d(P x) - x in a body of pose P,
    D(x) = d(x) in the rest, and the average by their shares where parts meet.

    Raises InputError for anything but two maps, for maps, settings and masks that cannot be used, and where a
    solve does not converge.
    """
    return displacement_between(maps, settings, domains=domains, report=report).field


def displacement_between(
    maps: Prepared | Iterable[Volume],
    settings: Settings | None = None,
    *,
    domains: Mapping[str, Volume] = NO_DOMAINS,
    report: ProgressReport = silent,
) -> Displacement:
    """The field and the motion of the domains; arguments and errors are those of ``displacement_field``."""
    settings = Settings() if settings is None else settings
    check_is("settings", settings, Settings)
    settings = replace(settings, method="displacement")
    if not isinstance(maps, Prepared):
        maps = prepare_maps(several_maps(maps, "displacement_field needs two maps"))
    prepared = maps
    if len(prepared.volumes) != 2:
        raise InputError(
            f"{len(prepared.volumes)} maps were given: give two, a displacement goes from one to the other"
        )
    first, last = prepared.volumes
    bodies = bodies_of(first, domains)
    plan = plan_for(prepared.volumes, settings)
    assert plan is not None  # the method displacement always has one
    if not bodies:
        displacements = _Displacements(last, plan, settings, report)
        field = displacements.between(first.data, last.data)
        return Displacement(field, (domain_of(field, first, "all"),))
    in_rounds = replace(settings, tolerance=max(settings.tolerance, ERROR))
    displacements = _Displacements(last, plan, in_rounds, report, most=ROUNDS)
    best, final = settled(first, last, bodies, displacements.remaining)
    field = combined(first, bodies, best)
    parts = [
        replace(
            _domain(body.name, body.points, ends - body.points, body.mass, first.mass),
            rounds=final.number,
            change=change,
            settled=change < _still(first),
        )
        for body, ends, change in zip(bodies, best.ends, best.changes, strict=True)
    ]
    return Displacement(field, (domain_of(field, first, "all"), *parts), _warnings(first, bodies, best, final))


class _Displacements:
    """Solves displacements from one map after another to the same last map, in as few compilations as possible."""

    def __init__(self, last: Volume, plan: Plan, settings: Settings, report: ProgressReport, most: int = 1):
        self.last, self.plan, self.settings, self.report = last, plan, settings, report
        self.rounds, self.most = 0, most
        self.window: Window | None = None
        self.room = 0

    def remaining(self, density: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "3 z y x"]:
        """The remaining displacement d from a map: that to the last map less that to itself, a plan's blur."""
        self._make_room(np.stack([density, self.last.data]))
        remaining = self.between(density, self.last.data) - self.between(density, density)
        self.rounds += 1
        return remaining

    def between(
        self, source: Float[np.ndarray, "z y x"], target: Float[np.ndarray, "z y x"]
    ) -> Float[np.ndarray, "3 z y x"]:
        """The averaged displacement, x, y, z in Å; NaN without mass. InputError where it does not converge."""
        common = {"within": self.window, "room": self.room}
        pair = np.stack([source, target])
        transport = solve_pair(pair, self.plan, self.settings, clock=Clock(), report=self._report_round, **common)
        status = Status(int(transport.solution.status))
        rough = status is Status.MAX_ITERATIONS and float(transport.solution.marginal_error) <= ROUGH
        if status is not Status.CONVERGED and not (self.most > 1 and rough):
            (stop,) = transport.solution.stops(self.settings.tolerance)
            raise InputError(f"the plan between the maps ended as {status}: {stop.reason}: {stop.limit.advice}")
        field = np.full((3, *source.shape), np.nan)
        voxels = averaged_displacement(transport, self.plan)[::-1]
        field[(slice(None), *transport.window)] = voxels * np.array(self.last.voxel_size)[:, None, None, None]
        return field

    def _make_room(self, pair: Float[np.ndarray, "2 z y x"]) -> None:
        """Enlarge box and supports where these maps need it, with a margin for the next ones."""
        mass = pair.sum(axis=0) > 0
        if self.window is not None:
            mass[self.window] = True
        box = bounding_box(mass)
        if box != self.window:
            self.window = widened(box, self.plan.sigma, SPARE_SIGMAS, mass.shape)
        voxels = int((pair > 0).sum(axis=(1, 2, 3)).max())
        if voxels > self.room:
            self.room = int(SPARE_ROOM * voxels)

    def _report_round(self, progress: Progress) -> None:
        """Report a solve as progress over the rounds; with several rounds the time left is not known."""
        left = progress.seconds_left if self.most == 1 else None
        self.report(replace(progress, done=min(self.rounds, self.most), lanes=self.most, seconds_left=left))


def _still(volume: Volume) -> float:
    """How little one more round moves a body that has settled, Å."""
    return SETTLED * min(volume.voxel_size)


def _warnings(first: Volume, bodies: Sequence[Body], best: Round, final: Round) -> tuple[str, ...]:
    """A warning for rounds that did not converge, and for each body whose motion is doubtful."""
    bound = _still(first)
    notes = []
    if best is not final:
        notes.append(
            f"domains fit best in round {best.number} of {final.number} ({best.cost**0.5:.2f} Å left, root mean "
            f"square; {final.cost**0.5:.2f} Å in the last): the motions are those of round {best.number}"
        )
    for body, change, left in zip(bodies, best.changes, best.left, strict=True):
        if change >= bound:
            notes.append(
                f"domain '{body.name}' did not settle: after {final.number} rounds one more would move it by "
                f"{change:.2g} Å (root mean square), more than {bound:.2g} Å: check its mask"
            )
        if left > MUCH * min(first.voxel_size):
            notes.append(
                f"domain '{body.name}' does not move as one rigid body, or its motion is wrong: its mass ends "
                f"{left:.2f} Å (root mean square) from where the motion takes it"
            )
    return tuple(notes)


def magnitude(field: Float[np.ndarray, "3 z y x"]) -> Float[np.ndarray, "z y x"]:
    """|D| in Å; zero where there is no mass."""
    x, y, z = field
    return np.nan_to_num(np.sqrt(z**2 + y**2 + x**2))


def moving(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """The voxels with mass whose displacement is known."""
    return np.isfinite(field[0]) & (volume.data > 0)


def starts_and_displacements(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, indices: Int[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Positions and displacements of voxels, Å along x, y, z; ``indices`` are along z, y, x."""
    return places_of(volume, indices), field[:, *indices.T].T


def domain_of(field: Float[np.ndarray, "3 z y x"], volume: Volume, name: str) -> Domain:
    """The motion of all mass of ``volume``; InputError where no displacement is known."""
    indices = np.argwhere(moving(field, volume))
    check_holds(name, len(indices))
    points, displacements = starts_and_displacements(field, volume, indices)
    mass = volume.data[tuple(indices.T)].astype(np.float64)
    return _domain(name, points, displacements, mass, volume.mass)


def _domain(
    name: str,
    points: Float[np.ndarray, "n 3"],
    displacements: Float[np.ndarray, "n 3"],
    mass: Float[np.ndarray, " n"],
    whole: float,
) -> Domain:
    """The motion of masses at points by displacements, Å along x, y, z; ``whole`` is the mass of the map."""
    pose = Pose.fitted(points, points + displacements, mass)
    rest = ((pose.carried(points) - points - displacements) ** 2).sum(axis=1)
    x, y, z = np.average(displacements, axis=0, weights=mass)
    return Domain(
        name=name,
        share=float(mass.sum() / whole),
        mean=(float(x), float(y), float(z)),
        length=float(np.average(np.linalg.norm(displacements, axis=1), weights=mass)),
        pose=pose,
        rest=float(np.sqrt(np.average(rest, weights=mass))),
    )


def arrows(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, most: int
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Start and end of the displacement of up to ``most`` voxels on an even lattice, Å along x, y, z.

    Only voxels above a tenth of the map's maximum, about what a surface shows.
    """
    seen = moving(field, volume) & (volume.data > 0.1 * volume.data.max())
    step = 1
    while seen[::step, ::step, ::step].sum() > most:
        step += 1
    indices = np.argwhere(seen[::step, ::step, ::step]) * step
    starts, displacements = starts_and_displacements(field, volume, indices)
    return starts, starts + displacements


def field_maps(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> dict[str, Volume]:
    """The field as maps on the grid of ``volume``: its length and its components along x, y, z, in Å."""
    x, y, z = np.nan_to_num(field)
    fields = {"displacement": magnitude(field), "displacement_x": x, "displacement_y": y, "displacement_z": z}
    return {name: volume.with_data(data.astype(np.float32)) for name, data in fields.items()}

"""Where the mass of a map goes to become another, and what that says of its parts.

A field holds, at the voxels of the first map that have mass, how far that mass goes: ``field[:, k, j, i]`` are the
x, y and z of a vector in Å; NaN elsewhere. The axes of the grid are ``z y x`` as those of every map.
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
from morphot_jax.morphing.pair import solve_pair, ways_between
from morphot_jax.morphing.plan import Plan, plan_for
from morphot_jax.morphing.progress import Clock, Progress, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import silent
from morphot_jax.transport.status import Status

NO_DOMAINS: Mapping[str, Volume] = MappingProxyType({})
ERROR = 1e-3  # of the plans of the rounds: angles come out as with 1e-6 to some hundredths of a degree
ROUGH = (
    1e-2  # of those that took too many iterations, and will do: mass that has to cross a gap is slow to balance
)
SPARE_SIGMAS = 2.0  # about the maps, in the box of all solves: bodies may go too far on their way
MUCH = 1.0  # voxels, root mean square: more than that, left of the way of a body, is said
SPARE_ROOM = 1.1  # times the voxels that have mass: some more have when bodies lie apart


@dataclass(frozen=True)
class Domain:
    """How a part of a map moves.

    - ``share``: of the map's mass. ``mean``: of the displacement over that mass, Å along x, y, z; ``length``: mean
      of its length.
    - ``pose``: the rigid motion nearest to the field, by mass; ``rest``: what it leaves, root mean square in Å.
    - ``rounds``: of transport and fit that were made; ``change``: how far one more would move it from where it is,
      root mean square in Å (``bodies``). None for what is not moved as a body.
    """

    name: str
    share: float
    mean: tuple[float, float, float]
    length: float
    pose: Pose
    rest: float
    rounds: int | None = None
    change: float | None = None


@dataclass(frozen=True, eq=False)
class Displacement:
    """The field between two maps, x, y, z in Å, NaN without mass; and how its parts move.

    ``domains``: the whole map, named 'all', then each part. ``warnings``: what is to be known of them.
    """

    field: Float[np.ndarray, "3 z y x"] = dataclasses.field(repr=False)
    domains: tuple[Domain, ...]
    warnings: tuple[str, ...] = ()


def displacement_field(
    maps: Prepared | Iterable[Volume],
    settings: Settings | None = None,
    *,
    domains: Mapping[str, Volume] = NO_DOMAINS,
    report: ProgressReport = silent,
) -> Float[np.ndarray, "3 z y x"]:
    """How far the mass of the first of two maps goes on its way to the second: x, y, z in Å; NaN without mass.

    ``field[:, k, j, i]`` is the vector at voxel (k, j, i): first axis x, y, z, then the grid's own z, y, x.
    The averaged ways D of ``displacement``, by the plan that the method 'displacement' would use.

    ``domains``: masks, 0 to 1, of parts of the first map that move as bodies, by name. Without them a body that
    turns seems to turn by less, for transport takes short cuts. With them bodies are moved until transport has
    nothing left to turn (``bodies``): D(x) = P x + d(P x) - x in a body of pose P and d(x) in the rest, where d is
    what is left to do; by their shares where parts meet.

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
    """``displacement_field``, and how the domains move, with the same arguments and errors."""
    settings = replace(settings or Settings(), method="displacement")
    if not isinstance(maps, Prepared):
        maps = prepare_maps(several_maps(maps, "displacement_field needs two maps"))
    prepared = maps
    if len(prepared.volumes) != 2:
        raise InputError(f"{len(prepared.volumes)} maps were given: a displacement goes from one to another")
    first, last = prepared.volumes
    bodies = bodies_of(first, domains)
    plan = plan_for(prepared.volumes, settings)
    assert plan is not None  # displacement is solved
    if not bodies:
        course = _Course(last, plan, settings, report)
        found = course.ways(first.data, last.data)
        return Displacement(found, (domain_of(found, first, "all"),))
    loose = replace(settings, tolerance=max(settings.tolerance, ERROR))
    course = _Course(last, plan, loose, report, most=ROUNDS)
    best, final = settled(first, last, bodies, course.left_from)
    found = combined(first, bodies, best)
    parts = [
        replace(
            _domain(body.name, body.points, ends - body.points, body.mass, first.mass),
            rounds=final.number,
            change=change,
        )
        for body, ends, change in zip(bodies, best.ends, best.changes, strict=True)
    ]
    return Displacement(found, (domain_of(found, first, "all"), *parts), _warnings(first, bodies, best, final))


class _Course:
    """Ways from one map after another to the same map, in one compilation as far as that goes."""

    def __init__(self, last: Volume, plan: Plan, settings: Settings, report: ProgressReport, most: int = 1):
        self.last, self.plan, self.settings, self.report = last, plan, settings, report
        self.rounds, self.most = 0, most
        self.window: Window | None = None
        self.room = 0

    def left_from(self, density: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "3 z y x"]:
        """What is left to do from a map: its ways without those of a plan to itself, which are the plan's blur."""
        self._make_room(np.stack([density, self.last.data]))
        left = self.ways(density, self.last.data) - self.ways(density, density)
        self.rounds += 1
        return left

    def ways(
        self, source: Float[np.ndarray, "z y x"], target: Float[np.ndarray, "z y x"]
    ) -> Float[np.ndarray, "3 z y x"]:
        """The averaged ways, x, y, z in Å; NaN without mass. InputError where the solve does not converge."""
        common = {"within": self.window, "room": self.room}
        pair = np.stack([source, target])
        transport = solve_pair(pair, self.plan, self.settings, clock=Clock(), report=self._watch, **common)
        status = Status(int(transport.solution.status))
        rough = status is Status.MAX_ITERATIONS and float(transport.solution.marginal_error) <= ROUGH
        if status is not Status.CONVERGED and not (self.most > 1 and rough):
            raise InputError(f"the plan between the maps ended as {status}: {status.advice}")
        found = np.full((3, *source.shape), np.nan)
        voxels = ways_between(transport, self.plan)[::-1]
        found[(slice(None), *transport.window)] = voxels * np.array(self.last.voxel_size)[:, None, None, None]
        return found

    def _make_room(self, pair: Float[np.ndarray, "2 z y x"]) -> None:
        """Widen the box and lengthen the supports where these maps need more, and by some more than that."""
        mass = pair.sum(axis=0) > 0
        if self.window is not None:
            mass[self.window] = True
        box = bounding_box(mass)
        if box != self.window:
            self.window = widened(box, self.plan.sigma, SPARE_SIGMAS, mass.shape)
        voxels = int((pair > 0).sum(axis=(1, 2, 3)).max())
        if voxels > self.room:
            self.room = int(SPARE_ROOM * voxels)

    def _watch(self, progress: Progress) -> None:
        """Progress of a solve as progress over the rounds; when several will be over nobody knows."""
        left = progress.seconds_left if self.most == 1 else None
        self.report(replace(progress, done=min(self.rounds, self.most), lanes=self.most, seconds_left=left))


def _warnings(first: Volume, bodies: Sequence[Body], found: Round, final: Round) -> tuple[str, ...]:
    """Where the rounds did not end as they should."""
    bound = SETTLED * min(first.voxel_size)
    notes = []
    if found is not final:
        notes.append(
            f"domains fit best in round {found.number} of {final.number} ({found.cost**0.5:.2f} Å left, root mean "
            f"square; {final.cost**0.5:.2f} Å in the last): their motions are those of that round"
        )
    for body, change, left in zip(bodies, found.changes, found.left, strict=True):
        if change >= bound:
            notes.append(
                f"domain '{body.name}' did not settle: after {final.number} rounds one more would move it by "
                f"{change:.2g} Å (root mean square; {bound:.2g} Å or less was asked for)"
            )
        if left > MUCH * min(first.voxel_size):
            notes.append(
                f"domain '{body.name}' does not move as one body, or not as was found: its mass ends {left:.2f} Å "
                "(root mean square) from where the motion takes it"
            )
    return tuple(notes)


def magnitude(field: Float[np.ndarray, "3 z y x"]) -> Float[np.ndarray, "z y x"]:
    """|D| in Å; zero where there is no mass."""
    x, y, z = field
    return np.nan_to_num(np.sqrt(z**2 + y**2 + x**2))


def moving(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """Where the map has mass whose way is known."""
    return np.isfinite(field[0]) & (volume.data > 0)


def starts_and_ways(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, indices: Int[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Where voxels lie and how far their mass goes, Å along x, y, z; ``indices`` are along z, y, x."""
    return places_of(volume, indices), field[:, *indices.T].T


def domain_of(field: Float[np.ndarray, "3 z y x"], volume: Volume, name: str) -> Domain:
    """How the mass of ``volume`` moves. InputError where there is none."""
    indices = np.argwhere(moving(field, volume))
    check_holds(name, len(indices))
    points, ways = starts_and_ways(field, volume, indices)
    mass = volume.data[tuple(indices.T)].astype(np.float64)
    return _domain(name, points, ways, mass, volume.mass)


def _domain(
    name: str,
    points: Float[np.ndarray, "n 3"],
    ways: Float[np.ndarray, "n 3"],
    mass: Float[np.ndarray, " n"],
    whole: float,
) -> Domain:
    """How so much mass at points moves, of ``whole`` mass in all; Å along x, y, z."""
    pose = Pose.fitted(points, points + ways, mass)
    rest = ((pose.carried(points) - points - ways) ** 2).sum(axis=1)
    x, y, z = np.average(ways, axis=0, weights=mass)
    return Domain(
        name=name,
        share=float(mass.sum() / whole),
        mean=(float(x), float(y), float(z)),
        length=float(np.average(np.linalg.norm(ways, axis=1), weights=mass)),
        pose=pose,
        rest=float(np.sqrt(np.average(rest, weights=mass))),
    )


def arrows(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, most: int
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Where some of the mass starts and where it goes, Å along x, y, z: up to ``most`` voxels on an even lattice.

    Only voxels above a tenth of the map's maximum: what is seen of it.
    """
    seen = moving(field, volume) & (volume.data > 0.1 * volume.data.max())
    step = 1
    while seen[::step, ::step, ::step].sum() > most:
        step += 1
    indices = np.argwhere(seen[::step, ::step, ::step]) * step
    starts, ways = starts_and_ways(field, volume, indices)
    return starts, starts + ways


def field_maps(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> dict[str, Volume]:
    """The field as maps on the grid of ``volume``: its length and its parts along x, y, z, in Å."""
    x, y, z = np.nan_to_num(field)
    named = {"displacement": magnitude(field), "displacement_x": x, "displacement_y": y, "displacement_z": z}
    return {name: volume.with_data(data.astype(np.float32)) for name, data in named.items()}

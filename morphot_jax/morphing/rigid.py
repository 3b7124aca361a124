"""The method 'rigid': both maps moved by locally rigid motions, one towards the other, and blended.

The rounds of ``locally_rigid`` find the motion of each map to the other. They work on blocks of voxels whose
edge is about sigma, whatever the grid, since the motion is smooth on that scale; before that, on blocks twice as
large, where rounds are ten times cheaper and large motions are found. Frame t shares the voxels of the first map,
moved for the time t, and those of the second, moved back for 1 - t, blended 1-t : t (``splines``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from morphot_jax.maps.check import several_maps
from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import places_of
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, grown, window_shape
from morphot_jax.morphing.bodies import shares_of
from morphot_jax.morphing.detail import UNKNOWN, Detail, Signals, detail_of, with_detail
from morphot_jax.morphing.plan import Plan, plan_for
from morphot_jax.morphing.progress import Clock, Progress, ProgressReport
from morphot_jax.morphing.rigid_bodies import POOR, Bodies, found_bodies, given_bodies
from morphot_jax.morphing.rigid_parts import Parts, agreeing, joined, listed, parts_of_bodies, shares_at, with_mass
from morphot_jax.morphing.rigid_space import Groups, Level, Space, levels_of, on_device, on_support
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.symmetric_bodies import completed, taken_to
from morphot_jax.prepare.align import align_maps
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.prepare.symmetric import Symmetry, symmetry_of
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import silent
from morphot_jax.transport import locally_rigid, splines
from morphot_jax.transport.coarse_start import halved
from morphot_jax.transport.kernels import Shape
from morphot_jax.transport.locally_rigid import MOMENTUM, Motion, Round, Task
from morphot_jax.transport.symmetric_motion import symmetrised

COARSE = (16.0, 8.0, 6.0, 5.0, 4.0, 3.0)  # radii of the windows on blocks twice as large, in these
FINE = (4.0, 3.0)  # and on the blocks
AROUND = 1.5  # blocks: radius over which what is left of the ways is averaged
MOST_ROUNDS = 4  # of one radius
ERROR = 1e-3  # of the plans of these rounds; the first plan of each radius and the last one are solved in full
STILL = 0.05  # blocks, root mean square over the mass: a radius ends where its fits move by less
SETTLED = 0.5  # blocks: fits that the last round moved by more have not settled
LOOSE = 1.0  # blocks: mass with a longer way left does not move with its surroundings
TOO_LOOSE = 0.05  # share of the mass of both maps: with more, the motion is sought anew from an alignment
A_FIFTH = 0.2  # of the mass: where the motions of so much disagree by more than a block, a warning says so
BESIDE = 2.0  # voxels: so that a surface that is coloured by doubt has it on both sides
AUTO = "auto"  # find the bodies
ASKEW = 2.0  # voxels between the places to which the symmetries of both maps take their surface, at most

Array3 = Float[np.ndarray, "3"]
Masks = Mapping[str, Volume | tuple[Volume, Volume]]  # by name: of the first map, or of both
Wanted = Masks | Literal["auto"] | None


class Made(NamedTuple):
    """What a round came to; lengths in the shortest edge of a voxel.

    - ``radius``: of its windows. ``change``: how far it moved the fits; ``left``: how far the mass had yet to go.
      Both are root mean squares over the mass.
    - ``error``, ``iterations``: of its plan.
    """

    radius: float
    change: float
    left: float
    error: float
    iterations: int


@dataclass(frozen=True)
class Side:
    """The motion of one map to the other, in space counted in the shortest edge of a voxel.

    - ``parts``: the motions of its blocks. ``rounds``: what each round came to.
    - ``change``: how far the last round moved the fits; ``left``: how far the mass has yet to go. Both are root
      mean squares over the mass, in blocks. ``error``: of the last plan.
    - ``share``: of the mass of each block that the last plan moves; the rest fades, where it may.
    - ``loose``: share of the mass that does not move with its surroundings.
    """

    parts: Parts = field(repr=False)
    rounds: tuple[Made, ...] = field(repr=False)
    change: float
    left: float
    error: float
    loose: float
    share: Float[Array, " n"] = field(repr=False)


@dataclass(frozen=True, eq=False)
class RigidBody:
    """A part of two maps that moves as a rigid body.

    - ``pose``: its motion from the first map to the second. ``masks``: its share of the density in both.
    - ``mass``: its share of the mass of both. ``centre``: in the first map, Å along x, y, z.
    - ``misfit``, ``clear``: how well it fits where it goes, and how surely (``rigid_bodies``).
    """

    name: str
    pose: Pose
    masks: tuple[Float[np.ndarray, "z y x"], Float[np.ndarray, "z y x"]] = field(repr=False)
    mass: tuple[float, float]
    centre: Array3 = field(repr=False)
    misfit: float
    clear: float | None = None

    @property
    def shift(self) -> float:
        """How far its centre moves, in Å."""
        return float(np.linalg.norm(self.pose.carried(self.centre) - self.centre))


def masks_of(mask: Volume | tuple[Volume, Volume]) -> tuple[Volume, ...]:
    """The mask of a body on the first map, and, where it was given, that on the second."""
    return mask if isinstance(mask, tuple) else (mask,)


def both_ways(before: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The numbers of two neighbouring maps, counted from 1: from and to, for the motions of either."""
    return (before + 1, before + 2), (before + 2, before + 1)


def about_doubt(found: "RigidMorph", template: Volume) -> tuple[str, ...]:
    """A warning where the motions of both maps disagree about much of the mass."""
    most = max(found.doubt_of(1.0 - A_FIFTH))
    if most < found.block:
        return ()
    advice = "" if found.bodies else "; parts may move as rigid bodies: try --bodies auto"
    length = f"{most * min(template.voxel_size):.1f} Å or more"
    return (
        f"the motions found from the first map and from the last disagree by {length} for a fifth of the mass: "
        f"the doubt maps show where{advice}",
    )


def about_bodies(bodies: Sequence[RigidBody], *, sought: bool) -> tuple[str, ...]:
    """Warnings about bodies that do not fit where they go; and, where bodies were sought, that there are none."""
    warnings = [
        f"{body.name} does not fit where it goes: its misfit is {body.misfit:.2f} (0 fits, 1 is empty space): "
        "check its mask"
        for body in bodies
        if body.misfit > POOR
    ]
    if sought and len(bodies) < 2:
        warnings.append("no parts were found that move apart from the whole: give masks with --body")
    return tuple(warnings)


@dataclass(frozen=True)
class RigidMorph:
    """The motions of two maps, each to the other, on the part of the box where frames can have mass.

    - ``edges``: of a voxel along z, y, x; the shortest is one. ``corner``: of the window in space, in voxels.
    - ``motions``: of the voxels of both maps, each voxel once for each part of the map that it belongs to.
    - ``detail``: which detail frames keep.
    - ``aligned``: the angle, in degrees, of the alignment from which the motions were found; None where they start
      from the maps as they lie.
    - ``block``: the shortest edge of the blocks on which the motions were found.
    - ``doubt``: how far the motions of both maps disagree, at each voxel of either (``doubt_maps``). Both in the
      shortest edge of a voxel.
    - ``masses``: of both maps, divided by their mean, where mass may fade; else one each.
    - ``faded``: where mass may fade, what fades of the first map and what appears in the last, on the grid of the
      maps and in their units.
    - ``bodies``: the parts that move as rigid bodies, if they were asked for.
    - ``symmetry``: of both maps, if it was asked for.
    - ``before``: the index of the first of the two among all maps of a trajectory.
    """

    window: Window
    edges: Float[np.ndarray, "3"] = field(repr=False)
    corner: Float[np.ndarray, "3"] = field(repr=False)
    sides: tuple[Side, Side]
    motions: tuple[Motion, Motion] = field(repr=False)
    detail: Detail = field(repr=False)
    block: float
    doubt: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] = field(repr=False)
    aligned: float | None = None
    masses: Float[np.ndarray, "2"] = field(default_factory=lambda: np.ones(2), repr=False)
    faded: Float[np.ndarray, "2 z y x"] | None = field(default=None, repr=False)
    bodies: tuple[RigidBody, ...] = ()
    symmetry: tuple[Symmetry, Symmetry] | None = None
    before: int = 0

    @property
    def settled(self) -> bool:
        """Whether the rounds of both sides ended with fits that hardly moved."""
        return all(side.change < SETTLED for side in self.sides)

    @property
    def loose(self) -> float:
        """Share of the mass that does not move with its surroundings, in the map that has less of it.

        Where mass parts or meets, one of the two maps shows which mass belongs together.
        """
        return _least(self.sides, "loose")

    def doubt_of(self, share: float) -> tuple[float, float]:
        """So large a share of the mass of either map has this doubt or less, in the shortest edge of a voxel."""
        one, other = (
            float(np.quantile(doubt, share, weights=np.asarray(motion.mass), method="inverted_cdf"))
            for motion, doubt in zip(self.motions, self.doubt, strict=True)
        )
        return one, other

    @property
    def reason(self) -> str:
        """Why the rounds ended."""
        change, made = max(side.change for side in self.sides), max(len(side.rounds) for side in self.sides)
        return f"the last of {made} rounds moved the fits by {change:.2g} of sigma (root mean square)"


def solve_rigid(
    first: Volume,
    last: Volume,
    plan: Plan,
    bodies: Wanted = None,
    symmetry: str = "C1",
    signals: Signals = UNKNOWN,
    *,
    tolerance: float,
    clock: Clock,
    report: ProgressReport,
) -> RigidMorph:
    """Find the locally rigid motions between two maps on one grid.

    - ``bodies``: parts that move as rigid bodies: AUTO to find them, or their masks.
    - ``symmetry``: a point group that both maps have; InputError where they do not, or not about the same axes.
    - ``signals``: how much of each map is signal; what is noise fades on the way (``detail``).
    - ``tolerance``: largest error of the plans by which what need not move stays, and of the last one.

    Where neither map moves with its surroundings, a larger turn may have been missed. Then the motions are sought
    anew from an alignment of the maps as wholes, and the better ones are kept.
    """
    space = Space.around(first, last, plan)
    with plan.scope(), clock.solving():
        error = on_device(tolerance, plan.dtype)
        symmetric = None if symmetry == "C1" else _symmetry(first, last, symmetry)
        groups = symmetric and space.groups(symmetric)
        levels = levels_of(space, plan)
        sides, aligned = _both(space, levels, (None, None), groups, error, report), None
        if _least(sides, "loose") >= TOO_LOOSE:
            report(_doing("aligning the maps", sides))
            pose = align_maps(first, last).pose
            anew = _both(space, levels, (pose, pose.inverse()), groups, error, report)
            if _least(anew, "left") < _least(sides, "left"):
                sides, aligned = anew, pose.degrees
        fine, parts = levels[1], ()
        if bodies is not None:
            report(_doing("searching for bodies" if bodies == AUTO else "fitting the bodies", sides))
            held = _bodies(space, levels, sides, (first, last), bodies)
            held = completed(held, fine.tasks, groups) if groups else held
            sides, parts = _with_bodies(fine, sides, held, groups, error), _rigid_bodies(space, fine, held)
        return _on_voxels(space, fine, sides, aligned, parts, symmetric, signals)


def _doing(what: str, sides: tuple[Side, Side]) -> Progress:
    """Progress after the rounds of both maps."""
    return Progress(0, 1, max(len(side.rounds) for side in sides), max(side.error for side in sides), None, what)


def _symmetry(first: Volume, last: Volume, name: str) -> tuple[Symmetry, Symmetry]:
    """The symmetry of both maps, its motions in one order."""
    one, other = (symmetry_of(volume, name, f"map {k}") for k, volume in enumerate((first, last), 1))
    other = other.like(one)
    if (apart := one.apart(other)) > ASKEW * max(first.voxel_size):
        raise InputError(
            f"the axes of the symmetry {name} lie differently in the two maps: it takes their surfaces to places "
            f"{apart:.1f} Å apart; align the maps, as with --align"
        )
    return one, other


def find_bodies(
    maps: Prepared | Iterable[Volume], settings: Settings | None = None, *, report: ProgressReport = silent
) -> tuple[RigidBody, ...]:
    """The parts of two maps that move as rigid bodies, the largest first: motions, and masks on both maps.

    Of ``settings``, sigma, memory and precision are used. The masks can be passed to ``morph`` as ``bodies``.
    Raises InputError for anything but two maps, and for maps and settings that cannot be used.
    """
    if not isinstance(maps, Prepared):
        maps = prepare_maps(several_maps(maps, "find_bodies needs two maps"))
    if len(maps.volumes) != 2:
        raise InputError(f"{len(maps.volumes)} maps were given: give two, bodies move from one to the other")
    settings = replace(settings or Settings(), method="rigid")
    plan = plan_for(maps.volumes, settings)
    assert plan is not None  # the method rigid always has one
    options = {"tolerance": settings.tolerance, "clock": Clock(), "report": report}
    return solve_rigid(*maps.volumes, plan, AUTO, **options).bodies


def rigid_frames(
    morph: RigidMorph, times: Float[np.ndarray, " t"], plan: Plan, clock: Clock, wanted: Bool[np.ndarray, " t"]
) -> Iterator[tuple[int, Float[np.ndarray, "z y x"], float]]:
    """The frames marked in ``wanted``, of unit mass on the morph's window.

    Each comes after its index among ``times``, and before the share of the mass that left the box and was put on
    its faces.
    """
    for index in np.flatnonzero(wanted):
        with plan.scope(), clock.solving():
            t, shape = float(times[index]), window_shape(morph.window)
            lattice = on_device([morph.edges, morph.corner], plan.dtype)
            (one, left), (other, right) = (
                _moved(motion, on_device(passed, plan.dtype), lattice, shape)
                for motion, passed in zip(morph.motions, (t, 1.0 - t), strict=True)
            )
            masses = on_device(morph.masses, plan.dtype)
            frame = with_detail((one, other), on_device(t, plan.dtype), morph.detail, masses)
            strayed = (1.0 - t) * float(left) + t * float(right)
        yield int(index), np.asarray(frame), strayed


def doubt_maps(morph: RigidMorph, template: Volume) -> tuple[Volume, Volume]:
    """How far to doubt the motion of each voxel, in Å, on the grid of a template: for the first map and the last.

    A voxel that goes the whole way of its motion, and then back by the motion of the other map there, should come
    to where it was. How far off it ends is the inverse consistency error (Christensen and Johnson 2001). It is
    large where parts slide past each other, where mass has no counterpart, and where motion is not rigid. A voxel
    of several bodies has the mean of theirs, by their shares of its mass. Voxels within ``BESIDE`` of the mass
    have the value of the nearest one that has some; all others are zero.
    """
    one, other = (_doubt_map(morph, k, template) for k in range(2))
    return one, other


def _doubt_map(morph: RigidMorph, k: int, template: Volume) -> Volume:
    motion, data = morph.motions[k], np.zeros(template.shape, np.float32)
    some = np.asarray(motion.mass) > 0
    voxels = np.asarray(motion.start)[:, some] / morph.edges[:, None] - 0.5 - morph.corner[:, None]
    z, y, x = np.rint(voxels).astype(int)
    part = data[morph.window]
    part[z, y, x] = morph.doubt[k][some] * min(template.voxel_size)
    dense = np.zeros(part.shape, bool)
    dense[z, y, x] = True
    part[...] = grown(part, BESIDE, dense)
    return template.with_data(data)


def carried_points(
    points: Float[np.ndarray, "n 3"],
    morph: RigidMorph,
    first: Volume,
    last: Volume,
    times: Float[np.ndarray, " t"],
    plan: Plan,
) -> Float[np.ndarray, "t n 3"]:
    """Where points of the first map, such as atoms, are at these times: moved with the density around them.

    Positions in Å along x, y, z. Points far from any density do not move. Where bodies meet, a point has the mean
    of their motions (``agreeing``).
    """
    space, parts = Space.around(first, last, plan), morph.sides[0].parts
    with plan.scope():
        start = jnp.asarray(space.from_places(points), space.pair.dtype)
        motions = parts.carried(start, jnp.ones_like(start[0]))
        weights = agreeing(motions, morph.block)
        moved = []
        for t in times:
            at = [np.asarray(motion.at(on_device(float(t), start.dtype))) for motion in motions]
            moved.append(np.einsum("kn,kin->in", weights, np.stack(at)))
    return np.stack([space.to_places(position) for position in moved])


def _both(
    space: Space,
    levels: tuple[Level, Level],
    starts: tuple[Pose | None, Pose | None],
    groups: Groups | None,
    error: Float[Array, ""],
    report: ProgressReport,
) -> tuple[Side, Side]:
    """The motions of both maps in fine blocks, from these rigid motions or from where they lie."""
    coarse, fine = levels
    one, other = (
        _side(space, coarse.tasks[k], fine.tasks[k], starts[k], _symmetric(groups, k), error, report)
        for k in range(2)
    )
    return one, other


def _symmetric(groups: Groups | None, k: int) -> Callable[[Parts], Parts]:
    """Makes the motions of map k symmetric, where there is a symmetry."""
    if groups is None:
        return lambda parts: parts

    def made(parts: Parts) -> Parts:
        taken = taken_to(parts, groups[k])
        return replace(parts, motions=symmetrised(parts.task, parts.motions, taken, groups[k], groups[1 - k]))

    return made


def _on_voxels(
    space: Space,
    fine: Level,
    sides: tuple[Side, Side],
    aligned: float | None,
    bodies: tuple[RigidBody, ...],
    symmetric: tuple[Symmetry, Symmetry] | None,
    signals: Signals,
) -> RigidMorph:
    """The motions of all voxels, on the part of the box that they take, and the detail of the frames."""
    both = _of_voxels(space, fine, 0, sides[0].parts), _of_voxels(space, fine, 1, sides[1].parts)
    doubts = [side.parts.doubts(motions) for side, motions in zip(sides[::-1], both, strict=True)]
    index = with_mass(both)
    there, back = (
        listed([doubt] * len(some), rows) for doubt, some, rows in zip(doubts, both, index, strict=True)
    )
    motions = joined(both[0], index[0]), joined(both[1], index[1])
    window, corner = space.swept(motions)
    half, lattice = (on_device(values, space.pair.dtype) for values in (0.5, [space.edges, corner]))
    one, other = (_moved(motion, half, lattice, window_shape(window))[0] for motion in motions)
    detail = detail_of(space.pair[(slice(None), *window)], (one, other), space.first.voxel_size, signals)
    fading = fine.tasks[0].fading
    return RigidMorph(
        window,
        space.edges,
        corner,
        sides,
        motions,
        detail,
        fine.block,
        (there, back),
        aligned,
        np.ones(2) if fading is None else np.asarray(fading.masses),
        None if fading is None else _faded(space, fine, sides),
        bodies,
        symmetric,
    )


def _faded(space: Space, fine: Level, sides: tuple[Side, Side]) -> Float[np.ndarray, "2 z y x"]:
    """What fades of the first map and what appears in the last."""
    shares = [_on_grid(space, fine, k, 1.0 - side.share[None])[0] for k, side in enumerate(sides)]
    return np.stack(shares) * space.pair


def _of_voxels(space: Space, fine: Level, k: int, parts: Parts) -> tuple[Motion, ...]:
    """The motions of all voxels of map k, by those of its blocks."""
    if fine.maps.shape == space.maps.shape:
        return parts.motions
    whole = on_support(space.maps, k)
    points = (whole.positions() + 0.5) * jnp.asarray(space.edges, parts.task.edges.dtype)[:, None]
    return parts.carried(points, jnp.exp(whole.log_mass))


def _bodies(
    space: Space,
    levels: tuple[Level, Level],
    sides: tuple[Side, Side],
    maps: tuple[Volume, Volume],
    wanted: Masks | Literal["auto"],
) -> Bodies:
    """The bodies that are wanted, from the locally rigid motions in fine blocks."""
    motions = sides[0].parts.motions[0], sides[1].parts.motions[0]
    if wanted == AUTO:
        return found_bodies(*levels, motions)
    return given_bodies(*levels, motions, tuple(wanted), _block_shares(space, levels[1], maps, wanted))


def _with_bodies(
    fine: Level, sides: tuple[Side, Side], bodies: Bodies, groups: Groups | None, error: Float[Array, ""]
) -> tuple[Side, Side]:
    """The same with the bodies moved as such, and what is then left of the ways."""
    block = fine.block
    around = on_device(AROUND * block, fine.maps.dtype)
    made = []
    for k, (side, way) in enumerate(zip(sides, (bodies.motions, bodies.motions.inverse()), strict=True)):
        (between,) = side.parts.motions
        parts, left = parts_of_bodies(fine.tasks[k], between, way, bodies.shares[k], around, error)
        parts = _symmetric(groups, k)(parts)
        made.append(replace(side, parts=parts, left=float(left) / block, loose=_loose(parts, block)))
    return made[0], made[1]


def _loose(parts: Parts, block: float) -> float:
    """The share of the mass whose way, but for that of its surroundings, is longer than ``LOOSE`` blocks."""
    far = [jnp.linalg.norm(motion.rest, axis=0) > LOOSE * block for motion in parts.motions]
    return sum(float(jnp.sum(jnp.where(f, m.mass, 0.0))) for f, m in zip(far, parts.motions, strict=True))


def _least(sides: tuple[Side, Side], name: str) -> float:
    """The smaller value of both sides."""
    return min(getattr(side, name) for side in sides)


def _block_shares(
    space: Space, fine: Level, maps: tuple[Volume, Volume], masks: Masks
) -> tuple[Float[np.ndarray, "k z y x"], Float[np.ndarray, "k z y x"] | None]:
    """The shares of bodies in the mass of each block of the first map, and of the second where all are given."""
    halvings = round(float(np.log2(fine.block / space.edges.min())))
    parts = []
    for k, volume in enumerate(maps):
        known = {name: one[k] for name, mask in masks.items() if k < len(one := masks_of(mask))}
        if len(known) < len(masks):
            parts.append(None)
            continue
        shares = np.stack(list(shares_of(volume, known, "body").values())).astype(space.pair.dtype)
        held = shares[(slice(None), *space.window)] * space.maps[k]
        for _ in range(halvings):
            held = halved(held)
        parts.append(held / np.where(fine.maps[k] > 0, fine.maps[k], 1.0))
    return parts[0], parts[1]


def _rigid_bodies(space: Space, fine: Level, bodies: Bodies) -> tuple[RigidBody, ...]:
    """The bodies with their motions in Å, and their masks on the grid of the maps."""
    clear = [None] * len(bodies.names) if bodies.clear is None else bodies.clear.tolist()
    poses = [space.pose(*motion) for motion in zip(*map(np.asarray, bodies.motions), strict=True)]
    masks = [_on_grid(space, fine, k, shares) for k, shares in enumerate(bodies.shares)]
    rows = zip(bodies.names, poses, *masks, bodies.misfit.tolist(), clear, strict=True)
    return tuple(
        RigidBody(name, pose, (one, other), *_sizes(space, np.stack([one, other])), misfit, sure)
        for name, pose, one, other, misfit, sure in rows
    )


def _on_grid(space: Space, fine: Level, k: int, shares: Float[Array, "k n"]) -> Float[np.ndarray, "k z y x"]:
    """Shares of the blocks of map k on the grid of the maps; zero where there is no mass."""
    task = fine.tasks[k]
    if fine.maps.shape == space.maps.shape:
        boxes = task.source.places.spread(shares, 0.0)
    else:
        points = (np.indices(space.maps.shape[1:]).reshape(3, -1) + 0.5) * space.edges[:, None]
        boxes = shares_at(task, shares, jnp.asarray(points))
    grid = np.zeros((len(shares), *space.first.shape), np.float32)
    grid[(slice(None), *space.window)] = np.asarray(boxes).reshape(-1, *space.maps.shape[1:])
    return np.where(space.pair[k] > 0, np.clip(grid, 0.0, 1.0), 0.0).astype(np.float32)


def _sizes(space: Space, shares: Float[np.ndarray, "2 z y x"]) -> tuple[tuple[float, float], Array3]:
    """The share of the mass of both maps in a body, and its centre in the first map (Å along x, y, z)."""
    masses = shares * space.pair
    sums = masses.sum(axis=(1, 2, 3), dtype=np.float64) / space.pair.sum(axis=(1, 2, 3), dtype=np.float64)
    some = np.argwhere(masses[0] > 0)
    if not len(some):
        return (float(sums[0]), float(sums[1])), np.zeros(3)
    centre = np.average(places_of(space.first, some), axis=0, weights=masses[0][tuple(some.T)])
    return (float(sums[0]), float(sums[1])), centre


def _side(
    space: Space,
    coarse: Task,
    fine: Task,
    pose: Pose | None,
    symmetric: Callable[[Parts], Parts],
    error: Float[Array, ""],
    report: ProgressReport,
) -> Side:
    """The motion of one map: rounds on both levels, each made symmetric at its end; the last plan in full."""
    start = locally_rigid.unmoved(coarse)
    if pose is not None:
        turn = jnp.asarray(pose.rotation[::-1, ::-1], start.image.dtype)
        moved = jnp.asarray(space.carried(coarse.start, pose), start.image.dtype)
        start = locally_rigid.first_round(coarse, moved, jnp.broadcast_to(turn[:, :, None], start.rotation.shape))
    first = _Rounds(coarse, start, error, report)
    first.settle(COARSE)
    points = locally_rigid.unmoved(fine).positions
    (rough,) = symmetric(Parts.one(coarse, _motion(coarse, first.last))).carried(points, fine.mass)
    then = _Rounds(fine, locally_rigid.first_round(fine, rough.image, rough.rotation), error, report)
    then.settle((*FINE, FINE[-1]))  # once more from where momentum led, which need not be at rest
    if then.made[-1].error > float(error):
        then.make(FINE[-1], 0.0, error)
    parts, block, end = symmetric(Parts.one(fine, _motion(fine, then.last))), then.block, then.made[-1]
    made, share = (*first.made, *then.made), then.last.share
    return Side(parts, made, end.change / block, end.left / block, end.error, _loose(parts, block), share)


@dataclass
class _Rounds:
    """Rounds of one map in blocks of one size. ``last``: the last of them. ``made``: what each came to."""

    task: Task
    last: Round
    error: Float[Array, ""]
    report: ProgressReport
    made: list[Made] = field(default_factory=list)

    @property
    def block(self) -> float:
        """The shortest edge of a block."""
        return float(np.asarray(self.task.edges).min())

    def settle(self, radii: Sequence[float]) -> None:
        """Rounds with windows of these radii, in blocks, each until the fits stand still."""
        rough = on_device(max(float(self.error), ERROR), self.error.dtype)
        for radius in radii:
            for repeat in range(MOST_ROUNDS):
                self.make(radius, *((MOMENTUM, rough) if repeat else (0.0, self.error)))
                if self.made[-1].change < STILL * self.block:
                    break

    def make(self, radius: float, momentum: float, error: Float[Array, ""]) -> None:
        """One more round."""
        window, further = (on_device(number, error.dtype) for number in (radius * self.block, momentum))
        self.last = last = locally_rigid.next_round(self.task, self.last, window, further, error)
        change, left = float(last.change), float(last.left)
        self.made.append(Made(float(window), change, left, float(last.error), int(last.iterations)))
        self.report(Progress(0, 1, len(self.made), self.made[-1].error, None))


def _motion(task: Task, last: Round) -> Motion:
    """The motions of the last round, and what is left of the ways around each voxel."""
    return locally_rigid.motion_of(task, last, AROUND * jnp.min(task.edges))


@partial(jax.jit, static_argnames=("shape",))
def _moved(
    motion: Motion, t: Float[Array, ""], lattice: Float[Array, "2 3"], shape: Shape
) -> tuple[Float[Array, "z y x"], Float[Array, ""]]:
    """A map moved for the time t, on a box of that shape, and the share of its mass that left the box.

    ``lattice``: the edges of the box's voxels, and where its corner lies in space, in voxels.
    """
    edges, corner = lattice[:, :, None]
    voxels = motion.at(t) / edges - 0.5 - corner
    ends = jnp.array(shape, voxels.dtype)[:, None] - 0.5
    outside = jnp.any((voxels < -0.5) | (voxels > ends), axis=0)
    return splines.share(motion.mass, voxels, shape), jnp.sum(jnp.where(outside, motion.mass, 0.0))

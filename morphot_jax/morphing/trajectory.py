"""From two or more maps to a trajectory of maps: ``morph``.

Frame t between two maps a and b, where a is given first and lies at t = 0:

| method         | frame                                                                | source         |
|----------------|----------------------------------------------------------------------|----------------|
| `linear`       | (1 - t) a + t b                                                      | the paper, 2.1 |
| `barycenter`   | the entropic Wasserstein barycenter of a, b with weights (1 - t, t)  | the paper, 2.4 |
| `bridge`       | the most likely random walks from a to b, from one plan (``bridge``) | Leonard 2014   |
| `displacement` | mass moved along straight lines, from one plan (``displacement``)    | McCann 1997    |
| `rigid`        | mass moved with its surroundings on screws (``locally_rigid``)       | this package   |
| `mixed`        | barycenters at a few keyframes, linear between them                  | the paper      |

Solves use unit mass; frame t is scaled to the mass (1 - t) mass_a + t mass_b, so that a contour level keeps its
meaning along the trajectory. With ``Settings.weights`` the frames are barycenters of all maps at once, each
with its own row of weights, which it has of their masses too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Float

from morphot_jax.maps.check import several_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window
from morphot_jax.morphing.batches import Lane, solve_lanes
from morphot_jax.morphing.detail import UNKNOWN, Signals
from morphot_jax.morphing.fading import Fading, about_fading, shares_of_fading
from morphot_jax.morphing.pair import Transport, frames_between, solve_pair
from morphot_jax.morphing.plan import Plan, plan_for, solve_window
from morphot_jax.morphing.progress import Clock, Progress, ProgressReport, shifted
from morphot_jax.morphing.rigid import (
    AUTO,
    TOO_LOOSE,
    Masks,
    RigidBody,
    RigidMorph,
    Wanted,
    about_bodies,
    about_doubt,
    doubt_maps,
    rigid_frames,
    solve_rigid,
)
from morphot_jax.morphing.settings import (
    SINGLE_PLAN,
    Settings,
    keyframes_between,
    with_method,
)
from morphot_jax.morphing.times import frame_times, labels_of, locate, map_weights
from morphot_jax.morphing.walls import Walls, enclosed, with_walls
from morphot_jax.prepare.prepared import Item, Prepared, prepare_maps
from morphot_jax.prepare.signal import Signal
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_is
from morphot_jax.system.reporting import percent, silent
from morphot_jax.system.words import KernelKind
from morphot_jax.transport.status import Status
from morphot_jax.transport.stopping import Limit

WHOLE: Window = (slice(None), slice(None), slice(None))
ENDED_WELL = (Status.CONVERGED, Status.FIXED_ITERATIONS)
NOTICEABLE = 1e-6  # share of a frame's mass: a larger loss gets a warning


@dataclass(frozen=True)
class Frame:
    """Time, mass and solve of one frame, without its densities.

    - ``marginal_error``, ``change_l1``, ``change_l2``: None where nothing was solved or measured. A frame between
      two keyframes has the errors of the worse one.
    - ``limit``, ``reason``: what limits the answer of the solve, and why it stopped (``stopping``).
    - ``bias``: see ``loop.Solution``; None where the frame was not debiased.
    - ``kernel``: the kernel of the solve. ``strayed``: share of the mass that left the box and was put back by
      scaling.
    - ``loose``: share of the mass that does not move with its surroundings; ``aligned``: degrees of the alignment
      from which the motions were found, where there was one (``rigid.RigidMorph``).
    - ``history``: one row for each iteration, columns marginal_error and, where measured, change_l1, change_l2.
      Where frames share one plan, only the first has its history.
    """

    index: int
    time: float
    mass: float
    status: Status = Status.CONVERGED
    iterations: int = 0
    marginal_error: float | None = None
    change_l1: float | None = None
    change_l2: float | None = None
    unreached: float = 0.0
    bias: float | None = None
    kernel: KernelKind | None = None
    limit: str | None = None
    reason: str | None = None
    strayed: float = 0.0
    loose: float = 0.0
    aligned: float | None = None
    history: Float[np.ndarray, "iterations measures"] = field(
        default_factory=lambda: np.empty((0, 1)), repr=False, compare=False
    )


class Kept(NamedTuple):
    """A frame that an earlier run has finished, and its densities in single precision."""

    frame: Frame
    density: Float[np.ndarray, "z y x"]

    def __repr__(self) -> str:
        return f"Kept({self.frame}, shape={self.density.shape})"


Keep = Callable[[Frame, Float[np.ndarray, "z y x"]], None]
NONE_KNOWN: Mapping[int, Kept] = MappingProxyType({})
NO_MASKS: Masks = MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """The frames of a morph: a sequence of maps, ``trajectory[i]``.

    - ``densities``: axes ``t z y x``, single precision.
    - ``frames``: time, mass, status and errors of each.
    - ``plan``: what the automatic settings became and why; None where nothing was solved.
    - ``actions``: one sentence for each change to the maps. ``warnings``: one for each thing to look at again.
    - ``clock``: seconds spent on compiling and on solving.
    - ``motions``: by the method 'rigid', for each pair of neighbouring maps that was solved.
    - ``faded``: of an unbalanced morph, what fades and appears between each pair of neighbouring maps.
    - ``walls``: of a morph inside a region.
    """

    densities: Float[np.ndarray, "t z y x"]
    frames: tuple[Frame, ...]
    template: Volume
    settings: Settings
    plan: Plan | None
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    clock: Clock
    motions: tuple[RigidMorph, ...] = ()
    faded: tuple[Fading, ...] = ()
    walls: Walls | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Volume: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Volume, ...]: ...

    def __getitem__(self, index: int | slice) -> Volume | tuple[Volume, ...]:
        """Frame ``index`` as a map, or the frames of a slice; IndexError for a frame that does not exist."""
        if isinstance(index, slice):
            return tuple(self.volume(i) for i in range(*index.indices(len(self))))
        return self.volume(index)

    def __iter__(self) -> Iterator[Volume]:
        return (self.volume(index) for index in range(len(self)))

    def __repr__(self) -> str:
        worst = max((frame.status for frame in self.frames), key=lambda status: (status not in ENDED_WELL, status))
        return (
            f"Trajectory({len(self)} frames by the method {self.settings.method}, shape={self.template.shape}, "
            f"worst status {worst})"
        )

    def volume(self, index: int) -> Volume:
        """Frame ``index`` as a map, negative ones from the end; IndexError for a frame that does not exist."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no frame {index}: the trajectory has {len(self)}, numbered from 0")
        return self.template.with_data(self.densities[index])

    @property
    def labels(self) -> list[str]:
        """What tells each frame from the others in pictures: its time, or its weights."""
        return labels_of([frame.time for frame in self.frames], self.settings.weights)

    def weights(self, maps: int) -> Float[np.ndarray, "t maps"]:
        """How much each of the maps, so many in all, counts in every frame (``times.map_weights``)."""
        return map_weights(self.settings, [frame.time for frame in self.frames], maps)

    @property
    def bodies(self) -> tuple[tuple[RigidBody, ...], ...]:
        """The parts that moved as rigid bodies, for each pair of neighbouring maps that was solved with some."""
        return tuple(motion.bodies for motion in self.motions if motion.bodies)

    @property
    def doubts(self) -> dict[int, tuple[Volume, Volume]]:
        """How far to doubt the motions between two neighbouring maps, in Å: a map for either.

        By the index of the first of the two. Of the method 'rigid' (``rigid.doubt_maps``).
        """
        return {found.before: doubt_maps(found, self.template) for found in self.motions}

    @property
    def complete(self) -> bool:
        """Whether every frame converged, or made its exact number of iterations."""
        return all(frame.status in ENDED_WELL for frame in self.frames)


def morph(
    maps: Prepared | Iterable[Volume],
    settings: Settings | None = None,
    *,
    plan: Plan | None = None,
    report: ProgressReport = silent,
    keep: Keep = silent,
    known: Mapping[int, Kept] = NONE_KNOWN,
    bodies: Masks = NO_MASKS,
    region: Volume | Walls | None = None,
) -> Trajectory:
    """Interpolate between maps: one frame by ``settings.method`` at every time.

    - ``maps``: two or more, in order: a list, a ``Trajectory``, or the result of ``prepare_maps``, which is called
      for all others. More than two are a sequence: map i of n lies at t = i / (n - 1).
    - ``plan``: the result of ``plan_for`` with these maps and settings, if you have it.
    - ``report``: called with a ``Progress`` about twice a second.
    - ``keep``: called with every frame and its densities as soon as it is finished.
    - ``known``: frames, by index, that an earlier run with the same maps and settings passed to ``keep``. They are
      not solved again; the other frames are bit for bit the same as without them. The methods 'linear' and 'mixed'
      ignore it.
    - ``bodies``: masks, 0 to 1, by name, of parts of the first of two maps that move as rigid bodies, each alone
      or with the mask of the same part in the second map. Only the method 'rigid' has them.
    - ``region``: a mask, 0 to 1, on any grid, of the region that mass must not leave: its voxels of 0.5 or more.
      What lies outside of the maps is removed if it is little (``walls.enclosed``). Or the walls around it, where
      the maps are those inside already. Only the method 'bridge' has one.

    Raises InputError for anything but maps, and for maps or settings that cannot be used. A frame that does not
    converge is returned nevertheless; check its ``status``.
    """
    settings = Settings() if settings is None else settings
    check_is("settings", settings, Settings)
    if not isinstance(maps, Prepared):
        maps = prepare_maps(several_maps(maps, "morph needs two or more maps"))
    prepared = maps
    if len(prepared.volumes) < 2:
        raise InputError(f"{len(prepared.volumes)} map was given: a morph needs two or more")
    prepared = looped(prepared) if settings.loop else prepared
    settings = with_masks(settings, bodies, len(prepared.volumes))
    settings = settings if region is None else with_walls(settings)
    prepared, walls = (prepared, region) if isinstance(region, Walls | None) else enclosed(prepared, region)
    plan = plan or plan_for(prepared.volumes, settings, walls)
    settings, _ = with_method(settings)
    times = frame_times(settings)
    run = _Run(prepared, settings, Clock(), report, keep, known, bodies, walls)
    if plan is None:
        densities = blend([volume.data for volume in prepared.volumes], times)
        frames = [Frame(i, float(t), mass_of(densities[i])) for i, t in enumerate(times)]
    elif settings.method == "rigid":
        densities, frames = run.frames(times, partial(_rigidly_moved, run, plan))
    elif settings.method in SINGLE_PLAN:
        densities, frames = run.frames(times, partial(_transported, run, plan))
    elif settings.method == "barycenter":
        densities, frames = run.frames(times, partial(_barycenters, run, plan))
    else:
        keys = keyframes_between(len(prepared.volumes), settings)
        keyed = replace(run, keep=silent, known=NONE_KNOWN)
        anchors, solved = keyed.frames(np.linspace(0.0, 1.0, keys), partial(_barycenters, keyed, plan))
        densities = blend(anchors, times)
        frames = [_between(solved, i, float(t), densities[i]) for i, t in enumerate(times)]
    if settings.method in ("linear", "mixed"):
        for frame in frames:
            keep(frame, densities[frame.index])
    template = prepared.volumes[0]
    motions, actions = tuple(run.motions), prepared.actions
    warnings = prepared.warnings + warnings_about(frames, plan, settings, template)
    wanted = wanted_bodies(settings, bodies)
    if motions:
        actions += about_signals(prepared.signals[: len(prepared.signals) - settings.loop])
    for found in motions:
        warnings += about_doubt(found, template)
        if wanted is not None:
            warnings += about_bodies(found.bodies, sought=wanted == AUTO)
    faded = tuple(run.faded)
    actions += shares_of_fading(faded)
    warnings += about_fading(faded)
    return Trajectory(
        densities, tuple(frames), template, settings, plan, actions, warnings, run.clock, motions, faded, walls
    )


def looped(prepared: Prepared) -> Prepared:
    """The maps with the first again at the end, unless it is there already."""
    if np.array_equal(prepared.volumes[-1].data, prepared.volumes[0].data):
        return prepared

    def with_first(items: tuple[Item, ...]) -> tuple[Item, ...]:
        return items + items[:1]

    return replace(
        prepared,
        volumes=with_first(prepared.volumes),
        masses=with_first(prepared.masses),
        levels=prepared.levels and with_first(prepared.levels),
        backgrounds=with_first(prepared.backgrounds),
        signals=with_first(prepared.signals),
    )


def with_masks(settings: Settings, bodies: Masks, maps: int) -> Settings:
    """The settings for given bodies, whose method is rigid; InputError where they do not go together."""
    if bodies and settings.bodies != "none":
        raise InputError(f"bodies is '{settings.bodies}' and masks of bodies are given: give one of the two")
    return with_rigid(settings, maps, "bodies do") if bodies else settings


def with_rigid(settings: Settings, maps: int, given: str) -> Settings:
    """The settings for what only the method rigid can take, and that between two maps; InputError for others.

    ``given``: what that is, and its verb, as in 'a model does'.
    """
    if maps > 2:
        raise InputError(
            f"{given} not go with more than two maps, and the way leads through {maps} maps: give two of them"
        )
    return as_rigid(settings, given)


def as_rigid(settings: Settings, given: str) -> Settings:
    """The settings for what only the method rigid can take; InputError for another method that was chosen."""
    if settings.method not in ("auto", "rigid"):
        raise InputError(f"{given} not go with the method '{settings.method}': give the method rigid")
    return replace(settings, method="rigid")


def about_signals(signals: Sequence[Signal | None]) -> tuple[str, ...]:
    """What is taken for noise in each map that shows some."""
    return tuple(
        f"map {k}: detail finer than {known.resolution:.3g} Å is mostly noise, by its {known.source}: "
        "noise fades along the way"
        for k, known in enumerate(signals, 1)
        if known is not None and known.resolution is not None
    )


def wanted_bodies(settings: Settings, masks: Masks) -> Wanted:
    """The bodies that are given or to be found, for ``solve_rigid``."""
    return masks or (AUTO if settings.bodies == AUTO else None)


def blend(
    anchors: Sequence[Float[np.ndarray, "z y x"]] | Float[np.ndarray, "k z y x"], times: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "t z y x"]:
    """(1 - s) a + s b between evenly spaced anchors (the paper, Eq 2.1), which it reproduces bit for bit."""
    frames = np.empty((len(times), *anchors[0].shape), np.float32)
    for index, time in enumerate(times):
        before, share = locate(float(time), len(anchors))
        first, last = anchors[before], anchors[before + 1]
        frames[index] = first if share == 0 else last if share == 1 else (1.0 - share) * first + share * last
    return frames


def mass_of(density: Float[np.ndarray, "z y x"]) -> float:
    """Sum over voxels, accumulated in double precision."""
    return float(density.sum(dtype=np.float64))


class _Segment(NamedTuple):
    """The frames between two neighbouring maps, or among all.

    - ``before``: the index of the first of these maps. ``maps``: the maps. ``masses``: their masses.
    - ``indices``: of the frames in the trajectory. ``weights``: of the maps in each.
    - ``wanted``: which frames have yet to be made. ``report``: takes progress within the segment.
    """

    before: int
    maps: Float[np.ndarray, "k z y x"]
    masses: Sequence[float]
    indices: list[int]
    weights: Float[np.ndarray, "n k"]
    wanted: Bool[np.ndarray, " n"]
    report: ProgressReport

    @property
    def shares(self) -> Float[np.ndarray, " n"]:
        """The fraction of the way from the first of two maps to the other that lies behind each frame."""
        return self.weights[:, 1]

    @classmethod
    def of(
        cls, prepared: Prepared, maps: slice, indices: list[int], weights: Float[np.ndarray, "n k"], **beside: Any
    ) -> "_Segment":
        """The frames of these indices among the maps of a slice."""
        data = np.stack([volume.data for volume in prepared.volumes[maps]])
        return cls(maps.start, data, prepared.masses[maps], indices, weights[indices, maps], **beside)


class _SegmentFrame(NamedTuple):
    """A finished frame of a segment, with densities on a part of the box.

    ``position``: its index within the segment. ``frame`` does not yet have its index, time and mass.
    """

    position: int
    window: Window
    density: Float[np.ndarray, "z y x"]
    frame: Frame


@dataclass(frozen=True)
class _Run:
    """The maps, settings and callbacks of one call of ``morph``."""

    prepared: Prepared
    settings: Settings
    clock: Clock
    report: ProgressReport
    keep: Keep
    known: Mapping[int, Kept]
    bodies: Masks
    walls: Walls | None = None
    motions: list[RigidMorph] = field(default_factory=list)  # of the segments that were solved
    faded: list[Fading] = field(default_factory=list)  # of the segments that were solved

    def note(self, segment: "_Segment", faded: Float[np.ndarray, "2 z y x"]) -> None:
        """Keep what fades and appears in a segment, given as densities in the units of the maps."""
        first, last = self.prepared.volumes[segment.before : segment.before + 2]
        parts = (first.with_data(density.astype(np.float32)) for density in faded)
        self.faded.append(Fading(segment.before, (first, last), *parts))

    def signals(self, segment: "_Segment") -> Signals:
        """How much of the two maps of a segment is signal, where that is known."""
        known = self.prepared.signals[segment.before : segment.before + 2]
        return (known[0], known[1]) if known else UNKNOWN

    def frames(
        self, times: Float[np.ndarray, " t"], make: Callable[[_Segment], Iterator[_SegmentFrame]]
    ) -> tuple[Float[np.ndarray, "t z y x"], list[Frame]]:
        """All frames: the known ones as they are, the others made segment by segment by ``make``."""
        densities = np.zeros((len(times), *self.prepared.volumes[0].shape), np.float32)
        frames: dict[int, Frame] = {}
        for index, kept in self.known.items():
            densities[index], frames[index] = kept.density, kept.frame
        for segment in self.segments(times):
            for made in make(segment):
                index = segment.indices[made.position]
                density = densities[index]
                density[made.window] = made.density
                frames[index] = replace(made.frame, index=index, time=float(times[index]), mass=mass_of(density))
                self.keep(frames[index], density)
        return densities, [frames[index] for index in range(len(times))]

    def segments(self, times: Float[np.ndarray, " t"]) -> Iterator[_Segment]:
        """The segments, one for each pair of neighbouring maps with frames yet to be made between them.

        With given weights all frames are one segment among all maps.
        The method rigid and unbalanced ones have those whose frames are all known too, for what they tell beside
        the frames.
        """
        prepared, passed = self.prepared, 0
        count = len(prepared.volumes)
        weights = map_weights(self.settings, times, count)
        groups: dict[int, list[int]] = {}
        if self.settings.weights is not None:
            groups[0], together = list(range(len(times))), count
        else:
            together = 2
            for index, time in enumerate(times):
                groups.setdefault(locate(float(time), count)[0], []).append(index)
        for before, indices in sorted(groups.items()):
            wanted = np.array([index not in self.known for index in indices])
            if wanted.any() or self.settings.method == "rigid" or self.settings.unbalanced is not None:
                maps, report = slice(before, before + together), shifted(self.report, passed, len(times))
                yield _Segment.of(prepared, maps, indices, weights, wanted=wanted, report=report)
            passed += len(indices)


def _barycenters(run: _Run, plan: Plan, segment: _Segment) -> Iterator[_SegmentFrame]:
    """Barycenters (Eq 2.4) of the maps of a segment."""
    window = solve_window(segment.maps, plan.sigma, plan.kernel)
    known = [run.known[index].frame for index in segment.indices if index in run.known]
    used = plan.fallen_back() if any(frame.kernel != plan.kernel for frame in known) else plan
    maps, callbacks = segment.maps[(slice(None), *window)], {"clock": run.clock, "report": segment.report}
    for position, lane in solve_lanes(maps, segment.weights, used, run.settings, segment.wanted, **callbacks):
        density = _scaled(lane, segment, position, run.settings)
        yield _SegmentFrame(position, window, density, _frame_of_lane(lane, run.settings))


def _transported(run: _Run, plan: Plan, segment: _Segment) -> Iterator[_SegmentFrame]:
    """Frames from one plan between the two maps of a segment."""
    transport = solve_pair(
        segment.maps, plan, run.settings, clock=run.clock, report=segment.report, walls=run.walls
    )
    shared = _frame_of_plan(transport, plan, run.settings)
    if transport.fading is not None:
        faded = np.zeros(segment.maps.shape)
        faded[(slice(None), *transport.window)] = transport.fading.faded * np.mean(segment.masses)
        run.note(segment, faded)
    made = (
        (position, density, _strayed(transport, float(segment.shares[position]), density))
        for position, density in frames_between(
            transport, segment.shares, plan, run.settings, run.clock, segment.wanted
        )
    )
    return _from_one_solve(segment, shared, transport.window, made)


def _strayed(transport: Transport, share: float, density: Float[np.ndarray, "z y x"]) -> float:
    """The part of the mass that a frame should have and does not."""
    wanted = transport.mass_at(share) - float(transport.solution.unreached)
    return max(0.0, wanted - float(density.sum(dtype=np.float64)))


def _rigidly_moved(run: _Run, plan: Plan, segment: _Segment) -> Iterator[_SegmentFrame]:
    """Frames by locally rigid motions between the two maps of a segment."""
    template = run.prepared.volumes[0]
    first, last = (template.with_data(data) for data in segment.maps)
    settings = run.settings
    found = solve_rigid(
        first,
        last,
        plan,
        wanted_bodies(settings, run.bodies),
        settings.symmetry,
        run.signals(segment),
        tolerance=settings.tolerance,
        clock=run.clock,
        report=segment.report,
    )
    run.motions.append(replace(found, before=segment.before))
    if found.faded is not None:
        run.note(segment, found.faded)
    made = rigid_frames(found, segment.shares, plan, run.clock, segment.wanted)
    return _from_one_solve(segment, _frame_of_rounds(found, plan), found.window, made)


def _from_one_solve(
    segment: _Segment,
    shared: Frame,
    window: Window,
    made: Iterable[tuple[int, Float[np.ndarray, "z y x"], float]],
) -> Iterator[_SegmentFrame]:
    """The frames that one solve makes; at s = 0 and 1 the maps themselves.

    ``shared``: what all have in common. ``made``: of each its index in the segment, its density at unit mass on
    the window, and the share of its mass that left the box.
    """
    for position, density, strayed in made:
        share = float(segment.shares[position])
        own = shared if position == 0 else replace(shared, history=shared.history[:0])  # only the first has it
        if share in (0.0, 1.0):
            yield _SegmentFrame(position, WHOLE, segment.maps[int(share)], own)
        else:
            scaled = _to_mass(density, segment, position)
            yield _SegmentFrame(position, window, scaled, replace(own, strayed=strayed))
        segment.report(Progress(position + 1, 1, shared.iterations, shared.marginal_error or 0.0, None))


def _frame_of_rounds(found: RigidMorph, plan: Plan) -> Frame:
    """What all frames of one pair of motions have in common; without index, time and mass."""
    return Frame(
        index=0,
        time=0.0,
        mass=0.0,
        status=Status.CONVERGED if found.settled else Status.MAX_ITERATIONS,
        iterations=max(len(side.rounds) for side in found.sides),
        loose=found.loose,
        aligned=found.aligned,
        marginal_error=max(side.error for side in found.sides),
        kernel=plan.kernel,
        limit=str(Limit.TOLERANCE if found.settled else Limit.BUDGET),
        reason=found.reason,
    )


def _frame_of_plan(transport: Transport, plan: Plan, settings: Settings) -> Frame:
    """What all frames of one plan have in common; without index, time and mass."""
    solution = transport.solution
    (stop,) = solution.stops(settings.tolerance, settings.criterion)
    return Frame(
        index=0,
        time=0.0,
        mass=0.0,
        status=Status(int(solution.status)),
        iterations=int(solution.iterations),
        marginal_error=float(solution.marginal_error),
        unreached=float(solution.unreached),
        kernel=plan.kernel,
        limit=str(stop.limit),
        reason=stop.reason,
        history=transport.history,
    )


def warnings_about(
    frames: Sequence[Frame], plan: Plan | None, settings: Settings, template: Volume
) -> tuple[str, ...]:
    """Warnings about the plan, about frames that departed from it, and about frames that ended badly."""
    if plan is None:
        return ()
    planned = plan.warnings + _shape_of_kernel(template, settings)
    return planned + _departures(frames, plan) + _about_motions(frames) + _bad_endings(frames, plan)


def _departures(frames: Sequence[Frame], plan: Plan) -> tuple[str, ...]:
    """A warning for each way in which frames departed from the plan."""
    warnings = []
    for kernel in dict.fromkeys(frame.kernel for frame in frames if frame.kernel != plan.kernel):
        indices = ", ".join(str(frame.index) for frame in frames if frame.kernel == kernel)
        warnings.append(
            f"the kernel {plan.kernel} did not reach in frames {indices}: these were solved with {kernel}"
        )
    strayed = max(frame.strayed for frame in frames)
    if strayed > NOTICEABLE:
        warnings.append(
            f"up to {percent(strayed)} of a frame's mass left the box and was put back by scaling: pad the maps"
        )
    return tuple(warnings)


def _about_motions(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Warnings about locally rigid motions: mass that does not move with its surroundings, and large turns."""
    warnings = []
    loose = max(frame.loose for frame in frames)
    if loose >= TOO_LOOSE:
        warnings.append(
            f"{percent(loose)} of the mass does not move with its surroundings: parts may slide past each other, "
            "or mass may appear; compare with the method displacement"
        )
    for degrees in dict.fromkeys(frame.aligned for frame in frames if frame.aligned is not None):
        warnings.append(
            f"the motions were found from an alignment of the maps as wholes, turned by {degrees:.1f}°: "
            "if they should lie as they are, give --method displacement"
        )
    return tuple(warnings)


def _shape_of_kernel(volume: Volume, settings: Settings) -> tuple[str, ...]:
    """A warning where a kernel that is round in voxels is not round in Å."""
    x, y, z = voxel = volume.voxel_size
    if settings.sigma_angstrom is not None or max(voxel) <= 1.001 * min(voxel):
        return ()
    return (
        f"voxels of {x:g} x {y:g} x {z:g} Å are not cubes and sigma is in voxels, so the kernel is wider along "
        "their long axis: give --sigma-angstrom for a round one",
    )


def _bad_endings(frames: Sequence[Frame], plan: Plan) -> tuple[str, ...]:
    """A warning for each way in which frames ended badly, with what to try."""
    warnings = []
    bad = [frame for frame in frames if frame.status not in ENDED_WELL]
    for status, limit in dict.fromkeys((frame.status, frame.limit) for frame in bad):
        some = [frame for frame in bad if (frame.status, frame.limit) == (status, limit)]
        text = f"{len(some)} of {len(frames)} frames ended as {status}"
        worst = max(some, key=lambda frame: (frame.unreached, frame.marginal_error or 0.0))
        text += f" (marginal error up to {max(frame.marginal_error or 0.0 for frame in some):.1e}): {worst.reason}"
        if status is Status.INFEASIBLE:
            text += f"; the maps lie up to {plan.distance:.1f} sigma apart"
        warnings.append(f"{text}: {Limit(limit).advice}" if limit else text)
    return tuple(warnings)


def _scaled(lane: Lane, segment: _Segment, position: int, settings: Settings) -> Float[np.ndarray, "z y x"]:
    """Scaled from unit mass to the mass of ``settings.mass``."""
    if settings.mass == "original" or settings.unbalanced is not None:  # then the solve decides on the mass
        return lane.value * (sum(segment.masses) / len(segment.masses))
    return _to_mass(lane.value, segment, position)


def _to_mass(density: Float[np.ndarray, "z y x"], segment: _Segment, position: int) -> Float[np.ndarray, "z y x"]:
    """Scaled to the mass sum_k w_k m_k; a frame stays empty where the kernel reached no mass."""
    mass, wanted = density.sum(dtype=np.float64), float(segment.weights[position] @ np.array(segment.masses))
    return density * (wanted / mass) if mass > 0 else density


def _frame_of_lane(lane: Lane, settings: Settings) -> Frame:
    """The frame of a barycenter, without index, time and mass."""
    return Frame(
        index=0,
        time=0.0,
        mass=0.0,
        status=lane.status,
        iterations=lane.iterations,
        marginal_error=lane.marginal_error,
        change_l1=lane.change_l1,
        change_l2=lane.change_l2,
        unreached=lane.unreached,
        bias=lane.bias if settings.debias or settings.unbalanced is not None else None,
        kernel=lane.kernel,
        limit=str(lane.stop.limit),
        reason=lane.stop.reason,
        history=lane.history,
    )


def _between(keys: list[Frame], index: int, time: float, density: Float[np.ndarray, "z y x"]) -> Frame:
    """The frame between two keyframes, with the solve of the worse one."""
    before, share = locate(time, len(keys))
    used = [key for key, weight in ((keys[before], 1.0 - share), (keys[before + 1], share)) if weight > 0]
    worst = max(used, key=lambda key: (key.status != Status.CONVERGED, key.marginal_error))
    return replace(worst, index=index, time=time, mass=mass_of(density))

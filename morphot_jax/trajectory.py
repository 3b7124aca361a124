"""Two or more maps in, a trajectory of maps out: ``morph``.

Frame t of a pair (a, b), t = 0 being the first map named:

| method       | frame                                                                  | source         |
|--------------|------------------------------------------------------------------------|----------------|
| `linear`     | (1 - t) a + t b                                                        | the paper, 2.1 |
| `barycenter` | the entropic Wasserstein barycenter of a, b with weights (1 - t, t)    | the paper, 2.4 |
| `bridge` | the most likely random walks from a to b, from one plan (``bridge``)      | Leonard 2014   |
| `displacement` | mass pushed along straight lines, from one plan (``displacement``) | McCann 1997 |
| `mixed`      | barycenters at a few keyframes, linear between them                    | the paper      |

Solves are on unit mass; frame t is scaled to the mass (1 - t) mass_a + t mass_b, so that a contour level keeps its
meaning along the trajectory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from morphot_jax.batches import Lane, solve_lanes
from morphot_jax.choices import KernelKind
from morphot_jax.errors import InputError
from morphot_jax.iterate import Status
from morphot_jax.plan import Plan, make_plan, solve_window
from morphot_jax.prepare import Prepared, prepare_maps
from morphot_jax.progress import Clock, Progress
from morphot_jax.settings import SINGLE_PLAN, Settings, check_settings, frame_times, with_method
from morphot_jax.transport import Transport, frames_between, solve_pair, ways_between
from morphot_jax.volume import Volume

Report = Callable[[Progress], None]

NOTICEABLE = 1e-6  # share of a frame's mass whose loss is worth a sentence


@dataclass(frozen=True)
class Frame:
    """What is known of one frame beside its densities.

    Errors are None where nothing was solved; ``bias`` (``barycenter.Solution``) where it was not debiased. A frame
    between two keyframes shows the worse of theirs.
    ``history``: one row for each iteration, columns marginal_error and, where known, change_l1, change_l2; that
    of a plan which many frames share is with the first of them.
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
    history: Float[np.ndarray, "iterations measures"] = field(default_factory=lambda: np.empty((0, 1)), repr=False)


@dataclass(frozen=True)
class Trajectory:
    """The frames of a morph.

    - ``densities``: axes ``t z y x``, single precision; ``volume(i)`` gives frame i as a map in its place.
    - ``frames``: time, mass, status and errors of each.
    - ``plan``: what the automatic settings became and why; None where nothing was solved.
    - ``actions``: what was done to the maps and the frames. ``clock``: seconds spent to compile and to solve.
    """

    densities: Float[np.ndarray, "t z y x"]
    frames: tuple[Frame, ...]
    template: Volume
    settings: Settings
    plan: Plan | None
    actions: tuple[str, ...]
    clock: Clock

    def volume(self, index: int) -> Volume:
        """Frame ``index`` as a map."""
        return self.template.with_data(self.densities[index])

    @property
    def complete(self) -> bool:
        """Whether every frame ended as it was asked to."""
        return all(frame.status in (Status.CONVERGED, Status.FIXED_ITERATIONS) for frame in self.frames)


def morph(
    maps: Prepared | Sequence[Volume], settings: Settings | None = None, *, report: Report = lambda progress: None
) -> Trajectory:
    """Interpolate between maps: the frame of ``settings.method`` at every time.

    - ``maps``: two or more, in order; brought to one grid by ``prepare_maps`` unless they already were. More than
      two are a sequence: map i of n lies at t = i / (n - 1).
    - ``report``: called with a ``Progress`` about twice a second.

    Raises InputError for maps or settings that cannot be used. A frame that does not converge is returned all the
    same, and its ``status`` says so.
    """
    settings = settings or Settings()
    check_settings(settings)
    settings, why = with_method(settings)
    prepared = maps if isinstance(maps, Prepared) else prepare_maps(maps)
    if len(prepared.volumes) < 2:
        raise InputError(f"{len(prepared.volumes)} map was given: a morph needs two or more")
    times = frame_times(settings)
    clock = Clock()
    plan, said = None, ()
    if settings.method == "linear":
        densities = blend([volume.data for volume in prepared.volumes], times)
        frames = [Frame(i, float(t), mass_of(densities[i])) for i, t in enumerate(times)]
    elif settings.method in SINGLE_PLAN:
        plan, densities, frames, said = _transported(prepared, times, settings, clock, report)
    elif settings.method == "barycenter":
        plan, densities, frames, said = _barycenters(prepared, times, settings, clock, report)
    else:
        keys = (len(prepared.volumes) - 1) * (settings.keyframes - 1) + 1
        plan, anchors, solved, said = _barycenters(prepared, np.linspace(0.0, 1.0, keys), settings, clock, report)
        densities = blend(anchors, times)
        frames = [_between(solved, i, float(t), densities[i]) for i, t in enumerate(times)]
    if plan is not None:
        plan = replace(plan, reasons={"method": why} | plan.reasons)
        said = plan.doubts + said
    return Trajectory(
        densities, tuple(frames), prepared.volumes[0], settings, plan, prepared.actions + said, clock
    )


def displacement_field(
    maps: Prepared | Sequence[Volume], settings: Settings | None = None
) -> Float[np.ndarray, "3 z y x"]:
    """How far the mass of the first of two maps goes on its way to the second: Å along z, y, x; NaN without mass.

    The averaged ways D of ``displacement``, by the plan that the method 'displacement' would use.
    """
    settings = replace(settings or Settings(), method="displacement")
    check_settings(settings)
    prepared = maps if isinstance(maps, Prepared) else prepare_maps(maps)
    if len(prepared.volumes) != 2:
        raise InputError(f"{len(prepared.volumes)} maps were given: a displacement goes from one to another")
    first, last = prepared.volumes
    plan = make_plan(prepared.volumes, 1, settings)
    pair = np.stack([first.data, last.data])
    transport = solve_pair(pair, plan, settings, clock=Clock(), report=lambda progress: None)
    if (status := Status(int(transport.coupling.status))) is not Status.CONVERGED:
        raise InputError(f"the plan between the maps ended as {status.word}: {status.advice}")
    voxels = ways_between(transport, plan)
    field = np.full((3, *first.shape), np.nan)
    field[(slice(None), *transport.window)] = voxels * np.array(first.voxel_size[::-1])[:, None, None, None]
    return field


def locate(time: float, anchors: int) -> tuple[int, float]:
    """Between which of evenly spaced anchors a time lies: index of the one before, share s of the way to the next.

    Time t = 1 is the end of the last stretch, s = 1; time 0 the start of the first.
    """
    position = time * (anchors - 1)
    before = min(int(position), anchors - 2)
    return before, position - before


def blend(
    anchors: Sequence[Float[np.ndarray, "z y x"]] | Float[np.ndarray, "k z y x"], times: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "t z y x"]:
    """(1 - s) a + s b between evenly spaced anchors (the paper, Eq 2.1); bit for bit at the anchors."""
    frames = np.empty((len(times), *anchors[0].shape), np.float32)
    for index, time in enumerate(times):
        before, share = locate(float(time), len(anchors))
        first, last = anchors[before], anchors[before + 1]
        frames[index] = first if share == 0 else last if share == 1 else (1.0 - share) * first + share * last
    return frames


def mass_of(density: Float[np.ndarray, "z y x"]) -> float:
    """Sum over voxels, accumulated in double precision."""
    return float(density.sum(dtype=np.float64))


def _barycenters(
    prepared: Prepared, times: Float[np.ndarray, " t"], settings: Settings, clock: Clock, report: Report
) -> tuple[Plan, Float[np.ndarray, "t z y x"], list[Frame], tuple[str, ...]]:
    """Eq 2.4 at each time, between the two maps that it lies between."""
    plan = make_plan(prepared.volumes, len(times), settings)
    densities = np.zeros((len(times), *prepared.volumes[0].shape), np.float32)
    frames: dict[int, Frame] = {}
    fallen: dict[KernelKind, list[int]] = {}
    for before, indices, shares in _stretches(times, len(prepared.volumes)):
        pair = np.stack([volume.data for volume in prepared.volumes[before : before + 2]])
        weights = np.stack([1.0 - shares, shares], axis=1)
        watch = _shifted(report, len(frames), len(times))
        window = solve_window(pair, plan.sigma, plan.kernel)
        lanes = solve_lanes(pair[(slice(None), *window)], weights, plan, settings, clock=clock, report=watch)
        for index, share, lane in zip(indices, shares, lanes, strict=True):
            masses = prepared.masses[before : before + 2]
            densities[index][window] = _scaled(lane, masses, float(share), settings)
            frames[index] = _frame(index, float(times[index]), densities[index], lane, settings)
            if lane.kernel != plan.kernel:
                fallen.setdefault(lane.kernel, []).append(index)
    said = tuple(
        f"{plan.kernel} did not reach across frames {', '.join(map(str, indices))}: these were solved with {used}"
        for used, indices in fallen.items()
    )
    return plan, densities, [frames[index] for index in range(len(times))], said


def _transported(
    prepared: Prepared, times: Float[np.ndarray, " t"], settings: Settings, clock: Clock, report: Report
) -> tuple[Plan, Float[np.ndarray, "t z y x"], list[Frame], tuple[str, ...]]:
    """Frames of the single plan between the two maps that each time lies between; the maps' own at their times."""
    plan = make_plan(prepared.volumes, 1, settings)
    densities = np.zeros((len(times), *prepared.volumes[0].shape), np.float32)
    frames: dict[int, Frame] = {}
    strayed = 0.0
    for before, indices, shares in _stretches(times, len(prepared.volumes)):
        pair = np.stack([volume.data for volume in prepared.volumes[before : before + 2]])
        watch = _shifted(report, len(frames), len(times))
        transport = solve_pair(pair, plan, settings, clock=clock, report=watch)
        shared = _frame_of_plan(transport)
        solved = frames_between(transport, shares, plan, settings, clock)
        for index, share, density in zip(indices, shares, solved, strict=True):
            if share in (0.0, 1.0):
                densities[index] = pair[int(share)]
            else:
                masses = prepared.masses[before : before + 2]
                densities[index][transport.window] = _to_mass(density, masses, float(share))
                strayed = max(strayed, 1.0 - shared.unreached - float(density.sum(dtype=np.float64)))
            place = {"index": index, "time": float(times[index]), "mass": mass_of(densities[index])}
            frames[index] = replace(shared, **place)
            shared = replace(shared, history=shared.history[:0])  # told once, with the first frame
            report(Progress(len(frames), len(times), shared.iterations, shared.marginal_error or 0.0, None))
    return plan, densities, [frames[index] for index in range(len(times))], _said_of(strayed)


def _frame_of_plan(transport: Transport) -> Frame:
    """What all frames of one plan have in common; index, time and mass are still to come."""
    coupling = transport.coupling
    return Frame(
        index=0,
        time=0.0,
        mass=0.0,
        status=Status(int(coupling.status)),
        iterations=int(coupling.iterations),
        marginal_error=float(coupling.marginal_error),
        unreached=float(coupling.unreached),
        history=transport.history,
    )


def _said_of(strayed: float) -> tuple[str, ...]:
    if strayed <= NOTICEABLE:
        return ()
    return (f"up to {strayed:.1e} of a frame's mass strays out of the box and was made up for: pad the maps",)


def _stretches(
    times: Float[np.ndarray, " t"], maps: int
) -> Iterator[tuple[int, list[int], Float[np.ndarray, " n"]]]:
    """For each pair of neighbouring maps: the index of its first, the frames that lie in it, and where."""
    places = [locate(float(time), maps) for time in times]
    for before in sorted({place for place, _ in places}):
        indices = [index for index, place in enumerate(places) if place[0] == before]
        yield before, indices, np.array([places[index][1] for index in indices])


def _scaled(lane: Lane, masses: Sequence[float], share: float, settings: Settings) -> Float[np.ndarray, "z y x"]:
    """From unit mass to the mass that the settings ask for."""
    if settings.mass == "original":
        return lane.value * (sum(masses) / 2.0)
    return _to_mass(lane.value, masses, share)


def _to_mass(
    density: Float[np.ndarray, "z y x"], masses: Sequence[float], share: float
) -> Float[np.ndarray, "z y x"]:
    """Scaled to (1 - s) m_0 + s m_1; a frame without mass, where the kernel reached nothing, stays empty."""
    found = density.sum(dtype=np.float64)
    return density * (((1.0 - share) * masses[0] + share * masses[1]) / found) if found > 0 else density


def _frame(index: int, time: float, density: Float[np.ndarray, "z y x"], lane: Lane, settings: Settings) -> Frame:
    return Frame(
        index,
        time,
        mass_of(density),
        lane.status,
        lane.iterations,
        lane.marginal_error,
        lane.change_l1,
        lane.change_l2,
        lane.unreached,
        lane.bias if settings.debias else None,
        lane.history,
    )


def _between(keys: list[Frame], index: int, time: float, density: Float[np.ndarray, "z y x"]) -> Frame:
    """The report of a blended frame: that of the worse keyframe it is made of."""
    before, share = locate(time, len(keys))
    used = [key for key, weight in ((keys[before], 1.0 - share), (keys[before + 1], share)) if weight > 0]
    worst = max(used, key=lambda key: (key.status != Status.CONVERGED, key.marginal_error))
    return replace(worst, index=index, time=time, mass=mass_of(density))


def _shifted(report: Report, done: int, lanes: int) -> Report:
    """Progress of one stretch of a sequence as progress of the whole."""
    return lambda progress: report(replace(progress, done=progress.done + done, lanes=lanes))

"""Runs of ``morphot morph``: from the names of maps to a folder of results."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from morphot_jax.maps import metrics
from morphot_jax.maps.atoms import Atoms, read_atoms, read_positions, simulate_density, write_models
from morphot_jax.maps.load import Input
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.contours import levels_along
from morphot_jax.morphing.plan import plan_for
from morphot_jax.morphing.progress import Progress, ProgressReport
from morphot_jax.morphing.rigid import Masks, carried_points
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.times import frame_times, map_weights
from morphot_jax.morphing.trajectory import (
    Frame,
    Keep,
    Trajectory,
    as_rigid,
    looped,
    morph,
    with_masks,
    with_rigid,
)
from morphot_jax.morphing.walls import INSIDE, Walls, enclosed, with_walls
from morphot_jax.prepare.masks import mask_on
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs import checkpoint, report
from morphot_jax.runs.body_runs import body_masks, read_body
from morphot_jax.runs.checkpoint import Checkpoint
from morphot_jax.runs.estimate import estimate
from morphot_jax.runs.folder import OutputFolder, Record
from morphot_jax.runs.log import LOG
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import device_of, keep_log, prepared_maps, read_mask, run_details, timed, with_memory
from morphot_jax.show import chimerax, figures, viewer
from morphot_jax.show.colouring import fading_along
from morphot_jax.show.scene import Scene, scene_of
from morphot_jax.system import devices, files, memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report, percent
from morphot_jax.transport.certificate import certify

FIGURES = "figures"
MODEL_ENTRY = "model"  # the key of report.json
MATCHING = 0.5  # correlation: with less, atoms do not lie in the map
ATOM_WIDTH = 1.5  # voxels: of the Gaussians of atoms that are compared with frames
PICTURES = 6  # figures and the viewer, in units of the work for the table row of a frame


def run_morph(request: Request, settings: Settings, reporter: Reporter) -> Trajectory | None:
    """Read and prepare the maps, solve, and write the results; None where nothing is solved.

    Frames are written as they are solved. With ``resume``, frames that an earlier run of the same maps and
    settings finished are not solved again, if their files are as they were written. Nothing is done where all
    files of that run are. A dry run solves nothing. Raises InputError for bad input, before anything is written.
    """
    started, seconds = time.perf_counter(), dict[str, float]()
    times = _times(request, settings)
    asked = [read_body(text) for text in request.body]
    names = file_names(len(times), len(request.maps) + settings.loop)
    folder = OutputFolder.of(request, names, [name for body in asked for name in body.masks])
    folder.check()
    atoms = read_atoms(request.model) if request.model else None
    device = device_of(request, reporter)
    inputs, prepared = _visited(request, settings, reporter, seconds)
    bodies = body_masks(asked, atoms, prepared.volumes[0], reporter)
    settings = with_memory(_fitting(settings, request, bodies), device)
    prepared, walls = _enclosed(request, prepared, reporter)
    folder.fingerprint = checkpoint.fingerprint(prepared, settings, bodies, walls)
    folder.check()
    if request.resume and _is_finished(folder, reporter) and not _lacks_something(request):
        reporter.say(f"{request.output} holds all {len(times)} frames already: nothing is left to do")
        return None
    with jax.default_device(device):
        plan = plan_for(prepared.volumes, settings, walls)
    expected = estimate(prepared, plan, settings, on_cpu=device.platform == "cpu")
    reporter.outlook(settings, plan, expected, len(times), in_full=request.dry_run)
    if request.dry_run:
        return None
    with folder, Checkpoint(folder, prepared.volumes[0], report.frame_name) as kept:
        known = kept.known() if request.resume else {}
        if known:
            reporter.say(f"{len(known)} of {len(times)} frames were finished by an earlier run")
        with (
            jax.default_device(device),
            reporter.solving(expected.seconds) as report_progress,
            _interruptible(kept, reporter, report_progress) as report_or_stop,
        ):
            keep = _writer(kept, request, reporter, device)
            given = {"plan": plan, "known": known, "bodies": bodies, "region": walls}
            trajectory = morph(prepared, settings, **given, report=report_or_stop, keep=keep)
        certificate = _certificate(prepared, device, reporter, seconds) if request.certify else {}
        run = run_details(request, inputs, device, trajectory, prepared, reporter, seconds)
        with timed(seconds, "write"), reporter.working("writing") as report_progress:
            folder.begin()
            keep_log(request, reporter, device)
            kept.wait()
            content = report.compose(run, trajectory, None)
            if atoms is not None:
                content |= _atoms_along(request, atoms, trajectory, prepared, reporter)
            content |= certificate | {"estimate": asdict(expected), "fingerprint": folder.fingerprint}
            _write_pictures(request, trajectory, prepared, content, report_progress)
        seconds["total"] = time.perf_counter() - started
        content["peak_memory_bytes"] = memory.peak()
        files.write_text(request.output / report.REPORT, report.to_json(content))
        folder.finish()
    reporter.summary(trajectory, seconds)
    for found in trajectory.bodies:
        reporter.bodies(found)
    output = request.output
    reporter.say(f"{len(times)} frames and {report.REPORT} are in {output}; {output / viewer.VIEWER} shows them")
    return trajectory


def _times(request: Request, settings: Settings) -> Float[np.ndarray, " t"]:
    """The times of the frames; InputError where there are too few maps, or weights of another number of maps."""
    count, times = len(request.maps), frame_times(settings)
    if count < 2:
        raise InputError(f"{count} map was given: a morph needs two or more")
    map_weights(settings, times, count)
    return times


def _visited(
    request: Request, settings: Settings, reporter: Reporter, seconds: dict[str, float]
) -> tuple[list[Input], Prepared]:
    """The maps as they were read, and prepared, in the order in which the frames lead through them."""
    inputs, prepared = prepared_maps(request, reporter, seconds)
    return inputs, looped(prepared) if settings.loop else prepared


def file_names(frames: int, maps: int) -> list[str]:
    """The names of all files that a run of so many frames between so many maps may write."""
    named = (report.doubt_names, report.fading_names)
    parts = [name for before in range(maps - 1) for names in named for name in names(before)]
    pictures = [f"{FIGURES}/{file}" for name in figures.OF_A_RUN for file in figures.file_names(name)]
    tables = [
        report.METRICS,
        report.CONVERGENCE,
        report.ROUNDS,
        report.FADING,
        chimerax.SERIES,
        chimerax.DOUBT,
        report.REPORT,
        report.MODEL,
    ]
    return [*map(report.frame_name, range(frames)), *parts, *tables, viewer.VIEWER, *pictures, LOG]


def _fitting(settings: Settings, request: Request, bodies: Masks) -> Settings:
    """The settings where bodies, a model or half maps are given; InputError where they do not go together."""
    visited = len(request.maps) + settings.loop
    settings = with_masks(settings, bodies, visited)
    settings = with_rigid(settings, visited, "a model does") if request.model else settings
    settings = as_rigid(settings, "half maps do") if request.half_maps else settings
    return with_walls(settings) if request.within or request.avoid else settings


def _enclosed(request: Request, prepared: Prepared, reporter: Reporter) -> tuple[Prepared, Walls | None]:
    """The maps inside the region that is asked for, and its walls; the reporter gets what was removed."""
    first = prepared.volumes[0]
    inside = np.ones(first.shape, bool)
    if not (request.within or request.avoid):
        return prepared, None
    if request.within:
        inside &= mask_on(read_mask(request.within, f"--within '{request.within}'", reporter), first) >= INSIDE
    if request.avoid:
        inside &= mask_on(read_mask(request.avoid, f"--avoid '{request.avoid}'", reporter), first) < INSIDE
    cut, walls = enclosed(prepared, first.with_data(inside.astype(np.float32)))
    for action in cut.actions[len(prepared.actions) :]:
        reporter.say(action)
    return cut, walls


def _is_finished(folder: OutputFolder, reporter: Reporter) -> bool:
    """Whether the run to resume has come to its end, and all its files are as it wrote them."""
    record = Record.read(folder.path)
    if not record.finished or record.fingerprint != folder.fingerprint:
        return False
    damaged = record.damaged(folder.path)
    if damaged:
        reporter.warn(f"missing or damaged in {folder.path}, and made again: {', '.join(damaged)}")
    return not damaged


def _lacks_something(request: Request) -> bool:
    """Whether a certificate or carried atoms are asked for, and the run to resume has none."""
    wanted = {report.CERTIFICATE: request.certify, MODEL_ENTRY: request.model}
    return any(asked and name not in report.earlier(request.output) for name, asked in wanted.items())


def _certificate(
    prepared: Prepared, device: devices.DeviceHandle, reporter: Reporter, seconds: dict[str, float]
) -> dict[str, Any]:
    """The entry of the report with bounds of the transport cost between both maps; the reporter gets them too."""
    source, target = prepared.volumes
    with (
        jax.default_device(device),
        timed(seconds, "certify"),
        reporter.working("bounding the true transport cost") as report_progress,
    ):
        edges = tuple(reversed(source.voxel_size))
        found = certify(source.data, target.data, spacing=edges, report=report_progress)
    entry = report.certificate_entry(found, source, seconds["certify"])
    low, high = entry["lower"], entry["upper"]
    reporter.say(
        f"true transport cost: between {low:.4g} and {high:.4g} voxel^2, "
        f"or {found.lower:.4g} and {found.upper:.4g} Å^2 (gap {percent(found.gap)})"
    )
    return {report.CERTIFICATE: entry}


def _atoms_along(
    request: Request,
    atoms: Atoms,
    trajectory: Trajectory,
    prepared: Prepared,
    reporter: Reporter,
) -> dict[str, Any]:
    """Write the atoms of the first map at the time of every frame; the entry of the report about them.

    The fit of each model is the correlation of its frame with the density of the atoms, simulated ``ATOM_WIDTH``
    voxels wide.
    """
    first, last = prepared.volumes
    plan, model = trajectory.plan, request.model
    assert plan is not None  # the method rigid always has one
    assert model is not None  # the atoms come from it
    times = np.array([frame.time for frame in trajectory.frames])
    every, found = read_positions(model), trajectory.motions[0]
    moved = carried_points(np.concatenate([atoms.positions, every]), found, first, last, times, plan)
    scatterers, every = np.split(moved, [len(atoms.positions)], axis=1)
    grid = {"shape": first.shape, "voxel_size": first.voxel_size, "origin": first.origin, "cut": True}
    width = ATOM_WIDTH * min(first.voxel_size)
    fits = [
        float(
            metrics.correlation(
                simulate_density(replace(atoms, positions=places), width=width, **grid).data, frame
            )
        )
        for places, frame in zip(scatterers, trajectory.densities, strict=True)
    ]
    if fits[0] < MATCHING:
        reporter.warn(
            f"the atoms of {model} hardly lie in the first map: their density correlates {fits[0]:.2f} with it; "
            "give atoms that were fitted into it"
        )
    write_models(request.output / report.MODEL, model, every)
    reporter.say(
        f"{len(every[0])} atoms of {model} were moved along: {report.MODEL}; their density correlates "
        f"{fits[0]:.3f} with the first frame, {min(fits):.3f} at worst, {fits[-1]:.3f} with the last"
    )
    return {MODEL_ENTRY: {"source": model, "file": report.MODEL, "atoms": len(every[0]), "correlation": fits}}


def _writer(kept: Checkpoint, request: Request, reporter: Reporter, device: devices.DeviceHandle) -> Keep:
    """A function that writes each finished frame; the first one also begins the log."""

    def keep(frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        kept.folder.begin()
        keep_log(request, reporter, device)
        kept.keep(frame, density)

    return keep


@contextmanager
def _interruptible(
    kept: Checkpoint, reporter: Reporter, report_progress: ProgressReport
) -> Iterator[ProgressReport]:
    """Let Ctrl-C stop the block; the reporter then gets what is finished and how to continue.

    The block reports its progress to the callback that it is given. That callback also stops the block after an
    interrupt that Python lost: it loses one that comes while it frees objects.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            devices.leave_at_once()
        interrupted = True
        raise KeyboardInterrupt

    def report_or_stop(progress: Progress) -> None:
        if interrupted:
            raise KeyboardInterrupt
        report_progress(progress)

    in_main_thread = threading.current_thread() is threading.main_thread()  # others may set no signal handler
    before = signal.signal(signal.SIGINT, interrupt) if in_main_thread else None
    try:
        yield report_or_stop
    except KeyboardInterrupt:
        if kept.folder.begun:
            kept.wait()
            finished, place = len(kept.known()), kept.folder.path
            reporter.say(f"{finished} frames are finished, in {place}: add --resume to continue")
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)


def _write_doubts(
    request: Request, trajectory: Trajectory, prepared: Prepared, levels: Float[np.ndarray, " t"]
) -> dict[int, tuple[Volume, Volume]]:
    """Write the maps of how far to doubt the motions, and a script that colours frames by them; returns the maps.

    Nothing is written where the method has no such motions; no script where the frames have none of the maps.
    """
    doubts, last = trajectory.doubts, len(prepared.volumes) - 1
    frames = {frame.time * last: frame.index for frame in trajectory.frames}
    surfaces = []
    for before, volumes in doubts.items():
        for place, name, volume in zip((before, before + 1), report.doubt_names(before), volumes, strict=True):
            write_volume(volume, request.output / name, overwrite=True)
            if (index := frames.get(place)) is not None:
                surfaces.append((report.frame_name(index), float(levels[index]), name))
    if surfaces:
        script = chimerax.doubt_script(surfaces, figures.most_doubt(prepared.volumes, doubts))
        files.write_text(request.output / chimerax.DOUBT, script)
    return doubts


def _write_faded(request: Request, trajectory: Trajectory, scene: Scene) -> viewer.Coloured | None:
    """Write what fades, appears and is carried in an unbalanced morph; the colours of its surfaces."""
    if not trajectory.faded:
        return None
    for found in trajectory.faded:
        parts = (*found.parts, found.carried)
        for name, volume in zip(report.fading_names(found.before), parts, strict=True):
            write_volume(volume, request.output / name, overwrite=True)
    changed = {found.before: found.parts for found in trajectory.faded}
    maps = len(request.maps) + trajectory.settings.loop
    return viewer.Coloured.by_fading(fading_along(scene, changed, maps, trajectory.template))


def _write_pictures(
    request: Request,
    trajectory: Trajectory,
    prepared: Prepared,
    content: dict[str, Any],
    report_progress: Report,
) -> None:
    """Write the tables, the figures, the viewer and the doubts. ``content``: of report.json."""
    files.make_folder(request.output / FIGURES)
    levels = levels_along(trajectory, prepared)
    first = prepared.volumes[0]
    work = len(levels) + PICTURES
    rows = report.frame_rows(trajectory, prepared.volumes, levels, lambda done, total: report_progress(done, work))
    model = report.MODEL if request.model else None
    for name, text in report.tables(trajectory, rows, model).items():
        files.write_text(request.output / name, text)
    times = np.array([frame.time for frame in trajectory.frames])
    scene = scene_of(trajectory.densities, times, levels, first)
    doubts = _write_doubts(request, trajectory, prepared, levels)
    drawn = figures.all_figures(trajectory, scene, rows, prepared.volumes, doubts)
    for done, (name, draw) in enumerate(drawn.items(), start=len(levels)):
        report_progress(done, work)
        if (figure := draw()) is not None:
            for file, picture in figures.both(name, figure).items():
                files.write_bytes(request.output / FIGURES / file, picture)
    report_progress(work - 1, work)
    text = viewer.page(scene, viewer.run_details(content, rows, scene), _write_faded(request, trajectory, scene))
    files.write_text(request.output / viewer.VIEWER, text)

"""Runs of ``morphot morph``: names of maps in, a folder of results out."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.contours import levels_along
from morphot_jax.morphing.plan import plan_for
from morphot_jax.morphing.progress import Progress, ProgressReport
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.times import frame_times
from morphot_jax.morphing.trajectory import Frame, Keep, Trajectory, morph
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs import checkpoint, report
from morphot_jax.runs.checkpoint import Checkpoint
from morphot_jax.runs.estimate import estimate
from morphot_jax.runs.log import LOG
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import device_of, keep_log, prepared_maps, run_details, timed, with_memory
from morphot_jax.show import figures, viewer
from morphot_jax.show.scene import scene_of
from morphot_jax.system import devices, files, memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report

FIGURES = "figures"
PICTURES = 6  # figures and the viewer: what is drawn beside a line of the tables for each frame


def run_morph(request: Request, settings: Settings, reporter: Reporter) -> Trajectory | None:
    """Read, prepare, solve and write. Raises InputError before anything is written if something cannot be used.

    Frames are written as they are solved. With ``resume``, those that an earlier run of the same maps and settings
    has finished are not solved again; None where it has finished all, and after a dry run.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "total"):
        if len(request.maps) < 2:
            raise InputError(f"{len(request.maps)} map was given: a morph needs two or more")
        times = frame_times(settings)
        _check_folder(request, len(times))
        device = device_of(request)
        inputs, prepared = prepared_maps(request, reporter, seconds)
        key = checkpoint.fingerprint(prepared, settings)
        if _is_finished(request, key):
            reporter.say(f"{request.output} holds all {len(times)} frames already: nothing is left to be done")
            return None
        settings = with_memory(settings, device)
        with jax.default_device(device):
            plan = plan_for(prepared.volumes, settings)
        expected = estimate(prepared, plan, settings, on_cpu=device.platform == "cpu")
        reporter.outlook(settings, plan, expected, len(times), in_full=request.dry_run)
        if request.dry_run:
            return None
        template, clear = prepared.volumes[0], partial(_clear, request.output)
        with Checkpoint(request.output, key, template, report.frame_name, clear) as kept:
            known = kept.known() if request.resume else {}
            if known:
                reporter.say(f"{len(known)} of {len(times)} frames were finished before")
            with (
                jax.default_device(device),
                reporter.solving(expected.seconds) as watch,
                _interruptible(kept, reporter, watch) as watch_and_heed,
            ):
                keep = _keeping(kept, request, reporter, device)
                trajectory = morph(prepared, settings, plan=plan, report=watch_and_heed, keep=keep, known=known)
            run = run_details(request, inputs, device, trajectory, prepared, reporter, seconds)
            with timed(seconds, "write"), reporter.working("writing") as watch:
                kept.begin()
                keep_log(request, reporter, device)
                kept.wait()
                content = report.compose(run, trajectory, None)
                content |= {"estimate": asdict(expected), "fingerprint": key}
                _write_pictures(request, trajectory, prepared, content, watch)
    content["peak_memory_bytes"] = memory.peak()
    files.write_text(request.output / report.REPORT, report.to_json(content))
    kept.end()
    reporter.summary(trajectory, seconds)
    output = request.output
    reporter.say(f"{len(times)} frames and {report.REPORT} are in {output}; {output / viewer.VIEWER} shows them")
    return trajectory


def _check_folder(request: Request, frames: int) -> None:
    """Raise InputError, before the solve, for a folder that the results of a morph cannot go to."""
    folder = request.output
    begun = (folder / checkpoint.FOLDER).is_dir()
    if begun and not (request.resume or request.overwrite):
        raise InputError(
            f"the output folder '{folder}' holds a run that has not finished: add --resume to go on with it, or "
            "--overwrite, or name another"
        )
    here = begun or report.fingerprint_in(folder) is not None
    files.check_output_folder(folder, overwrite=request.overwrite or (request.resume and here))
    for index in range(frames):
        path = folder / report.frame_name(index)
        if path.is_dir():
            raise InputError(f"'{path}' is a folder where a frame has to go: name another output folder")
    pictures = folder / FIGURES
    if pictures.exists() and not pictures.is_dir():
        raise InputError(f"'{pictures}' is a file where a folder has to go: name another output folder")


def _is_finished(request: Request, key: str) -> bool:
    """Whether there is nothing to resume; InputError where what is there is another run."""
    if not request.resume:
        return False
    begun, finished = checkpoint.begun_in(request.output), report.fingerprint_in(request.output)
    if not request.overwrite and (begun or finished) not in (None, key):
        raise InputError(
            f"'{request.output}' holds frames of other maps, settings or versions: give what they were made with "
            "to go on, or name another folder, or add --overwrite"
        )
    return begun is None and finished == key and all(path.is_file() for path in _earlier_files(request.output))


def _keeping(kept: Checkpoint, request: Request, reporter: Reporter, device: devices.DeviceHandle) -> Keep:
    """What keeps each frame, and, with the first of them, begins to keep what the run says."""

    def keep(frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        kept.begin()
        keep_log(request, reporter, device)
        kept.keep(frame, density)

    return keep


@contextmanager
def _interruptible(kept: Checkpoint, reporter: Reporter, watch: ProgressReport) -> Iterator[ProgressReport]:
    """Where the run is interrupted: say what it leaves, and how to go on.

    The block reports to what it is given, which heeds an interrupt that was lost: Python loses one that comes
    while it frees objects.
    """
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            devices.leave_at_once()
        asked = True
        raise KeyboardInterrupt

    def heeding(progress: Progress) -> None:
        if asked:
            raise KeyboardInterrupt
        watch(progress)

    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if here else None
    try:
        yield heeding
    except KeyboardInterrupt:
        if kept.begun:
            kept.wait()
            reporter.say(f"{len(kept.known())} frames are finished, in {kept.output}: add --resume to go on")
        raise
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


def _write_pictures(
    request: Request, trajectory: Trajectory, prepared: Prepared, content: dict[str, Any], watch: Report
) -> None:
    """Write what people look at: tables, pictures, the viewer. ``content``: of the report."""
    files.make_folder(request.output / FIGURES)
    levels = levels_along(trajectory, prepared)
    first, last = prepared.volumes[0], prepared.volumes[-1]
    work = len(levels) + PICTURES
    rows = report.frame_rows(trajectory, first, last, levels, lambda done, total: watch(done, work))
    for name, text in report.tables(trajectory, rows).items():
        files.write_text(request.output / name, text)
    times = np.array([frame.time for frame in trajectory.frames])
    scene = scene_of(trajectory.densities, times, levels, first)
    for done, (name, draw) in enumerate(figures.all_figures(trajectory, scene, rows).items(), start=len(levels)):
        watch(done, work)
        if (figure := draw()) is not None:
            for file, picture in figures.both(name, figure).items():
                files.write_bytes(request.output / FIGURES / file, picture)
    watch(work - 1, work)
    text = viewer.page(scene, viewer.run_details(content, levels, scene))
    files.write_text(request.output / viewer.VIEWER, text)


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, its report first, so that it does not speak of other frames."""
    earlier = _earlier_files(folder)
    for path in (folder / report.REPORT, *sorted(earlier)):
        if path.is_file():
            path.unlink()


def _earlier_files(folder: Path) -> set[Path]:
    """What an earlier run left there, by its own report and records: the only files that a run may remove."""
    names = {report.frame_name(index) for index in checkpoint.indices_in(folder)}
    names |= {name for name in report.frames_in(folder) if re.fullmatch(report.FRAME_PATTERN, name)}
    if not names:
        return set()
    tables = {report.CONVERGENCE, *(f"{FIGURES}/{figures.CONVERGENCE}{end}" for end in (".png", ".svg")), LOG}
    return {folder / name for name in names | {name for name in tables if (folder / name).is_file()}}

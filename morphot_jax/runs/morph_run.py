"""Runs of ``morphot morph``: from the names of maps to a folder of results."""

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
PICTURES = 6  # figures and the viewer, in units of the work for the table row of a frame


def run_morph(request: Request, settings: Settings, reporter: Reporter) -> Trajectory | None:
    """Read and prepare the maps, solve, and write the results; None where nothing is solved.

    Frames are written as they are solved. With ``resume``, frames that an earlier run of the same maps and
    settings finished are not solved again. Nothing is solved where that run finished all, and in a dry run.
    Raises InputError for bad input, before anything is written.
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
            reporter.say(f"{request.output} holds all {len(times)} frames already: nothing is left to do")
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
                reporter.say(f"{len(known)} of {len(times)} frames were finished by an earlier run")
            with (
                jax.default_device(device),
                reporter.solving(expected.seconds) as report_progress,
                _interruptible(kept, reporter, report_progress) as report_or_stop,
            ):
                keep = _writer(kept, request, reporter, device)
                trajectory = morph(prepared, settings, plan=plan, report=report_or_stop, keep=keep, known=known)
            run = run_details(request, inputs, device, trajectory, prepared, reporter, seconds)
            with timed(seconds, "write"), reporter.working("writing") as report_progress:
                kept.begin()
                keep_log(request, reporter, device)
                kept.wait()
                content = report.compose(run, trajectory, None)
                content |= {"estimate": asdict(expected), "fingerprint": key}
                _write_pictures(request, trajectory, prepared, content, report_progress)
    content["peak_memory_bytes"] = memory.peak()
    files.write_text(request.output / report.REPORT, report.to_json(content))
    kept.end()
    reporter.summary(trajectory, seconds)
    output = request.output
    reporter.say(f"{len(times)} frames and {report.REPORT} are in {output}; {output / viewer.VIEWER} shows them")
    return trajectory


def _check_folder(request: Request, frames: int) -> None:
    """Raise InputError, before the solve, if the results cannot be written to the output folder."""
    folder = request.output
    begun = (folder / checkpoint.FOLDER).is_dir()
    if begun and not (request.resume or request.overwrite):
        raise InputError(
            f"the output folder '{folder}' holds an unfinished run: add --resume to continue it, or --overwrite "
            "to replace it, or name another folder"
        )
    resumable = begun or report.fingerprint_in(folder) is not None
    files.check_output_folder(folder, overwrite=request.overwrite or (request.resume and resumable))
    for index in range(frames):
        path = folder / report.frame_name(index)
        if path.is_dir():
            raise InputError(f"'{path}' is a folder, and a frame needs that name: name another output folder")
    pictures = folder / FIGURES
    if pictures.exists() and not pictures.is_dir():
        raise InputError(
            f"'{pictures}' is a file, and the figures need a folder there: name another output folder"
        )


def _is_finished(request: Request, key: str) -> bool:
    """Whether the run to resume has finished; InputError where the folder holds a different run."""
    if not request.resume:
        return False
    begun, finished = checkpoint.begun_in(request.output), report.fingerprint_in(request.output)
    if not request.overwrite and (begun or finished) not in (None, key):
        raise InputError(
            f"'{request.output}' holds frames of other maps, settings or versions: give those of the first run, "
            "or name another folder, or add --overwrite"
        )
    return begun is None and finished == key and all(path.is_file() for path in _earlier_files(request.output))


def _writer(kept: Checkpoint, request: Request, reporter: Reporter, device: devices.DeviceHandle) -> Keep:
    """A function that writes each finished frame; the first one also begins the log."""

    def keep(frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        kept.begin()
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
        if kept.begun:
            kept.wait()
            reporter.say(f"{len(kept.known())} frames are finished, in {kept.output}: add --resume to continue")
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)


def _write_pictures(
    request: Request, trajectory: Trajectory, prepared: Prepared, content: dict[str, Any], report_progress: Report
) -> None:
    """Write the tables, the figures and the viewer. ``content``: of report.json."""
    files.make_folder(request.output / FIGURES)
    levels = levels_along(trajectory, prepared)
    first, last = prepared.volumes[0], prepared.volumes[-1]
    work = len(levels) + PICTURES
    rows = report.frame_rows(trajectory, first, last, levels, lambda done, total: report_progress(done, work))
    for name, text in report.tables(trajectory, rows).items():
        files.write_text(request.output / name, text)
    times = np.array([frame.time for frame in trajectory.frames])
    scene = scene_of(trajectory.densities, times, levels, first)
    for done, (name, draw) in enumerate(figures.all_figures(trajectory, scene, rows).items(), start=len(levels)):
        report_progress(done, work)
        if (figure := draw()) is not None:
            for file, picture in figures.both(name, figure).items():
                files.write_bytes(request.output / FIGURES / file, picture)
    report_progress(work - 1, work)
    text = viewer.page(scene, viewer.run_details(content, levels, scene))
    files.write_text(request.output / viewer.VIEWER, text)


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run; its report goes first, since it would describe other frames."""
    earlier = _earlier_files(folder)
    for path in (folder / report.REPORT, *sorted(earlier)):
        if path.is_file():
            path.unlink()


def _earlier_files(folder: Path) -> set[Path]:
    """The files that an earlier run wrote, by its report and records. A run may remove no others."""
    names = {report.frame_name(index) for index in checkpoint.indices_in(folder)}
    names |= {name for name in report.frames_in(folder) if re.fullmatch(report.FRAME_PATTERN, name)}
    if not names:
        return set()
    tables = {report.CONVERGENCE, *(f"{FIGURES}/{figures.CONVERGENCE}{end}" for end in (".png", ".svg")), LOG}
    return {folder / name for name in names | {name for name in tables if (folder / name).is_file()}}

"""Steps that runs share: choose the device, read and prepare the maps, begin the log, measure times."""

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax

from morphot_jax import __version__
from morphot_jax.maps import databanks
from morphot_jax.maps.load import Input, load
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.masks import as_mask
from morphot_jax.prepare.prepared import Prepared, part_of, prepare_maps
from morphot_jax.runs import report
from morphot_jax.runs.log import LOG
from morphot_jax.runs.report import Run
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.system import devices
from morphot_jax.system.errors import InputError

MOST_ACTIONS = 20  # changes to the maps that are shown; the others are in the log


def device_of(request: Request, reporter: Reporter) -> devices.DeviceHandle:
    """The device that the request names; compiled code is kept for later runs, or the reporter told why not."""
    device = devices.pick_device(request.device)
    devices.keep_compilations(reporter.say)
    return device


def read_maps(request: Request, reporter: Reporter, seconds: dict[str, float]) -> list[Input]:
    """Read the maps as they are; entries of data banks are downloaded first."""
    for name in request.maps:
        if databanks.is_entry(name):
            download(name, reporter)
    with timed(seconds, "read"), reporter.working("reading") as report_progress:
        inputs, count = [], len(request.maps)
        for index, name in enumerate(request.maps):
            inputs.append(load(name, request.voxel_size, part_of(report_progress, index, count)))
            report_progress(index + 1, count)
    for item in inputs:
        for warning in item.warnings:
            reporter.warn(warning)
        reporter.detail(f"{item.name}: {item.volume.shape} voxels, {item.volume.voxel_size} Å")
    return inputs


def prepared_maps(request: Request, reporter: Reporter, seconds: dict[str, float]) -> tuple[list[Input], Prepared]:
    """Read the maps and prepare them; the reporter gets the actions as information, then the warnings."""
    inputs = read_maps(request, reporter, seconds)
    with timed(seconds, "prepare"), reporter.working("preparing") as report_progress:
        volumes, names = [item.volume for item in inputs], [item.name for item in inputs]
        halves = read_halves(request, reporter)
        options = {"names": names, "half_maps": halves or None, "report": report_progress}
        prepared = prepare_maps(volumes, request.preparation, **options)
    for action in prepared.actions[:MOST_ACTIONS]:
        reporter.say(action)
    if rest := prepared.actions[MOST_ACTIONS:]:
        reporter.say(f"{len(rest)} more changes to the maps are in {LOG} and in the report")
        for action in rest:
            reporter.detail(action)
    for warning in prepared.warnings:
        reporter.warn(warning)
    return inputs, prepared


def read_halves(request: Request, reporter: Reporter) -> list[tuple[Volume, Volume]]:
    """Read the half maps of each map; the reporter gets what is wrong with their files."""
    found = []
    for names in request.halves:
        first, second = (load(name, request.voxel_size) for name in names)
        for warning in (*first.warnings, *second.warnings):
            reporter.warn(warning)
        found.append((first.volume, second.volume))
    return found


def read_mask(name: str, label: str, reporter: Reporter) -> Volume:
    """Read a mask; the reporter gets what is wrong with its file, and what was done to its values."""
    read = load(name)
    for warning in read.warnings:
        reporter.warn(warning)
    mask, said = as_mask(read.volume, label)
    if said:
        reporter.say(said)
    return mask


def refuse_twice(names: Sequence[str], kind: str) -> None:
    """Raise InputError for a part that was named twice; ``kind``: the word for it."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{kind} '{twice[0]}' was given twice: give each part once")


def run_details(
    request: Request,
    inputs: list[Input],
    device: devices.DeviceHandle,
    trajectory: Trajectory,
    prepared: Prepared,
    reporter: Reporter,
    seconds: dict[str, float],
) -> Run:
    """The ``Run`` for the report. The reporter gets the actions and warnings of the solve."""
    seconds |= {"compile": trajectory.clock.compile, "solve": trajectory.clock.solve}
    for action in trajectory.actions:
        if action not in prepared.actions:
            reporter.say(action)
    for warning in trajectory.warnings:
        if warning not in prepared.warnings:  # reported before the solve
            reporter.warn(warning)
    preparation, signals = report.preparation_entry(request), report.signal_entries(request, prepared)
    region = report.region_entry(request, trajectory.walls)
    return Run(request.command, inputs, devices.describe(device), seconds, preparation, signals, region)


def with_memory(settings: Settings, device: devices.DeviceHandle) -> Settings:
    """The settings; where they do not limit the memory, with what the device can spare."""
    return settings if settings.memory else replace(settings, memory=devices.usable_memory(device))


def keep_log(request: Request, reporter: Reporter, device: devices.DeviceHandle | None = None) -> None:
    """Begin the log in the folder of the run, which must exist: command, versions, then all messages."""
    versions = f"morphot_jax {__version__}, jax {jax.__version__}, Python {platform.python_version()}"
    place = "" if device is None else f", on {devices.describe(device)}"
    reporter.keep_log(request.output / LOG, (request.command, versions + place), append=request.resume)


def download(name: str, reporter: Reporter, *, fresh: bool = False) -> Path:
    """Download an entry of a data bank, unless it is there already; the path of its file."""
    with reporter.downloading(name) as report_progress:
        return databanks.fetch(name, fresh=fresh, report=report_progress)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Store the seconds that the block takes under ``name``."""
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started

"""What all runs begin and end with: the maps read and prepared, the device, the log, the times."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax

from morphot_jax import __version__
from morphot_jax.maps import databanks
from morphot_jax.maps.load import Input, load
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.prepared import Prepared, part_of, prepare_maps
from morphot_jax.runs import report
from morphot_jax.runs.log import LOG
from morphot_jax.runs.report import Run
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.system import devices


def device_of(request: Request) -> devices.DeviceHandle:
    """The device that was asked for; what is compiled for it is kept."""
    device = devices.pick_device(request.device)
    devices.keep_compilations()
    return device


def read_maps(request: Request, reporter: Reporter, seconds: dict[str, float]) -> list[Input]:
    """The maps as they are, downloaded where they are entries of data banks."""
    for name in request.maps:
        if databanks.is_entry(name):
            download(name, reporter)
    with timed(seconds, "read"), reporter.working("reading") as watch:
        inputs, count = [], len(request.maps)
        for index, name in enumerate(request.maps):
            inputs.append(load(name, request.voxel_size, part_of(watch, index, count)))
            watch(index + 1, count)
    for item in inputs:
        reporter.detail(f"{item.name}: {item.volume.shape} voxels, {item.volume.voxel_size} Å")
    return inputs


def prepared_maps(request: Request, reporter: Reporter, seconds: dict[str, float]) -> tuple[list[Input], Prepared]:
    """The maps as they were read, and prepared; what was done to them goes to the reporter."""
    inputs = read_maps(request, reporter, seconds)
    with timed(seconds, "prepare"), reporter.working("preparing") as watch:
        volumes, names = [item.volume for item in inputs], [item.name for item in inputs]
        prepared = prepare_maps(volumes, request.preparation, names=names, report=watch)
    for action in prepared.actions:
        reporter.say(action)
    for warning in prepared.warnings:
        reporter.warn(warning)
    return inputs, prepared


def run_details(
    request: Request,
    inputs: list[Input],
    device: devices.DeviceHandle,
    trajectory: Trajectory,
    prepared: Prepared,
    reporter: Reporter,
    seconds: dict[str, float],
) -> Run:
    """What the report holds beside the trajectory; the reporter gets the warnings that it has not had yet."""
    seconds |= {"compile": trajectory.clock.compile, "solve": trajectory.clock.solve}
    for warning in trajectory.warnings:
        if warning not in prepared.warnings:  # these were reported before the solve
            reporter.warn(warning)
    preparation = report.preparation_entry(request)
    return Run(request.command, inputs, devices.describe(device), seconds, preparation)


def with_memory(settings: Settings, device: devices.DeviceHandle) -> Settings:
    """The settings with what memory the device has to spare, where they do not say how much to use."""
    return settings if settings.memory else replace(settings, memory=devices.usable_memory(device))


def keep_log(request: Request, reporter: Reporter, device: devices.DeviceHandle | None = None) -> None:
    """Keep a log in the folder of the run, which has to exist: command and versions, then all that is reported."""
    versions = f"morphot_jax {__version__}, jax {jax.__version__}, Python {platform.python_version()}"
    where = "" if device is None else f", on {devices.describe(device)}"
    reporter.keep_log(request.output / LOG, (request.command, versions + where), append=request.resume)


def download(name: str, reporter: Reporter, *, fresh: bool = False) -> Path:
    """The file of an entry of a data bank, with progress."""
    with reporter.downloading(name) as watch:
        return databanks.fetch(name, fresh=fresh, report=watch)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Keep under a name how long the block takes."""
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started

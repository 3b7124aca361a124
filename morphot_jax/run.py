"""Runs of ``morphot morph``, ``order``, ``prepare`` and ``align``: names of maps in, a folder of results out."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from morphot_jax import chimerax, devices, fetch, figures, files, report
from morphot_jax.align import Alignment, align_maps
from morphot_jax.atoms import choose_box, read_atoms, simulate_density
from morphot_jax.choices import Align, Match, Motion
from morphot_jax.errors import InputError
from morphot_jax.grids import resample_onto
from morphot_jax.mrc import read_header, read_volume, write_volume
from morphot_jax.order import Ordering, order_maps
from morphot_jax.prepare import Level, Prepared, prepare_maps
from morphot_jax.report import Input, Run
from morphot_jax.samples import sample_volume
from morphot_jax.settings import Settings, check_settings, frame_times
from morphot_jax.terminal import Terminal
from morphot_jax.threads import side_by_side
from morphot_jax.trajectory import Frame, Trajectory, morph
from morphot_jax.volume import Volume

SAMPLE = "sample:"
RESOLUTION = 8.0  # Å, of the density that is made of atoms
FIGURES = "figures"
ALIGNED_MAP = "aligned.mrc"
PREPARING = ("align", "box", "grid", "level", "dust", "lowpass", "mask", "match")


@dataclass(frozen=True)
class Request:
    """What a run is asked to do, beside the settings of the trajectory.

    ``maps``: as ``load`` takes them, in order. ``voxel_size``: Å, in place of the headers'. ``align``, ``box``,
    ``grid``, ``level``, ``dust``, ``lowpass``, ``mask`` (a map), ``match``: of ``prepare_maps``. ``device``: a
    kind of ``devices``. ``command``: how the run was asked for, for the report.
    """

    maps: Sequence[str]
    output: Path
    command: str
    device: str = "auto"
    voxel_size: float | None = None
    align: Align = "none"
    box: int | None = None
    grid: int | None = None
    level: Level = None
    dust: int | None = None
    lowpass: float | None = None
    mask: str | None = None
    match: Match = "none"
    overwrite: bool = False


def run_morph(request: Request, settings: Settings, terminal: Terminal) -> Trajectory:
    """Read, prepare, solve and write. Raises InputError before anything is written if something cannot be used."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "total"):
        check_settings(settings)
        if len(request.maps) < 2:
            raise InputError(f"{len(request.maps)} map was given: a morph needs two or more")
        files.check_output_folder(request.output, overwrite=request.overwrite)
        _check_targets(request, len(frame_times(settings)))
        device = devices.pick_device(request.device)
        devices.keep_compilations()
        inputs, prepared = _prepared(request, terminal, seconds)
        settings = _with_memory(settings, device)
        with jax.default_device(device), terminal.solving() as watch:
            trajectory = morph(prepared, settings, report=watch)
        run = _said(request, inputs, device, trajectory, prepared, terminal, seconds)
        with _timed(seconds, "write"), terminal.busy("writing"):
            earlier = _earlier_files(request.output)
            written = _write(request, trajectory, (prepared.volumes[0], prepared.volumes[-1]))
            for stale in earlier - written:
                if stale.is_file():
                    stale.unlink()
    content = report.compose(run, trajectory, devices.peak_memory())
    files.write_text(request.output / report.REPORT, report.to_json(content))
    terminal.summary(trajectory, seconds)
    terminal.say(f"{len(trajectory.frames)} frames, {report.REPORT} and pictures are in {request.output}")
    return trajectory


def run_order(request: Request, settings: Settings, terminal: Terminal) -> Ordering:
    """Find the places of maps between two, and write them; the two ends are the first maps of the request."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "total"):
        check_settings(settings)
        if len(request.maps) < 3:
            raise InputError("no maps to be ordered were given: name one or more beside the two ends")
        files.check_output_folder(request.output, overwrite=request.overwrite)
        device = devices.pick_device(request.device)
        devices.keep_compilations()
        inputs, prepared = _prepared(request, terminal, seconds)
        settings = _with_memory(settings, device)
        with jax.default_device(device), terminal.solving() as watch:
            ordering = order_maps(prepared, settings=settings, report=watch)
        trajectory = ordering.trajectory
        run = _said(request, inputs, device, trajectory, prepared, terminal, seconds)
        with _timed(seconds, "write"), terminal.busy("writing"):
            names = request.maps[2:]
            files.make_folder(request.output)
            for name, text in report.order_tables(ordering, names).items():
                files.write_text(request.output / name, text)
            picture = figures.order_figure(ordering, [Path(name).name for name in names])
            files.write_bytes(request.output / figures.ORDER, figures.png(picture))
    content = report.compose(run, trajectory, devices.peak_memory(), written=False)
    files.write_text(request.output / report.REPORT, report.to_json(content))
    terminal.ordering(ordering, names, seconds)
    terminal.say(
        f"{report.ORDER}, {report.DISTANCES}, {figures.ORDER} and {report.REPORT} are in {request.output}"
    )
    return ordering


def run_prepare(request: Request, terminal: Terminal) -> Prepared:
    """Read and prepare maps, and write them and what was done to them; nothing is solved."""
    files.check_output_folder(request.output, overwrite=request.overwrite)
    seconds: dict[str, float] = {}
    inputs, prepared = _prepared(request, terminal, seconds)
    names = [f"{index:03d}_{_stem(item.name)}.mrc" for index, item in enumerate(inputs)]
    files.make_folder(request.output)
    for name, volume in zip(names, prepared.volumes, strict=True):
        write_volume(volume, request.output / name, overwrite=request.overwrite)
    content = report.compose_prepared(request.command, inputs, prepared, names, _options(request))
    files.write_text(request.output / report.PREPARED, report.to_json(content))
    terminal.say(f"{len(names)} maps and {report.PREPARED} are in {request.output}")
    return prepared


def run_align(
    request: Request, terminal: Terminal, *, motion: Motion = "rigid", mirror: bool = False
) -> Alignment:
    """Lay the first map of a request onto the second, and write it there, and how it came there."""
    files.check_output_folder(request.output, overwrite=request.overwrite)
    device = devices.pick_device(request.device)
    devices.keep_compilations()
    with terminal.busy("reading"):
        inputs = [load(name, request.voxel_size) for name in request.maps]
    moving, fixed = (item.volume for item in inputs)
    with jax.default_device(device), terminal.working("aligning") as watch:
        found = align_maps(moving, fixed, motion=motion, mirror=mirror, report=watch)
    files.make_folder(request.output)
    write_volume(
        resample_onto(moving, fixed, found.pose), request.output / ALIGNED_MAP, overwrite=request.overwrite
    )
    content = report.compose_alignment(request.command, inputs, motion, found, ALIGNED_MAP)
    files.write_text(request.output / report.ALIGNED, report.to_json(content))
    moving_file, fixed_file = map(_file_of, request.maps)
    script = chimerax.alignment_script(ALIGNED_MAP, moving_file, fixed_file, found.pose)
    files.write_text(request.output / chimerax.ALIGNMENT, script)
    terminal.alignment(found)
    terminal.say(f"{ALIGNED_MAP}, {report.ALIGNED} and {chimerax.ALIGNMENT} are in {request.output}")
    return found


def _options(request: Request) -> dict[str, Any]:
    """Of what was asked for, what shapes the maps."""
    return {name: getattr(request, name) for name in ("voxel_size", *PREPARING)}


def _file_of(name: str) -> str | None:
    """Where the file of a map is, None where it has none that a viewer could open as a map."""
    return None if name.startswith(SAMPLE) or fetch.is_entry(name) else str(Path(name).resolve())


def _stem(name: str) -> str:
    """A map's name as part of a file's."""
    stem = Path(name).name.split(".")[0] if not fetch.is_entry(name) else name
    return re.sub(r"[^\w-]+", "_", stem.removeprefix(SAMPLE))


def _prepared(request: Request, terminal: Terminal, seconds: dict[str, float]) -> tuple[list[Input], Prepared]:
    """The maps as they were read, and on one grid; what was done to them is said."""
    for name in request.maps:
        if fetch.is_entry(name):
            download(name, terminal)
    with _timed(seconds, "read"), terminal.busy("reading"):
        inputs = [load(name, request.voxel_size) for name in request.maps]
    for item in inputs:
        terminal.detail(f"{item.name}: {item.volume.shape} voxels, {item.volume.voxel_size} Å")
    with _timed(seconds, "prepare"), terminal.working("preparing") as watch:
        options = {name: getattr(request, name) for name in PREPARING}
        options["mask"] = None if request.mask is None else load(request.mask).volume
        volumes, names = [item.volume for item in inputs], [item.name for item in inputs]
        prepared = prepare_maps(volumes, names=names, report=watch, **options)
    for action in prepared.actions:
        terminal.warn(action)
    return inputs, prepared


def _said(
    request: Request,
    inputs: list[Input],
    device: devices.DeviceHandle,
    trajectory: Trajectory,
    prepared: Prepared,
    terminal: Terminal,
    seconds: dict[str, float],
) -> Run:
    """What the report is to tell, its warnings told at once."""
    seconds |= {"compile": trajectory.clock.compile, "solve": trajectory.clock.solve}
    warnings = report.warnings_of(trajectory)
    for warning in warnings:
        if warning not in prepared.actions:  # these were said before the solve
            terminal.warn(warning)
    return Run(request.command, inputs, devices.describe(device), warnings, seconds)


def download(name: str, terminal: Terminal, *, fresh: bool = False) -> Path:
    """The file of an entry of a data bank, with progress."""
    with terminal.downloading(name) as watch:
        return fetch.fetch(name, fresh=fresh, report=watch)


def load(name: str, voxel_size: float | None = None) -> Input:
    """Read a map by its path, as ``sample:NAME``, ``emdb:ENTRY`` or ``pdb:ENTRY``.

    ``voxel_size`` (Å) replaces the header's. Of a PDB entry the density of its atoms is made, at ``RESOLUTION`` Å.
    """
    if name.startswith(SAMPLE):
        return Input(name, None, sample_volume(name.removeprefix(SAMPLE)))
    if fetch.is_entry(name):
        path = fetch.fetch(name)
        if fetch.Entry.parse(name).bank == "pdb":
            atoms = read_atoms(path)
            box = choose_box(atoms, resolution=RESOLUTION)
            volume = simulate_density(atoms, **box._asdict(), resolution=RESOLUTION)
        else:
            volume = read_volume(path, voxel_size=voxel_size)
        return Input(name, files.sha256(path), volume)
    volume = read_volume(name, voxel_size=voxel_size)
    return Input(name, files.sha256(Path(name)), volume)


def describe_map(name: str) -> dict[str, Any]:
    """What ``morphot info`` prints: the header in words, and what the voxels hold."""
    path = name
    if fetch.is_entry(name) and fetch.Entry.parse(name).bank == "emdb":
        path = str(fetch.fetch(name))
    if path.startswith(SAMPLE) or fetch.is_entry(path):
        volume, entry = load(name).volume, {"path": name}
    else:
        header = read_header(path)
        # A file without a voxel size can still be looked at: 1 Å stands in for it and is not shown.
        volume = read_volume(path, voxel_size=None if header.voxel_size else 1.0)
        entry = {
            "path": name,
            "sha256": files.sha256(Path(path)),
            "mode": header.mode,
            "byte_order": header.byte_order,
            "axis_order": list(header.axis_order),
            "extended_header": header.extended_header_bytes,
            "labels": list(header.labels),
        }
        if not header.voxel_size:
            volume = replace(volume, voxel_size=(0.0, 0.0, 0.0), origin=header.origin)
    data = volume.data
    return entry | {
        "shape_zyx": list(volume.shape),
        "voxel_size_xyz": [float(edge) for edge in volume.voxel_size],
        "origin_xyz": [float(edge) for edge in volume.origin],
        "nstart_xyz": list(volume.nstart),
        "cell_angles": list(volume.cell_angles),
        "minimum": float(data.min()),
        "maximum": float(data.max()),
        "mean": float(data.mean(dtype=np.float64)),
        "sd": float(data.std(dtype=np.float64)),
        "mass": volume.mass,
        "negative_share": float((data < 0).mean()),
        "nonzero_share": float((data != 0).mean()),
    }


def _with_memory(settings: Settings, device: devices.DeviceHandle) -> Settings:
    return settings if settings.memory else replace(settings, memory=devices.usable_memory(device))


def _check_targets(request: Request, frames: int) -> None:
    """Raise InputError, before the solve, for names in an old output folder that cannot be written over."""
    for index in range(frames):
        path = request.output / report.frame_name(index)
        if path.is_dir():
            raise InputError(f"'{path}' is a folder where a frame has to go: name another output folder")
    figures_folder = request.output / FIGURES
    if figures_folder.exists() and not figures_folder.is_dir():
        raise InputError(f"'{figures_folder}' is a file where a folder has to go: name another output folder")


def _write(request: Request, trajectory: Trajectory, ends: tuple[Volume, Volume]) -> set[Path]:
    """Write frames, tables and pictures; the files that were written."""
    folder = request.output
    files.make_folder(folder / FIGURES)

    def write_frame(frame: Frame) -> Path:
        path = folder / report.frame_name(frame.index)
        write_volume(trajectory.volume(frame.index), path, overwrite=request.overwrite)
        return path

    written = set(side_by_side(write_frame, trajectory.frames))
    for name, text in report.tables(trajectory, ends).items():
        files.write_text(folder / name, text)
        written.add(folder / name)
    for name, content in figures.all_figures(trajectory).items():
        files.write_bytes(folder / FIGURES / name, content)
        written.add(folder / FIGURES / name)
    return written


def _earlier_files(folder: Path) -> set[Path]:
    """What an earlier run left there, by its own report: the only files that a run may remove."""
    try:
        content = json.loads((folder / report.REPORT).read_text(encoding="utf-8"))
        names = {str(frame["file"]) for frame in content["frames"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    frames = {folder / name for name in names if re.fullmatch(report.FRAME_PATTERN, name)}
    return frames | {folder / report.CONVERGENCE, folder / FIGURES / figures.CONVERGENCE}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started

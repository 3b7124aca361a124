"""Runs beside ``morphot morph``: ``order``, ``prepare``, ``align``, ``field``; each leaves a folder of results."""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from morphot_jax.maps import databanks
from morphot_jax.maps.load import SAMPLE, file_of, load
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.resample import resample_onto
from morphot_jax.morphing.field import Displacement, arrows, displacement_between, field_maps, moving
from morphot_jax.morphing.order import Ordering, order_maps
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.align import Alignment, align_maps
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs import report
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import (
    device_of,
    keep_log,
    prepared_maps,
    read_maps,
    run_details,
    timed,
    with_memory,
)
from morphot_jax.show import chimerax, figures, viewer
from morphot_jax.show.colouring import lengths_on
from morphot_jax.show.scene import scene_of
from morphot_jax.system import files, memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Motion

ALIGNED_MAP = "aligned.mrc"
ARROWS = "field.bild"
MOST_ARROWS, SEEN_ARROWS = 1500, 400  # in the file for ChimeraX, in the viewer


def run_order(request: Request, settings: Settings, reporter: Reporter) -> Ordering:
    """Find the places of maps between two, and write them; the two ends are the first maps of the request."""
    seconds: dict[str, float] = {}
    with timed(seconds, "total"):
        if len(request.maps) < 3:
            raise InputError("no maps to be ordered were given: name one or more beside the two ends")
        files.check_output_folder(request.output, overwrite=request.overwrite)
        device = device_of(request)
        inputs, prepared = prepared_maps(request, reporter, seconds)
        settings = with_memory(settings, device)
        with jax.default_device(device), reporter.solving() as watch:
            ordering = order_maps(prepared, settings=settings, report=watch)
        trajectory = ordering.trajectory
        run = run_details(request, inputs, device, trajectory, prepared, reporter, seconds)
        with timed(seconds, "write"), reporter.working("writing"):
            names = request.maps[2:]
            files.make_folder(request.output)
            keep_log(request, reporter, device)
            for name, text in report.order_tables(ordering, names).items():
                files.write_text(request.output / name, text)
            picture = figures.order_figure(ordering, [Path(name).name for name in names])
            for name, content in figures.both(figures.ORDER, picture).items():
                files.write_bytes(request.output / name, content)
    content = report.compose(run, trajectory, memory.peak(), written=False)
    files.write_text(request.output / report.REPORT, report.to_json(content))
    reporter.ordering(ordering, names, seconds)
    reporter.say(
        f"{report.ORDER}, {report.DISTANCES}, {figures.ORDER}.png and {report.REPORT} are in {request.output}"
    )
    return ordering


def run_prepare(request: Request, reporter: Reporter) -> Prepared:
    """Read and prepare maps, and write them and what was done to them; nothing is solved."""
    files.check_output_folder(request.output, overwrite=request.overwrite)
    seconds: dict[str, float] = {}
    inputs, prepared = prepared_maps(request, reporter, seconds)
    names = [f"{index:03d}_{_stem(item.name)}.mrc" for index, item in enumerate(inputs)]
    files.make_folder(request.output)
    keep_log(request, reporter)
    with reporter.working("writing") as watch:
        for done, (name, volume) in enumerate(zip(names, prepared.volumes, strict=True)):
            watch(done, len(names))
            write_volume(volume, request.output / name, overwrite=request.overwrite)
    content = report.compose_prepared(request, inputs, prepared, names)
    files.write_text(request.output / report.PREPARED, report.to_json(content))
    reporter.say(f"{len(names)} maps and {report.PREPARED} are in {request.output}")
    return prepared


def run_align(
    request: Request, reporter: Reporter, *, motion: Motion = "rigid", mirror: bool = False
) -> Alignment:
    """Lay the first map of a request onto the second, and write it there, and how it came there."""
    files.check_output_folder(request.output, overwrite=request.overwrite)
    device = device_of(request)
    inputs = read_maps(request, reporter, {})
    volume, fixed = (item.volume for item in inputs)
    with jax.default_device(device), reporter.working("aligning") as watch:
        found = align_maps(volume, fixed, motion=motion, mirror=mirror, report=watch)
    files.make_folder(request.output)
    keep_log(request, reporter, device)
    with reporter.working("writing"):
        moved = resample_onto(volume, fixed, found.pose)
        write_volume(moved, request.output / ALIGNED_MAP, overwrite=request.overwrite)
    content = report.compose_alignment(request.command, inputs, motion, found, ALIGNED_MAP)
    files.write_text(request.output / report.ALIGNED, report.to_json(content))
    moving_file, fixed_file = map(file_of, request.maps)
    script = chimerax.alignment_script(ALIGNED_MAP, moving_file, fixed_file, found.pose)
    files.write_text(request.output / chimerax.ALIGNMENT, script)
    reporter.alignment(found)
    reporter.say(f"{ALIGNED_MAP}, {report.ALIGNED} and {chimerax.ALIGNMENT} are in {request.output}")
    return found


def run_field(request: Request, settings: Settings, reporter: Reporter, masks: Sequence[str] = ()) -> Displacement:
    """Find how far the mass of the first of two maps goes to become the second, as a whole and in each mask.

    What lies in a mask is taken for a body that moves as a whole, as far as it does.
    """
    if len(request.maps) != 2:
        raise InputError(f"{len(request.maps)} maps were given: a field goes from one map to another")
    if twice := [name for name in masks if masks.count(name) > 1]:
        raise InputError(f"domain '{twice[0]}' was given twice: give each part once")
    files.check_output_folder(request.output, overwrite=request.overwrite)
    device = device_of(request)
    inputs, prepared = prepared_maps(request, reporter, {})
    parts = {name: load(name).volume for name in masks}
    with jax.default_device(device), reporter.solving() as watch:
        found = displacement_between(prepared, settings, domains=parts, report=watch)
    for warning in found.warnings:
        reporter.warn(warning)
    files.make_folder(request.output)
    keep_log(request, reporter, device)
    _write_field(request, inputs, prepared, found)
    content = report.compose_field(request, inputs, prepared, settings, found)
    files.write_text(request.output / report.FIELD, report.to_json(content))
    reporter.domains(found.domains)
    files_there = f"{ARROWS}, {report.DOMAINS}, {chimerax.FIELD} and {viewer.VIEWER}"
    reporter.say(f"maps of the field, {files_there} are in {request.output}")
    return found


def _write_field(
    request: Request, inputs: Sequence[report.Input], prepared: Prepared, found: Displacement
) -> None:
    """The field as maps and arrows, how they are looked at, and how the parts move."""
    first, field = prepared.volumes[0], found.field
    maps = field_maps(field, first)
    for name, volume in {"first": first, **maps}.items():
        write_volume(volume, request.output / f"{name}.mrc", overwrite=request.overwrite)
    moved = moving(field, first)
    lengths, mass = maps["displacement"].data[moved].astype(np.float64), first.data[moved].astype(np.float64)
    longest = float(np.quantile(lengths, 0.99))
    level = prepared.levels[0] if prepared.levels else level_of_mass(first.data)
    texts = {
        ARROWS: chimerax.bild(*arrows(field, first, MOST_ARROWS), longest),
        chimerax.FIELD: chimerax.field_script("first.mrc", ARROWS, "displacement.mrc", level, longest),
        report.DOMAINS: report.domains_table(found.domains),
    }
    for name, text in texts.items():
        files.write_text(request.output / name, text)
    picture = figures.displacement_figure(lengths, mass)
    for name, content in figures.both(figures.DISPLACEMENT, picture).items():
        files.write_bytes(request.output / name, content)
    scene = scene_of(first.data[None], np.zeros(1), np.array([level]), first)
    coloured = viewer.Coloured(lengths_on(scene, first, field, np.zeros(1)), longest)
    starts, ends = arrows(field, first, SEEN_ARROWS)
    details = viewer.field_details([item.name for item in inputs], found)
    page = viewer.page(scene, details, coloured, viewer.Arrows(starts, ends - starts))
    files.write_text(request.output / viewer.VIEWER, page)


def _stem(name: str) -> str:
    """A map's name as part of a file's."""
    stem = Path(name).name.split(".")[0] if not databanks.is_entry(name) else name
    return re.sub(r"[^\w-]+", "_", stem.removeprefix(SAMPLE))

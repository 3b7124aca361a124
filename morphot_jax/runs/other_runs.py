"""Runs of ``morphot order``, ``place``, ``prepare``, ``align`` and ``field``: each writes a folder of results."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from morphot_jax.maps import databanks
from morphot_jax.maps.load import SAMPLE, file_of
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.resample import resample_onto
from morphot_jax.morphing.coordinates import Coordinates, place_maps
from morphot_jax.morphing.field import Displacement, arrows, displacement_between, field_maps, moving
from morphot_jax.morphing.fit_part import doubts_about, fit_part
from morphot_jax.morphing.order import Ordering, order_maps
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.align import Alignment, align_maps
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs import report
from morphot_jax.runs.folder import OutputFolder
from morphot_jax.runs.log import LOG
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import (
    device_of,
    keep_log,
    prepared_maps,
    read_maps,
    read_mask,
    refuse_twice,
    run_details,
    timed,
    with_memory,
)
from morphot_jax.show import chimerax, figures, viewer
from morphot_jax.show.colouring import lengths_on
from morphot_jax.show.scene import scene_of
from morphot_jax.system import files, memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Motion, point_group

ALIGNED_MAP = "aligned.mrc"
ARROWS = "field.bild"
FIELD_MAPS = ("first", "displacement", "displacement_x", "displacement_y", "displacement_z")
FIELD_FILES = (*(f"{name}.mrc" for name in FIELD_MAPS), ARROWS, chimerax.FIELD, report.DOMAINS, report.FIELD)
FIELD_FILES += (*figures.file_names(figures.DISPLACEMENT), viewer.VIEWER, LOG)
BILD_ARROWS, VIEWER_ARROWS = 1500, 400  # the most arrows in the file for ChimeraX and in the viewer


def run_order(request: Request, settings: Settings, reporter: Reporter) -> Ordering:
    """Order maps between two ends, and write the order; the ends are the first two maps of the request."""
    started, seconds = time.perf_counter(), dict[str, float]()
    if len(request.maps) < 3:
        raise InputError("no maps to order were given: name one or more beside the two ends")
    pictures = figures.file_names(figures.ORDER)
    folder = OutputFolder.of(request, (report.ORDER, report.DISTANCES, *pictures, report.REPORT, LOG))
    folder.check()
    device = device_of(request, reporter)
    inputs, prepared = prepared_maps(request, reporter, seconds)
    settings = with_memory(settings, device)
    with folder:
        with jax.default_device(device), reporter.solving() as report_progress:
            ordering = order_maps(prepared, settings=settings, report=report_progress)
        for index in np.flatnonzero(ordering.off_path).tolist():
            reporter.warn(
                f"{request.maps[2 + index]} lies {ordering.least[index]:.2f} from the nearest frame, and the ends "
                f"of the trajectory lie {ordering.span:.2f} apart: it may not belong on it"
            )
        trajectory = ordering.trajectory
        run = run_details(request, inputs, device, trajectory, prepared, reporter, seconds)
        with timed(seconds, "write"), reporter.working("writing"):
            names = request.maps[2:]
            folder.begin()
            keep_log(request, reporter, device)
            for name, text in report.order_tables(ordering, names).items():
                files.write_text(request.output / name, text)
            picture = figures.order_figure(ordering, [Path(name).name for name in names])
            for name, content in figures.both(figures.ORDER, picture).items():
                files.write_bytes(request.output / name, content)
        seconds["total"] = time.perf_counter() - started
        content = report.compose(run, trajectory, memory.peak(), written=False)
        files.write_text(request.output / report.REPORT, report.to_json(content))
        folder.finish()
    reporter.ordering(ordering, names, seconds)
    reporter.say(
        f"{report.ORDER}, {report.DISTANCES}, {figures.ORDER}.png and {report.REPORT} are in {request.output}"
    )
    return ordering


def run_place(request: Request, settings: Settings, reporter: Reporter, among: int) -> Coordinates:
    """Find the weights of maps among references, the first ``among`` maps of the request, and write them."""
    seconds = dict[str, float]()
    if not 2 <= among < len(request.maps):
        raise InputError(
            f"{among} references and {len(request.maps) - among} maps were given: "
            "name two or more with --among, and one or more to place"
        )
    pictures = figures.file_names(figures.COORDINATES)
    folder = OutputFolder.of(request, (report.COORDINATES, report.PLACED, *pictures, LOG))
    folder.check()
    device = device_of(request, reporter)
    inputs, prepared = prepared_maps(request, reporter, seconds)
    settings = with_memory(settings, device)
    references, names = request.maps[:among], request.maps[among:]
    with folder:
        with jax.default_device(device), reporter.solving() as report_progress:
            found = place_maps(prepared, among, settings, report=report_progress)
        for warning in found.warnings:
            if warning not in prepared.warnings:  # reported before the solve
                reporter.warn(warning)
        for index in np.flatnonzero(found.far).tolist():
            reporter.warn(
                f"{names[index]} lies {found.residuals[index]:.2f} from the nearest barycenter, and the "
                f"references lie up to {found.span:.2f} apart: it may not belong among them"
            )
        folder.begin()
        keep_log(request, reporter, device)
        files.write_text(request.output / report.COORDINATES, report.coordinates_table(found, names))
        picture = figures.coordinates_figure(
            found, [Path(n).name for n in names], [Path(n).name for n in references]
        )
        for name, content in figures.both(figures.COORDINATES, picture).items():
            files.write_bytes(request.output / name, content)
        content = report.compose_placed(request, inputs, prepared, found)
        files.write_text(request.output / report.PLACED, report.to_json(content))
        folder.finish()
    reporter.coordinates(found, names, references)
    reporter.say(f"{report.COORDINATES}, {figures.COORDINATES}.png and {report.PLACED} are in {request.output}")
    return found


def run_prepare(request: Request, reporter: Reporter) -> Prepared:
    """Read and prepare maps, and write them with a report. Nothing is solved."""
    names = [f"{index:03d}_{_stem(name)}.mrc" for index, name in enumerate(request.maps)]
    folder = OutputFolder.of(request, (*names, report.PREPARED, LOG))
    folder.check()
    inputs, prepared = prepared_maps(request, reporter, {})
    with folder:
        folder.begin()
        keep_log(request, reporter)
        with reporter.working("writing") as report_progress:
            for done, (name, volume) in enumerate(zip(names, prepared.volumes, strict=True)):
                report_progress(done, len(names))
                write_volume(volume, request.output / name, overwrite=True)
        content = report.compose_prepared(request, inputs, prepared, names)
        files.write_text(request.output / report.PREPARED, report.to_json(content))
        folder.finish()
    reporter.say(f"{len(names)} maps and {report.PREPARED} are in {request.output}")
    return prepared


def run_align(
    request: Request,
    reporter: Reporter,
    *,
    motion: Motion = "rigid",
    mirror: bool = False,
    local: bool = False,
    symmetry: str = "C1",
    part: bool = False,
) -> Alignment:
    """Align the first map of a request to the second, and write the moved map and its motion.

    The maps are aligned as wholes (``align_maps``), or the first as a ``part`` of the second (``fit_part``).
    """
    symmetry = point_group(symmetry)  # refuses an unknown one before maps are read
    if part and motion != "rigid":
        raise InputError(f"--motion {motion} does not go with --part, which turns the part: leave one of them out")
    options: dict[str, Any] = {"mirror": mirror, "local": local, "symmetry": symmetry}
    chosen = {"motion": motion, **options, "part": part}
    folder = OutputFolder.of(request, (ALIGNED_MAP, report.ALIGNED, chimerax.ALIGNMENT, LOG))
    folder.check()
    device = device_of(request, reporter)
    inputs = read_maps(request, reporter, {})
    volume, fixed = (item.volume for item in inputs)
    with folder:
        with jax.default_device(device), reporter.working("aligning") as report_progress:
            if part:
                alignment = fit_part(volume, fixed, **options, report=report_progress)
            else:
                alignment = align_maps(volume, fixed, motion=motion, **options, report=report_progress)
        doubts = doubts_about(alignment) if part else []
        for warning in doubts:
            reporter.warn(warning)
        folder.begin()
        keep_log(request, reporter, device)
        with reporter.working("writing"):
            moved = resample_onto(volume, fixed, alignment.pose)
            write_volume(moved, request.output / ALIGNED_MAP, overwrite=True)
        content = report.compose_alignment(request.command, inputs, chosen, alignment, doubts, ALIGNED_MAP)
        files.write_text(request.output / report.ALIGNED, report.to_json(content))
        moving_file, fixed_file = map(file_of, request.maps)
        script = chimerax.alignment_script(ALIGNED_MAP, moving_file, fixed_file, alignment.pose)
        files.write_text(request.output / chimerax.ALIGNMENT, script)
        folder.finish()
    reporter.alignment(alignment)
    reporter.say(f"{ALIGNED_MAP}, {report.ALIGNED} and {chimerax.ALIGNMENT} are in {request.output}")
    return alignment


def run_field(request: Request, settings: Settings, reporter: Reporter, masks: Sequence[str] = ()) -> Displacement:
    """Find where the mass of the first of two maps goes in the second, for the whole map and for each mask.

    The mass in a mask is treated as a rigid body, as far as it moves like one.
    """
    if len(request.maps) != 2:
        raise InputError(f"{len(request.maps)} maps were given: a field goes from one map to another")
    refuse_twice(masks, "domain")
    folder = OutputFolder.of(request, FIELD_FILES, masks)
    folder.check()
    device = device_of(request, reporter)
    inputs, prepared = prepared_maps(request, reporter, {})
    parts = {name: read_mask(name, f"domain '{name}'", reporter) for name in masks}
    with folder:
        with jax.default_device(device), reporter.solving() as report_progress:
            displacement = displacement_between(prepared, settings, domains=parts, report=report_progress)
        for warning in displacement.warnings:
            reporter.warn(warning)
        folder.begin()
        keep_log(request, reporter, device)
        _write_field(request, inputs, prepared, displacement)
        content = report.compose_field(request, inputs, prepared, settings, displacement)
        files.write_text(request.output / report.FIELD, report.to_json(content))
        folder.finish()
    reporter.domains(displacement.domains)
    names = f"{ARROWS}, {report.DOMAINS}, {chimerax.FIELD} and {viewer.VIEWER}"
    reporter.say(f"maps of the field, {names} are in {request.output}")
    return displacement


def _write_field(
    request: Request, inputs: Sequence[report.Input], prepared: Prepared, displacement: Displacement
) -> None:
    """Write the field as maps and arrows, the figure, the viewer, and the table of domains."""
    first, field = prepared.volumes[0], displacement.field
    maps = field_maps(field, first)
    for name, volume in {"first": first, **maps}.items():
        write_volume(volume, request.output / f"{name}.mrc", overwrite=True)
    moved = moving(field, first)
    lengths, mass = maps["displacement"].data[moved].astype(np.float64), first.data[moved].astype(np.float64)
    longest = float(np.quantile(lengths, 0.99))
    level = prepared.levels[0] if prepared.levels else level_of_mass(first.data)
    texts = {
        ARROWS: chimerax.bild(*arrows(field, first, BILD_ARROWS), longest),
        chimerax.FIELD: chimerax.field_script("first.mrc", ARROWS, "displacement.mrc", level, longest),
        report.DOMAINS: report.domains_table(displacement.domains),
    }
    for name, text in texts.items():
        files.write_text(request.output / name, text)
    picture = figures.displacement_figure(lengths, mass)
    for name, content in figures.both(figures.DISPLACEMENT, picture).items():
        files.write_bytes(request.output / name, content)
    scene = scene_of(first.data[None], np.zeros(1), np.array([level]), first)
    coloured = viewer.Coloured.by_length(lengths_on(scene, first, field, np.zeros(1)), longest)
    starts, ends = arrows(field, first, VIEWER_ARROWS)
    details = viewer.field_details([item.name for item in inputs], displacement)
    page = viewer.page(scene, details, coloured, viewer.Arrows(starts, ends - starts))
    files.write_text(request.output / viewer.VIEWER, page)


def _stem(name: str) -> str:
    """The name of a map as a part of a file name."""
    stem = Path(name).name.split(".")[0] if not databanks.is_entry(name) else name
    return re.sub(r"[^\w-]+", "_", stem.removeprefix(SAMPLE))

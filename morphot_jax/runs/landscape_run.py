"""Runs of ``morphot landscape``: distances between many maps, their order, a path through them, and its morph.

Each solved pair is kept in ``.morphot/pairs.csv`` of the output folder, by the content of its two maps. A run that
is continued with ``resume`` solves the other pairs alone, also where maps were added or left out since.
"""

import csv
import hashlib
import time
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import jax
import numpy as np

from morphot_jax.maps.series import expanded
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.landscape import Landscape, Pair, landscape
from morphot_jax.morphing.seriation import stops_along
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs import report
from morphot_jax.runs.checkpoint import content_of, settings_text
from morphot_jax.runs.folder import FOLDER, OutputFolder
from morphot_jax.runs.log import LOG
from morphot_jax.runs.morph_run import run_morph
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import device_of, keep_log, prepared_maps, timed, with_memory
from morphot_jax.show import figures, viewer
from morphot_jax.show.scene import scene_of
from morphot_jax.system import files, memory
from morphot_jax.transport.status import Status

KEPT = "pairs.csv"
ALONG = Settings()  # of the morph along the path
PATH = "path"  # the folder of the morph along the path
FILES = (report.LANDSCAPE, report.LANDSCAPE_TABLE, report.DISTANCES, viewer.VIEWER, LOG)


def run_landscape(request: Request, settings: Settings, reporter: Reporter, *, stops: int) -> Landscape:
    """Find the landscape of three or more maps and write it, with a morph along the path through it.

    ``request.maps``: maps, or folders of maps. ``stops``: the most maps that the morph leads through; with 0 there
    is none.
    """
    started, seconds = time.perf_counter(), dict[str, float]()
    names, said = expanded(request.maps)
    for text in said:
        reporter.say(text)
    request = replace(request, maps=names)
    folder = OutputFolder.of(request, (*FILES, *figures.file_names(figures.LANDSCAPE)))
    folder.fingerprint = hashlib.sha256(settings_text(settings).encode()).hexdigest()
    folder.check()
    device = device_of(request, reporter)
    inputs, prepared = prepared_maps(request, reporter, seconds)
    settings = with_memory(settings, device)
    with folder:
        kept = _KeptPairs(folder, prepared.volumes)
        known = kept.known()
        if known:
            reporter.say(
                f"{len(known)} of {len(names) * (len(names) + 1) // 2} plans were solved by an earlier run"
            )
        with jax.default_device(device), reporter.solving() as report_progress:
            folder.begin()
            keep_log(request, reporter, device)
            found = landscape(prepared, settings, known=known, keep=kept.keep, report=report_progress)
        for warning in found.warnings:
            if warning not in prepared.warnings:  # reported before the solve
                reporter.warn(warning)
        with timed(seconds, "write"), reporter.working("writing"):
            _write(request, prepared, found)
        seconds |= {"compile": found.clock.compile, "solve": found.clock.solve}
        seconds["total"] = time.perf_counter() - started
        content = report.compose_landscape(request, inputs, prepared, found, seconds, memory.peak())
        files.write_text(request.output / report.LANDSCAPE, report.to_json(content))
        folder.finish()
    reporter.landscape(found, names, seconds)
    reporter.say(
        f"{report.LANDSCAPE_TABLE}, {report.DISTANCES}, {figures.LANDSCAPE}.png and {viewer.VIEWER} "
        f"are in {request.output}"
    )
    if stops:
        chosen = [names[k] for k in stops_along(list(found.path), found.distances, stops)]
        reporter.say(f"the morph along the path leads through {', '.join(chosen)}")
        again = request.resume or request.overwrite
        run_morph(
            replace(request, maps=chosen, output=request.output / PATH, overwrite=again),
            replace(ALONG, sigma=settings.sigma, sigma_angstrom=settings.sigma_angstrom),
            reporter,
        )
    return found


def _write(request: Request, prepared: Prepared, found: Landscape) -> None:
    """Write the tables, the picture, and the viewer of the maps in their order."""
    names = request.maps
    for name, text in report.landscape_tables(found, names).items():
        files.write_text(request.output / name, text)
    picture = figures.landscape_figure(found, [Path(name).name for name in names])
    for name, content in figures.both(figures.LANDSCAPE, picture).items():
        files.write_bytes(request.output / name, content)
    volumes = [prepared.volumes[k] for k in found.order.indices]
    levels = prepared.levels or [level_of_mass(volume.data) for volume in prepared.volumes]
    scene = scene_of(
        [volume.data for volume in volumes],
        np.linspace(0.0, 1.0, len(volumes)),
        np.array([levels[k] for k in found.order.indices]),
        volumes[0],
    )
    files.write_text(request.output / viewer.VIEWER, viewer.page(scene, viewer.landscape_details(found, names)))


class _KeptPairs:
    """The solved pairs in the output folder, by the contents of their maps and the fingerprint of the settings."""

    def __init__(self, folder: OutputFolder, volumes: tuple[Volume, ...]):
        self.path, self.settings = folder.path / FOLDER / KEPT, folder.fingerprint
        self.digests = [hashlib.sha256(content_of(volume)).hexdigest() for volume in volumes]

    def known(self) -> dict[tuple[int, int], Pair]:
        """The pairs of these maps that are there; a line that was cut short is left out."""
        rows: dict[str, Pair] = {}
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                for key, value, iterations, error, status, end in (
                    row for row in csv.reader(file) if len(row) == 6
                ):
                    if end == "end":
                        rows[key] = Pair(float(value), int(iterations), float(error), Status(int(status)))
        except (OSError, ValueError, csv.Error):
            pass
        every = combinations_with_replacement(range(len(self.digests)), 2)
        return {pair: rows[key] for pair in every if (key := self._key(pair)) in rows}

    def keep(self, indices: tuple[int, int], pair: Pair) -> None:
        """Add a pair."""
        row = (self._key(indices), repr(pair.value), pair.iterations, repr(pair.marginal_error), int(pair.status))
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([*row, "end"])

    def _key(self, indices: tuple[int, int]) -> str:
        """The same in either order of the two maps."""
        both = sorted(self.digests[k] for k in indices)
        return hashlib.sha256(" ".join([str(self.settings), *both]).encode()).hexdigest()

"""A finished run of ``morphot morph``: ``view`` writes its viewer again, ``movie`` makes a movie of it."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.mrc import read_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.times import labels_of
from morphot_jax.runs import report
from morphot_jax.runs.folder import rewrite
from morphot_jax.runs.reporter import Reporter
from morphot_jax.show import movie, viewer
from morphot_jax.show.colouring import fading_along, lengths_along
from morphot_jax.show.scene import Scene, scene_of
from morphot_jax.system import devices, files
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Colour, View

NEEDED = {"inputs", "settings", "warnings", "device", "precision", "version"}  # keys of a report for the viewer


@dataclass(frozen=True)
class Finished:
    """A finished run: its report, and its frames, each read from its file when it is used.

    ``measured``: the rows of its metrics.csv.
    """

    folder: Path
    content: dict[str, Any] = field(repr=False)
    names: list[str]
    times: Float[np.ndarray, " t"] = field(repr=False)
    levels: Float[np.ndarray, " t"] = field(repr=False)
    measured: list[dict[str, str]] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "Finished":
        """Read the report in a folder; InputError unless the folder holds a finished run."""
        content, measured = report.earlier(folder), _measured(folder / report.METRICS)
        try:
            frames = [(str(frame["file"]), float(frame["time"])) for frame in content["frames"]]
            levels = np.array([float(row["level"]) for row in measured])
        except (KeyError, TypeError, ValueError):
            frames, levels = [], np.zeros(0)
        if not frames or len(levels) != len(frames) or not set(content) >= NEEDED:
            raise InputError(
                f"'{folder}' holds no finished run ({report.REPORT}, {report.METRICS} and the frames that they "
                "list): give a folder that morphot morph wrote"
            )
        names, times = zip(*frames, strict=True)
        return cls(folder, content, list(names), np.array(times), levels, measured)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Float[np.ndarray, "z y x"]:
        return self.volume(index).data

    def volume(self, index: int) -> Volume:
        """Frame ``index`` as a map."""
        return read_volume(self.folder / self.names[index])

    @property
    def labels(self) -> list[str]:
        """What tells each frame from the others."""
        return labels_of(self.times, self.content["settings"].get("weights"))

    @property
    def cyclic(self) -> bool:
        """Whether the first map comes again after the last frame."""
        return bool(self.content["settings"].get("loop"))

    @property
    def maps(self) -> int:
        """How many maps the frames lead through."""
        return len(self.content["inputs"]) + self.cyclic

    def faded(self) -> dict[int, tuple[Volume, Volume]]:
        """What fades and what appears between neighbouring maps, by the index of the first of them."""
        found = {}
        for before in range(self.maps - 1 if self.content.get("fading") else 0):
            paths = [self.folder / name for name in report.fading_names(before)[:2]]
            if all(path.is_file() for path in paths):
                fades, appears = map(read_volume, paths)
                found[before] = (fades, appears)
        return found

    def scene(self, reporter: Reporter) -> Scene:
        """The frames as a scene to draw."""
        with reporter.working("reading") as report_progress:
            return scene_of(self, self.times, self.levels, self.volume(0), report=report_progress)


def run_view(folder: Path, reporter: Reporter, *, colour: Colour = "plain") -> Path:
    """Write the viewer of a finished run again.

    ``colour``: 'displacement' colours surfaces by how far their mass goes, 'fading' those of an unbalanced morph
    by what fades and appears.
    """
    finished = Finished.read(folder)
    scene = finished.scene(reporter)
    coloured = None
    if colour == "displacement":
        if (maps := finished.maps) != 2:
            raise InputError(
                f"'{folder}' is a morph of {maps} maps, and --colour displacement needs two: leave it out"
            )
        devices.keep_compilations(reporter.say)
        with reporter.solving() as report_progress:
            values, longest = lengths_along(scene, _sigma(finished), report_progress)
        coloured = viewer.Coloured.by_length(values, longest)
    if colour == "fading":
        if not (faded := finished.faded()):
            raise InputError(
                f"'{folder}' is no unbalanced morph, and nothing fades there: leave out --colour fading"
            )
        values = fading_along(scene, faded, finished.maps, finished.volume(0))
        coloured = viewer.Coloured.by_fading(values)
    text = viewer.page(scene, viewer.run_details(finished.content, finished.measured, scene), coloured)
    path = folder / viewer.VIEWER
    rewrite(folder, viewer.VIEWER, text)
    reporter.say(f"{path}: {len(finished)} frames, {len(text.encode()) / 1e6:.1f} MB")
    return path


def run_movie(
    folder: Path,
    output: Path,
    reporter: Reporter,
    *,
    view: View = "tilted",
    size: int = 600,
    rate: int = 12,
    overwrite: bool = False,
) -> Path:
    """Write a movie of a finished run, forwards and backwards, or once around a loop; .mp4 or .gif by its name."""
    write = movie.writer_for(output)
    movie.check(size, rate)
    if output.exists() and not overwrite:
        raise InputError(f"'{output}' exists: name another file, or add --overwrite")
    finished = Finished.read(folder)
    scene = finished.scene(reporter)
    with reporter.working("drawing") as report_progress:
        pictures = movie.pictures(scene, finished.labels, view, size, report_progress)
    files.make_folder(output.absolute().parent)
    cyclic = finished.cyclic
    write(pictures if cyclic else movie.forth_and_back(pictures), output, rate)
    way = "in a loop" if cyclic else "forwards and backwards"
    reporter.say(f"{output}: {len(pictures)} frames, {way}, {rate} per second")
    return output


def _sigma(finished: Finished) -> float:
    """The sigma that a run was solved with, in Å; 0 where nothing was solved."""
    try:
        widths = finished.content["settings"]["resolved"]["sigma_voxels_zyx"]
        return max(float(w) * edge for w, edge in zip(widths, finished.volume(0).voxel_size[::-1], strict=True))
    except (KeyError, TypeError, ValueError):
        return 0.0


def _measured(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none where it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []

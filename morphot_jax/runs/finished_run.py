"""Runs that show what ``morphot morph`` has left: ``view`` writes its viewer anew, ``movie`` films it."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.mrc import read_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.runs import report
from morphot_jax.runs.reporter import Reporter
from morphot_jax.show import movie, viewer
from morphot_jax.show.colouring import lengths_along
from morphot_jax.show.scene import Scene, scene_of
from morphot_jax.system import devices, files
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import Colour, View

TOLD = {"inputs", "settings", "warnings", "device", "precision", "version"}  # that the viewer tells of


@dataclass(frozen=True)
class Finished:
    """What a run has left: its report, and its frames, which are read when they are asked for."""

    folder: Path
    content: dict[str, Any] = field(repr=False)
    names: list[str]
    times: Float[np.ndarray, " t"] = field(repr=False)
    levels: Float[np.ndarray, " t"] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "Finished":
        """InputError where the folder does not hold all of a run."""
        content, levels = report.earlier(folder), _levels(folder / report.METRICS)
        try:
            frames = [(str(frame["file"]), float(frame["time"])) for frame in content["frames"]]
        except (KeyError, TypeError, ValueError):
            frames = []
        if not frames or len(levels) != len(frames) or not set(content) >= TOLD:
            raise InputError(
                f"'{folder}' holds no finished run ({report.REPORT}, {report.METRICS} and the frames that they "
                "tell of): give the folder that morphot morph has written"
            )
        names, times = zip(*frames, strict=True)
        return cls(folder, content, list(names), np.array(times), np.array(levels))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Float[np.ndarray, "z y x"]:
        return self.volume(index).data

    def volume(self, index: int) -> Volume:
        """A frame as a map."""
        return read_volume(self.folder / self.names[index])

    def scene(self, reporter: Reporter) -> Scene:
        """The frames as they are shown."""
        with reporter.working("reading") as watch:
            return scene_of(self, self.times, self.levels, self.volume(0), report=watch)


def run_view(folder: Path, reporter: Reporter, *, colour: Colour = "plain") -> Path:
    """Write the viewer of a finished run anew; with 'displacement' its surfaces show how far their mass goes."""
    finished = Finished.read(folder)
    scene = finished.scene(reporter)
    coloured = None
    if colour == "displacement":
        if len(finished.content["inputs"]) != 2:
            raise InputError("only the way between two maps can be coloured by displacement: leave out --colour")
        devices.keep_compilations()
        with reporter.solving() as watch:
            values, longest = lengths_along(scene, _sigma(finished), watch)
        coloured = viewer.Coloured(values, longest)
    text = viewer.page(scene, viewer.run_details(finished.content, finished.levels, scene), coloured)
    path = folder / viewer.VIEWER
    files.write_text(path, text)
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
    """Write a film of a finished run, forth and back, as its name says: .mp4 or .gif."""
    write = movie.writer_for(output)
    movie.check(size, rate)
    if output.exists() and not overwrite:
        raise InputError(f"'{output}' exists: name another file, or add --overwrite")
    finished = Finished.read(folder)
    scene = finished.scene(reporter)
    with reporter.working("drawing") as watch:
        pictures = movie.pictures(scene, view, size, watch)
    files.make_folder(output.absolute().parent)
    write(movie.forth_and_back(pictures), output, rate)
    reporter.say(f"{output}: {len(pictures)} frames, forth and back at {rate} a second")
    return output


def _sigma(finished: Finished) -> float:
    """The width of the kernel that a run was solved with, in Å; 0 where nothing was solved."""
    try:
        widths = finished.content["settings"]["resolved"]["sigma_voxels_zyx"]
        return max(float(w) * edge for w, edge in zip(widths, finished.volume(0).voxel_size[::-1], strict=True))
    except (KeyError, TypeError, ValueError):
        return 0.0


def _levels(path: Path) -> list[float]:
    """Those of the frames, by metrics.csv; none where it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [float(row["level"]) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return []

"""What a run keeps of every frame as soon as it is finished, so that another run can go on where it ended.

The frame's map has its final name, and is complete or not there at all (``files.complete_file``). Beside the maps
the folder ``.morphot`` holds, until the run has ended,

- ``run.json``: a fingerprint of the maps, the settings and the versions: all that the frames depend on;
- ``000.json`` ...: what is known of a frame beside its densities, and the checksum of its map;
- ``lock``, held by the run at work, so that no two write into one folder.

A frame counts as finished when its record is there and its map has the checksum that the record tells.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any

import jax
import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float

from morphot_jax import __version__
from morphot_jax.maps.mrc import read_volume, write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Frame, Kept
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status

FOLDER = ".morphot"
RUN, LOCK = "run.json", "lock"
WRITERS = 2  # maps written beside the solve
WAITING = 4  # maps that may wait to be written; more would fill the memory


def fingerprint(prepared: Prepared, settings: Settings) -> str:
    """A checksum of all that frames depend on; memory, which bounds what is computed at once, is no part of it."""
    chosen = {name: value for name, value in asdict(settings).items() if name != "memory"}
    versions = {"morphot_jax": __version__, "jax": jax.__version__}
    found = hashlib.sha256(json.dumps([chosen, versions], sort_keys=True).encode())
    for volume in prepared.volumes:
        found.update(repr((volume.shape, volume.data.dtype.str, volume.voxel_size, volume.origin)).encode())
        found.update(np.ascontiguousarray(volume.data).data)
    return found.hexdigest()


class Checkpoint:
    """The finished frames of one run in its output folder: a context, for as long as the run is at work.

    ``key``: its fingerprint. ``name``: of the map of a frame. ``clear``: called before anything is written, unless
    the folder holds this very run; it is to remove what another run has left.
    """

    def __init__(
        self, output: Path, key: str, template: Volume, name: Callable[[int], str], clear: Callable[[], None]
    ):
        self.output, self.key, self.template, self.name, self.clear = output, key, template, name, clear
        self.folder = output / FOLDER
        self.begun = False
        self.waiting: list[Future[None]] = []
        self.pool = ThreadPoolExecutor(WRITERS)
        self.lock = FileLock(self.folder / LOCK, timeout=0)

    def known(self) -> Mapping[int, Kept]:
        """Frames that an earlier run of the same maps and settings has finished, by their index."""
        if begun_in(self.output) != self.key:
            return {}
        kept = {}
        for index in indices_in(self.output):
            if (entry := self._read(self._record(index))) is not None:
                kept[index] = entry
        return kept

    def begin(self) -> None:
        """Make the folder ready; InputError where another run is at work in it."""
        if self.begun:
            return
        files.make_folder(self.folder)
        try:
            self.lock.acquire()
        except Timeout:
            raise InputError(f"another run writes into '{self.output}' now: name another folder") from None
        if begun_in(self.output) != self.key:
            self.clear()
            for path in self.folder.glob("*.json"):
                path.unlink()
        files.clear_unfinished(self.output)
        files.write_text(self.folder / RUN, json.dumps({"fingerprint": self.key}) + "\n")
        self.begun = True

    def keep(self, frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        """Write a frame, beside what goes on; an error of an earlier frame is raised here, or in the end."""
        self.begin()
        while len(self.waiting) >= WAITING:
            self.waiting.pop(0).result()
        self.waiting.append(self.pool.submit(self._write, frame, density))

    def wait(self) -> None:
        """Until every frame is written."""
        while self.waiting:
            self.waiting.pop(0).result()

    def end(self) -> None:
        """The run has ended and its report is written: nothing needs to be known of its frames any more."""
        self.lock.release()
        rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self.pool.shutdown(wait=True)
        self.lock.release()

    def _record(self, index: int) -> Path:
        return self.folder / f"{index:03d}.json"

    def _write(self, frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        path = self.output / self.name(frame.index)
        write_volume(self.template.with_data(density), path, overwrite=True)
        record = asdict(frame) | {"status": int(frame.status), "history": frame.history.tolist()}
        text = json.dumps({"sha256": files.sha256(path), "frame": record}) + "\n"
        files.write_text(self._record(frame.index), text)

    def _read(self, path: Path) -> Kept | None:
        """What a record and its map hold; None where one of them is not what it was."""
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            record: dict[str, Any] = entry["frame"]
            place = self.output / self.name(record["index"])
            if files.sha256(place) != entry["sha256"]:
                return None
            history = np.array(record["history"], np.float64)
            record |= {
                "status": Status(record["status"]),
                "history": history if history.size else np.empty((0, 1)),
            }
            return Kept(Frame(**record), read_volume(place).data)
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return None


def indices_in(output: Path) -> list[int]:
    """Of the frames that a run which has not ended has recorded in a folder."""
    return [int(path.stem) for path in (output / FOLDER).glob("*.json") if path.stem.isdigit()]


def begun_in(output: Path) -> str | None:
    """The fingerprint of the run that was begun and not ended in a folder; None where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((output / FOLDER / RUN).read_text(encoding="utf-8"))["fingerprint"])
    return None

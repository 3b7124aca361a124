"""Finished frames are written at once, so that a later run can continue an interrupted one.

The map of a frame has its final name from the start, and is either complete or absent (``files.complete_path``).
While the run works, the folder ``.morphot`` beside the maps holds

- ``run.json``: a fingerprint of everything that the frames depend on: maps, settings and versions;
- ``000.json`` ...: the record of a frame: its ``Frame`` and the checksum of its map;
- ``lock``: held by the run, so that no other run writes into the folder.

A frame is finished when its record exists and its map has the checksum in the record.
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
WRITERS = 2  # threads that write maps during the solve
WAITING = 4  # maps that may wait for a writer: each takes memory


def fingerprint(prepared: Prepared, settings: Settings) -> str:
    """A checksum of all that the frames depend on: not of the setting ``memory``, which changes no frame."""
    chosen = {name: value for name, value in asdict(settings).items() if name != "memory"}
    versions = {"morphot_jax": __version__, "jax": jax.__version__}
    checksum = hashlib.sha256(json.dumps([chosen, versions], sort_keys=True).encode())
    for volume in prepared.volumes:
        checksum.update(repr((volume.shape, volume.data.dtype.str, volume.voxel_size, volume.origin)).encode())
        checksum.update(np.ascontiguousarray(volume.data).data)
    return checksum.hexdigest()


class Checkpoint:
    """The finished frames of a run in its output folder. Used as a context while the run works.

    ``key``: the fingerprint of the run. ``name``: gives the file name of a frame. ``clear``: removes the files of
    an earlier run; called before the first write, unless that run has the same fingerprint.
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
        """The frames, by index, that an earlier run with the same fingerprint finished."""
        if begun_in(self.output) != self.key:
            return {}
        kept = {}
        for index in indices_in(self.output):
            if (entry := self._read(self._record(index))) is not None:
                kept[index] = entry
        return kept

    def begin(self) -> None:
        """Prepare the folder for writing; InputError while another run writes into it."""
        if self.begun:
            return
        files.make_folder(self.folder)
        try:
            self.lock.acquire()
        except Timeout:
            raise InputError(f"another run writes into '{self.output}': name another folder") from None
        if begun_in(self.output) != self.key:
            self.clear()
            for path in self.folder.glob("*.json"):
                path.unlink()
        files.clear_unfinished(self.output)
        files.write_text(self.folder / RUN, json.dumps({"fingerprint": self.key}) + "\n")
        self.begun = True

    def keep(self, frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        """Write a frame in a thread. An error in an earlier write is raised here, or by ``wait``."""
        self.begin()
        while len(self.waiting) >= WAITING:
            self.waiting.pop(0).result()
        self.waiting.append(self.pool.submit(self._write, frame, density))

    def wait(self) -> None:
        """Wait until every frame is written."""
        while self.waiting:
            self.waiting.pop(0).result()

    def end(self) -> None:
        """Remove the records: the run has written its report, which replaces them."""
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
        try:
            volume = self.template.with_data(density)
        except InputError as error:
            raise InputError(f"cannot write '{path}': {error}") from None
        write_volume(volume, path, overwrite=True)
        record = asdict(frame) | {"status": int(frame.status), "history": frame.history.tolist()}
        text = json.dumps({"sha256": files.sha256(path), "frame": record}) + "\n"
        files.write_text(self._record(frame.index), text)

    def _read(self, path: Path) -> Kept | None:
        """The frame of a record; None where the record or its map is missing or damaged."""
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
    """The indices of frames that an unfinished run has recorded in a folder."""
    return [int(path.stem) for path in (output / FOLDER).glob("*.json") if path.stem.isdigit()]


def begun_in(output: Path) -> str | None:
    """The fingerprint of the unfinished run in a folder; None where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((output / FOLDER / RUN).read_text(encoding="utf-8"))["fingerprint"])
    return None

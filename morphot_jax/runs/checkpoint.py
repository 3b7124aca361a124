"""Finished frames are written at once, so that a later run can continue an interrupted one.

The map of a frame has its final name from the start, and is either complete or absent (``files.complete_file``).
Its record, ``.morphot/000.json`` and so on in the output folder, holds its ``Frame`` and the checksum of its map.
A frame is finished when its record exists and its map has that checksum.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from morphot_jax import __version__
from morphot_jax.maps.mrc import read_volume, write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.rigid import Masks, masks_of
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import NO_MASKS, Frame, Kept
from morphot_jax.morphing.walls import Walls
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs.folder import FOLDER, OutputFolder, Record
from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status

WRITERS = 2  # threads that write maps during the solve
WAITING = 4  # maps that may wait for a writer: each takes memory
RECORD = r"[0-9]{3,}"  # the names of records, without their ending


def fingerprint(
    prepared: Prepared, settings: Settings, bodies: Masks = NO_MASKS, walls: Walls | None = None
) -> str:
    """A checksum of all that the frames depend on: not of the setting ``memory``, which changes no frame."""
    checksum = hashlib.sha256(settings_text(settings).encode())
    for signal in prepared.signals:
        checksum.update(b"none" if signal is None else np.stack([signal.frequency, signal.share]).tobytes())
    masks = {name: masks_of(mask) for name, mask in bodies.items()}
    checksum.update(repr([(name, len(given)) for name, given in masks.items()]).encode())
    for volume in (*prepared.volumes, *(mask for given in masks.values() for mask in given)):
        checksum.update(content_of(volume))
    checksum.update(b"" if walls is None else np.packbits(walls.inside).tobytes())
    return checksum.hexdigest()


def settings_text(settings: Settings) -> str:
    """The settings and the versions as text, without ``memory``, which changes no result."""
    chosen = {name: value for name, value in asdict(settings).items() if name != "memory"}
    versions = {"morphot_jax": __version__, "jax": jax.__version__}
    return json.dumps([chosen, versions], sort_keys=True)


def content_of(volume: Volume) -> bytes:
    """The grid and the densities of a map as bytes, for checksums."""
    grid = repr((volume.shape, volume.data.dtype.str, volume.voxel_size, volume.origin))
    return grid.encode() + np.ascontiguousarray(volume.data).tobytes()


class Checkpoint:
    """The finished frames of a run in its output folder. Used as a context while the run works.

    ``template``: a map on the frames' grid. ``name``: gives the file name of a frame.
    """

    def __init__(self, folder: OutputFolder, template: Volume, name: Callable[[int], str]):
        self.folder, self.template, self.name = folder, template, name
        self.waiting: list[Future[None]] = []
        self.pool = ThreadPoolExecutor(WRITERS)

    def known(self) -> Mapping[int, Kept]:
        """The frames, by index, that an earlier run with the same fingerprint finished."""
        key = self.folder.fingerprint
        if key is None or Record.read(self.folder.path).fingerprint != key:
            return {}
        kept = {}
        for path in sorted((self.folder.path / FOLDER).glob("*.json")):
            if re.fullmatch(RECORD, path.stem) and (entry := self._read(path)) is not None:
                kept[entry.frame.index] = entry
        return kept

    def keep(self, frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        """Write a frame in a thread. An error in an earlier write is raised here, or by ``wait``."""
        self.folder.begin()
        while len(self.waiting) >= WAITING:
            self.waiting.pop(0).result()
        self.waiting.append(self.pool.submit(self._write, frame, density))

    def wait(self) -> None:
        """Wait until every frame is written."""
        while self.waiting:
            self.waiting.pop(0).result()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self.pool.shutdown(wait=True)

    def _write(self, frame: Frame, density: Float[np.ndarray, "z y x"]) -> None:
        path = self.folder.path / self.name(frame.index)
        try:
            volume = self.template.with_data(density)
        except InputError as error:
            raise InputError(f"cannot write '{path}': {error}") from None
        write_volume(volume, path, overwrite=True)
        record = asdict(frame) | {"status": int(frame.status), "history": frame.history.tolist()}
        text = json.dumps({"sha256": files.sha256(path), "frame": record}) + "\n"
        files.write_text(self.folder.path / FOLDER / f"{frame.index:03d}.json", text)

    def _read(self, path: Path) -> Kept | None:
        """The frame of a record; None where the record or its map is missing or damaged."""
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            record: dict[str, Any] = entry["frame"]
            place = self.folder.path / self.name(int(path.stem))
            if record["index"] != int(path.stem) or files.sha256(place) != entry["sha256"]:
                return None
            history = np.array(record["history"], np.float64)
            record |= {
                "status": Status(record["status"]),
                "history": history if history.size else np.empty((0, 1)),
            }
            return Kept(Frame(**record), read_volume(place).data)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError):
            return None

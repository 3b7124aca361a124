"""The output folder of a run: what a run may write there, and what it may remove.

A run writes the files that it has declared, and removes the files that an earlier run has recorded. It touches no
others, and never one of its inputs. The folder ``.morphot`` in it holds

- ``lock``: held by a run while it works, so that no other run writes into the folder. It dies with its process.
- ``run.json``: the ``Record`` of the last run.

``checkpoint`` keeps the records of frames there too.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePath
from types import TracebackType

from filelock import FileLock, Timeout

from morphot_jax.maps.load import files_among
from morphot_jax.runs.log import LOG
from morphot_jax.runs.request import Request
from morphot_jax.system import files
from morphot_jax.system.errors import InputError

FOLDER = ".morphot"
RUN, LOCK = "run.json", "lock"


@dataclass(frozen=True)
class Record:
    """What a run writes into its folder.

    - ``fingerprint``: of everything that its results depend on; None where it cannot be resumed.
    - ``finished``: whether it has come to its end.
    - ``writer``: marks the files that it has not finished (``files.WRITER``).
    - ``files``: the names of its files, with their SHA-256 checksums once they are known.
    """

    fingerprint: str | None = None
    finished: bool = False
    writer: str = ""
    files: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record in a folder; an empty one where there is none that can be used."""
        try:
            record = cls(**json.loads((folder / FOLDER / RUN).read_text(encoding="utf-8")))
            sound = re.fullmatch(r"[0-9a-f]{16}", record.writer) and all(map(_is_below, record.files.keys()))
            return record if sound else cls()
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, folder: Path) -> None:
        """Write the record into a folder."""
        files.write_text(folder / FOLDER / RUN, json.dumps(asdict(self), indent=1) + "\n")

    def damaged(self, folder: Path) -> list[str]:
        """The names of files that are missing, or are not as they were written."""
        return [name for name, checksum in self.files.items() if not _is_whole(folder / name, checksum)]

    @property
    def resumable(self) -> bool:
        """Whether a run can be resumed that has not come to its end."""
        return self.fingerprint is not None and not self.finished


class OutputFolder:
    """The folder that a run writes into. As a context, it is locked.

    - ``names``: of all files that the run may write. ``inputs``: the files that it reads.
    - ``overwrite``: the folder need not be empty, and files of an earlier run are removed.
    - ``resume``: the files of an earlier run stay, if it has the same ``fingerprint``, set once that is known.

    ``check`` and the beginning of the context raise InputError where the run may not write. Nothing but the lock
    is written, and nothing is removed, before ``begin``.
    """

    def __init__(
        self,
        path: Path,
        names: Iterable[str],
        inputs: Iterable[Path] = (),
        *,
        overwrite: bool = False,
        resume: bool = False,
    ):
        self.path, self.names, self.inputs = path, tuple(dict.fromkeys(names)), tuple(inputs)
        self.overwrite, self.resume = overwrite, resume
        self.fingerprint: str | None = None
        self.record: Record | None = None
        self.leaving = ExitStack()

    @classmethod
    def of(cls, request: Request, names: Iterable[str], inputs: Iterable[str] = ()) -> "OutputFolder":
        """The output folder of a request. ``inputs``: names of maps beside those of the request."""
        mask = request.preparation.mask
        halves = [name for pair in request.halves for name in pair]
        masks = [mask if isinstance(mask, str) else None, request.within, request.avoid]
        named = [*request.maps, *halves, *inputs, *masks, request.model]
        read = files_among(named)
        return cls(request.output, names, read, overwrite=request.overwrite, resume=request.resume)

    @property
    def begun(self) -> bool:
        """Whether the run has begun to write."""
        return self.record is not None

    def check(self) -> None:
        """Raise InputError if the run may not write into the folder."""
        earlier = Record.read(self.path)
        same = self.fingerprint is not None and self.fingerprint == earlier.fingerprint
        if earlier.resumable and not (self.overwrite or self.resume):
            raise InputError(
                f"the output folder '{self.path}' holds an unfinished run: add --resume to continue it, or "
                "--overwrite to replace it, or name another folder"
            )
        if self.resume and self.fingerprint and earlier.fingerprint and not (same or self.overwrite):
            raise InputError(
                f"'{self.path}' holds frames of other maps, settings or versions: give those of the first run, "
                "or name another folder, or add --overwrite"
            )
        allowed = self.overwrite or (self.resume and earlier.fingerprint is not None) or self._holds_only_a_lock()
        files.check_output_folder(self.path, overwrite=allowed)
        places = [self.path / name for name in self.names]
        for place in places:
            if place.is_dir() and place.name != LOG:  # a run goes on without its log
                raise InputError(f"'{place}' is a folder, and a file needs that name: name another output folder")
            if place.parent.exists() and not place.parent.is_dir():
                raise InputError(
                    f"'{place.parent}' is a file, and a folder needs that name: name another output folder"
                )
        files.keep_apart([*places, *(self.path / name for name in earlier.files)], self.inputs)
        for name, place in zip(self.names, places, strict=True):
            if name not in earlier.files and os.path.lexists(place) and not place.is_dir():
                raise InputError(
                    f"'{place}' is of no earlier run, and this run would replace it: move it away, or name "
                    "another output folder"
                )
        if not (self.resume and (same or self.fingerprint is None)):
            for name in earlier.damaged(self.path):
                if os.path.lexists(self.path / name):
                    raise InputError(
                        f"'{self.path / name}' is not as an earlier run wrote it, and this run would remove it: "
                        "move it away, or name another output folder"
                    )

    def begin(self) -> None:
        """Begin to write: declare the files of this run, and clear away what another run has left."""
        if self.begun:
            return
        earlier = Record.read(self.path)
        self._clear_unfinished(earlier)
        if self.fingerprint is None or self.fingerprint != earlier.fingerprint:
            self._clear(earlier)
            earlier = Record()
        declared = dict.fromkeys(self.names) | dict(earlier.files)
        self.record = Record(self.fingerprint, False, files.WRITER, declared)
        self.record.write(self.path)

    def finish(self) -> None:
        """Record that the run has come to its end, and the checksums of its files."""
        assert self.record is not None, "begin comes first"
        written = {name: self.path / name for name in self.record.files if (self.path / name).is_file()}
        # The log still grows.
        checksums = {name: None if name == LOG else files.sha256(path) for name, path in written.items()}
        self.record = replace(self.record, finished=True, files=checksums)
        self.record.write(self.path)

    def __enter__(self) -> "OutputFolder":
        self.check()
        made = [place for place in (self.path, *self.path.absolute().parents) if not place.exists()]
        with ExitStack() as stack:
            stack.enter_context(_locked(self.path))
            stack.callback(self._leave_as_found, made)
            self.check()  # another run may have ended in between
            self.leaving = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self.leaving.close()

    def _leave_as_found(self, made: Sequence[Path]) -> None:
        """Remove the lock and the folders that were made, where nothing else was written."""
        if not self.begun and self._holds_only_a_lock():
            with suppress(OSError):
                (self.path / FOLDER / LOCK).unlink()
                for place in (self.path / FOLDER, *made):
                    place.rmdir()

    def _holds_only_a_lock(self) -> bool:
        """Whether nothing is in the folder but the lock of a run that did not begin, or has not yet begun."""
        with suppress(OSError):
            return os.listdir(self.path) == [FOLDER] and os.listdir(self.path / FOLDER) in ([], [LOCK])
        return False

    def _clear(self, earlier: Record) -> None:
        """Remove the files of an earlier run: its reports first, since they would describe other files."""
        for name in sorted(earlier.files, key=lambda name: (not name.endswith(".json"), name)):
            (self.path / name).unlink(missing_ok=True)
        for path in (self.path / FOLDER).glob("*.json"):
            path.unlink()

    def _clear_unfinished(self, earlier: Record) -> None:
        """Remove what the writer of an earlier run left unfinished."""
        if earlier.writer:
            for place in {self.path, self.path / FOLDER, *((self.path / name).parent for name in earlier.files)}:
                for path in place.glob(f".{earlier.writer}.*.part"):
                    path.unlink()


def rewrite(folder: Path, name: str, text: str) -> None:
    """Write a file of a finished run again; InputError while another run writes into its folder."""
    with _locked(folder):
        files.write_text(folder / name, text)
        record = Record.read(folder)
        if name in record.files:
            replace(record, files={**record.files, name: files.sha256(folder / name)}).write(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; InputError where another process holds it."""
    place = folder / FOLDER / LOCK
    files.make_folder(place.parent)
    lock = FileLock(place, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another run writes into '{folder}': name another folder, or wait for its end") from None
    except OSError as error:
        raise InputError(f"cannot lock '{place}': {error.strerror}; remove it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def _is_below(name: str) -> bool:
    """Whether a name stays inside the folder that it is relative to."""
    return bool(name) and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts


def _is_whole(path: Path, checksum: str | None) -> bool:
    """Whether a file is there, and has its checksum, where that is known."""
    with suppress(OSError, InputError):
        found = path.stat()
        return path.is_file() and checksum in (None, _checksum(path, found.st_mtime_ns, found.st_size))
    return False


@lru_cache(maxsize=1024)
def _checksum(path: Path, changed: int, size: int) -> str:
    """The checksum of a file, read once for each change of the file."""
    return files.sha256(path)

"""Files: written completely or not at all, and identified by their content."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import cast

from morphot_jax.system.errors import InputError, nearest

WRITER = secrets.token_hex(8)  # in the names of the files that this process has not finished: .WRITER.*.part
MOST_NAMES = 10_000  # names of a folder that are compared with the name of a missing file


@contextmanager
def complete_file(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file that gets the name ``path`` when the block succeeds; if it fails, no file is left behind."""
    temporary = path.with_name(f".{WRITER}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield cast(BufferedIOBase, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def complete_path(path: Path) -> Iterator[Path]:
    """Like ``complete_file``, for writers that need a path; InputError if they fail."""
    temporary = path.with_name(f".{WRITER}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error}; check the name, the rights and the disk") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file; InputError if that fails."""
    try:
        with complete_file(path) as file:
            file.write(content)
    except OSError as error:
        raise InputError(
            f"cannot write '{path}': {error.strerror}; check the name, the rights and the disk"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8; InputError if that fails. Parts of names that are no text become codes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal; InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}; check that it is still there") from None


def instead_of(path: Path) -> str:
    """End a message about a missing file: suggest the most similar name in its folder, or to check the name."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES) if entry.is_file()]
    except OSError:
        names = []
    suggestion = nearest(path.name, names)
    return "; check the name" if suggestion is None else f"; did you mean '{path.with_name(suggestion)}'?"


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError if results cannot be written to ``folder``: it is a file, read-only, or not empty."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"the output '{folder}' cannot be made: '{place}' is a file; name another folder")
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(existing, os.W_OK):
        raise InputError(
            f"the output '{folder}' cannot be written: '{existing}' is read-only; name another folder"
        )
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise InputError(f"the output folder '{folder}' is not empty: name another, or add --overwrite")


def keep_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError if a file that will be written or removed is one that is read, whatever it is called."""
    read = {identity for path in inputs if (identity := _identity(path)) is not None}
    for path in outputs:
        if _identity(path) in read:
            raise InputError(f"'{path}' is read by this run, which would write over it: name another output")


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder '{folder}': {error.strerror}; choose another place") from None

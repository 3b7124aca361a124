"""How files are written and told apart: complete or not at all, and by their content."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import cast

from morphot_jax.system.errors import InputError, nearest

UNFINISHED = r"\.[0-9a-f]{16}\.part"  # names of files that are being written
MOST_NAMES = 10_000  # of a folder that are compared with one that is not there


@contextmanager
def complete_file(path: Path) -> Iterator[BufferedIOBase]:
    """Give a file that takes the name ``path`` if the block ends well, and leaves nothing behind if not."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
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
    """The same for writers that ask for a path; InputError in one line where they fail."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error}; check the name, the rights and the disk") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file; InputError in one line where that cannot be done."""
    try:
        with complete_file(path) as file:
            file.write(content)
    except OSError as error:
        raise InputError(
            f"cannot write '{path}': {error.strerror}; check the name, the rights and the disk"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8; InputError in one line where that cannot be done."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal; InputError in one line where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}; check that it is still there") from None


def instead_of(path: Path) -> str:
    """The end of a message about a file that is not there: the nearest name in its folder, else what to do."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES) if entry.is_file()]
    except OSError:
        names = []
    near = nearest(path.name, names)
    return "; check the name" if near is None else f"; did you mean '{path.with_name(near)}'?"


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError where results cannot go: a file, or a folder that is read-only or in use."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"the output '{folder}' cannot be made: '{place}' is a file; name another folder")
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise InputError(f"the output '{folder}' cannot be written: '{nearest}' is read-only; name another folder")
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise InputError(f"the output folder '{folder}' is not empty: name another, or add --overwrite")


def clear_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder and those in it; nobody else may write there."""
    for path in folder.rglob(".*.part"):
        if re.fullmatch(UNFINISHED, path.name) and path.is_file():
            path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; InputError in one line where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder '{folder}': {error.strerror}; choose another place") from None

"""Entries of the EMDB and the PDB: downloaded once, cached, and verified by their checksums.

    emdb:5138, EMD-5138      the map of an EMDB entry, .map.gz
    pdb:3iyf, 3IYF           the model of a PDB entry, .cif.gz

Files are stored in the user's cache (or in the folder ``MORPHOT_CACHE``). ``checksums.json`` beside them holds the
SHA-256 of each file at its first download. A file that has changed since, here or at its source, is refused until
the user asks for a fresh download. ``MORPHOT_EMDB`` and ``MORPHOT_PDB`` replace the addresses of the data banks;
{id} in them stands for the entry.
"""

import gzip
import json
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from morphot_jax.maps.atoms import read_atoms
from morphot_jax.maps.mrc import check_file, read_header
from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report, silent

ADDRESSES = {
    "emdb": ("MORPHOT_EMDB", "https://ftp.ebi.ac.uk/pub/databases/emdb/structures/EMD-{id}/map/emd_{id}.map.gz"),
    "pdb": ("MORPHOT_PDB", "https://files.rcsb.org/download/{id}.cif.gz"),
}
NAMES = {  # the spellings of an entry, and the name of its file
    "emdb": (re.compile(r"(?:emdb:|emd[-_])(?:emd[-_])?(\d{4,5})", re.IGNORECASE), "emd_{id}.map.gz"),
    "pdb": (re.compile(r"(?:pdb:)?([0-9][a-z0-9]{3}|pdb_[0-9]{5}[a-z0-9]{3})", re.IGNORECASE), "{id}.cif.gz"),
}
CONTENT = {"emdb": ("map", check_file), "pdb": ("model", read_atoms)}  # kind of file, and its reader
CHECKSUMS, LOADING = "checksums.json", ".loading"
TIMEOUT = 30.0  # seconds without an answer
RETRIES = 3
LARGEST = 8 * 2**30  # bytes
CHUNK = 1 << 16


class Entry(NamedTuple):
    """An entry of a data bank, ``emdb`` or ``pdb``."""

    bank: str
    id: str

    @classmethod
    def parse(cls, name: str) -> "Entry":
        """Parse one of the spellings above; InputError for anything else."""
        for bank, (pattern, _) in NAMES.items():
            if match := pattern.fullmatch(name.strip()):
                return cls(bank, match[1].lower())
        raise InputError(
            f"'{name}' is not an entry: give EMD-1234 or emdb:1234, or a PDB code such as 3IYF or pdb:3iyf"
        )

    @property
    def file(self) -> str:
        return NAMES[self.bank][1].format(id=self.id)

    @property
    def address(self) -> str:
        variable, address = ADDRESSES[self.bank]
        return (os.environ.get(variable) or address).replace("{id}", self.id)


def is_entry(name: str) -> bool:
    """Whether a MAP names an entry of a data bank: with its prefix, so that no file name is mistaken for one."""
    return name.lower().startswith(tuple(f"{bank}:" for bank in ADDRESSES))


def fetch(
    name: str,
    *,
    folder: Path | None = None,
    fresh: bool = False,
    retries: int = RETRIES,
    timeout: float = TIMEOUT,
    largest: int = LARGEST,
    report: Report = silent,
) -> Path:
    """Return the path of an entry's file; download it if it is not in the cache.

    - ``folder``: the cache. ``fresh``: download again, and trust the new content.
    - ``retries``: after temporary failures. ``timeout``: seconds without an answer. ``largest``: bytes.

    Raises InputError for a name that is not an entry, an unknown entry, a failed connection, a file that is too
    large, content that differs from the first download, and what is not a map or a model. Nothing but whole maps
    and models is kept.
    """
    entry = Entry.parse(name)
    folder = cache_folder() if folder is None else folder
    files.make_folder(folder)
    path = folder / entry.file
    with FileLock(folder / f".{entry.file}.lock"):
        known = None if fresh else _checksums(folder).get(entry.file)
        if path.is_file() and not fresh:
            if known not in (None, checksum := files.sha256(path)):
                raise InputError(
                    f"'{path}' has changed since it was downloaded for {name} (checksum {checksum[:12]}, then "
                    f"{known[:12]}): add --fresh to download it again"
                )
            if _is_sound(entry, path):
                return path
            path.unlink()  # from an earlier version, which kept whatever came
            known = None
        _download(entry, path, known, retries, timeout, _Meter(largest, report))
        with FileLock(folder / ".lock"):
            sums = _checksums(folder) | {entry.file: files.sha256(path)}
            files.write_text(folder / CHECKSUMS, json.dumps(sums, indent=1, sort_keys=True) + "\n")
    return path


def cache_folder() -> Path:
    """Return the folder of the cache."""
    if folder := os.environ.get("MORPHOT_CACHE"):
        return Path(folder)
    return _pooch().os_cache("morphot_jax")


class _Refused(Exception):  # noqa: N818 - not an error that pooch should try again
    """A failure that a retry cannot mend."""


class _Meter:
    """Pooch's progress bar: passes the progress on, and stops downloads that are too large."""

    def __init__(self, largest: int, report: Report):
        self.largest, self.report, self.done, self._total = largest, report, 0, 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        self._total, self.done = value, 0
        self._check(value)

    def update(self, count: int) -> None:
        self.done += count
        self._check(self.done - CHUNK)  # the last chunk may be short
        self.report(min(self.done, self._total or self.done), self._total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass

    def _check(self, size: int) -> None:
        if size > self.largest:
            raise _Refused(f"is larger than {self.largest / 2**30:.3g} GiB")


def _download(entry: Entry, path: Path, known: str | None, retries: int, timeout: float, meter: _Meter) -> None:
    """Download into a subfolder, then move the complete file to its place."""
    pooch = _pooch()
    import requests  # noqa: PLC0415 - pooch brings it along

    plain = pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=timeout)

    def downloader(url: str, output: str, who: Any) -> None:
        try:
            plain(url, output, who)
        except requests.HTTPError as error:
            answer = error.response
            if answer is not None and answer.status_code < 500:  # missing or forbidden: a retry does not help
                raise _Refused(f"answers {answer.status_code} {answer.reason}") from None
            raise

    loading = path.parent / LOADING
    with suppress(FileNotFoundError):
        (loading / entry.file).unlink()
    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(
        loading,
        base_url="",
        registry={entry.file: known},
        urls={entry.file: entry.address},
        retry_if_failed=retries,
    )
    try:
        loaded = Path(store.fetch(entry.file, downloader=downloader))
    except _Refused as error:
        raise InputError(f"{entry.address} {error}: check the entry {entry.bank}:{entry.id}") from None
    except (requests.RequestException, OSError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"cannot download {entry.address} in {retries + 1} tries: {why[:200]}; check the connection"
        ) from None
    except ValueError:
        raise InputError(
            f"the file at {entry.address} has changed since it was first downloaded (checksum then "
            f"{str(known)[:12]}): add --fresh to use the new one"
        ) from None
    _check_content(entry, loaded)
    os.replace(loaded, path)


def _check_content(entry: Entry, loaded: Path) -> None:
    """Throw a file away that is not what its entry should be, such as the page of a network that wants a login."""
    kind, read = CONTENT[entry.bank]
    try:
        read(loaded)
    except InputError as error:
        loaded.unlink(missing_ok=True)
        reason = str(error).partition(": ")[2]
        raise InputError(
            f"what {entry.address} sends is not a {kind}, and was thrown away: {reason.partition(';')[0]}; check "
            "the connection (does this network ask for a login?) and try again"
        ) from None


def _is_sound(entry: Entry, path: Path) -> bool:
    """Whether a file in the cache begins as what it should be."""
    with suppress(InputError, OSError, EOFError, zlib.error):
        if entry.bank == "emdb":
            read_header(path)
            return True
        with gzip.open(path) as stream:
            return b"data_" in stream.read(CHUNK)
    return False


def _checksums(folder: Path) -> dict[str, str]:
    """Read the stored checksums; none if there is no file, InputError if it is damaged."""
    try:
        stored = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise InputError(f"'{folder / CHECKSUMS}' cannot be read: delete it") from None
    return {str(name): str(value) for name, value in stored.items()} if isinstance(stored, dict) else {}


def _pooch() -> Any:
    try:
        import pooch  # noqa: PLC0415
    except ImportError:
        raise InputError("downloads need pooch: pip install 'morphot_jax[fetch]'") from None
    return pooch

"""Maps by name: files, the samples of the package, and entries of data banks."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from morphot_jax.maps import databanks
from morphot_jax.maps.atoms import choose_box, read_atoms, simulate_density
from morphot_jax.maps.mrc import MapHeader, read_stored, read_volume
from morphot_jax.maps.samples import sample_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.system import files
from morphot_jax.system.errors import InputError, InputWarning, nearest
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import SAMPLE, SAMPLE_NAMES

RESOLUTION = 8.0  # Å, of the density simulated from atoms


@dataclass(frozen=True)
class Input:
    """A map as it was read: its name, the checksum of its file (None for a sample), and the map.

    ``warnings``: what was wrong with the file, though it could be read.
    """

    name: str
    sha256: str | None
    volume: Volume
    warnings: tuple[str, ...] = ()


def load(name: str, voxel_size: float | None = None, report: Report = silent) -> Input:
    """Read a map by its path, as ``sample:NAME``, ``emdb:ENTRY`` or ``pdb:ENTRY``.

    ``voxel_size`` (Å) replaces the header's. For a PDB entry the density of its atoms is simulated at
    ``RESOLUTION`` Å. ``report`` gets the bytes of voxels that have been read and their total.
    """
    if name.startswith(SAMPLE):
        return Input(name, None, sample_volume(name.removeprefix(SAMPLE)))
    with _noting() as notes:
        path, volume = _read(name, voxel_size, report)
    return Input(name, files.sha256(path), volume, tuple(notes))


def _read(name: str, voxel_size: float | None, report: Report) -> tuple[Path, Volume]:
    """The file of a map, and the map."""
    if databanks.is_entry(name):
        path = databanks.fetch(name)
        if databanks.Entry.parse(name).bank == "pdb":
            atoms = read_atoms(path)
            box = choose_box(atoms, resolution=RESOLUTION)
            volume = simulate_density(atoms, **vars(box), resolution=RESOLUTION)
        else:
            volume = read_volume(path, voxel_size=voxel_size, report=report)
        return path, volume
    _check_exists(name)
    return Path(name), read_volume(name, voxel_size=voxel_size, report=report)


@contextmanager
def _noting() -> Iterator[list[str]]:
    """Collect the messages of the ``InputWarning`` of a block; other warnings go their way."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        yield notes
    for warning in caught:
        if issubclass(warning.category, InputWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def file_of(name: str) -> str | None:
    """Return the path of a map's file; None for samples and entries, which viewers cannot open."""
    return None if name.startswith(SAMPLE) or databanks.is_entry(name) else str(Path(name).resolve())


def files_among(names: Iterable[str | None]) -> list[Path]:
    """The paths of those names that are files."""
    return [Path(path) for name in names if name is not None and (path := file_of(name)) is not None]


def _check_exists(path: str) -> None:
    """Raise InputError for a missing file whose name resembles that of a sample or an entry."""
    if os.path.exists(path):
        return
    suggestion = nearest(path, [SAMPLE + name for name in SAMPLE_NAMES])
    with suppress(InputError):
        entry = databanks.Entry.parse(path)
        suggestion = f"{entry.bank}:{entry.id}"
    if suggestion is not None:
        raise InputError(f"cannot read '{path}': there is no such file; did you mean '{suggestion}'?")


def describe_map(name: str, report: Report = silent) -> dict[str, Any]:
    """Return what ``morphot info`` prints: the fields of the header and statistics of the densities.

    A missing voxel size is shown as zero. The statistics are of the finite voxels. ``report``: as in ``load``.
    """
    path = name
    if databanks.is_entry(name) and databanks.Entry.parse(name).bank == "emdb":
        path = str(databanks.fetch(name))
    if path.startswith(SAMPLE) or databanks.is_entry(path):
        volume, entry = load(name).volume, {"path": name}
        return entry | _place(volume) | _statistics(volume.data)
    _check_exists(path)
    with _noting() as notes:
        header, data = read_stored(path, report=report)
    entry = {
        "path": name,
        "warnings": notes,
        "sha256": files.sha256(Path(path)),
        "mode": header.mode,
        "byte_order": header.byte_order,
        "axis_order": list(header.axis_order),
        "extended_header": header.extended_header_bytes,
        "labels": list(header.labels),
    }
    return entry | _place(header) | _statistics(data)


def _place(source: Volume | MapHeader) -> dict[str, list]:
    """Describe the grid: its shape, voxel size, origin and cell angles."""
    return {
        "shape_zyx": list(source.shape),
        "voxel_size_xyz": [float(edge) for edge in source.voxel_size or (0.0, 0.0, 0.0)],
        "origin_xyz": [float(edge) for edge in source.origin],
        "nstart_xyz": list(source.nstart),
        "cell_angles": list(source.cell_angles),
    }


def _statistics(data: Float[np.ndarray, "z y x"]) -> dict[str, Any]:
    """Statistics of the finite voxels; None if no voxel is finite."""
    finite = np.isfinite(data)
    values = data if finite.all() else data[finite]
    measures = {
        "minimum": values.min,
        "maximum": values.max,
        "mean": partial(values.mean, dtype=np.float64),
        "sd": partial(values.std, dtype=np.float64),
        "mass": partial(values.sum, dtype=np.float64),
        "negative_share": (values < 0).mean,
        "nonzero_share": (values != 0).mean,
    }
    statistics = {name: float(measure()) if values.size else None for name, measure in measures.items()}
    return statistics | {"nonfinite_voxels": data.size - values.size}

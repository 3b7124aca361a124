"""Maps by the names that users give them: files, samples that come along, and entries of data banks."""

import os
from contextlib import suppress
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
from morphot_jax.system.errors import InputError, nearest
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.words import SAMPLE, SAMPLE_NAMES

RESOLUTION = 8.0  # Å, of the density that is made of atoms


@dataclass(frozen=True)
class Input:
    """A map as it was read: by which name, from a file of which checksum (None for none)."""

    name: str
    sha256: str | None
    volume: Volume


def load(name: str, voxel_size: float | None = None, report: Report = silent) -> Input:
    """Read a map by its path, as ``sample:NAME``, ``emdb:ENTRY`` or ``pdb:ENTRY``.

    ``voxel_size`` (Å) replaces the header's. Of a PDB entry the density of its atoms is made, at ``RESOLUTION`` Å.
    ``report``: told of the bytes of voxels that have been read, and of all.
    """
    if name.startswith(SAMPLE):
        return Input(name, None, sample_volume(name.removeprefix(SAMPLE)))
    if databanks.is_entry(name):
        path = databanks.fetch(name)
        if databanks.Entry.parse(name).bank == "pdb":
            atoms = read_atoms(path)
            box = choose_box(atoms, resolution=RESOLUTION)
            volume = simulate_density(atoms, **box._asdict(), resolution=RESOLUTION)
        else:
            volume = read_volume(path, voxel_size=voxel_size, report=report)
        return Input(name, files.sha256(path), volume)
    _check_there(name)
    volume = read_volume(name, voxel_size=voxel_size, report=report)
    return Input(name, files.sha256(Path(name)), volume)


def file_of(name: str) -> str | None:
    """Where the file of a map is, None where it has none that a viewer could open as a map."""
    return None if name.startswith(SAMPLE) or databanks.is_entry(name) else str(Path(name).resolve())


def _check_there(path: str) -> None:
    """Raise InputError for a file that is not there, where the name of a sample or an entry was meant."""
    if os.path.exists(path):
        return
    near = nearest(path, [SAMPLE + name for name in SAMPLE_NAMES])
    with suppress(InputError):
        entry = databanks.Entry.parse(path)
        near = f"{entry.bank}:{entry.id}"
    if near is not None:
        raise InputError(f"cannot read '{path}': there is no such file; did you mean '{near}'?")


def describe_map(name: str, report: Report = silent) -> dict[str, Any]:
    """What ``morphot info`` prints: the header in words, and what the voxels hold; ``report`` as of ``load``.

    A voxel size that the header does not give is shown as zero. What the voxels hold is that of the finite ones.
    """
    path = name
    if databanks.is_entry(name) and databanks.Entry.parse(name).bank == "emdb":
        path = str(databanks.fetch(name))
    if path.startswith(SAMPLE) or databanks.is_entry(path):
        volume, entry = load(name).volume, {"path": name}
        return entry | _place(volume) | _contents(volume.data)
    _check_there(path)
    header, data = read_stored(path, report=report)
    entry = {
        "path": name,
        "sha256": files.sha256(Path(path)),
        "mode": header.mode,
        "byte_order": header.byte_order,
        "axis_order": list(header.axis_order),
        "extended_header": header.extended_header_bytes,
        "labels": list(header.labels),
    }
    return entry | _place(header) | _contents(data)


def _place(source: Volume | MapHeader) -> dict[str, list]:
    """Where the voxels are."""
    return {
        "shape_zyx": list(source.shape),
        "voxel_size_xyz": [float(edge) for edge in source.voxel_size or (0.0, 0.0, 0.0)],
        "origin_xyz": [float(edge) for edge in source.origin],
        "nstart_xyz": list(source.nstart),
        "cell_angles": list(source.cell_angles),
    }


def _contents(data: Float[np.ndarray, "z y x"]) -> dict[str, Any]:
    """What the voxels hold; None where none of them is finite."""
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
    described = {name: float(measure()) if values.size else None for name, measure in measures.items()}
    return described | {"nonfinite_voxels": data.size - values.size}

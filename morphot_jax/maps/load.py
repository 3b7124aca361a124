"""Maps by the names that users give them: files, samples that come along, and entries of data banks."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from morphot_jax.maps import databanks
from morphot_jax.maps.atoms import choose_box, read_atoms, simulate_density
from morphot_jax.maps.mrc import read_header, read_volume
from morphot_jax.maps.samples import sample_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.system import files
from morphot_jax.system.errors import InputError, nearest
from morphot_jax.system.files import Report
from morphot_jax.system.words import SAMPLE, SAMPLE_NAMES

RESOLUTION = 8.0  # Å, of the density that is made of atoms


@dataclass(frozen=True)
class Input:
    """A map as it was read: by which name, from a file of which checksum (None for none)."""

    name: str
    sha256: str | None
    volume: Volume


def load(name: str, voxel_size: float | None = None, report: Report = lambda done, total: None) -> Input:
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


def describe_map(name: str, report: Report = lambda done, total: None) -> dict[str, Any]:
    """What ``morphot info`` prints: the header in words, and what the voxels hold; ``report`` as of ``load``."""
    path = name
    if databanks.is_entry(name) and databanks.Entry.parse(name).bank == "emdb":
        path = str(databanks.fetch(name))
    if path.startswith(SAMPLE) or databanks.is_entry(path):
        volume, entry = load(name).volume, {"path": name}
    else:
        _check_there(path)
        header = read_header(path)
        # A file without a voxel size can still be looked at: 1 Å stands in for it and is not shown.
        volume = read_volume(path, voxel_size=None if header.voxel_size else 1.0, report=report)
        entry = {
            "path": name,
            "sha256": files.sha256(Path(path)),
            "mode": header.mode,
            "byte_order": header.byte_order,
            "axis_order": list(header.axis_order),
            "extended_header": header.extended_header_bytes,
            "labels": list(header.labels),
        }
        if not header.voxel_size:
            volume = replace(volume, voxel_size=(0.0, 0.0, 0.0), origin=header.origin)
    data = volume.data
    return entry | {
        "shape_zyx": list(volume.shape),
        "voxel_size_xyz": [float(edge) for edge in volume.voxel_size],
        "origin_xyz": [float(edge) for edge in volume.origin],
        "nstart_xyz": list(volume.nstart),
        "cell_angles": list(volume.cell_angles),
        "minimum": float(data.min()),
        "maximum": float(data.max()),
        "mean": float(data.mean(dtype=np.float64)),
        "sd": float(data.std(dtype=np.float64)),
        "mass": volume.mass,
        "negative_share": float((data < 0).mean()),
        "nonzero_share": float((data != 0).mean()),
    }

"""The maps of experiments by name: the real pair of Mm-cpn, samples, or files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from morphot_jax import Preparation, prepare_maps, read_volume
from morphot_jax.maps.samples import sample_volume
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.system import files

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
REAL = tuple(str((DATA / f"mmcpn_{state}_64.mrc").resolve()) for state in ("open", "closed"))
SAMPLE = ("sample:mmcpn-open", "sample:mmcpn-closed")


def pair_of(maps: tuple[str, str] | None) -> tuple[str, str]:
    """The chosen pair of maps with absolute paths; by default Mm-cpn, open first as in the paper."""
    if maps is None:
        return REAL if all(Path(path).is_file() for path in REAL) else SAMPLE
    first, last = maps
    return absolute(first), absolute(last)


def absolute(name: str) -> str:
    """Make the name of a map independent of the working folder."""
    return name if name.startswith("sample:") else str(Path(name).resolve())


def about(maps: Sequence[str]) -> dict[str, str]:
    """Settings that identify a pair of maps: their names, and the checksums of the files."""
    sums = [name if name.startswith("sample:") else files.sha256(Path(name))[:16] for name in maps]
    return {"maps": name_of(maps), "contents": " ".join(sums)}


def name_of(maps: Sequence[str]) -> str:
    """The name of a pair of maps in tables."""
    return " ".join(name if name.startswith("sample:") else Path(name).stem for name in maps)


def side(grid: str) -> int:
    """The number of voxels along an axis of a grid such as 64^3."""
    return int(grid.partition("^")[0])


def is_flat(grid: str) -> bool:
    """Whether a grid is an image, such as 64^2."""
    return grid.endswith("^2")


def load(maps: Sequence[str], voxels: int) -> Prepared:
    """Load and prepare maps on a cube of this number of voxels a side."""
    volumes = [
        sample_volume(name.removeprefix("sample:")) if name.startswith("sample:") else read_volume(name)
        for name in maps
    ]
    same_grid = all(volume.shape == (voxels, voxels, voxels) for volume in volumes)
    return prepare_maps(volumes, Preparation(level=0.0, grid=None if same_grid else voxels))


def unit_maps(maps: Sequence[str], grid: str) -> Float[np.ndarray, "2 z y x"]:
    """The maps at unit mass in double precision; for an image, their projections along z, one voxel deep."""
    boxes = np.stack([volume.data.astype(np.float64) for volume in load(maps, side(grid)).volumes])
    boxes = boxes.sum(axis=1, keepdims=True) if is_flat(grid) else boxes
    return np.stack([unit_mass(data) for data in boxes])

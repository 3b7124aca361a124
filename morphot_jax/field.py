"""What a displacement field says of the parts of a map: how far each goes, and about which axis it turns.

A field holds, at the voxels of the first map that have mass, how far that mass goes: Å along z, y, x
(``displacement_field``); NaN elsewhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from morphot_jax.errors import InputError
from morphot_jax.grids import places_of
from morphot_jax.pose import Pose
from morphot_jax.volume import Volume

INSIDE = 0.5  # of a mask: voxels above it belong to its domain
FEWEST = 4  # voxels that a rigid motion can be fitted to


@dataclass(frozen=True)
class Domain:
    """How a part of a map moves.

    - ``share``: of the map's mass. ``mean``: of the displacement over that mass, Å along x, y, z; ``length``: mean
      of its length.
    - ``pose``: the rigid motion nearest to the field, by mass; ``rest``: what it leaves, root mean square in Å.
    """

    name: str
    share: float
    mean: tuple[float, float, float]
    length: float
    pose: Pose
    rest: float


def magnitude(field: Float[np.ndarray, "3 z y x"]) -> Float[np.ndarray, "z y x"]:
    """|D| in Å; zero where there is no mass."""
    return np.nan_to_num(np.sqrt((field**2).sum(axis=0)))


def moving(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """Where the map has mass whose way is known."""
    return np.isfinite(field[0]) & (volume.data > 0)


def domain_of(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, name: str, mask: Float[np.ndarray, "z y x"] | None = None
) -> Domain:
    """How the mass of ``volume`` inside a mask moves, or all of it. InputError where there is none."""
    inside = moving(field, volume)
    if mask is not None:
        inside &= mask > INSIDE
    indices = np.argwhere(inside)
    if len(indices) < FEWEST:
        raise InputError(f"domain '{name}' holds {len(indices)} voxels with mass: check where its mask lies")
    points, ways = places_of(volume, indices), field[:, *indices.T].T[:, ::-1]
    mass = volume.data[tuple(indices.T)].astype(np.float64)
    pose = Pose.fitted(points, points + ways, mass)
    rest = ((pose.carried(points) - points - ways) ** 2).sum(axis=1)
    x, y, z = np.average(ways, axis=0, weights=mass)
    return Domain(
        name=name,
        share=float(mass.sum() / volume.mass),
        mean=(float(x), float(y), float(z)),
        length=float(np.average(np.linalg.norm(ways, axis=1), weights=mass)),
        pose=pose,
        rest=float(np.sqrt(np.average(rest, weights=mass))),
    )


def arrows(
    field: Float[np.ndarray, "3 z y x"], volume: Volume, most: int
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Where some of the mass starts and where it goes, Å along x, y, z: up to ``most`` voxels on an even lattice.

    Only voxels above a tenth of the map's maximum: what is seen of it.
    """
    seen = moving(field, volume) & (volume.data > 0.1 * volume.data.max())
    step = 1
    while seen[::step, ::step, ::step].sum() > most:
        step += 1
    indices = np.argwhere(seen[::step, ::step, ::step]) * step
    starts = places_of(volume, indices)
    return starts, starts + field[:, *indices.T].T[:, ::-1]


def field_maps(field: Float[np.ndarray, "3 z y x"], volume: Volume) -> dict[str, Volume]:
    """The field as maps on the grid of ``volume``: its length and its parts along x, y, z, in Å."""
    z, y, x = np.nan_to_num(field)
    named = {"displacement": magnitude(field), "displacement_x": x, "displacement_y": y, "displacement_z": z}
    return {name: volume.with_data(data.astype(np.float32)) for name, data in named.items()}

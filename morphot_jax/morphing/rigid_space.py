"""The space of the method 'rigid': two maps on the part of their grid that a morph takes, in voxels and blocks.

Positions in space count the shortest edge of a voxel from the corner of that part, along z, y, x. Motions are
found on blocks of voxels whose edge is about sigma, whatever the grid, since they are smooth on that scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import indices_of, places_of
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box, widened
from morphot_jax.morphing.plan import Plan
from morphot_jax.prepare.symmetric import Symmetry
from morphot_jax.transport import kernels, support
from morphot_jax.transport.coarse_start import halved
from morphot_jax.transport.locally_rigid import Fading, Motion, Task
from morphot_jax.transport.registration import Motions
from morphot_jax.transport.support import side_of
from morphot_jax.transport.unbalanced import self_potential

BLOCK = 0.9  # sigma in blocks, at least, where the motion is found
MARGIN = 4.0  # sigma around both maps, for mass that swings out on its way
PASSED = (0.0, 0.25, 0.5, 0.75, 1.0)  # times at which the mass shows how much room it takes
SPARE = 3  # voxels beyond that room

Groups = tuple[Motions, Motions]  # the motions that leave each map as it is, in one order


@dataclass(frozen=True)
class Level:
    """Two maps in blocks of one size, and the tasks from each to the other."""

    tasks: tuple[Task, Task]
    maps: Float[np.ndarray, "2 z y x"]

    @property
    def edges(self) -> Float[np.ndarray, "3"]:
        """Of a block, along z, y, x."""
        return np.asarray(self.tasks[0].edges)

    @property
    def block(self) -> float:
        """The shortest edge of a block."""
        return float(self.edges.min())


@dataclass(frozen=True)
class Space:
    """Both maps on the part of their grid where frames can have mass, and positions there.

    Positions in space count the shortest edge of a voxel from the corner of that part, along z, y, x.
    """

    first: Volume
    window: Window
    edges: Float[np.ndarray, "3"]
    pair: Float[np.ndarray, "2 z y x"]

    @property
    def maps(self) -> Float[np.ndarray, "2 z y x"]:
        """Both maps on that part."""
        return self.pair[(slice(None), *self.window)]

    @property
    def corner(self) -> Float[np.ndarray, "3"]:
        """Where that part begins, in voxels of the grid."""
        return np.array([part.start for part in self.window], np.float64)

    @classmethod
    def around(cls, first: Volume, last: Volume, plan: Plan) -> "Space":
        pair = np.stack([first.data, last.data]).astype(plan.dtype)
        window = widened(bounding_box(pair.sum(axis=0) > 0), plan.sigma, MARGIN, pair.shape[1:])
        edges = np.array(first.voxel_size[::-1])
        return cls(first, window, edges / edges.min(), pair)

    def swept(self, motions: tuple[Motion, Motion]) -> tuple[Window, Float[np.ndarray, "3"]]:
        """The part of the grid that the mass takes on its way, and its corner in space, in voxels."""
        low, high = [], []
        for motion in motions:
            some = np.asarray(motion.mass) > 0
            for t in PASSED:
                positions = np.asarray(motion.at(on_device(t, self.pair.dtype)))[:, some]
                voxels = positions / self.edges[:, None] - 0.5 + self.corner[:, None]
                low.append(voxels.min(axis=1))
                high.append(voxels.max(axis=1))
        shape = np.array(self.pair.shape[1:])
        first = np.clip(np.floor(np.min(low, axis=0)).astype(int) - SPARE, 0, shape - 1)
        stop = np.clip(np.ceil(np.max(high, axis=0)).astype(int) + SPARE + 1, first + 1, shape)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
        return (z, y, x), first - self.corner

    def from_places(self, places: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 n"]:
        """Positions in this space, from places in Å along x, y, z."""
        return ((indices_of(self.first, places) - self.corner + 0.5) * self.edges).T

    def to_places(self, positions: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "n 3"]:
        """Places in Å along x, y, z, from positions in this space."""
        return places_of(self.first, positions.T / self.edges - 0.5 + self.corner)

    def pose(self, rotation: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, "3"]) -> Pose:
        """The rigid motion of the map, in Å along x, y, z, from one in this space."""
        turn = rotation[::-1, ::-1]
        zero, end = self.to_places(np.stack([np.zeros(3), shift], axis=1))
        return Pose(turn, end - turn @ zero)

    def carried(self, points: Float[Array | np.ndarray, "3 n"], pose: Pose) -> Float[np.ndarray, "3 n"]:
        """Positions after a rigid motion of the map."""
        return self.from_places(pose.carried(self.to_places(np.asarray(points))))

    def groups(self, symmetric: tuple[Symmetry, Symmetry]) -> Groups:
        """The motions in this space that leave each map as it is."""
        one, other = (self._motions(found.poses) for found in symmetric)
        return one, other

    def _motions(self, poses: Sequence[Pose]) -> Motions:
        zero, dtype = np.zeros((3, 1)), self.pair.dtype
        turns = np.stack([pose.rotation[::-1, ::-1] for pose in poses])
        shifts = np.stack([self.carried(zero, pose)[:, 0] for pose in poses])
        return Motions(jnp.asarray(turns, dtype), jnp.asarray(shifts, dtype))


class InBlocks(NamedTuple):
    """Both maps in blocks of voxels, the edges of a block, and sigma in blocks.

    ``reach``: how far mass may move before it fades instead, in space; None where it may not fade.
    """

    maps: Float[np.ndarray, "2 z y x"]
    edges: Float[np.ndarray, "3"]
    sigma: tuple[float, float, float]
    reach: float | None

    def halved(self) -> "InBlocks":
        """In blocks twice as large, with the same sigma in space."""
        z, y, x = self.sigma
        return InBlocks(halved(self.maps), 2.0 * self.edges, (z / 2.0, y / 2.0, x / 2.0), self.reach)

    def level(self) -> Level:
        """The maps and the tasks from each to the other."""
        return Level((self.task(0), self.task(1)), self.maps)

    def task(self, first: int) -> Task:
        """From map ``first`` to the other."""
        source, target = (on_support(self.maps, k) for k in (first, 1 - first))
        _, z, y, x = self.maps.shape
        kernel = kernels.make("heat", (z, y, x), np.array(self.sigma), self.maps.dtype)
        fading = None if self.reach is None else self._fading(self.reach, first, target, kernel)
        return Task(source, target, kernel, jnp.asarray(self.edges, self.maps.dtype), fading)

    def _fading(self, reach: float, first: int, target: support.Side, kernel: kernels.Kernel) -> Fading:
        masses = self.maps.sum(axis=(1, 2, 3))[[first, 1 - first]]
        in_sigma = reach / max(np.array(self.sigma) * self.edges)
        return Fading(
            jnp.asarray(masses / masses.mean()),
            on_device(in_sigma, self.maps.dtype),
            self_potential(target, kernel),
        )


def on_device(
    values: float | Float[np.ndarray, "..."] | list[Float[np.ndarray, "3"]], dtype: np.dtype
) -> Float[Array, "..."]:
    """Numbers on the device, without a compilation."""
    return jnp.asarray(np.asarray(values, dtype))


def on_support(maps: Float[np.ndarray, "2 z y x"], k: int) -> support.Side:
    """Map k on its support, in a list as long as the other's, so that both share what is compiled."""
    return side_of(maps[k], room=int((maps > 0).sum(axis=(1, 2, 3)).max()))


def levels_of(space: Space, plan: Plan) -> tuple[Level, Level]:
    """The blocks of the first rounds, and those half as large of the last ones, with sigma the same in blocks."""
    reach = None if plan.reach is None else plan.reach * max(np.array(plan.sigma) * space.edges)
    fine = InBlocks(space.maps, space.edges, plan.sigma, reach)
    while min(fine.sigma) >= 2.0 * BLOCK:
        fine = fine.halved()
    return fine.halved()._replace(sigma=fine.sigma).level(), fine.level()

"""The symmetry of a map: where the axes of its point group lie, and whether the map has them.

With the rotations g of the group about the standard axes (``operators``), a frame of axes Q and a centre c, a map
f has the symmetry where each motion x -> Q g Q^T (x - c) + c leaves it as it is. The overlap of f with itself,

    o(g) = sum_x f(x) f(Q g^T Q^T (x - c) + c) / |f|^2 ,

is summed over elements that generate the group. Most maps lie with their axes along z, y, x. So Q and c are
refined by L-BFGS from there, on a small cube about the centre of mass and on a finer one (``cubes``). Where the
overlap is small then, they are also refined from the best of a few thousand rotations Q.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from morphot_jax.maps.check import check_map, one_map
from morphot_jax.maps.pose import Pose, spread_rotations
from morphot_jax.maps.symmetry import generators, operators, wider
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare import cubes
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import point_group

FINE_VOXELS = 48  # along the edge of the cube of the last refinement
CANDIDATES = 8  # frames that are refined
APART = 10.0  # degrees between them
SOLID = 0.05  # of the maximum: voxels of the small cube below it do not count in the search
ANGLES = np.radians(np.arange(6.0, 355.0, 6.0))  # any turns, for comparison
SYMMETRIC = 0.6  # least gain of overlap by turning a map as its symmetry says, as a share of what is possible
OVERLAP = 0.9  # the least overlap of a symmetric map with itself
SURE = 0.8  # with less gain, other axes are tried than those near z, y, x

Frame = Float[np.ndarray, "3 3"]
Turns = Float[np.ndarray, "_ 3 3"]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A point group as a map has it.

    - ``frame``: takes the axes of ``operators`` to those of the map. ``centre``: in Å; both along x, y, z.
    - ``overlap``: the least overlap of the map with itself, turned by one of the rotations.
    - ``radius``: of the map's body, in Å.
    """

    group: str
    frame: Frame = field(repr=False)
    centre: Float[np.ndarray, "3"]
    overlap: float
    radius: float

    @property
    def rotations(self) -> Float[np.ndarray, "n 3 3"]:
        """The rotations about the centre, the identity first."""
        return self.frame @ operators(self.group) @ self.frame.T

    @property
    def poses(self) -> tuple[Pose, ...]:
        """The motions that leave the map as it is, the identity first."""
        return tuple(Pose(turn, self.centre - turn @ self.centre) for turn in self.rotations)

    @property
    def axis(self) -> Float[np.ndarray, "3"]:
        """The unit vector along z of the group's own axes, upwards."""
        axis = self.frame[:, 2]
        return axis if axis[np.flatnonzero(np.abs(axis) > 1e-6)[-1]] > 0 else -axis

    def like(self, other: "Symmetry") -> "Symmetry":
        """The same, with the axes named so that the rotations lie nearest to those of another map, one by one."""
        wanted, group = other.rotations, operators(self.group)

        def away(frame: Frame) -> float:
            return float(((frame @ group @ frame.T - wanted) ** 2).sum())

        return replace(self, frame=min((self.frame @ way for way in wider(self.group)), key=away))

    def apart(self, other: "Symmetry") -> float:
        """How far a point of the surface ends from where another map's motion takes it: the largest, in Å."""
        ends = self.centre + self.radius * np.vstack([np.eye(3), -np.eye(3)])
        pairs = zip(self.poses, other.like(self).poses, strict=True)
        return max(float(np.linalg.norm(a.carried(ends) - b.carried(ends), axis=1).max()) for a, b in pairs)


def symmetry_of(volume: Volume, name: str, label: str = "the map") -> Symmetry:
    """Find the axes of a point group in a map, wherever they lie. ``label``: what messages call the map.

    Raises InputError for an unknown group, for a map that ``prepare_maps`` would refuse, and for one that does not
    have the symmetry.
    """
    check_map(one_map(volume, "symmetry_of needs a map"), label)
    name = point_group(name)
    body, group = cubes.Body.of(volume), operators(name)
    if len(group) == 1:
        return Symmetry(name, np.eye(3), body.centre, 1.0, body.radius)
    length, few = 2.0 * cubes.MARGIN * body.radius, generators(group)
    with (
        jax.enable_x64(True),
        jax.default_matmul_precision("highest"),
    ):  # else GPUs round positions to three digits
        small = gaussian_filter(body.cube(length, cubes.SEARCH_VOXELS), 1.0)
        fine = body.cube(length, FINE_VOXELS)
        fit = _fit(small, fine, group, few, np.eye(3)[None])
        if not (fit.holds and fit.gain >= SURE):
            frames = spread_rotations(cubes.ROTATIONS)
            best = cubes.best_apart(frames, _searched(small, few, frames), APART, CANDIDATES)
            other = _fit(small, fine, group, few, frames[best])
            fit = max(fit, other, key=lambda one: one.overlap)
    if not fit.holds:
        raise InputError(
            f"{label} does not have the symmetry {name}: turned about its best axes, it overlaps with itself by "
            f"{fit.overlap:.2f}, where other angles give {fit.least:.2f} or more; give one that it has"
        )
    middle = body.centre + fit.shift[::-1] * (length / FINE_VOXELS)
    found = Symmetry(name, fit.frame[::-1, ::-1], middle, fit.overlap, body.radius)
    return found.like(replace(found, frame=np.eye(3)))


class _Fit(NamedTuple):
    """A frame and the shift of the centre in voxels of the fine cube, both along z, y, x, and the overlaps there.

    ``overlap``: the least one after a turn of the group. ``least``: after any turn about its generators' axes.
    """

    frame: Frame
    shift: Float[np.ndarray, "3"]
    overlap: float
    least: float

    @property
    def gain(self) -> float:
        """How much more it overlaps with itself by turns of the group, as a share of what is possible."""
        return (self.overlap - self.least) / max(1.0 - self.least, 1e-9)

    @property
    def holds(self) -> bool:
        """Whether the map has the symmetry so."""
        return self.overlap >= OVERLAP and self.gain >= SYMMETRIC


def _fit(
    small: Float[np.ndarray, "n n n"], fine: Float[np.ndarray, "m m m"], group: Turns, few: Turns, starts: Turns
) -> _Fit:
    """The best of the frames to which these climb."""
    ends = [_refined(small, few, frame, np.zeros(3)) for frame in starts]
    frame, shift, _ = max(ends, key=lambda end: end[2])
    frame, shift, _ = _refined(fine, few, frame, shift * (FINE_VOXELS / cubes.SEARCH_VOXELS))
    axes = np.array([Pose(turn, np.zeros(3)).axis for turn in few])
    others = Rotation.from_rotvec((axes[:, None] * ANGLES[:, None]).reshape(-1, 3)).as_matrix()
    turned = frame @ _along_zyx(np.concatenate([group, others])) @ frame.T
    overlaps = _overlaps(fine, shift, turned)
    return _Fit(frame, shift, float(overlaps[: len(group)].min()), float(overlaps[len(group) :].min()))


def _searched(cube: Float[np.ndarray, "n n n"], few: Turns, frames: Turns) -> Float[np.ndarray, " f"]:
    """The sum of the overlaps with itself about the centre, for each frame: the solid voxels are enough."""
    turned = frames[:, None] @ _along_zyx(few) @ frames[:, None].swapaxes(-1, -2)
    solid = np.abs(cube) > SOLID * np.abs(cube).max()
    return _overlaps(cube, np.zeros(3), turned.reshape(-1, 3, 3), solid).reshape(len(frames), -1).sum(axis=1)


def _overlaps(
    cube: Float[np.ndarray, "n n n"],
    shift: Float[np.ndarray, "3"],
    turns: Turns,
    where: Bool[np.ndarray, "n n n"] | None = None,
) -> Float[np.ndarray, " t"]:
    """o, but for the factor 1 / |f|^2, of each turn about the shifted centre; single precision is enough."""
    own, points = cube.ravel(), np.asarray(cubes.centred(len(cube)))
    if where is not None:
        own, points = own[where.ravel()], points[:, where.ravel()]
    given = cube, own, points - shift[:, None], shift + 0.5 * (len(cube) - 1), turns
    return np.asarray(_self_overlaps(*(jnp.asarray(one, jnp.float32) for one in given)))


@jax.jit
def _self_overlaps(cube, own, points, centre, turns):
    def overlap(turn):
        return jnp.vdot(own, map_coordinates(cube, list(turn.T @ points + centre[:, None]), order=1))

    return jax.lax.map(overlap, turns)


def _refined(
    cube: Float[np.ndarray, "n n n"],
    turns: Float[np.ndarray, "k 3 3"],
    frame: Frame,
    shift: Float[np.ndarray, "3"],
) -> tuple[Frame, Float[np.ndarray, "3"], float]:
    """The frame, the shift of the centre in voxels, both along z, y, x, and the overlap to which they climb."""
    given = (_along_zyx(turns), frame, shift)
    found = _climb(jnp.asarray(cubes.spline_of(cube)), jnp.asarray(cube), *map(jnp.asarray, given))
    axes, centre, overlap = jax.device_get(found)
    return axes, centre, float(overlap)


@jax.jit
def _climb(coefficients, cube, turns, frame, shift):
    points, values, lever = cubes.centred(cube.shape[0]), cube.ravel(), 0.5 * cube.shape[0] / cubes.MARGIN

    def placed(step):
        return cubes.turn_by(step[:3] / lever) @ frame, shift + step[3:]

    def loss(step):
        axes, centre = placed(step)

        def overlap(turn):
            turned = axes @ turn.T @ axes.T
            return jnp.vdot(
                values, cubes.spline_at(coefficients, turned @ (points - centre[:, None]) + centre[:, None])
            )

        return -jnp.mean(jnp.stack([overlap(turn) for turn in turns]))

    step = cubes.climbed(loss, jnp.zeros(6, cube.dtype), cubes.STEPS)
    return *placed(step), -loss(step)


def _along_zyx(turns: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotations of z, y, x instead of x, y, z, or the other way."""
    return turns[:, ::-1, ::-1]

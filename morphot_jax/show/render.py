"""Pictures of surfaces in parallel projection, by ray casting: each ray stops at its first dense point.

The camera looks along -z of its own axes (x to the right, y up, z towards the viewer). A view is the rotation from
the axes of the map to those of the camera. There are no triangles to sort, and no graphics card is needed.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial.transform import Rotation

from morphot_jax.show.colours import BLUE, rgb
from morphot_jax.show.scene import Scene

Picture = Float[np.ndarray, "up across 3"]

Z, Y = np.eye(3), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # seen along these axes
X = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
TILTED = Rotation.from_euler("yx", [-25.0, 20.0], degrees=True).as_matrix()
VIEWS = {"z": Z, "y": Y, "x": X, "tilted": TILTED}
COLOUR = np.array(rgb(BLUE))
LIGHT = np.array([-0.35, 0.5, 0.79])
AMBIENT, GLOSS = 0.38, 0.18
FOG = 0.35  # share of the white background in the colour of the farthest point
STEP = 0.5  # voxels along a ray, near a surface
FINER = 2  # rays across a pixel
RIM = 4.0  # voxels of depth between neighbouring rays at an outline


@dataclass(frozen=True)
class Camera:
    """A view of a square of ``width`` Å about ``centre`` (Å along x, y, z), with ``pixels`` along each side."""

    view: Float[np.ndarray, "3 3"] = field(repr=False)
    centre: Float[np.ndarray, "3"] = field(repr=False)
    width: float
    pixels: int

    @classmethod
    def on(cls, scene: Scene, view: Float[np.ndarray, "3 3"], pixels: int) -> "Camera":
        """A camera that sees the whole scene, from any side."""
        return cls(view, scene.centre, 2.0 * scene.radius, pixels)


def surface_picture(scene: Scene, index: int, camera: Camera) -> Picture:
    """The surface of a frame on white, as red, green, blue from 0 to 1; the first row is the top."""
    density, voxel = scene.densities[index], np.array(scene.voxel_size)
    fine = camera.pixels * FINER
    along = (np.arange(fine) - (fine - 1) / 2) * camera.width / fine
    across, up = np.meshgrid(along, -along)
    half = camera.width / 2.0
    eyes = np.stack([across.ravel(), up.ravel(), np.full(fine**2, half)])
    # From the axes of the camera to voxels of the map, z y x.
    turned = (camera.view.T / voxel[:, None])[::-1]
    middle = ((camera.centre - np.array(scene.origin)) / voxel)[::-1]
    starts = (turned @ eyes + middle[:, None]).astype(np.float32)
    forward = (-turned[:, 2]).astype(np.float32)
    depth = _first_hits(density, voxel, starts, forward)
    hit = np.flatnonzero(np.isfinite(depth))
    points = starts[:, hit] + depth[hit] * forward[:, None]
    shade = _lit(_normals(density, voxel, points) @ camera.view.T)
    fog = FOG * depth[hit, None] / camera.width
    picture = np.ones((fine**2, 3))
    picture[hit] = shade * (1.0 - fog) + fog
    rim = _outline(depth.reshape(fine, fine), RIM * float(voxel.min()))
    picture = picture.reshape(fine, fine, 3) * np.where(rim, 0.35, 1.0)[..., None]
    return picture.reshape(camera.pixels, FINER, camera.pixels, FINER, 3).mean(axis=(1, 3))


def _first_hits(
    density: Float[np.ndarray, "z y x"],
    voxel: Float[np.ndarray, "3"],
    starts: Float[np.ndarray, "3 n"],
    forward: Float[np.ndarray, "3"],
) -> Float[np.ndarray, " n"]:
    """The distance (Å) from the start of each ray (voxels) to its first density of 1; infinite if it has none.

    A ray leaps as far as the space ahead is surely empty (sphere tracing, Hart 1996).
    """
    slack, step = 1.75 * float(np.linalg.norm(voxel)), STEP * float(voxel.min())
    empty = np.asarray(distance_transform_edt(density < 1.0, sampling=voxel[::-1]))
    clearance = (empty - slack).astype(np.float32).ravel()
    strides = np.array([density.shape[1] * density.shape[2], density.shape[2], 1], np.int32)
    enter, leave = _within(starts, forward, density.shape)
    going = np.flatnonzero(enter < leave)
    at, depth = enter[going], np.full(starts.shape[1], np.inf)
    while len(going):
        points = starts[:, going] + at * forward[:, None]
        leap = clearance[strides @ np.rint(points).astype(np.int32)]
        close = np.flatnonzero(leap < step)
        dense = close[map_coordinates(density, points[:, close], order=1) >= 1.0]
        depth[going[dense]] = at[dense]
        at = at + np.maximum(leap, step)
        at[dense] = np.inf
        left = at < leave[going]
        going, at = going[left], at[left]
    hit = np.flatnonzero(np.isfinite(depth))
    at_hit, before = (
        map_coordinates(density, starts[:, hit] + (depth[hit] - back) * forward[:, None], order=1)
        for back in (0.0, step)
    )
    share = np.clip((1.0 - before) / np.maximum(at_hit - before, 1e-12), 0.0, 1.0)
    depth[hit] -= step * (1.0 - share)
    return depth


def _within(
    starts: Float[np.ndarray, "3 n"], forward: Float[np.ndarray, "3"], shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Where rays enter and leave a box of voxels; a ray that misses the box leaves before it enters."""
    enter, leave = np.zeros(starts.shape[1], np.float32), np.full(starts.shape[1], np.inf, np.float32)
    for start, way, n in zip(starts, forward, shape, strict=True):
        if abs(way) < 1e-9:  # voxels per Å: the ray does not move along this axis
            leave[(start < 0) | (start > n - 1)] = -np.inf
            continue
        first, second = -start / way, (n - 1 - start) / way
        enter, leave = np.maximum(enter, np.minimum(first, second)), np.minimum(leave, np.maximum(first, second))
    return enter, leave


def _normals(
    density: Float[np.ndarray, "z y x"], voxel: Float[np.ndarray, "3"], points: Float[np.ndarray, "3 n"]
) -> Float[np.ndarray, "n 3"]:
    """Unit vectors (x, y, z) that point out of the density, at points in voxels (z y x)."""
    slopes = [map_coordinates(slope, points, order=1) for slope in np.gradient(density)]
    normals = -np.stack(slopes[::-1], axis=1) / voxel
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _lit(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The colours of points by Lambert's law and a highlight (Blinn), seen from +z."""
    light = LIGHT / np.linalg.norm(LIGHT)
    half = light + np.array([0.0, 0.0, 1.0])
    diffuse = np.maximum(normals @ light, 0.0)
    gloss = np.maximum(normals @ (half / np.linalg.norm(half)), 0.0) ** 40
    return np.clip(COLOUR * (AMBIENT + (1.0 - AMBIENT) * diffuse)[:, None] + GLOSS * gloss[:, None], 0.0, 1.0)


def _outline(depth: Float[np.ndarray, "up across"], least: float):
    """The pixels where the surface ends, or lies far in front of a neighbour."""
    far = np.where(np.isfinite(depth), depth, 1e6)
    edge = np.zeros(depth.shape, bool)
    edge[:-1] |= far[1:] - far[:-1] > least
    edge[1:] |= far[:-1] - far[1:] > least
    edge[:, :-1] |= far[:, 1:] - far[:, :-1] > least
    edge[:, 1:] |= far[:, :-1] - far[:, 1:] > least
    return edge

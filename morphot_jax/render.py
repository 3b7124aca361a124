"""Pictures of surfaces in parallel projection: light on the first point of each line of sight that is dense.

The eye looks along -z of a frame of its own (x to the right, y up, z towards it); a view is the rotation that
takes the axes of the map into it. No triangles are made, so nothing is sorted and no graphics card is needed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import affine_transform, map_coordinates
from scipy.spatial.transform import Rotation

from morphot_jax.scene import Scene

Picture = Float[np.ndarray, "up across 3"]

Z, Y = np.eye(3), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # seen along these axes
X = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
TILTED = Rotation.from_euler("yx", [-25.0, 20.0], degrees=True).as_matrix()
VIEWS = {"z": Z, "y": Y, "x": X, "tilted": TILTED}
COLOUR = np.array([0.416, 0.627, 0.847])  # of the surface in ChimeraX too: chimerax.BLUE
LIGHT = np.array([-0.35, 0.5, 0.79])
AMBIENT, GLOSS = 0.38, 0.18
FOG = 0.35  # how much of the white background the farthest point takes on
STEP = 0.7  # voxels along a line of sight
FINER = 2  # lines of sight across a pixel
RIM = 4.0  # voxels in depth between neighbours that make an outline


@dataclass(frozen=True)
class Camera:
    """A square of ``width`` Å about ``centre`` (Å along x, y, z), seen in so many pixels a side by a view."""

    view: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, "3"]
    width: float
    pixels: int

    @classmethod
    def on(cls, scene: Scene, view: Float[np.ndarray, "3 3"], pixels: int) -> "Camera":
        """All of a scene, from whichever side."""
        return cls(view, scene.centre, 2.0 * scene.radius, pixels)


def surface_picture(scene: Scene, index: int, camera: Camera) -> Picture:
    """The surface of a frame, red, green, blue from 0 to 1 on white; the first row is the highest."""
    density, voxel = scene.densities[index], np.array(scene.voxel_size)
    fine = camera.pixels * FINER
    pitch, step = camera.width / fine, STEP * float(voxel.min())
    depths = int(np.ceil(camera.width / step)) + 1
    # Camera coordinates of sample (depth, row, column), then the voxel there, axes z y x.
    to_eye = np.array([[0.0, 0.0, pitch], [0.0, -pitch, 0.0], [-step, 0.0, 0.0]])
    corner = np.array([-(fine - 1) / 2 * pitch, (fine - 1) / 2 * pitch, camera.width / 2.0])
    to_map = (camera.view.T / voxel[:, None])[::-1]
    origin = ((camera.centre - np.array(scene.origin)) / voxel)[::-1]
    matrix, offset = to_map @ to_eye, to_map @ corner + origin
    samples = affine_transform(density, matrix, offset, (depths, fine, fine), order=1, prefilter=False)
    depth = _first_hits(samples)
    rows, columns = np.nonzero(np.isfinite(depth))
    points = matrix @ np.stack([depth[rows, columns], rows, columns]) + offset[:, None]
    shade = _lit(_normals(density, voxel, points) @ camera.view.T)
    fog = FOG * np.clip(depth[rows, columns] / depths, 0.0, 1.0)
    picture = np.ones((fine, fine, 3))
    picture[rows, columns] = shade * (1.0 - fog[:, None]) + fog[:, None]
    picture *= np.where(_outline(depth, RIM / STEP), 0.35, 1.0)[..., None]
    return picture.reshape(camera.pixels, FINER, camera.pixels, FINER, 3).mean(axis=(1, 3))


def _first_hits(samples: Float[np.ndarray, "depth up across"]) -> Float[np.ndarray, "up across"]:
    """Where each line of sight first reaches a density of 1, between samples on a straight line; else infinite."""
    inside = samples >= 1.0
    first = inside.argmax(axis=0)
    here = np.take_along_axis(samples, first[None], axis=0)[0]
    before = np.take_along_axis(samples, np.maximum(first - 1, 0)[None], axis=0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(here > before, (1.0 - before) / (here - before), 1.0)
    depth = first - 1.0 + np.clip(share, 0.0, 1.0)
    return np.where(inside.any(axis=0), np.maximum(depth, 0.0), np.inf)


def _normals(
    density: Float[np.ndarray, "z y x"], voxel: Float[np.ndarray, "3"], points: Float[np.ndarray, "3 n"]
) -> Float[np.ndarray, "n 3"]:
    """Unit vectors out of the density at points (voxels, z y x), along x, y, z."""
    slopes = [map_coordinates(slope, points, order=1) for slope in np.gradient(density)]
    normals = -np.stack(slopes[::-1], axis=1) / voxel
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _lit(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Lambert's law and a highlight (Blinn), seen from +z."""
    light = LIGHT / np.linalg.norm(LIGHT)
    half = light + np.array([0.0, 0.0, 1.0])
    diffuse = np.maximum(normals @ light, 0.0)
    gloss = np.maximum(normals @ (half / np.linalg.norm(half)), 0.0) ** 40
    return np.clip(COLOUR * (AMBIENT + (1.0 - AMBIENT) * diffuse)[:, None] + GLOSS * gloss[:, None], 0.0, 1.0)


def _outline(depth: Float[np.ndarray, "up across"], least: float):
    """Where the surface ends, or lies far in front of its neighbour."""
    far = np.where(np.isfinite(depth), depth, 1e6)
    edge = np.zeros(depth.shape, bool)
    edge[:-1] |= far[1:] - far[:-1] > least
    edge[1:] |= far[:-1] - far[1:] > least
    edge[:, :-1] |= far[:, 1:] - far[:, :-1] > least
    edge[:, 1:] |= far[:, :-1] - far[:, 1:] > least
    return edge

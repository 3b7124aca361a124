"""Pictures of surfaces: what is seen from where, and that it is right in hand, place and scale."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax.maps.volume import Volume
from morphot_jax.show.render import VIEWS, Camera, surface_picture
from morphot_jax.show.scene import scene_of
from shapes import ARMS, AXES, tripod


def scene_with(density, voxel_size=(2.0, 2.0, 2.0)):
    return scene_of(density[None], np.array([0.0]), np.array([0.5]), Volume(density, voxel_size, (4.0, -3.0, 8.0)))


def ball(radius, n=32):
    """A ball in the middle of its box whose surface lies at a density of 0.5."""
    away = np.linalg.norm(np.indices((n, n, n)) - (n - 1) / 2, axis=0)
    return np.clip(0.5 + (radius - away), 0.0, 1.0).astype(np.float32)


def silhouette(picture):
    return picture.min(axis=-1) < 0.97


@pytest.mark.parametrize("view", ["z", "y", "x"])
def test_axes_point_where_they_are_said_to(view):
    """The bounding box of the silhouette is as wide as the bar to the right and as high as the bar upwards."""
    scene = scene_with(tripod())
    camera = Camera.on(scene, VIEWS[view], 200)
    rows, columns = np.nonzero(silhouette(surface_picture(scene, 0, camera)))
    pixel = camera.width / camera.pixels
    right, up, _ = (ARMS[axis[1]] for axis in AXES[view])
    assert np.ptp(columns) * pixel == pytest.approx(2.0 * right, abs=2.5)
    assert np.ptp(rows) * pixel == pytest.approx(2.0 * up, abs=2.5)
    # The corner that the bars start from is at the lower left: there the silhouette is full.
    seen = silhouette(surface_picture(scene, 0, camera))
    left, bottom = columns.min(), rows.max()
    assert seen[bottom - 5, left + 5]
    assert not seen[rows.min() + 5, columns.max() - 5]


@pytest.mark.parametrize("view", ["z", "y", "x"])
def test_views_are_rotations_with_the_said_axes(view):
    turn = VIEWS[view]
    assert np.linalg.det(turn) == pytest.approx(1.0)
    for row, axis in zip(turn, AXES[view], strict=True):
        expected = np.zeros(3)
        expected["xyz".index(axis[1])] = 1.0 if axis[0] == "+" else -1.0
        np.testing.assert_allclose(row, expected, atol=1e-12)
    assert np.linalg.det(VIEWS["tilted"]) == pytest.approx(1.0)


def test_what_is_nearer_hides_what_is_behind():
    """A small ball before a large one, brighter for being nearer: seen from behind it is not there."""
    density = np.zeros((40, 24, 24), np.float32)
    density[4:20, 4:20, 4:20] = 1.0
    density[30:34, 10:14, 10:14] = 1.0  # at higher z: towards the eye in view z
    scene = scene_with(density)
    front = surface_picture(scene, 0, Camera.on(scene, VIEWS["z"], 120))
    back = surface_picture(
        scene, 0, Camera.on(scene, Rotation.from_euler("y", 180, degrees=True).as_matrix(), 120)
    )
    outline = [(picture.max(axis=-1) < 0.4).sum() for picture in (front, back)]
    assert outline[0] > 1.2 * outline[1]  # the small cube adds an outline within the large one's
    assert silhouette(front).sum() == pytest.approx(silhouette(back).sum(), rel=0.02)


@pytest.mark.parametrize("radius", [4.0, 9.5])
@pytest.mark.parametrize("view", [*VIEWS])
def test_ball_is_a_disc_of_its_radius_from_everywhere(radius, view):
    scene = scene_with(ball(radius))
    camera = Camera(VIEWS[view], scene.centre, 80.0, 160)
    seen = silhouette(surface_picture(scene, 0, camera))
    pixel = camera.width / camera.pixels
    assert np.sqrt(seen.sum() / np.pi) * pixel == pytest.approx(2.0 * radius, abs=0.6)
    np.testing.assert_allclose(np.argwhere(seen).mean(axis=0), 79.5, atol=0.6)


def test_voxels_that_are_no_cubes_keep_their_shape():
    scene = scene_with(ball(8.0), voxel_size=(1.0, 2.0, 3.0))
    camera = Camera(VIEWS["z"], scene.centre, 100.0, 200)
    rows, columns = np.nonzero(silhouette(surface_picture(scene, 0, camera)))
    assert np.ptp(columns) / 2 == pytest.approx(16.0, abs=1.5)  # Å along x, radius 8 voxels of 1 Å
    assert np.ptp(rows) / 2 == pytest.approx(32.0, abs=1.5)


def test_light_comes_from_the_upper_left():
    scene = scene_with(ball(10.0))
    picture = surface_picture(scene, 0, Camera(VIEWS["z"], scene.centre, 60.0, 100)).mean(axis=-1)
    assert picture[38, 38] > picture[62, 62] + 0.05


def test_nothing_is_a_white_picture():
    density = np.zeros((8, 8, 8), np.float32)
    scene = scene_of(density[None], np.array([0.0]), np.array([0.0]), Volume(density, (1.0, 1.0, 1.0)))
    scene.densities[...] = 0.0
    np.testing.assert_array_equal(surface_picture(scene, 0, Camera(VIEWS["z"], scene.centre, 10.0, 20)), 1.0)


def test_equal_scenes_give_equal_pictures():
    first, second = (
        surface_picture(scene, 0, Camera.on(scene, VIEWS["tilted"], 60))
        for scene in (scene_with(tripod()), scene_with(tripod()))
    )
    np.testing.assert_array_equal(first, second)

"""Many rigid motions at once, against scipy's one at a time."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax.maps.pose import Pose
from morphot_jax.transport.rigid_motions import along_screw, nearest_rotation, rotation_vector, turned

COUNT = 40


def last(array):
    """The index of the motion last, as the module has it."""
    return jnp.asarray(np.moveaxis(np.asarray(array), 0, -1))


def first(array):
    return np.moveaxis(np.asarray(array), -1, 0)


@pytest.fixture
def turns():
    """Rotations of all sizes, with none and some of almost half a turn among them."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(COUNT, 3))
    angles = np.concatenate([[0.0, 1e-9, 1e-4, np.pi - 1e-3, np.pi - 1e-7], rng.uniform(0, 3, COUNT - 5)])
    return Rotation.from_rotvec(axes / np.linalg.norm(axes, axis=1)[:, None] * angles[:, None])


def test_a_rotation_has_its_vector(double, turns):
    found = first(rotation_vector(last(turns.as_matrix()))).copy()
    np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), turns.as_matrix(), atol=1e-12)
    assert np.linalg.norm(found, axis=1).max() <= np.pi + 1e-12


def test_points_turn_by_a_vector(double, turns):
    points = np.random.default_rng(1).normal(size=(COUNT, 3))
    np.testing.assert_allclose(
        first(turned(last(turns.as_rotvec()), last(points))), turns.apply(points), atol=1e-12
    )


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_a_screw_is_that_of_the_pose(double, turns, t):
    rng = np.random.default_rng(2)
    shifts, points = rng.normal(size=(2, COUNT, 3))
    poses = [Pose(turn, shift) for turn, shift in zip(turns.as_matrix(), shifts, strict=True)]
    ends = np.stack([pose.carried(point) for pose, point in zip(poses, points, strict=True)])
    found = first(along_screw(last(turns.as_rotvec()), last(points), last(ends), jnp.asarray(t)))
    wanted = np.stack([pose.part(t).carried(point) for pose, point in zip(poses, points, strict=True)])
    np.testing.assert_allclose(found[:-1], wanted[:-1], atol=1e-6)  # scipy's logm loses digits near half a turn
    np.testing.assert_allclose(found[3:], wanted[3:], atol=1e-5)


def test_the_nearest_rotation_is_that_of_kabsch(double, turns):
    rng = np.random.default_rng(3)
    clouds = rng.normal(size=(COUNT, 9, 3)) * (3.0, 2.0, 1.0)
    noise = 0.1 * rng.normal(size=clouds.shape)
    ends = np.stack([turn.apply(cloud) for turn, cloud in zip(turns, clouds, strict=True)]) + noise
    moments = np.einsum("nki,nkj->nij", ends, clouds)
    left, _, right = np.linalg.svd(moments)
    hand = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= hand[:, None]
    near = Rotation.from_rotvec(0.3 * rng.normal(size=(COUNT, 3))) * turns
    found = last(near.as_matrix())
    for _ in range(16):  # each call goes on from the last, as rounds do
        found = nearest_rotation(last(moments), found)
    np.testing.assert_allclose(first(found), left @ right, atol=1e-5)


def test_moments_that_fix_no_rotation_leave_it_alone(double, turns):
    start = last(turns.as_matrix())
    np.testing.assert_allclose(nearest_rotation(jnp.zeros_like(start), start), start, atol=1e-12)

"""Rigid motions form a group, and spread rotations are spread evenly."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from morphot_jax.maps.pose import IDENTITY, Pose, degrees_between, spread_rotations

seeds = st.integers(0, 10_000)


def any_pose(seed, *, mirrored=False):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    return Pose(turn @ np.diag([-1.0, 1.0, 1.0]) if mirrored else turn, rng.normal(scale=20.0, size=3))


@given(seed=seeds, mirrored=st.booleans())
def test_there_and_back_again(seed, mirrored):
    pose, points = any_pose(seed, mirrored=mirrored), np.random.default_rng(seed).normal(size=(5, 3))
    np.testing.assert_allclose(pose.inverse().carried(pose.carried(points)), points, atol=1e-12)
    np.testing.assert_allclose(pose.after(pose.inverse()).matrix, IDENTITY.matrix, atol=1e-12)
    assert pose.mirrored == mirrored
    assert pose.after(pose).mirrored is False


@given(seed=seeds)
def test_one_motion_after_another(seed):
    first, second = any_pose(seed), any_pose(seed + 1)
    points = np.random.default_rng(seed).normal(size=(4, 3))
    np.testing.assert_allclose(second.after(first).carried(points), second.carried(first.carried(points)))
    np.testing.assert_allclose(first.carried(points[0]), first.matrix @ [*points[0], 1.0])


def test_a_pose_prints_its_motion_on_one_line():
    turn = Rotation.from_rotvec([0.0, 0.0, np.radians(30.0)]).as_matrix()
    assert repr(Pose(turn, np.array([1.0, -2.0, 0.5]))) == (
        "Pose(turned by 30° about (0, 0, 1), then shifted by (1, -2, 0.5) Å)"
    )
    assert repr(Pose(np.diag([-1.0, 1.0, 1.0]), np.zeros(3))).startswith("Pose(mirrored (x to -x), turned by 0°")


def test_angle_and_axis():
    quarter = Pose(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros(3))  # x goes to y
    assert quarter.degrees == pytest.approx(90.0)
    np.testing.assert_allclose(quarter.axis, [0.0, 0.0, 1.0], atol=1e-12)
    assert IDENTITY.degrees == 0.0
    np.testing.assert_array_equal(IDENTITY.axis, [0.0, 0.0, 1.0])
    mirror = Pose(np.diag([-1.0, 1.0, 1.0]), np.zeros(3))
    assert mirror.degrees == 0.0


@pytest.mark.parametrize("count", [1000, 4608])
def test_rotations_are_spread_evenly(count):
    """One of them is near every rotation, and no two of them are much closer than the mean distance."""
    rotations = spread_rotations(count)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    # A ball of radius a (radians) is (a - sin a) / pi of all rotations: a^3 / (6 pi) for small ones.
    typical = np.degrees((6.0 * np.pi / count) ** (1.0 / 3.0))
    probes = Rotation.random(300, random_state=1).as_matrix()
    nearest = np.array([degrees_between(rotations, probe).min() for probe in probes])
    assert nearest.max() < 1.5 * typical
    apart = [np.sort(degrees_between(rotations, rotations[i]))[1] for i in range(0, count, max(1, count // 50))]
    assert min(apart) > 0.9 * typical  # random ones come as near as 0.3


def test_angle_between_rotations():
    turn = Rotation.from_rotvec([0.3, 0.0, 0.0]).as_matrix()
    assert degrees_between(np.eye(3), turn) == pytest.approx(np.degrees(0.3))
    assert degrees_between(turn, turn) == pytest.approx(0.0, abs=1e-5)


@given(seed=seeds)
def test_a_motion_is_fitted_and_its_half_done_twice_is_the_whole(seed):
    pose, points = any_pose(seed), np.random.default_rng(seed).normal(size=(40, 3))
    assume(pose.degrees < 175.0)  # half of a half turn may go either way
    found = Pose.fitted(points, pose.carried(points))
    np.testing.assert_allclose(found.matrix, pose.matrix, atol=1e-9)
    half = found.part(0.5)
    np.testing.assert_allclose(half.carried(half.carried(points)), pose.carried(points), atol=1e-8)
    np.testing.assert_allclose(found.part(0.0).carried(points), points, atol=1e-12)


def test_weights_of_a_fit_count():
    points = np.random.default_rng(0).normal(size=(20, 3))
    pose, other = any_pose(1), any_pose(2)
    carried = np.where((np.arange(20) < 10)[:, None], pose.carried(points), other.carried(points))
    found = Pose.fitted(points, carried, (np.arange(20) < 10).astype(float))
    np.testing.assert_allclose(found.matrix, pose.matrix, atol=1e-9)


@given(seed=seeds)
def test_a_motion_is_a_turn_about_its_axis_and_a_slide_along_it(seed):
    pose = any_pose(seed)
    on_axis = pose.pivot + np.multiply.outer([-3.0, 0.0, 5.0], pose.axis)
    np.testing.assert_allclose(pose.carried(on_axis), on_axis + pose.slide * pose.axis, atol=1e-6)
    assert abs(pose.pivot @ pose.axis) < 1e-6
    still = Pose(np.eye(3), np.array([0.0, 0.0, 2.5]))
    assert still.slide == 2.5
    np.testing.assert_allclose(still.pivot, 0.0, atol=1e-12)

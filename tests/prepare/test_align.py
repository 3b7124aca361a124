"""Registration finds known motions again, whatever the box, the noise and the hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from morphot_jax import read_volume
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.resample import resample_onto
from morphot_jax.maps.samples import sample_atoms, sample_volume
from morphot_jax.prepare.align import Alignment, align_maps
from morphot_jax.system.errors import InputError
from shapes import BODY, balls, motion, ring, volume_of


def assert_same_motion(found, true, degrees, angstrom):
    error = found.after(true.inverse())
    assert error.degrees < degrees
    assert np.linalg.norm(found.carried(BODY) - true.carried(BODY), axis=1).max() < angstrom


def arms(count, pose=IDENTITY):
    """A map with a rotation axis along z, moved."""
    return balls(pose.carried(ring(count)), alike=True)


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_any_motion_is_found(seed):
    true = motion(seed)
    found = align_maps(balls(BODY), balls(true.carried(BODY)))
    assert_same_motion(found.pose, true, degrees=0.1, angstrom=0.05)
    assert found.correlation > 0.999
    assert found.correlation > found.before
    assert found.other_hand is None


def test_boxes_voxels_and_origins_may_differ():
    true, there = motion(3), BODY + np.array([100.0, -50.0, 7.0])
    moving = balls(there, side=28, voxel=2.5, origin=(66.0, -84.0, -27.0))
    found = align_maps(moving, balls(true.carried(BODY)))
    shifted = true.after(Pose(np.eye(3), np.array([-100.0, 50.0, -7.0])))
    np.testing.assert_allclose(found.pose.rotation, shifted.rotation, atol=2e-3)
    np.testing.assert_allclose(found.pose.carried(there), true.carried(BODY), atol=0.1)
    assert abs(found.before) < 1e-12  # the boxes lie apart


def test_noise_does_not_mislead():
    true = motion(5)
    rng = np.random.default_rng(0)
    maps = [balls(BODY), balls(true.carried(BODY))]
    noisy = [m.with_data((m.data + rng.normal(scale=m.data.std(), size=m.shape)).astype(np.float32)) for m in maps]
    assert_same_motion(align_maps(*noisy).pose, true, degrees=2.0, angstrom=0.6)


def test_a_background_that_is_not_zero_changes_nothing():
    true = motion(6)
    moving, fixed = balls(BODY), balls(true.carried(BODY))
    found = align_maps(moving.with_data(moving.data + 3.0), fixed.with_data(0.5 * fixed.data - 1.0))
    assert_same_motion(found.pose, true, degrees=0.1, angstrom=0.05)


def test_translation_alone_does_not_turn():
    shift = np.array([5.3, -7.9, 2.2])
    found = align_maps(balls(BODY), balls(BODY + shift), motion="translation")
    np.testing.assert_array_equal(found.pose.rotation, np.eye(3))
    np.testing.assert_allclose(found.pose.shift, shift, atol=0.02)
    turned = align_maps(balls(BODY), balls(motion(1).carried(BODY)), motion="translation")
    np.testing.assert_array_equal(turned.pose.rotation, np.eye(3))
    assert turned.correlation < 0.95


@pytest.mark.parametrize("symmetry", ["C1", "C3"])
def test_of_equal_poses_the_smallest_motion_is_taken(symmetry):
    """Three arms, a third of a turn apart: three motions lay them on one another."""
    true = Pose(Rotation.from_rotvec([0.0, 0.1, 0.25]).as_matrix(), np.array([1.0, -2.0, 0.5]))
    found = align_maps(arms(3), arms(3, true), symmetry="C1")
    assert_same_motion(found.pose, true, degrees=0.1, angstrom=0.05)
    assert found.equal_poses == 3
    away = Pose(Rotation.from_rotvec([0.0, 0.0, 2.3]).as_matrix(), np.array([1.0, -2.0, 0.5]))
    back = align_maps(arms(3, away), arms(3), symmetry=symmetry)
    assert back.pose.after(away).degrees == pytest.approx(120.0, abs=0.2)  # 2.3 rad are 131.8 degrees
    assert back.pose.degrees == pytest.approx(131.8 - 120.0, abs=0.2)
    assert back.equal_poses == 3


def test_a_superposed_chaperonin_stays_where_it_lies(shared_data):
    """Sixteen poses are equal by its symmetry; one that is 180 degrees away fits better in the fourth digit."""
    opened, closed = (read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("open", "closed"))
    found = align_maps(opened, closed, local=True, symmetry="D8")
    assert found.pose.degrees < 3.0
    assert found.equal_poses == 16
    assert found.correlation > found.before
    with pytest.raises(InputError, match="does not have the symmetry D7"):
        align_maps(opened, closed, local=True, symmetry="D7")


def test_without_a_search_the_next_maximum_is_found():
    near, far = (Pose(Rotation.from_rotvec([0, 0, angle]).as_matrix(), np.zeros(3)) for angle in (0.2, 2.8))
    found = align_maps(balls(BODY), balls(near.carried(BODY)), local=True)
    assert_same_motion(found.pose, near, degrees=0.1, angstrom=0.05)
    stays = align_maps(arms(2), arms(2, far), local=True)
    assert stays.pose.degrees == pytest.approx(180.0 - np.degrees(2.8), abs=0.2)
    assert stays.equal_poses == 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_hand_is_told_where_it_is_asked_for(mirrored):
    points = BODY * [-1.0, 1.0, 1.0] if mirrored else BODY
    true = motion(8)
    found = align_maps(balls(points), balls(true.carried(BODY)), mirror=True)
    assert found.pose.mirrored == mirrored
    np.testing.assert_allclose(found.pose.carried(points), true.carried(BODY), atol=0.05)
    assert found.other_hand < 0.98 < found.correlation


def test_progress_is_told_to_the_end():
    told = []
    align_maps(balls(BODY), balls(BODY), motion="translation", report=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_map_that_is_the_same_everywhere_cannot_be_aligned():
    with pytest.raises(InputError, match="one density everywhere"):
        align_maps(volume_of(np.ones((8, 8, 8))), balls(BODY))


def test_only_maps_are_aligned(unchecked):
    with pytest.raises(InputError, match=r"^align_maps needs a map to move \(Volume\), and got None: [^\n]*$"):
        align_maps(None, balls(BODY))
    with pytest.raises(
        InputError, match=r"^align_maps needs a map that stays \(Volume\), and got the path 'b.mrc'"
    ):
        align_maps(balls(BODY), "b.mrc")


def test_an_alignment_prints_one_line():
    text = repr(Alignment(motion(3), 0.9, 0.1))
    assert "Pose(turned by" in text
    assert len(text.splitlines()) == 1


def test_a_map_moved_by_a_pose_is_the_map_of_moved_atoms():
    true = motion(9)
    moved = resample_onto(balls(BODY), balls(BODY), true).data
    expected = balls(true.carried(BODY)).data
    assert np.linalg.norm(moved - expected) < 5e-3 * np.linalg.norm(expected)
    same = resample_onto(balls(BODY), balls(BODY), IDENTITY)
    np.testing.assert_array_equal(same.data, balls(BODY).data)


@pytest.mark.study
def test_the_sample_of_adenylate_kinase_is_found_turned_over():
    volume = sample_volume("adk-open")
    true = Pose(Rotation.from_rotvec([2.0, -1.5, 1.0]).as_matrix(), np.array([6.0, 3.0, -5.0]))
    found = align_maps(resample_onto(volume, volume, true), volume)
    error = found.pose.after(true)
    assert error.degrees < 0.2
    centre = sample_atoms("adk-open").positions.mean(axis=0)
    assert np.linalg.norm(error.carried(centre) - centre) < 0.3 * volume.voxel_size[0]


@pytest.mark.slow
def test_the_open_chaperonin_comes_to_lie_on_the_closed_one(shared_data):
    """Their authors aligned them: any of the 16 copies of D8 about z is right, and the search finds them all."""
    opened, closed = (read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("open", "closed"))
    away = Pose(Rotation.from_rotvec([0.9, 1.3, -0.4]).as_matrix(), np.array([12.0, -20.0, 8.0]))
    found = align_maps(resample_onto(opened, opened, away), closed)
    assert found.correlation > found.before
    assert found.equal_poses == 16
    total = found.pose.after(away)
    eighth = np.degrees(2 * np.pi / 8)
    tilt = np.degrees(np.arccos(abs(total.rotation[2, 2])))
    assert tilt < 2.0  # the axis stays, up or down
    twist = np.degrees(np.arctan2(total.rotation[1, 0], total.rotation[0, 0]))
    if total.rotation[2, 2] > 0:
        assert abs((twist + eighth / 2) % eighth - eighth / 2) < 3.0
    assert np.linalg.norm(total.carried(np.zeros(3))) < 0.5 * closed.voxel_size[0]

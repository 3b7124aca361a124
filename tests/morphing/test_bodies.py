"""Bodies: parts of a map, how they are moved, and where alternating rounds of transport and fits end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from morphot_jax import Volume
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.resample import places_of
from morphot_jax.morphing import bodies
from morphot_jax.morphing.bodies import ROUNDS, STILL, bodies_of, combined, moved, settled
from morphot_jax.system.errors import InputError
from shapes import blob, motion, volume_of

SHAPE = (18, 19, 20)
LEFT = np.broadcast_to(np.arange(20) < 10, SHAPE).astype(np.float64)


def shifted(x, y, z):
    return Pose(np.eye(3), np.array([x, y, z], float))


@pytest.fixture
def volume():
    """Two balls side by side along x, in voxels of 1, 2 and 3 Å."""
    data = 40.0 * (blob(SHAPE, (9, 9, 5), 1.3, 1e-3) + 2.0 * blob(SHAPE, (9, 9, 14), 1.3, 1e-3))
    return Volume(data.astype(np.float32), (1.0, 2.0, 3.0), (-4.0, 5.0, 6.0))


@pytest.fixture
def left(volume):
    return bodies_of(volume, {"left": volume.with_data(LEFT)})


def test_a_body_is_what_lies_in_its_mask(volume, left):
    (body,) = left
    assert body.mass.sum() == pytest.approx(volume.mass / 3, rel=1e-6)
    np.testing.assert_allclose(body.centre, places_of(volume, np.array([[9, 9, 5]]))[0], atol=1e-4)
    np.testing.assert_allclose(body.points, places_of(volume, body.indices))
    assert (body.share == np.where(volume.data > 0, LEFT, 0.0)).all()


def test_soft_masks_that_meet_share_the_density(volume):
    """Where they sum to more than one each has its part of the sum; where they sum to less, the rest stays."""
    ramp = np.clip((np.arange(20) - 4.0) / 10.0, 0.0, 1.0) * np.ones(SHAPE)
    one, other = bodies_of(
        volume, {"a": volume.with_data(ramp), "b": volume.with_data(np.minimum(1.0, 1.2 - ramp))}
    )
    seen = volume.data > 0
    np.testing.assert_allclose((one.share + other.share)[seen], 1.0)
    np.testing.assert_allclose(one.share[9, 9, 6], 0.2 / 1.2)
    (half,) = bodies_of(volume, {"a": volume.with_data(0.5 * ramp + 0.1)})
    np.testing.assert_allclose(half.share[seen], (0.5 * ramp + 0.1)[seen])


def test_masks_that_cannot_be_used_are_refused(volume):
    masks = {"l": volume.with_data(LEFT), "all": volume.with_data(np.ones(SHAPE))}
    with pytest.raises(InputError, match=r"'l' and 'all' overlap in 100\.00% of the mass of 'l'"):
        bodies_of(volume, masks)
    with pytest.raises(InputError, match="'empty' holds 0 voxels with mass"):
        bodies_of(volume, {"empty": volume.with_data(np.zeros(SHAPE))})
    with pytest.raises(InputError, match="'faint' holds 0 voxels with mass"):
        bodies_of(volume, {"faint": volume.with_data(0.2 * LEFT)})


def test_a_mask_has_to_be_a_map(unchecked, volume):
    with pytest.raises(InputError, match=r"domain 'lid' needs a mask \(Volume\), and got the path 'lid.mrc'"):
        bodies_of(volume, {"lid": "lid.mrc"})


def test_a_body_that_does_not_move_leaves_the_map_as_it_is(volume, left):
    np.testing.assert_allclose(moved(volume, left, [IDENTITY]), volume.data, atol=1e-9 * volume.data.max())


def test_a_body_moved_by_whole_voxels_is_copied_and_the_rest_stays(volume, left):
    found = moved(volume, left, [shifted(2.0, -4.0, 3.0)])
    parts = np.where(LEFT > 0, volume.data, 0.0), np.where(LEFT > 0, 0.0, volume.data)
    np.testing.assert_allclose(found, np.roll(parts[0], (1, -2, 2), (0, 1, 2)) + parts[1], atol=1e-7)


def test_a_quarter_turn_is_exact():
    data = blob((15, 15, 15), (7, 6, 4), (2.0, 1.5, 1.0), 1e-3)
    volume = Volume(data.astype(np.float32), (2.0, 2.0, 2.0), (-14.0, -14.0, -14.0))
    turn = Pose(Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix(), np.zeros(3))  # x to y
    whole = bodies_of(volume, {"all": volume.with_data(np.ones(data.shape))})
    found = moved(volume, whole, [turn])
    np.testing.assert_allclose(found, np.rot90(volume.data, -1, (1, 2)), atol=1e-6 * data.max())


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_a_moved_body_keeps_its_mass_and_its_shape_and_is_nowhere_negative(seed):
    """Mean and variances of the moved density are those of the points that are carried."""
    volume = volume_of(blob((20, 20, 20), (9, 10, 9), (1.2, 1.6, 2.0), 1e-3))
    whole = bodies_of(volume, {"all": volume.with_data(np.ones(volume.shape))})
    pose = motion(seed, furthest=3.0)
    centre = whole[0].centre
    pose = shifted(*centre).after(pose).after(shifted(*-centre))
    found = moved(volume, whole, [pose])
    assert found.min() >= 0.0
    assert found.sum() == pytest.approx(volume.mass, rel=1e-9)
    points = places_of(volume, np.argwhere(found > 0))
    expected = pose.carried(whole[0].points)
    np.testing.assert_allclose(
        np.average(points, axis=0, weights=found[found > 0]), pose.carried(centre), atol=0.02
    )
    now, then = (np.cov(p.T, aweights=m) for p, m in ((points, found[found > 0]), (expected, whole[0].mass)))
    np.testing.assert_allclose(now, then, atol=0.03 * np.trace(then))


def test_what_leaves_the_box_is_lost(volume, left):
    stays = float(volume.data[LEFT == 0].sum())
    assert moved(volume, left, [shifted(1000.0, 0.0, 0.0)]).sum() == pytest.approx(stays, rel=1e-6)
    some = moved(volume, left, [shifted(-5.5, 0.0, 0.0)]).sum() - stays
    assert some == pytest.approx(float(volume.data[:, :, 6:10].sum()), rel=1e-5)  # from voxel 5 to the face


@pytest.mark.parametrize("seed", range(3))
def test_a_pose_is_six_lengths_and_back(left, seed):
    pose = motion(seed)
    numbers = bodies._lengths(left[0], pose)
    np.testing.assert_allclose(bodies._pose(left[0], numbers).matrix, pose.matrix, atol=1e-9)
    np.testing.assert_allclose(bodies._lengths(left[0], IDENTITY), 0.0, atol=1e-12)


def centre_of(volume, density):
    indices = np.argwhere(density > 0)
    return np.average(places_of(volume, indices), axis=0, weights=density[tuple(indices.T)])


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 1.9])
def test_rounds_end_at_the_whole_of_a_shift_whatever_share_of_the_rest_one_finds(volume, left, share):
    """d = share (D - P): a linear iteration, which mixing ends in few rounds even where it would diverge alone."""
    whole = np.array([2.3, -1.7, 2.9])
    start = centre_of(volume, moved(volume, left, [IDENTITY]) * LEFT)

    def remaining(density):
        body = density - np.where(LEFT > 0, 0.0, volume.data)
        left_to_go = start + whole - centre_of(volume, np.where(body > 1e-9, body, 0.0))
        field = np.full((3, *SHAPE), np.nan)
        field[:, density > 0] = share * left_to_go[:, None]
        return field

    found, last = settled(volume, volume, left, remaining)
    assert found is last
    assert len(repr(found).splitlines()) == len(repr(left).splitlines()) == 1
    assert last.number <= 7
    assert last.changes[0] < STILL
    np.testing.assert_allclose(found.poses[0].shift, whole, atol=2 * STILL / min(share, 1.0))
    field = combined(volume, left, found)
    np.testing.assert_array_equal(np.isnan(field[0]), volume.data == 0)
    there = field[:, (volume.data > 0) & (LEFT > 0)]
    np.testing.assert_allclose(
        there, np.broadcast_to(whole[:, None], there.shape), atol=2 * STILL / min(share, 1.0)
    )


def test_rounds_that_lead_nowhere_end_with_the_best_of_them(volume, left):
    rng = np.random.default_rng(0)
    costs = []

    def remaining(density):
        field = np.where(density > 0, 0.1 * rng.normal(size=3)[:, None, None, None] * np.ones((3, *SHAPE)), np.nan)
        costs.append(float((field[:, density > 0] ** 2).sum(axis=0).mean()))
        return field

    found, last = settled(volume, volume, left, remaining)
    assert last.number == ROUNDS == len(costs)
    assert last.changes[0] > STILL
    assert found.number == np.argmin(costs) + 1 or found.cost < 1.05 * min(costs)

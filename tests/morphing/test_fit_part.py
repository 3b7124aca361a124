"""A part is found in a complex: where it belongs, whatever the scale of the complex, and not where it does not."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing import fit_part as module
from morphot_jax.morphing.fit_part import (
    Poses,
    Samples,
    Scene,
    _best_shifts,
    _chosen,
    _climbed,
    _Pair,
    doubts_about,
    fit_part,
)
from morphot_jax.system.errors import InputError
from shapes import balls, motion

PLACE = Pose(Rotation.from_rotvec([0.7, -0.5, 1.1]).as_matrix(), np.array([14.0, -9.0, 6.0]))
RNG = np.random.default_rng(4)
PART = RNG.uniform(-11.0, 11.0, (12, 3))
CROWD = RNG.uniform(-26.0, 26.0, (60, 3))
CROWD = CROWD[np.linalg.norm(CROWD[:, None] - PLACE.carried(PART), axis=2).min(axis=1) > 9.0]
BOX = {"side": 25, "voxel": 3.2, "origin": (-38.4, -38.4, -38.4)}  # as coarse as the search: one cube is compiled


def part(pose=IDENTITY) -> Volume:
    return balls(pose.carried(PART), **BOX)


def complex_of(*places) -> Volume:
    """The part in some places, among balls that are denser than it."""
    crowd = balls(CROWD, **BOX, alike=True)
    return crowd.with_data(12.0 * crowd.data + sum(part(place).data for place in places))


@pytest.fixture(scope="module")
def whole():
    return complex_of(PLACE)


@pytest.fixture
def few_rotations(monkeypatch):
    monkeypatch.setattr(module, "ROTATIONS", 96)
    monkeypatch.setattr(module, "CANDIDATES", 6)


def assert_placed(found, true, degrees=1.0, angstrom=0.5):
    error = found.after(true.inverse())
    assert error.degrees < degrees
    assert np.linalg.norm(found.carried(PART) - true.carried(PART), axis=1).max() < angstrom


def test_a_part_is_found_among_denser_neighbours(whole, few_rotations):
    away = motion(5)
    found = fit_part(part(away), whole)
    assert_placed(found.pose.after(away), PLACE)
    assert found.correlation > 0.99 > found.before
    assert found.runner_up.correlation < found.correlation - 0.1
    assert doubts_about(found) == []


def test_the_scale_of_the_complex_changes_nothing(whole):
    found = fit_part(part(), whole, local=True)
    other = fit_part(part(), whole.with_data(0.5 * whole.data - 3.0), local=True)
    np.testing.assert_allclose(
        other.pose.matrix, found.pose.matrix, atol=2e-3
    )  # climbs stop at steps of 1e-3 voxels
    assert other.correlation == pytest.approx(found.correlation, abs=1e-5)


def test_a_part_in_its_place_stays(whole):
    found = fit_part(part(PLACE), whole, local=True)
    assert_placed(found.pose.after(PLACE), PLACE, degrees=1.0, angstrom=0.5)
    assert found.before > 0.99


def test_local_correlation_by_fourier_transform_is_the_sum_under_the_mask():
    """Each rotation's best c and its shift, against the sums as they stand; odd cubes, no rotation."""
    rng = np.random.default_rng(0)
    small, mask, large = rng.random((5, 5, 5)), (rng.random((5, 5, 5)) > 0.3) * 1.0, rng.random((12, 12, 12))
    best, place = _best_shifts(
        *(np.float32(cube) for cube in (small, mask, large)), np.eye(3, dtype=np.float32)[None]
    )
    m = mask.astype(bool)

    def correlation(corner):
        indices = [np.arange(c, c + 5) % 12 for c in corner]
        return np.corrcoef(small[m], large[np.ix_(*indices)][m])[0, 1]

    dense = np.array([correlation(np.unravel_index(k, large.shape)) for k in range(large.size)])
    assert int(place[0]) == dense.argmax()
    assert float(best[0]) == pytest.approx(dense.max(), abs=1e-4)
    start = Poses(
        np.eye(3)[None], (np.array(np.unravel_index(dense.argmax(), large.shape)) - 3.5)[None], np.zeros(1)
    )
    if (start.shifts + 2.5 < 6).all():
        scene = Scene(small, mask, large, 1.0)
        assert _climbed(Samples.of(scene), start, 1.0, steps=0).scores[0] == pytest.approx(dense.max(), abs=1e-6)


def test_transport_carries_a_part_where_a_climb_alone_does_not_lead(whole, monkeypatch):
    rng = np.random.default_rng(2)
    vector, shift = (direction / np.linalg.norm(direction) for direction in rng.normal(size=(2, 3)))
    turn = Rotation.from_rotvec(np.radians(45.0) * vector).as_matrix()
    far = Pose(turn @ PLACE.rotation, PLACE.shift + 8.0 * shift)
    assert_placed(fit_part(part(far), whole, local=True).pose.after(far), PLACE)
    monkeypatch.setattr(module, "_carried", lambda scene, starts: starts.some([]))
    climbed = fit_part(part(far), whole, local=True)
    assert climbed.pose.after(far).after(PLACE.inverse()).degrees > 20.0


def test_copies_that_are_equal_by_symmetry_are_no_runner_up(whole):
    """The pose that is least far from where the part lies is taken, and the other two count as its equals."""
    pair = _Pair(part(), whole)
    thirds = [
        Pose(Rotation.from_rotvec([0.0, 0.0, 2.0 * np.pi / 3.0 * k]).as_matrix(), np.zeros(3)) for k in range(3)
    ]
    best = Pose(Rotation.from_rotvec([0.0, 0.0, 2.0]).as_matrix(), np.array([20.0, 3.0, 0.0]))
    elsewhere = Pose(np.eye(3), np.array([0.0, 0.0, 25.0]))
    poses = [best, thirds[1].after(best), thirds[2].after(best), elsewhere]
    centre = pair.part.centre
    shifts = [(pose.carried(centre) - pair.whole.centre)[::-1] / pair.fine for pose in poses]
    turns = [pose.rotation[::-1, ::-1] for pose in poses]
    found = Poses(np.stack(turns), np.stack(shifts), np.array([0.9, 0.89, 0.88, 0.7]))
    chosen = _chosen(pair, False, found, thirds)
    np.testing.assert_allclose(chosen.pose.matrix, thirds[2].after(best).matrix, atol=1e-9)
    assert chosen.equal_poses == 3
    assert chosen.runner_up.correlation == 0.7
    alone = _chosen(pair, False, found, [IDENTITY])
    np.testing.assert_allclose(alone.pose.matrix, best.matrix, atol=1e-9)
    assert alone.runner_up.correlation == 0.89
    assert alone.runner_up.degrees == pytest.approx(120.0)


def test_the_other_hand_is_used_where_it_fits_better(whole):
    mirror = Pose(np.diag([-1.0, 1.0, 1.0]), 2.0 * PLACE.carried(PART).mean(axis=0) * [1.0, 0.0, 0.0])
    told = []
    found = fit_part(
        part(mirror.after(PLACE)), whole, local=True, mirror=True, report=lambda *step: told.append(step)
    )
    assert found.pose.mirrored
    assert np.linalg.norm(found.pose.after(mirror).carried(PLACE.carried(PART)) - PLACE.carried(PART)) < 1.0
    assert found.other_hand < found.correlation - 0.1
    assert told == [(step, 6) for step in range(1, 7)]


def test_a_part_that_does_not_belong_is_told(whole, few_rotations):
    other = np.random.default_rng(9).uniform(-11.0, 11.0, (12, 3))
    found = fit_part(balls(other, **BOX), whole)
    assert doubts_about(found), found


def test_what_is_no_part_is_refused(whole, unchecked):
    with pytest.raises(InputError, match=r"name the part first, then the complex$"):
        fit_part(whole, part())
    with pytest.raises(InputError, match=r"^fit_part needs a part \(Volume\), and got None"):
        fit_part(None, whole)

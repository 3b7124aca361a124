"""The axes of a point group are found wherever they lie, and a symmetry that a map lacks is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from morphot_jax import read_volume
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.symmetry import operators
from morphot_jax.prepare.symmetric import symmetry_of
from morphot_jax.system.errors import InputError
from shapes import BODY, balls, motion, ring, tripod, turn_about, volume_of

LONE = np.array(
    [[11.0, 3.0, 5.0], [6.0, 9.0, 2.0], [14.0, -2.0, -6.0], [3.0, 5.0, 11.0]]
)  # no axis of any group goes through it


def with_group(name, pose=IDENTITY, lone=LONE):
    """A map with a point group and no more, moved; and the points that make it."""
    points = np.concatenate([lone @ turn.T for turn in operators(name)])
    return balls(pose.carried(points), alike=True, width=2.5), points


def assert_keeps(found, points, pose, within):
    """Each of the motions takes the moved points onto one another."""
    there = pose.carried(points)
    for one in found.poses:
        gaps = np.linalg.norm(one.carried(there)[:, None] - there[None], axis=2).min(axis=1)
        assert gaps.max() < within


@pytest.mark.parametrize("name", ["C1", "C2", "C3", "c7", "D1", "D2", "D3", "T", "O"])
def test_axes_along_z_y_x_are_found(name):
    volume, points = with_group(name)
    found = symmetry_of(volume, name)
    assert found.group == name.upper()
    assert len(found.poses) == len(operators(name))
    assert_keeps(found, points, IDENTITY, 0.1)
    assert found.overlap > 0.95


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(["C2", "C4", "D2", "D3", "T"]))
def test_axes_are_found_wherever_they_lie(seed, name):
    pose = motion(seed)
    volume, points = with_group(name, pose)
    found = symmetry_of(volume, name)
    assert_keeps(found, points, pose, 0.25)


def test_the_axis_points_up_and_goes_through_the_centre():
    pose = turn_about((0, 1, 0), 25.0, (3.0, -2.0, 1.0))
    found = symmetry_of(balls(pose.carried(ring(3)), alike=True), "C3")
    np.testing.assert_allclose(found.axis, pose.rotation[:, 2], atol=2e-3)
    across = (np.eye(3) - np.outer(found.axis, found.axis)) @ (found.centre - pose.shift)
    assert np.linalg.norm(across) < 0.1


def test_the_axes_of_real_maps(shared_data):
    opened, closed = (
        symmetry_of(read_volume(shared_data / f"mmcpn_{state}_64.mrc"), "D8") for state in ("open", "closed")
    )
    for found in (opened, closed):
        np.testing.assert_allclose(found.centre, 0.0, atol=0.1)
        assert found.axis[2] > 0.999
        assert found.overlap > 0.9
    assert 2.0 < opened.apart(closed) < 10.0  # Å: the closed map lies tilted by one degree


@pytest.mark.parametrize(("name", "other"), [("C3", "C4"), ("C3", "D3"), ("C4", "C8"), ("D2", "T"), ("C7", "C8")])
def test_a_symmetry_that_the_map_lacks_is_refused(name, other):
    with pytest.raises(InputError, match=rf"^the map does not have the symmetry {other}: [^\n]*$"):
        symmetry_of(with_group(name)[0], other)


def test_a_map_of_higher_symmetry_has_the_lower_one():
    volume, points = with_group("D4")
    for name in ("C2", "C4", "D2"):
        assert_keeps(symmetry_of(volume, name), points, IDENTITY, 0.1)


def test_noise_does_not_mislead():
    pose = turn_about((1, 1, 0), 70.0)
    volume, points = with_group("D3", pose)
    rng = np.random.default_rng(1)
    noisy = volume.with_data((volume.data + rng.normal(scale=volume.data.std(), size=volume.shape)).astype("f4"))
    assert_keeps(symmetry_of(noisy, "D3"), points, pose, 1.0)


@pytest.mark.parametrize("name", ["C3", "D3", "D2", "T"])
def test_axes_named_in_another_way_are_put_in_one_order(name):
    """Upside down and with another axis first, the same map has the same motions in another order."""
    one = symmetry_of(with_group(name)[0], name)
    turned = Rotation.from_rotvec([0.0, 0.0, np.pi / 3]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    other = symmetry_of(with_group(name, Pose(turned, np.zeros(3)))[0], name).like(one)
    if name in ("C3", "D3"):  # half turns about axes in between are no motions of the others
        np.testing.assert_allclose(other.rotations, one.rotations, atol=0.02)
        assert one.apart(other) < 0.3
    else:
        assert one.apart(other) > 5.0


def test_what_is_not_a_symmetric_map_is_refused(unchecked):
    with pytest.raises(InputError, match="the symmetry 'C0' is unknown"):
        symmetry_of(balls(BODY), "C0")
    with pytest.raises(InputError, match=r"symmetry_of needs a map"):
        symmetry_of("a.mrc", "C3")
    for volume, name in ((volume_of(tripod()), "C3"), (balls(BODY), "C4"), (balls(BODY), "T")):
        with pytest.raises(InputError, match=f"does not have the symmetry {name}"):
            symmetry_of(volume, name)

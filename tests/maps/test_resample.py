"""Voxels and their positions, and structures that the faces of a box cut, against their closed forms.

The tests of ``prepare`` cover the resampling of other maps from one grid onto another.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import cut_axes, indices_of, places_of, resample_onto, resampled, spline_matrix
from morphot_jax.maps.volume import Grid, Volume
from shapes import balls, blob, scatter

EDGE = 24

lengths = st.tuples(*[st.floats(0.1, 20.0)] * 3)
points = st.tuples(*[st.floats(-500.0, 500.0)] * 3)


def test_places_are_x_y_z_and_indices_z_y_x():
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0))
    np.testing.assert_array_equal(places_of(grid, np.array([[3, 2, 1]])), [[11.0, 24.0, 39.0]])


@given(voxel_size=lengths, origin=points, seed=st.integers(0, 99))
def test_indices_of_places_are_the_inverse(voxel_size, origin, seed):
    grid = Grid((4, 5, 6), voxel_size, origin)
    indices = np.random.default_rng(seed).uniform(-3.0, 9.0, (7, 3))
    np.testing.assert_allclose(indices_of(grid, places_of(grid, indices)), indices, atol=1e-9)


# Faces.


def fibre(along, start=0.0, step=1.0, edge=EDGE, turn=0.21):
    """A helix of Gaussian width 2 through both faces across one axis, sampled from ``start`` on along it."""
    places = [np.arange(edge, dtype=float) * step for _ in range(3)]
    places[along] = places[along] + start
    grids = list(np.meshgrid(*places, indexing="ij"))
    z, y, x = grids[along], *(grid for axis, grid in enumerate(grids) if axis != along)
    middle = 0.5 * (EDGE - 1)
    data = np.exp(-((y - middle - 3 * np.cos(turn * z)) ** 2 + (x - middle - 3 * np.sin(turn * z)) ** 2) / 8)
    origin = [0.0, 0.0, 0.0]
    origin[2 - along] = start
    return Volume(data, (step,) * 3, tuple(origin))


def off(found, expected, along=0):
    """The largest distance of a slice, relative to that slice."""
    across = tuple(axis for axis in range(3) if axis != along)
    gap, whole = (np.sqrt((values**2).sum(across)) for values in (found - expected, expected))
    return float((gap / whole).max())


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("shift", [0.5, -0.5, 0.3])
def test_a_fibre_moves_along_its_axis_without_ringing(along, shift):
    whole, like = fibre(along), fibre(along, start=shift)
    assert cut_axes(whole.data) == (along,)
    assert off(resample_onto(whole, like).data, like.data, along) < 0.02


@pytest.mark.parametrize("edge", [12, 16, 32, 48, 60])
def test_a_fibre_on_another_grid_over_the_same_box_is_the_fibre_there(edge):
    found, _ = resampled(fibre(0), (edge,) * 3)
    expected = fibre(0, step=EDGE / edge, edge=edge)
    known = np.arange(edge) * EDGE / edge <= EDGE - 0.5  # the last ones of a fine grid lie beyond the last sample
    assert off(found.data[known], expected.data[known]) < 0.03
    assert off(found.data, expected.data) < 0.2


def test_a_fibre_that_is_turned_or_moved_keeps_its_ends():
    whole = fibre(0)
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    centre = np.array([0.5 * (EDGE - 1)] * 2 + [0.0])
    found = resample_onto(whole, whole, Pose(turn, centre - turn @ centre))
    np.testing.assert_allclose(found.data, np.rot90(whole.data, -1, axes=(1, 2)), atol=0.01)
    moved = resample_onto(whole, whole, Pose(np.eye(3), np.array([0.0, 0.0, 0.5])))
    assert off(moved.data, fibre(0, start=-0.5).data) < 0.06
    away = resample_onto(whole, whole, Pose(np.eye(3), np.array([0.0, 0.0, 3.0])))
    assert away.data[:2].max() == 0.0  # nothing is known beyond the face


def test_maps_that_repeat_or_end_before_the_faces_are_not_cut():
    assert cut_axes(blob((EDGE,) * 3, (12, 11, 13), 2.0)) == ()
    assert cut_axes(balls([(0.0, 0.0, 0.0)], EDGE).data) == ()
    assert cut_axes(fibre(0, turn=2 * np.pi / EDGE).data) == ()  # one turn in the box
    assert cut_axes(np.ones((6, 7, 8))) == ()
    assert cut_axes(np.random.default_rng(0).normal(size=(20, 21, 22))) == ()
    assert cut_axes(fibre(1).data[:, :3]) == ()  # too few slices for a spline


@given(n=st.integers(4, 30), seed=st.integers(0, 99))
def test_splines_are_exact_for_cubic_polynomials_and_at_the_samples(n, seed):
    rng = np.random.default_rng(seed)
    curve, places = np.poly1d(rng.normal(size=4)), rng.uniform(-0.5, n - 0.5, 9)
    scale = np.abs(curve(np.linspace(-1, n, 50))).max()
    np.testing.assert_allclose(spline_matrix(n, places) @ curve(np.arange(n)), curve(places), atol=1e-9 * scale)
    np.testing.assert_allclose(spline_matrix(n, np.arange(float(n))), np.eye(n), atol=1e-12)
    np.testing.assert_array_equal(spline_matrix(n, np.array([-0.6, n - 0.4])), 0.0)


@given(seed=st.integers(0, 99), order=st.permutations([0, 1, 2]))
def test_faces_are_treated_alike_in_every_order_of_axes(seed, order):
    data = scatter((8, 9, 10), seed)
    data[:, :, :2] = 2.0 * data.max()
    axes = cut_axes(data)
    assert 2 in axes
    assert cut_axes(data.transpose(order)) == tuple(sorted(order.index(axis) for axis in axes))

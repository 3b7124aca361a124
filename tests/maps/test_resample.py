"""Voxels and their positions (the tests of ``prepare`` cover resampling from one grid onto another)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax.maps.resample import indices_of, places_of
from morphot_jax.maps.volume import Grid

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

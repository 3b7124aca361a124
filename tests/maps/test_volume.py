"""The physical map: what it derives from its data, and that it cannot be changed by accident."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from morphot_jax.maps.volume import Volume

VOXEL_SIZE = (1.0, 2.0, 3.0)


def test_shape_is_z_y_x():
    assert Volume(np.zeros((2, 3, 5), np.float32), VOXEL_SIZE).shape == (2, 3, 5)


def test_mass_is_summed_in_double_precision():
    data = np.full((128, 128, 65), 0.1, np.float32)
    data[0, 0, 0] = 1e8  # in single precision, everything after it would be rounded off
    exact = 1e8 + (data.size - 1) * float(np.float32(0.1))
    assert Volume(data, VOXEL_SIZE).mass == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("angles", "orthogonal"),
    [((90.0, 90.0, 90.0), True), ((90.0, 90.00001, 90.0), True), ((90.0, 94.3, 90.0), False)],
)
def test_orthogonal_tells_right_angles(angles, orthogonal):
    assert Volume(np.zeros((2, 2, 2), np.float32), VOXEL_SIZE, cell_angles=angles).orthogonal is orthogonal


def test_with_data_keeps_place_and_scale():
    volume = Volume(np.zeros((2, 3, 5), np.float32), VOXEL_SIZE, (4.0, 5.0, 6.0), (1, 2, 3), (90.0, 94.0, 90.0))
    other = volume.with_data(np.ones((2, 3, 5), np.float32))
    assert (volume.mass, other.mass) == (0.0, 30.0)
    places = [(v.voxel_size, v.origin, v.nstart, v.cell_angles) for v in (volume, other)]
    assert places[0] == places[1]


def test_fields_cannot_be_assigned():
    volume = Volume(np.zeros((2, 2, 2), np.float32), VOXEL_SIZE)
    with pytest.raises(FrozenInstanceError):
        volume.origin = (1.0, 1.0, 1.0)

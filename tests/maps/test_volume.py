"""The physical map: its derived values, and its protection against accidental changes."""

import re
from dataclasses import FrozenInstanceError, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.system.errors import InputError

VOXEL_SIZE = (1.0, 2.0, 3.0)
shapes = st.tuples(*[st.integers(1, 12)] * 3)


def ramp(shape=(2, 3, 5), dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def with_voxel(value, dtype=np.float32):
    data = ramp(dtype=dtype)
    data[1, 2, 3] = value
    return data


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


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a.mrc", "got 'a.mrc'"),
        (None, "got None"),
        ([[[1.0]]], "got [[[1.0]]]"),
        (np.zeros((3, 4)), "(3, 4)"),
        (np.zeros((1, 2, 3, 4)), "(1, 2, 3, 4)"),
        (np.zeros((0, 2, 2)), "(0, 2, 2)"),
        (ramp(dtype=complex), "complex128"),
        (ramp().astype(str), "<U"),
        (with_voxel(np.nan), "1 of 30 voxels are NaN or infinite"),
        (with_voxel(-np.inf), "1 of 30 voxels are NaN or infinite"),
        (with_voxel(np.inf, np.float16), "1 of 30 voxels are NaN or infinite"),
    ],
)
def test_only_3d_finite_arrays_make_a_map(unchecked, data, words):
    volume = Volume(ramp(), VOXEL_SIZE)
    for make in (partial(Volume, voxel_size=VOXEL_SIZE), volume.with_data, partial(replace, volume)):
        with pytest.raises(InputError, match=rf"^[^\n]*{re.escape(words)}[^\n]*$"):
            make(data=data)


@pytest.mark.parametrize(
    "place",
    [
        {"voxel_size": 2.0},
        {"voxel_size": (1.0, 2.0)},
        {"voxel_size": (1.0, 0.0, 1.0)},
        {"voxel_size": (1.0, -2.0, 1.0)},
        {"voxel_size": (1.0, np.nan, 1.0)},
        {"voxel_size": "1 2 3"},
        {"voxel_size": np.ones((40, 40))},
        {"origin": (0.0, np.inf, 0.0)},
        {"origin": None},
    ],
)
def test_invalid_voxel_sizes_and_origins_are_refused(unchecked, place):
    name = next(iter(place)).replace("_", " ")
    with pytest.raises(InputError, match=rf"^the {name} [^\n]* cannot be used: give three [^\n]*$"):
        Volume(**{"data": ramp(), "voxel_size": VOXEL_SIZE} | place)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_and_double_precision_are_kept_and_not_copied(dtype):
    data = ramp(dtype=dtype)
    assert Volume(data, VOXEL_SIZE).data is data


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(bool, "f4"), (np.int8, "f4"), (np.int64, "f4"), (np.float16, "f4"), (">f4", "f4"), (">f8", "f8")],
)
def test_other_numbers_become_floats(unchecked, dtype, kept):
    volume = Volume(ramp(dtype=dtype), VOXEL_SIZE)
    assert volume.data.dtype == np.dtype(kept)
    np.testing.assert_array_equal(volume.data, ramp(dtype=dtype))


def test_lists_and_arrays_of_lengths_become_tuples(unchecked):
    volume = Volume(ramp(), [1, 2, 3], np.array([4.0, 5.0, 6.0], np.float32))
    assert (volume.voxel_size, volume.origin) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert {type(value) for value in (*volume.voxel_size, *volume.origin)} == {float}


def test_as_an_array_a_volume_is_its_data():
    volume = Volume(ramp(), VOXEL_SIZE)
    assert np.asarray(volume) is volume.data
    assert not np.shares_memory(np.array(volume), volume.data)
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.stack([volume, volume]), np.stack([ramp(), ramp()]))
    np.testing.assert_array_equal(np.log1p(volume), np.log1p(ramp()))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 copies where it has to")
def test_an_array_without_a_copy_is_refused_where_one_is_needed():
    volume = Volume(ramp(), VOXEL_SIZE)
    assert np.shares_memory(np.asarray(volume, copy=False), volume.data)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(volume, dtype=np.float64, copy=False)


@given(shape=shapes)
def test_it_prints_one_line_whatever_its_size(shape):
    text = repr(Volume(ramp(shape), (1.0, 2.25, 3.0)))
    assert len(text.splitlines()) == 1
    top = np.prod(shape) - 1
    assert f"shape={shape}" in text
    assert "voxel_size=(1, 2.25, 3) Å" in text
    assert f"densities 0 to {top:.4g}, mass {top * (top + 1) / 2:.6g})" in text


@given(shape=shapes, shift=st.floats(-0.019, 0.019))
def test_grids_are_one_where_no_voxel_lies_a_fiftieth_of_a_voxel_away(shape, shift):
    volume = Volume(ramp(shape), VOXEL_SIZE)
    for axis in range(3):
        near, far = [0.0] * 3, [0.0] * 3
        near[axis], far[axis] = shift * VOXEL_SIZE[axis], 0.021 * VOXEL_SIZE[axis]
        assert volume.same_grid(replace(volume, origin=tuple(near)))
        assert not volume.same_grid(replace(volume, origin=tuple(far)))
    assert volume.same_grid(Grid(shape, VOXEL_SIZE, (0.0, 0.0, 0.0)))
    assert not volume.same_grid(Grid((13, *shape[1:]), VOXEL_SIZE, (0.0, 0.0, 0.0)))

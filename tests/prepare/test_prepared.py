"""Resampling and cutting of maps, stated as mathematics: exactness, mass, positions, equivariance, errors."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from scipy.ndimage import gaussian_filter

from helpers import SHARED_DATA
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.resample import fourier_resample, resample_onto, with_mass
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.prepare.prepared import prepare_maps, unit_mass
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent

DATA = SHARED_DATA
few = settings(max_examples=40, deadline=None)
sides = st.integers(1, 9)
shapes = st.tuples(sides, sides, sides)


def positions(shape, voxel_size, origin):
    """Coordinates of the voxels in Å along x, y, z, each broadcastable to z y x."""
    z, y, x = (o + v * np.arange(n) for n, v, o in zip(shape, voxel_size[::-1], origin[::-1], strict=True))
    return x[None, None, :], y[None, :, None], z[:, None, None]


def gaussian(shape=(24, 24, 24), voxel_size=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), centre=(23, 25, 22), sd=5.0):
    xyz = positions(shape, voxel_size, origin)
    data = np.exp(-0.5 * sum((p - c) ** 2 for p, c in zip(xyz, centre, strict=True)) / sd**2)
    return Volume(data, voxel_size, origin)


def centre_of_mass(volume):
    xyz = positions(volume.shape, volume.voxel_size, volume.origin)
    return np.array([float((p * volume.data).sum()) for p in xyz]) / volume.mass


def noisy(shape=(6, 5, 7), seed=3, **place):
    data = np.random.default_rng(seed).uniform(0.5, 1.0, shape).astype(np.float32)
    return Volume(data, place.get("voxel_size", (2.0, 2.0, 2.0)), place.get("origin", (0.0, 0.0, 0.0)))


# --- Fourier resampling --------------------------------------------------------------------------------------


def band_limited(shape, cutoff=1):
    """A trigonometric polynomial of the box's lowest frequencies, sampled at i / n."""
    z, y, x = (np.arange(n) / n for n in shape)
    wave = lambda s, phase: 1 + 0.5 * np.cos(2 * np.pi * cutoff * s + phase)  # noqa: E731
    return wave(z, 0.3)[:, None, None] * wave(y, 1.1)[None, :, None] * wave(x, -0.7)[None, None, :]


@few
@given(st.tuples(*[st.integers(3, 9)] * 3), st.tuples(*[st.integers(3, 9)] * 3))
def test_band_limited_functions_are_resampled_exactly(old, new):
    scale = np.prod(old) / np.prod(new)
    np.testing.assert_allclose(
        fourier_resample(band_limited(old), new), scale * band_limited(new), atol=1e-13 * scale
    )


@few
@given(shapes, shapes)
def test_fourier_resampling_keeps_the_sum_and_agrees_with_scipy(old, new):
    data = np.random.default_rng(0).normal(size=old)
    resampled = fourier_resample(data, new)
    assert resampled.shape == new
    assert resampled.sum() == pytest.approx(data.sum(), abs=1e-12)
    expected = data
    for axis in range(3):
        expected = signal.resample(expected, new[axis], axis=axis)
    np.testing.assert_allclose(resampled, expected * data.size / expected.size, atol=1e-12)


@few
@given(shapes, shapes)
def test_fourier_padding_loses_nothing(small, more):
    large = tuple(a + b for a, b in zip(small, more, strict=True))
    data = np.random.default_rng(1).normal(size=small)
    np.testing.assert_allclose(fourier_resample(fourier_resample(data, large), small), data, atol=1e-12)


@few
@given(shapes, shapes, st.permutations([0, 1, 2]))
def test_fourier_resampling_commutes_with_axis_order(old, new, order):
    data = np.random.default_rng(2).normal(size=old)
    permuted = fourier_resample(data.transpose(order), tuple(new[i] for i in order))
    np.testing.assert_allclose(permuted, fourier_resample(data, new).transpose(order), atol=1e-12)


def test_fourier_resampling_to_the_same_shape_is_no_change():
    data = noisy().data
    assert fourier_resample(data, data.shape) is data


def test_fourier_cropping_commutes_with_whole_voxel_translations():
    data = np.random.default_rng(4).normal(size=(8, 8, 8))
    moved = fourier_resample(np.roll(data, (2, 4, 6), (0, 1, 2)), (4, 4, 4))
    np.testing.assert_allclose(moved, np.roll(fourier_resample(data, (4, 4, 4)), (1, 2, 3), (0, 1, 2)), atol=1e-13)


@pytest.mark.parametrize("grid", [16, 17, 31, 32, 40])
@pytest.mark.parametrize("size", [24, 25])
def test_grid_keeps_densities_origin_and_centre_of_mass(size, grid):
    origin = (-20.0, 4.0, 7.5)
    volume = gaussian((size,) * 3, origin=origin, centre=(3.0, 29.0, 30.0))
    prepared = prepare_maps([volume], Preparation(grid=grid, level="none"))
    (result,) = prepared.volumes
    assert result.shape == (grid,) * 3
    assert result.origin == origin
    np.testing.assert_allclose(np.multiply(result.voxel_size, grid), size * 2.0)
    assert prepared.masses[0] == pytest.approx(volume.mass * (grid / size) ** 3, rel=1e-7)
    np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=2e-3)
    expected = gaussian(result.shape, result.voxel_size, origin, (3.0, 29.0, 30.0))
    np.testing.assert_allclose(result.data, expected.data, atol=2e-3 if grid < size else 2e-5)
    assert result.data.min() >= 0
    assert "resampled in Fourier space" in prepared.actions[0]


def test_grid_there_and_back():
    volume = gaussian()
    up = prepare_maps([volume], Preparation(grid=37, level="none")).volumes
    (back,) = prepare_maps(up, Preparation(grid=24, level="none")).volumes
    np.testing.assert_allclose(back.voxel_size, volume.voxel_size)
    np.testing.assert_allclose(back.data, volume.data, atol=1e-5)


def test_grid_of_a_box_that_is_no_cube_pads_it_at_the_high_end():
    volume = gaussian((20, 24, 22), centre=(20.0, 23.0, 18.0), sd=4.0)
    prepared = prepare_maps([volume], Preparation(grid=18, level="none"))
    (result,) = prepared.volumes
    assert result.shape == (18, 18, 18)
    np.testing.assert_allclose(result.voxel_size, 24 * 2.0 / 18)
    assert result.origin == volume.origin
    assert prepared.masses[0] == pytest.approx(volume.mass * (18 / 24) ** 3, rel=1e-7)
    np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=5e-3)
    assert "padded" in prepared.actions[0]


def test_grid_of_the_size_at_hand_changes_nothing():
    volume = noisy((6, 6, 6))
    prepared = prepare_maps([volume], Preparation(grid=6))
    assert prepared.volumes[0] is volume
    assert prepared.actions == ()


def test_ringing_is_cut_and_what_finer_voxels_held_is_told_as_power():
    data = np.zeros((16, 16, 16), np.float32)
    data[5:11, 5:11, 5:11] = 1
    volume = Volume(data, (1.0, 1.0, 1.0))
    assert fourier_resample(data, (9, 9, 9)).min() < -1e-3
    prepared = prepare_maps([volume], Preparation(grid=9))
    assert prepared.volumes[0].data.min() == 0
    assert prepared.volumes[0].data.dtype == np.float32
    assert prepared.masses[0] == pytest.approx(volume.mass * (9 / 16) ** 3, rel=1e-6)
    assert not prepared.volumes[0].data[0].any()  # the haze away from the map is cut as well
    spectrum = np.abs(np.fft.fftn(data)) ** 2
    spectrum[0, 0, 0] = 0.0
    inside = np.abs(np.fft.fftfreq(16, 1 / 16)) <= 4
    share = 1 - spectrum[np.ix_(inside, inside, inside)].sum() / spectrum.sum()
    assert f"detail finer than 3.556 Å is gone, {percent(float(share))} of its power" in prepared.actions[1]


def test_levels_transfer_through_a_grid(tmp_path):
    """The same level encloses the same volume, whatever the voxels."""
    volume = gaussian()
    for grid in (20, 48):
        prepared = prepare_maps([volume], Preparation(grid=grid, level=0.3))
        assert prepared.levels == (0.3,)
        (result,) = prepared.volumes
        enclosed = [(one.data >= 0.3).sum() * np.prod(one.voxel_size) for one in (volume, result)]
        assert enclosed[1] == pytest.approx(enclosed[0], rel=0.05)


def test_apix_takes_the_nearest_voxel_size_over_the_same_box():
    volume = gaussian((24, 30, 20), centre=(20.0, 28.0, 24.0), sd=4.0)
    (result,) = prepare_maps([volume], Preparation(apix=3.1, level="none")).volumes
    assert result.shape == (15, 19, 13)
    np.testing.assert_allclose(result.voxel_size, (40 / 13, 60 / 19, 48 / 15))
    np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=5e-3)


# --- one map onto the grid of another ------------------------------------------------------------------------


def test_identical_grids_are_left_untouched_bit_for_bit():
    maps = [noisy(seed=1), noisy(seed=2)]
    copies = [m.data.copy() for m in maps]
    prepared = prepare_maps(maps)
    assert prepared.actions == ()
    for volume, result, copy in zip(maps, prepared.volumes, copies, strict=True):
        assert result is volume
        assert result.data.dtype == np.float32
        assert np.array_equal(result.data, copy)


def test_rounding_in_headers_makes_no_other_grid():
    a = noisy(voxel_size=(3.99, 3.99, 3.99), origin=(-127.68, 0.0, 0.0))
    b = noisy(seed=9, voxel_size=(3.990001, 3.99, 3.99), origin=(-127.6801, 0.0, 0.0))
    assert a.same_grid(b)
    prepared = prepare_maps([a, b])
    assert prepared.volumes[1].data is b.data
    assert prepared.volumes[1].voxel_size == a.voxel_size
    assert prepared.volumes[1].origin == a.origin
    assert prepared.actions == ()


@pytest.mark.parametrize(
    "change",
    [{"voxel_size": (2.01, 2.0, 2.0)}, {"origin": (0.0, 0.1, 0.0)}, {"data": np.ones((6, 5, 8), np.float32)}],
)
def test_other_grids_are_told_apart(change):
    assert not noisy().same_grid(replace(noisy(), **change))


@pytest.mark.parametrize(
    ("shape", "voxel_size", "origin"),
    [
        ((30, 32, 34), (1.6, 1.5, 1.7), (-1.3, 0.4, 2.1)),
        ((20, 20, 20), (2.5, 2.5, 2.5), (0.0, 0.0, 0.0)),
        ((24, 24, 24), (2.0, 2.0, 2.0), (0.9, -0.7, 0.3)),
    ],
)
def test_a_gaussian_on_another_grid_is_the_gaussian_sampled_there(shape, voxel_size, origin):
    volume = gaussian(sd=4.0)
    expected = gaussian(shape, voxel_size, origin, sd=4.0)
    result = resample_onto(volume, expected)
    assert result.same_grid(expected)
    np.testing.assert_allclose(result.data, expected.data, atol=4e-3)
    integral = volume.mass * np.prod(volume.voxel_size)
    assert result.mass * np.prod(voxel_size) == pytest.approx(integral, rel=1e-3)
    np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=0.05)


def test_resampling_to_a_coarser_grid_does_not_alias():
    # A wave of period 3 Å cannot live on voxels of 4 Å; sampling it there would show a false, slow one.
    x = np.arange(96)
    data = np.broadcast_to(1 + np.cos(2 * np.pi * x / 3.0), (12, 12, 96)).copy()
    fine = Volume(data, (1.0, 4.0, 4.0))
    coarse = Volume(np.ones((12, 12, 20)), (4.0, 4.0, 4.0), (8.0, 0.0, 0.0))
    inner = resample_onto(fine, coarse).data[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(inner, 1.0, atol=0.01)


@few
@given(st.tuples(*[st.integers(-3, 3)] * 3), shapes)
def test_whole_voxel_shifts_are_copied_bit_for_bit(shift, shape):
    volume = noisy()
    padded = np.pad(volume.data, 12)
    origin = tuple(2.0 * s for s in shift)
    like = Volume(np.ones(shape, np.float32), (2.0, 2.0, 2.0), origin)
    z, y, x = (12 + s for s in shift[::-1])
    expected = padded[z : z + shape[0], y : y + shape[1], x : x + shape[2]]
    result = resample_onto(volume, like)
    assert result.data.dtype == np.float32
    assert np.array_equal(result.data, expected)


def test_resampling_commutes_with_axis_order():
    volume = gaussian((12, 14, 16), centre=(14, 13, 11), sd=4.0)
    like = gaussian((13, 11, 15), (2.2, 2.1, 1.9), (0.5, 1.0, -0.3))

    def reversed_axes(v):
        return Volume(np.ascontiguousarray(v.data.T), v.voxel_size[::-1], v.origin[::-1])

    result = resample_onto(reversed_axes(volume), reversed_axes(like))
    np.testing.assert_allclose(result.data, resample_onto(volume, like).data.T, atol=1e-12)


@pytest.mark.parametrize("voxel", [0.7, 1.0, 2.2])
def test_a_sharp_edged_map_stays_non_negative_and_keeps_its_integral(voxel):
    data = np.zeros((20, 20, 20))
    data[6:13, 7:15, 5:12] = 1
    volume = Volume(data, (1.0, 1.0, 1.0), (0.3, 0.4, 0.2))
    size = round(20 / voxel)
    result = resample_onto(volume, Volume(np.ones((size, size, size)), (voxel, voxel, voxel)))
    assert result.data.min() == 0
    assert result.mass * voxel**3 == pytest.approx(volume.mass, rel=2e-2)


def test_the_common_grid_is_the_first_one_and_positions_come_from_the_headers():
    first = gaussian(sd=4.0)
    second = replace(gaussian((30, 30, 30), (1.7,) * 3, (1.0, 2.0, 0.0), sd=4.0), nstart=(1, 1, 0))
    prepared = prepare_maps([first, second], names=["a.mrc", "b.mrc"])
    assert all(v.same_grid(first) for v in prepared.volumes)
    assert prepared.volumes[1].nstart == (0, 0, 0)
    np.testing.assert_allclose(centre_of_mass(prepared.volumes[1]), centre_of_mass(first), atol=0.05)
    assert "map 2 (b.mrc) resampled from 30^3 voxels of 1.7 Å at origin (1, 2, 0) Å" in prepared.actions[0]
    ratio = float(prepared.actions[0].rsplit(",", 1)[1])
    assert ratio == pytest.approx(1.7**3 / 2.0**3, rel=1e-5)
    assert prepared.masses[1] == pytest.approx(ratio * second.mass, rel=1e-3)
    assert all("\n" not in action for action in prepared.actions)


def test_a_difference_of_origins_alone_is_honoured_and_reported():
    first = gaussian(sd=3.0)
    second = replace(first, origin=(4.0, -2.0, 0.0))
    prepared = prepare_maps([first, second])
    moved = centre_of_mass(prepared.volumes[1]) - centre_of_mass(first)
    np.testing.assert_allclose(moved, (4.0, -2.0, 0.0), atol=1e-3)
    assert "only the origins differ, by (4, -2, 0) Å" in prepared.actions[0]


def test_density_lost_outside_the_first_box_is_a_warning():
    first = gaussian((24, 24, 24), sd=4.0)
    second = gaussian((24, 24, 30), centre=(45, 25, 22), sd=4.0)
    prepared = prepare_maps([first, second])
    assert "lies outside that box and is lost" in " ".join(prepared.warnings)


def test_boxes_that_do_not_overlap_are_refused():
    first = gaussian()
    with pytest.raises(InputError) as error:
        prepare_maps([first, replace(first, origin=(-46.0, 0.0, 0.0))])
    assert "(-46, 0, 0)" in str(error.value)
    assert "(0, 0, 0)" in str(error.value)
    assert "\n" not in str(error.value)


# --- cutting -------------------------------------------------------------------------------------------------


def spiky(*values):
    return Volume(np.array(values, dtype=np.float32).reshape(1, 1, -1), (1.0, 1.0, 1.0))


def cut(volume, **options):
    prepared = prepare_maps([volume], Preparation(**options))
    return prepared.volumes[0].data.ravel().tolist(), prepared.actions


def test_density_below_the_floor_is_cut_by_default_and_kept_on_request():
    volume = spiky(1.0, 1e-7, 0.5, 0.0)
    data, actions = cut(volume)
    assert data == [1.0, 0.0, 0.5, 0.0]
    assert "1e-06 of the maximum (the floor)" in actions[0]
    assert cut(volume, level="auto")[0] == data
    assert prepare_maps([volume], Preparation(level="none")).volumes[0] is volume


def test_negative_densities_become_zero_whatever_the_level():
    for level in ("auto", "none", 0.0):
        data, actions = cut(spiky(1.0, -0.25, 0.5), level=level)
        assert data == [1.0, 0.0, 0.5]
        assert "1 voxels of negative density" in actions[0]
        assert "16.67% of the mass" in actions[0]


def test_level_keeps_what_reaches_it():
    data, actions = cut(spiky(1.0, 0.25, 0.5, 0.1), level=0.25)
    assert data == [1.0, 0.25, 0.5, 0.0]
    assert "level 0.25" in actions[0]


def test_one_level_per_map():
    maps = [spiky(1.0, 0.5, 0.25), spiky(4.0, 2.0, 1.0)]
    prepared = prepare_maps(maps, Preparation(level=[0.5, 2.0]))
    assert [v.data.ravel().tolist() for v in prepared.volumes] == [[1.0, 0.5, 0.0], [4.0, 2.0, 0.0]]
    assert prepared.masses == (1.5, 6.0)


def test_level_means_the_densities_of_the_maps_as_given_also_after_resampling():
    volume = gaussian()
    uncut = prepare_maps([volume], Preparation(grid=12, level="none")).volumes[0].data
    result = prepare_maps([volume], Preparation(grid=12, level=0.5)).volumes[0].data
    assert np.array_equal(result, np.where(uncut < 0.5, 0, uncut))
    assert result.any()


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from(["auto", "none", 0.1]), st.sampled_from([None, 5, 9]))
def test_prepared_maps_are_non_negative_and_masses_are_theirs(seed, level, grid):
    random = np.random.default_rng(seed)
    maps = [Volume(random.normal(0.2, 1.0, (6, 7, 5)), (1.0, 1.1, 0.9)) for _ in range(2)]
    prepared = prepare_maps(maps, Preparation(level=level, grid=grid))
    assert all((v.data >= 0).all() for v in prepared.volumes)
    assert prepared.masses == tuple(v.data.sum() for v in prepared.volumes)
    assert prepared.volumes[0].same_grid(prepared.volumes[1])


def test_the_input_is_not_changed_in_place():
    volume = gaussian()
    before = volume.data.copy()
    prepare_maps([volume, gaussian((20, 20, 20))], Preparation(level=0.1, grid=15))
    assert np.array_equal(volume.data, before)


# --- mass ----------------------------------------------------------------------------------------------------


def test_unit_mass_and_back():
    volume = noisy()
    unit = unit_mass(volume.data)
    assert unit.dtype == np.float64
    assert unit.sum() == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose(with_mass(unit, volume.mass), volume.data, rtol=1e-12)


def test_nothing_cannot_be_scaled_to_a_mass():
    with pytest.raises(InputError, match="sum to 0"):
        unit_mass(np.zeros((2, 2, 2)))


# --- what is refused -----------------------------------------------------------------------------------------


def broken(**changes):
    return replace(noisy(), **changes)


@pytest.mark.parametrize(
    ("volume", "options", "quoted"),
    [
        (broken(data=np.zeros((2, 2, 2))), {}, "no positive density"),
        (broken(data=-np.ones((2, 2, 2))), {}, "maximum is -1"),
        (broken(cell_angles=(90.0, 101.5, 90.0)), {}, "101.5"),
        (noisy(), {"level": 7.5}, "7.5"),
        (noisy(), {"level": -1.0}, "-1"),
        (noisy(), {"level": float("nan")}, "nan"),
        (noisy(), {"level": [0.1, 0.2, 0.3]}, "3 levels"),
        (noisy(), {"floor": 2.0}, "floor is 2"),
        (noisy(), {"grid": 0}, "grid is 0"),
        (noisy(), {"grid": 100_000}, "100000"),
        (noisy(), {"apix": 0.0}, "apix is 0"),
        (noisy(), {"apix": 1e-9}, "voxels was asked for"),
        (noisy(), {"grid": 8, "apix": 1.0}, "choose one"),
    ],
)
def test_bad_input_is_refused_in_one_line(volume, options, quoted):
    with pytest.raises(InputError) as error:
        prepare_maps([noisy(), volume], Preparation(**options))
    assert quoted in str(error.value)
    assert "\n" not in str(error.value)


def test_names_are_one_for_each_map():
    with pytest.raises(InputError, match="1 names were given for 2 maps"):
        prepare_maps([noisy(), noisy()], names=["a.mrc"])


def test_a_mask_is_a_map_or_the_name_of_one(tmp_path):
    volume = gaussian((12, 12, 12))
    half = np.zeros(volume.shape, np.float32)
    half[:, :, :6] = 1.0
    mask = volume.with_data(half)
    write_volume(mask, tmp_path / "mask.mrc")
    for one in (mask, str(tmp_path / "mask.mrc")):
        (masked,) = prepare_maps([volume], Preparation(mask=one, level="none")).volumes
        np.testing.assert_array_equal(masked.data, volume.data * half)
    with pytest.raises(InputError, match="no such file"):
        prepare_maps([volume], Preparation(mask=str(tmp_path / "none.mrc")))
    for other, quoted in ((5, "5"), (half, "array")):
        with pytest.raises(InputError, match=rf"mask is {quoted}.*: give a map or the name of one"):
            Preparation(mask=other)


def test_the_refusal_of_a_level_tells_the_maximum():
    with pytest.raises(InputError, match=r"maximum 1$"):
        prepare_maps([spiky(1.0, 0.5)], Preparation(level=1.0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a.mrc", "prepare_maps needs maps (Volume), and got the path 'a.mrc': read it"),
        ([noisy(), noisy().data], "map 2 is an array of shape (6, 5, 7): make a map of it with Volume("),
        (noisy(), "and got a single one: give a list"),
        (prepare_maps([noisy()]), "and got a Prepared: give one or more of its volumes"),
    ],
)
def test_values_that_are_not_maps_are_refused_in_one_line(unchecked, given, words):
    with pytest.raises(InputError) as error:
        prepare_maps(given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_prepared_maps_print_one_line():
    prepared = prepare_maps([noisy(), noisy((6, 5, 8))], names=["a" * 200, "b"])
    assert repr(prepared).startswith("Prepared(2 maps, shape=(6, 5, 7), voxel_size=(2, 2, 2) Å, masses ")
    assert len(repr(prepared).splitlines()) == 1


def test_no_maps_are_refused():
    with pytest.raises(InputError, match="no maps"):
        prepare_maps([])


# --- real maps -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chaperonin():
    if not DATA.exists():
        pytest.skip(f"needs the real maps in {DATA}")
    maps = []
    for name in ("mmcpn_closed_64.mrc", "mmcpn_open_64.mrc"):
        with mrcfile.open(DATA / name) as mrc:
            voxel, origin = mrc.voxel_size, mrc.header.origin
            place = [tuple(float(v[a]) for a in "xyz") for v in (voxel, origin)]
            maps.append(Volume(mrc.data.copy(), *place))
    return maps


def test_real_maps_of_one_grid_are_untouched_without_a_level(chaperonin):
    prepared = prepare_maps(chaperonin, Preparation(level="none"))
    assert all(a is b for a, b in zip(prepared.volumes, chaperonin, strict=True))
    assert prepared.actions == ()


def test_the_dust_of_a_real_map_is_many_voxels_and_no_mass(chaperonin):
    prepared = prepare_maps(chaperonin)
    closed = chaperonin[0]
    assert np.mean(closed.data > 0) == pytest.approx(0.79, abs=0.01)
    assert np.mean(prepared.volumes[0].data > 0) == pytest.approx(0.173, abs=0.01)
    assert np.mean(prepared.volumes[1].data > 0) == pytest.approx(0.119, abs=0.01)
    for mass, volume in zip(prepared.masses, chaperonin, strict=True):
        assert mass == pytest.approx(volume.mass, rel=1e-6)
    assert len(prepared.actions) == 2


@pytest.mark.parametrize("grid", [32, 33, 80])
def test_real_maps_keep_densities_and_place_on_another_grid(chaperonin, grid):
    prepared = prepare_maps(chaperonin, Preparation(grid=grid, level="none"))
    for result, mass, volume in zip(prepared.volumes, prepared.masses, chaperonin, strict=True):
        assert mass == pytest.approx(volume.mass * (grid / volume.shape[0]) ** 3, rel=1e-6)
        np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=0.2)


def test_real_map_onto_a_shifted_and_finer_grid_and_back(chaperonin):
    closed, opened = chaperonin
    finer = Volume(np.ones((90, 88, 86), np.float32), (2.9, 2.9, 2.9), (-126.0, -128.0, -130.0))
    there = resample_onto(opened, finer)
    prepared = prepare_maps([closed, there], Preparation(level="none"))
    back = prepared.volumes[1]
    assert prepared.masses[1] == pytest.approx(opened.mass, rel=1e-3)
    correlation = (back.data * opened.data).sum() / np.linalg.norm(back.data) / np.linalg.norm(opened.data)
    assert correlation > 0.998
    assert "resampled" in prepared.actions[0]


# Box, alignment, matching.


def test_a_box_is_cut_and_padded_about_its_middle():
    volume = gaussian((24, 24, 24))
    (wide,) = prepare_maps([volume], Preparation(box=30, level="none")).volumes
    (back,) = prepare_maps([wide], Preparation(box=24, level="none")).volumes
    assert wide.shape == (30, 30, 30)
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.origin == pytest.approx(volume.origin)
    assert wide.mass == pytest.approx(volume.mass)
    np.testing.assert_array_equal(wide.data[3:27, 3:27, 3:27], volume.data)
    prepared = prepare_maps([volume], Preparation(box=6, level="none"))
    assert prepared.volumes[0].shape == (6, 6, 6)
    assert any("outside the new box and is lost" in warning for warning in prepared.warnings)


@pytest.mark.parametrize("box", [3, 10**6])
def test_a_box_that_cannot_be_made_is_refused(box):
    with pytest.raises(InputError, match=f"box is {box}: .*from 4 to 2048"):
        prepare_maps([gaussian((20, 20, 20))], Preparation(box=box))


@pytest.mark.parametrize("align", ["translation", "rigid"])
def test_maps_are_laid_onto_the_first(align):
    first = gaussian((24, 24, 24))
    told = []
    away = replace(first, origin=tuple(o + 7.3 * v for o, v in zip(first.origin, first.voxel_size, strict=True)))
    prepared = prepare_maps([first, away], Preparation(align=align), report=lambda *step: told.append(step))
    a, b = (volume.data for volume in prepared.volumes)
    assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)
    assert any("aligned to map 1" in action and "correlation" in action for action in prepared.actions)
    assert told[-1][0] == told[-1][1]


def test_maps_are_given_one_mass():
    first, second = gaussian((20, 20, 20)), gaussian((20, 20, 20), sd=3.0)
    prepared = prepare_maps([first, second.with_data(5.0 * second.data)], Preparation(match="mass"))
    assert prepared.masses[1] == pytest.approx(prepared.masses[0], rel=1e-6)
    assert any("its mass is that of map 1" in action for action in prepared.actions)


def test_a_blurred_copy_is_sharpened_to_its_original():
    rng = np.random.default_rng(0)
    first = gaussian((20, 20, 20))
    first = first.with_data((first.data * rng.uniform(0.5, 1.5, first.shape)).astype(np.float32))
    blurred = first.with_data(gaussian_filter(first.data, 0.8, mode="wrap").astype(np.float32) * 7.0)
    prepared = prepare_maps([first, blurred], Preparation(match="spectrum", level="none"))
    a, b = (volume.data for volume in prepared.volumes)
    assert np.linalg.norm(a - b) < 0.3 * np.linalg.norm(a - blurred.data / 7.0)
    with pytest.raises(InputError, match="use one only"):
        prepare_maps([first, blurred], Preparation(match="spectrum", level=0.01))


@pytest.mark.parametrize("options", [{}, {"lowpass": 9.0}, {"grid": 20}, {"lowpass": 9.0, "align": "translation"}])
def test_progress_only_grows_and_ends_with_the_work(options):
    told = []
    maps = [gaussian((24, 24, 24), sd=sd) for sd in (2.0, 3.0, 4.0)]
    prepare_maps(maps, Preparation(**options), report=lambda done, total: told.append(done / total))
    assert len(told) >= 6
    assert told == sorted(told)
    assert told[-1] == 1.0

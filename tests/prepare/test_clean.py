"""Removal of noise, dust and detail, stated as mathematics; and its effect on a morph of noisy maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import Preparation, Settings, metrics, morph, prepare_maps, read_volume
from morphot_jax.prepare import clean
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

SHAPE = (24, 25, 26)


def body():
    """A compact density of maximum one in a box that is mostly empty."""
    density = blob(SHAPE, (12, 12, 13), 3.0, 1e-3)
    return density / density.max()


def noisy(sd, seed=0, middle=0.0):
    return body() + np.random.default_rng(seed).normal(middle, sd, SHAPE)


# Noise.


@pytest.mark.parametrize("sd", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("middle", [0.0, -0.3, 2.0])
def test_noise_is_found_with_its_middle_and_deviation(sd, middle):
    found = clean.noise_of(noisy(sd, middle=middle))
    assert found.sd == pytest.approx(sd, rel=0.15)
    assert found.middle == pytest.approx(middle, abs=0.4 * sd)
    assert found.level == pytest.approx(middle + 3 * sd, abs=0.7 * sd)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_noise_goes_with_the_units_of_the_map(seed, scale, shift):
    one = clean.noise_of(noisy(0.05, seed))
    other = clean.noise_of(scale * (noisy(0.05, seed) + shift))
    assert other.sd == pytest.approx(scale * one.sd, rel=1e-6)
    assert other.level == pytest.approx(scale * (one.level + shift), rel=1e-6, abs=1e-9 * scale)


def test_maps_without_noise_have_none():
    flat = body()
    assert clean.noise_of(flat) is None  # an empty background
    assert clean.noise_of(flat + 0.7) is None  # a flat one
    assert clean.noise_of(noisy(0.005)) is None  # too faint to matter
    assert clean.noise_of(np.random.default_rng(1).uniform(0.5, 1.0, SHAPE)) is None  # no tails
    assert clean.noise_of(np.random.default_rng(1).normal(size=SHAPE) * 0 + 1.0) is None
    assert clean.noise_of(np.maximum(noisy(0.05), 0.0)) is None  # cut already


def test_real_and_sample_maps_have_no_solvent_noise(shared_data):
    for name in ("closed", "open"):
        assert clean.noise_of(read_volume(shared_data / f"mmcpn_{name}_64.mrc").data) is None


def test_inverted_contrast_is_seen():
    assert not clean.inverted(body())
    assert clean.inverted(-body())
    assert not clean.inverted(noisy(0.05, middle=1.0))
    assert clean.inverted(1.0 - noisy(0.05))
    assert not clean.inverted(np.random.default_rng(0).normal(size=SHAPE))  # neither


# Dust.


def test_small_pieces_go_and_nothing_else_changes():
    density = np.zeros((6, 7, 12))
    density[1:4, 1:4, 1:4] = 2.0
    density[2, 2, 6:8] = 5.0  # two voxels
    density[5, 6, 11] = 1.0
    density[0, 0, 0] = 0.3  # below the level
    kept, pieces = clean.without_dust(density, 0.5, 3)
    assert pieces == 2
    assert kept.sum() == pytest.approx(27 * 2 + 0.3)
    np.testing.assert_array_equal(clean.without_dust(density, 0.5, 2)[0][2, 2, 6:8], 5.0)
    np.testing.assert_array_equal(clean.without_dust(density, 0.5, 1)[0], density)
    assert clean.largest_piece(density, 0.5) == 27
    assert clean.largest_piece(density, 9.0) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), smallest=st.integers(1, 6))
def test_taking_out_dust_twice_is_taking_it_out_once(seed, smallest):
    density = np.random.default_rng(seed).random((5, 6, 7)) * (
        np.random.default_rng(seed + 1).random((5, 6, 7)) < 0.3
    )
    once, _ = clean.without_dust(density, 0.1, smallest)
    again, pieces = clean.without_dust(once, 0.1, smallest)
    assert pieces == 0
    np.testing.assert_array_equal(again, once)
    assert ((once == density) | (once == 0)).all()


# Low-pass.


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 18, 17)])
def test_low_pass_keeps_coarse_waves_and_takes_out_fine_ones(shape):
    voxel = (2.0, 2.5, 3.0)
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    length = shape[0] * voxel[2]  # of the box along z, Å
    coarse, fine = (np.cos(2 * np.pi * k * grids[0] / shape[0]) for k in (1, 5))
    found = clean.low_pass(1.0 + coarse + fine, voxel, resolution=length / 3)
    np.testing.assert_allclose(found, 1.0 + coarse, atol=1e-12)
    assert found.sum() == pytest.approx((1.0 + coarse + fine).sum())


def test_low_pass_is_half_at_its_resolution_and_round_in_space():
    shape, voxel = (20, 20, 20), (1.0, 1.0, 1.0)
    for axis in range(3):
        wave = np.cos(2 * np.pi * 4 * np.arange(20) / 20).reshape([-1 if a == axis else 1 for a in range(3)])
        found = clean.low_pass(np.broadcast_to(wave, shape), voxel, resolution=5.0)
        np.testing.assert_allclose(found, np.broadcast_to(0.5 * wave, shape), atol=1e-12)


def test_low_pass_commutes_with_axis_order_and_translations():
    density, voxel = body(), (1.0, 1.5, 2.0)
    found = clean.low_pass(density, voxel, 6.0)
    turned = clean.low_pass(density.transpose(2, 1, 0), voxel[::-1], 6.0)
    np.testing.assert_allclose(turned.transpose(2, 1, 0), found, atol=1e-12)
    moved = clean.low_pass(np.roll(density, (3, -2, 5), (0, 1, 2)), voxel, 6.0)
    np.testing.assert_allclose(moved, np.roll(found, (3, -2, 5), (0, 1, 2)), atol=1e-12)


# In prepare_maps.


def prepared(density, **options):
    result = prepare_maps([volume_of(density)], Preparation(**options))
    return result.volumes[0].data, " ".join([*result.actions, *result.warnings])


@pytest.mark.parametrize("middle", [0.0, 3.0])
def test_noise_is_removed_by_default_and_reported(middle):
    data, remarks = prepared(noisy(0.05, middle=middle))
    assert "solvent noise of standard deviation 0.05" in remarks
    assert "of the positive density" in remarks
    outside = body() == 0
    assert (data[outside] > 0).sum() < 0.03 * outside.sum()  # a rim about the body
    assert data.sum() == pytest.approx(body().sum(), rel=0.25)  # the body is all rim
    with pytest.raises(InputError, match="would remove all that stands out of the noise"):
        prepared(noisy(0.05), dust=99999)


def test_bodies_that_are_not_small_are_kept_and_dust_in_noise_is_not():
    density = noisy(0.04)
    density[2:6, 2:6, 2:6] += 1.0  # 64 voxels
    density[20:23, 20:23, 20:23] += 1.0
    data, _ = prepared(density)
    assert data[3:5, 3:5, 3:5].min() > 0.5
    assert data[20:23, 20:23, 20:23].max() > 0  # 27 voxels are more than a hundredth of the body
    cut, remarks = prepared(density, dust=30)
    assert "pieces of 30 voxels or more above" in remarks
    assert cut[3:5, 3:5, 3:5].min() > 0.5
    assert cut[20:23, 20:23, 20:23].max() == 0


def test_a_warning_tells_of_noise_that_is_left():
    data, remarks = prepared(noisy(0.05), level="none")
    assert "are mostly noise and count as mass; try --level auto" in remarks
    assert (data > 0).mean() > 0.4
    assert "mostly noise" in prepared(noisy(0.05), level=0.02)[1]
    assert "noise" not in prepared(noisy(0.05), level=0.5)[1]
    assert "noise" not in prepared(body())[1]


def test_dust_is_removed_on_request_and_its_mass_reported():
    density = body()
    density[1:3, 1:3, 1:3] = 0.5
    data, remarks = prepared(density, dust=9)
    assert data[1:3, 1:3, 1:3].max() == 0
    assert f"1 pieces of fewer than 9 voxels (dust) set to zero, {4.0 / density.sum():.2%} of the mass" in remarks
    assert prepared(density)[0][1, 1, 1] == 0.5
    assert prepared(density, dust=8)[0][1, 1, 1] == 0.5
    with pytest.raises(
        InputError, match=r"dust of 99999 voxels would remove all: give at most \d+, its largest piece"
    ):
        prepared(density, dust=99999)
    with pytest.raises(InputError, match="dust is -1: give a whole number of at least 0"):
        prepared(density, dust=-1)


def test_low_pass_in_angstrom_is_reported():
    data, remarks = prepared(body(), lowpass=12.0)
    assert "all maps low-passed to 12 Å" in remarks
    expected = clean.low_pass(body(), (2.0, 2.0, 2.0), 12.0)
    inside = expected > 0.05
    np.testing.assert_allclose(data[inside], expected[inside], rtol=1e-5)
    assert "cannot hold detail of 3 Å" in prepared(body(), lowpass=3.0)[1]
    with pytest.raises(InputError, match="lowpass is -2: give a number above 0"):
        prepared(body(), lowpass=-2.0)


def test_mask_multiplies_from_its_own_grid():
    density = body()
    half = np.zeros(SHAPE)
    half[:, :, :13] = 1.0
    data, remarks = prepared(density, mask=volume_of(half))
    assert data[:, :, 13:].max() == 0
    np.testing.assert_array_equal(data[:, :, :13], prepared(density)[0][:, :, :13])
    assert "masked, " in remarks
    soft, _ = prepared(density, mask=volume_of(np.full(SHAPE, 0.5)))
    np.testing.assert_allclose(soft, 0.5 * prepared(density)[0], rtol=1e-6)
    empty = np.zeros(SHAPE)
    empty[0, 0, 0] = 1.0
    with pytest.raises(InputError, match="has no density inside the mask"):
        prepared(density, mask=volume_of(empty))


def test_a_warning_tells_of_inverted_contrast():
    assert "is its contrast inverted?" in prepared(1.2 - noisy(0.02))[1]
    assert "inverted" not in prepared(noisy(0.02))[1]


@pytest.mark.slow
def test_frames_of_noisy_maps_are_near_those_of_clean_ones(shared_data):
    """White noise of 5 % of the maximum in the solvent, and 50 blobs of dust."""
    maps = [read_volume(shared_data / f"mmcpn_{name}_64.mrc") for name in ("closed", "open")]
    rng = np.random.default_rng(11)
    spoilt = []
    for volume in maps:
        data, top = volume.data.astype(np.float64), float(volume.data.max())
        solvent = data < 0.01 * top
        data = data + np.where(solvent, rng.normal(scale=0.05 * top, size=data.shape), 0.0)
        places = rng.permutation(np.argwhere(solvent))[:50]
        for z, y, x in places:
            data[max(0, z - 1) : z + 1, max(0, y - 1) : y + 1, max(0, x - 1) : x + 1] += 0.5 * top
        spoilt.append(volume.with_data(data.astype(np.float32)))
    chosen = Settings(times=(0.25, 0.5, 0.75))
    reference, found = (morph(prepare_maps(pair), chosen) for pair in (maps, spoilt))
    for own, other in zip(found.densities, reference.densities, strict=True):
        a, b = (frame / frame.sum(dtype=np.float64) for frame in (own, other))
        assert metrics.relative_rms(a, b) <= 0.10
    warnings = prepare_maps(spoilt, Preparation(level="none")).warnings
    assert any("are mostly noise and count as mass" in warning for warning in warnings)


def test_a_matched_map_has_the_amplitudes_of_its_reference_and_phases_of_its_own():
    """The mean square of |F| over each shell of frequencies, computed with independent shells."""
    cube = (24, 24, 24)  # whose shells have no ties
    reference, rng = blob(cube, (12, 12, 13), 3.0, 1e-3), np.random.default_rng(2)
    density = rng.normal(size=cube)
    voxel = (1.0, 1.0, 1.0)
    matched = clean.with_spectrum_of(density, reference, voxel)
    frequency = np.linalg.norm(np.meshgrid(*map(np.fft.fftfreq, cube), indexing="ij"), axis=0)
    shell = np.floor(frequency * 24 + 0.5)
    power = {name: np.abs(np.fft.fftn(m)) ** 2 for name, m in (("found", matched), ("wanted", reference))}
    for k in range(1, int(shell.max())):
        means = [float(power[name][shell == k].mean()) for name in ("found", "wanted")]
        assert means[0] == pytest.approx(means[1], rel=1e-6, abs=1e-15)
    turned = np.fft.fftn(matched) * np.conj(np.fft.fftn(density))
    strong = np.abs(turned) > 1e-6 * np.abs(turned).max()
    np.testing.assert_allclose(np.angle(turned[strong]), 0.0, atol=1e-6)
    np.testing.assert_allclose(clean.with_spectrum_of(reference, reference, voxel), reference, atol=1e-12)

"""Removal of dust and detail, stated as mathematics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax.prepare import clean
from morphot_jax.system.errors import InputError
from shapes import BODY_SHAPE, blob, body, prepared_alone, volume_of

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


def test_dust_is_removed_on_request_and_its_mass_reported():
    density = body()
    density[1:3, 1:3, 1:3] = 0.5
    data, remarks = prepared_alone(density, dust=9)
    assert data[1:3, 1:3, 1:3].max() == 0
    assert f"1 pieces of fewer than 9 voxels (dust) set to zero, {4.0 / density.sum():.2%} of the mass" in remarks
    assert prepared_alone(density)[0][1, 1, 1] == 0.5
    assert prepared_alone(density, dust=8)[0][1, 1, 1] == 0.5
    with pytest.raises(
        InputError, match=r"dust of 99999 voxels would remove all: give at most \d+, its largest piece"
    ):
        prepared_alone(density, dust=99999)
    with pytest.raises(InputError, match="dust is -1: give a whole number of at least 0"):
        prepared_alone(density, dust=-1)


def test_low_pass_in_angstrom_is_reported():
    data, remarks = prepared_alone(body(), lowpass=12.0)
    assert "all maps low-passed to 12 Å" in remarks
    expected = clean.low_pass(body(), (2.0, 2.0, 2.0), 12.0)
    inside = expected > 0.05
    np.testing.assert_allclose(data[inside], expected[inside], rtol=0.01)  # what rang was cut
    assert data.sum() == pytest.approx(body().sum())
    assert "cannot hold detail of 3 Å" in prepared_alone(body(), lowpass=3.0)[1]
    with pytest.raises(InputError, match="lowpass is -2: give a number above 0"):
        prepared_alone(body(), lowpass=-2.0)


def test_mask_multiplies_from_its_own_grid():
    density = body()
    half = np.zeros(BODY_SHAPE)
    half[:, :, :13] = 1.0
    data, remarks = prepared_alone(density, mask=volume_of(half))
    assert data[:, :, 13:].max() == 0
    np.testing.assert_array_equal(data[:, :, :13], prepared_alone(density)[0][:, :, :13])
    assert "masked, " in remarks
    soft, _ = prepared_alone(density, mask=volume_of(np.full(BODY_SHAPE, 0.5)))
    np.testing.assert_allclose(soft, 0.5 * prepared_alone(density)[0], rtol=1e-6)
    empty = np.zeros(BODY_SHAPE)
    empty[0, 0, 0] = 1.0
    with pytest.raises(InputError, match="has no density inside the mask"):
        prepared_alone(density, mask=volume_of(empty))


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

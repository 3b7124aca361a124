"""Background, noise and contrast of maps, stated as mathematics; and their effect on prepared maps and morphs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax import Preparation, Settings, Volume, metrics, morph, prepare_maps, read_volume
from morphot_jax.prepare import background, clean
from morphot_jax.system.errors import InputError
from shapes import BODY_SHAPE, body, noisy, prepared_alone, volume_of

# Noise.


@pytest.mark.parametrize("sd", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("middle", [0.0, -0.3, 2.0])
def test_noise_is_found_with_its_middle_and_deviation(sd, middle):
    found = background.noise_of(noisy(sd, middle=middle))
    assert found.sd == pytest.approx(sd, rel=0.15)
    assert found.middle == pytest.approx(middle, abs=0.4 * sd)
    assert found.level == pytest.approx(middle + 3 * sd, abs=0.7 * sd)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_noise_goes_with_the_units_of_the_map(seed, scale, shift):
    one = background.noise_of(noisy(0.05, seed))
    other = background.noise_of(scale * (noisy(0.05, seed) + shift))
    assert other.sd == pytest.approx(scale * one.sd, rel=1e-6)
    assert other.level == pytest.approx(scale * (one.level + shift), rel=1e-6, abs=1e-9 * scale)


def test_maps_without_noise_have_none():
    flat = body()
    assert background.noise_of(flat) is None  # an empty background
    assert background.noise_of(flat + 0.7) is None  # a flat one
    assert background.noise_of(noisy(0.005)) is None  # too faint to matter
    assert background.noise_of(np.random.default_rng(1).uniform(0.5, 1.0, BODY_SHAPE)) is None  # no tails
    assert background.noise_of(np.random.default_rng(1).normal(size=BODY_SHAPE) * 0 + 1.0) is None
    assert background.noise_of(np.maximum(noisy(0.05), 0.0)) is None  # cut already


@pytest.mark.parametrize("resolution", [8.0, 12.0, 16.0])
def test_ripples_of_a_filter_are_no_noise_and_noise_that_was_filtered_is(resolution):
    voxel = (2.0, 2.0, 2.0)
    solid = (body() > 0.1).astype(float)  # sharp edges, so strong ripples
    assert background.noise_of(clean.low_pass(solid, voxel, resolution)) is None
    noise = clean.low_pass(noisy(1.0) - body(), voxel, resolution)
    found = background.noise_of(clean.low_pass(body(), voxel, resolution) + 0.05 * noise / noise.std())
    assert found.sd == pytest.approx(0.05, rel=0.3)


def test_real_and_sample_maps_have_no_solvent_noise(shared_data):
    for name in ("closed", "open"):
        assert background.noise_of(read_volume(shared_data / f"mmcpn_{name}_64.mrc").data) is None


def test_maps_of_one_series_are_all_noisy_or_none():
    """Noise about as strong as matters (1 % of the maximum): alone some have it and some do not."""
    series = [noisy(sd, seed) for seed, sd in enumerate(np.linspace(0.009, 0.0115, 8))]
    alone = [background.noise_of(density) is not None for density in series]
    assert 4 <= sum(alone) < 8
    together = background.noises_of(series)
    assert all(noise is not None for noise in together)
    for noise, own in zip(together, alone, strict=True):
        assert own or noise.sd == pytest.approx(0.01, rel=0.2)
    few = [*(noisy(0.005, seed) for seed in range(3)), noisy(0.05)]
    assert background.noises_of(few) == [None] * 4
    flat = background.noises_of([body(), noisy(0.05)])  # a map that was cut does not count
    assert flat[0] is None
    assert flat[1].sd == pytest.approx(0.05, rel=0.2)


# Background.


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), share=st.floats(-3.0, 3.0), sd=st.sampled_from([0.0, 0.01, 0.05]))
def test_a_constant_that_was_added_is_found(scale, share, sd):
    found = background.background_of(scale * (noisy(sd) + share))
    if abs(share) > sd + 1e-5:  # else it may be too close to zero to be told apart
        assert found != 0
    if found != 0:
        assert found == pytest.approx(scale * share, abs=scale * (0.5 * sd + 1e-5))


def test_what_has_no_background_is_given_none():
    rng = np.random.default_rng(3)
    for density in (
        body(),
        noisy(0.05) * (body() > 0),  # cut
        clean.low_pass(body(), (2.0, 2.0, 2.0), 12.0),  # ripples about zero
        rng.random(BODY_SHAPE),
        rng.normal(size=BODY_SHAPE),
        1.0 - body(),  # structure below the most common density
        np.full(BODY_SHAPE, 3.0),
    ):
        assert background.background_of(density) == 0.0


def test_inverted_contrast_is_seen():
    assert not background.inverted(body())
    assert background.inverted(-body())
    assert not background.inverted(noisy(0.05, middle=1.0))
    assert background.inverted(1.0 - noisy(0.05))
    assert not background.inverted(np.random.default_rng(0).normal(size=BODY_SHAPE))  # neither


@pytest.mark.parametrize("middle", [0.0, 3.0])
def test_noise_is_removed_by_default_and_reported(middle):
    data, remarks = prepared_alone(noisy(0.05, middle=middle))
    assert "solvent noise of standard deviation 0.05" in remarks
    assert "of the positive density" in remarks
    outside = body() == 0
    assert (data[outside] > 0).sum() < 0.03 * outside.sum()  # a rim about the body
    assert data.sum() == pytest.approx(body().sum(), rel=0.25)  # the body is all rim
    with pytest.raises(InputError, match="would remove all that stands out of the noise"):
        prepared_alone(noisy(0.05), dust=99999)


def test_bodies_that_are_not_small_are_kept_and_dust_in_noise_is_not():
    density = noisy(0.04)
    density[2:6, 2:6, 2:6] += 1.0  # 64 voxels
    density[20:23, 20:23, 20:23] += 1.0
    data, _ = prepared_alone(density)
    assert data[3:5, 3:5, 3:5].min() > 0.5
    assert data[20:23, 20:23, 20:23].max() > 0  # 27 voxels are more than a hundredth of the body
    cut, remarks = prepared_alone(density, dust=30)
    assert "pieces of 30 voxels or more above" in remarks
    assert cut[3:5, 3:5, 3:5].min() > 0.5
    assert cut[20:23, 20:23, 20:23].max() == 0


def test_a_warning_tells_of_noise_that_is_left():
    data, remarks = prepared_alone(noisy(0.05), level="none")
    assert "are mostly noise and count as mass; try --level auto" in remarks
    assert (data > 0).mean() > 0.4
    assert "mostly noise" in prepared_alone(noisy(0.05), level=0.02)[1]
    assert "noise" not in prepared_alone(noisy(0.05), level=0.5)[1]
    assert "noise" not in prepared_alone(body())[1]


def test_a_warning_tells_of_inverted_contrast():
    assert "is its contrast inverted?" in prepared_alone(1.2 - noisy(0.02))[1]
    assert "inverted" not in prepared_alone(noisy(0.02))[1]


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


@pytest.mark.parametrize("level", ["auto", 0.3])
@pytest.mark.parametrize("added", [0.5, 2.0, -1.0, -128.0])
def test_a_constant_changes_nothing_but_is_told(added, level):
    """Also where all densities are below zero. A level is one of the densities as given."""
    expected, _ = prepared_alone(body(), level=level)
    found, told = prepared_alone(body() + added, level=level if level == "auto" else level + added)
    np.testing.assert_allclose(found, expected, atol=1e-6 * (1 + abs(added)))
    assert f"its background, the most common density, is {added:g}: taken off, so that it is zero" in told


def test_without_a_level_the_background_stays_with_a_warning():
    found, told = prepared_alone(body() + 0.5, level="none")
    np.testing.assert_allclose(found, body() + 0.5, rtol=1e-6)
    assert "its background, the most common density, is 0.5, not zero, and stays; try --level auto" in told


def test_a_level_below_the_background_is_refused_and_zero_is_no_level():
    with pytest.raises(InputError, match=r"level 0.2 is out of .* one from its background 0.5 to"):
        prepared_alone(body() + 0.5, level=0.2)
    with pytest.raises(InputError, match=r"level 0 is out of .* background -128 to below its maximum -127"):
        prepared_alone(body() - 128, level=0)
    found, _ = prepared_alone(body() + 0.5, level=0)
    np.testing.assert_allclose(found, prepared_alone(body())[0], atol=1e-6)


def test_a_box_around_a_map_on_a_pedestal_has_no_step():
    """The background is taken off before a map is laid onto a larger box, which has zeros around it."""
    high, like = volume_of(body() + 0.5), volume_of(np.pad(body(), 4))
    like = Volume(like.data, like.voxel_size, tuple(np.subtract(like.origin, 7.3)))  # no whole number of voxels
    moved = [prepare_maps([like, volume]).volumes[1].data for volume in (volume_of(body()), high)]
    np.testing.assert_allclose(moved[1], moved[0], atol=1e-5)

"""Detail along the way: noise is told from structure by the fall-off, and structure keeps its power."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from morphot_jax.maps import spectrum
from morphot_jax.morphing.detail import UNKNOWN, detail_of, signal_share, with_detail
from morphot_jax.prepare.signal import Signal

CUBES = (1.0, 1.0, 1.0)
SHAPE = (40, 42, 44)


@pytest.fixture
def structure():
    """A body of many small parts, at unit mass, with empty space around it."""
    rng = np.random.default_rng(0)
    density = np.zeros(SHAPE)
    density[tuple(rng.integers(12, 28, size=(3, 60)))] = 1.0
    density = gaussian_filter(density, 1.0)
    return density / density.sum()


def blended(one, other, moved, t=0.5, signals=UNKNOWN):
    first, last = map(jnp.asarray, moved)
    detail = detail_of(np.stack([one, other]), (first, last), CUBES, signals)
    return np.asarray(with_detail((first, last), jnp.asarray(t), detail, jnp.ones(2))), detail


def power(density):
    """Of frequencies between an eighth and a quarter of a cycle per voxel."""
    frequency = np.sqrt(sum(np.meshgrid(*(np.fft.fftfreq(n) ** 2 for n in density.shape), indexing="ij")))
    return (np.abs(np.fft.fftn(density)) ** 2)[(frequency > 0.125) & (frequency < 0.25)].sum()


@pytest.mark.parametrize("t", [0.1, 0.5])
def test_maps_that_coincide_are_left_as_they_are(double, structure, t):
    frame, detail = blended(structure, structure, (structure, structure), t)
    np.testing.assert_allclose(frame, structure, atol=1e-12)
    assert float(jnp.max(detail.noise)) < 1e-6


def test_the_power_that_blending_takes_is_given_back(double, structure):
    apart = np.maximum(shift(structure, (1.6, 0.0, 1.2), order=3), 0.0)
    moved = structure, apart / apart.sum()
    frame, _ = blended(structure, structure, moved)
    wanted, plain = power(structure), power(sum(moved) / 2.0)
    assert plain < 0.8 * wanted
    assert power(frame) == pytest.approx(wanted, rel=0.1)
    assert frame[sum(moved) < 1e-9].sum() < 0.005  # no ripples around the body


def test_noise_fades_half_way_and_structure_stays(double, structure):
    rng = np.random.default_rng(1)
    inside = structure > 1e-6
    sd = structure[inside].std() / 2.0
    noisy = [np.maximum(structure + inside * rng.normal(0.0, sd, SHAPE), 0.0) for _ in range(2)]
    noisy = [density / density.sum() for density in noisy]
    frame, detail = blended(*noisy, noisy)
    error, plain = (np.linalg.norm(density - structure) for density in (frame, sum(noisy) / 2.0))
    assert error < 0.9 * plain
    low, high = np.asarray(detail.noise)[[4, 18]]
    assert low < 0.1
    assert high > 0.5


def test_a_plateau_is_noise_and_a_fall_off_is_signal():
    shells = np.arange(33)
    signal = np.exp(-8.0 * (shells / 32) ** 2)
    noise = 1e-2
    np.testing.assert_allclose(signal_share(signal, 32), 1.0, atol=0.05)
    np.testing.assert_allclose(signal_share(signal + noise, 32), signal / (signal + noise), atol=0.05)


def test_too_few_shells_say_nothing():
    np.testing.assert_array_equal(signal_share(np.full(6, 0.1), 5), 1.0)


def test_noise_without_a_plateau_fades_where_the_signal_is_known(double, structure):
    """Noise that was low-passed looks like structure, but for its half maps or its solvent."""
    rng = np.random.default_rng(2)
    inside = gaussian_filter((structure > 1e-6).astype(float), 1.0)
    solid = structure / structure.max() + inside
    noise = [inside * gaussian_filter(rng.normal(size=SHAPE), 0.8) for _ in range(2)]
    noise = [0.25 * one / one[inside > 0.5].std() for one in noise]
    noisy = [np.maximum(solid + one, 0.0) for one in noise]
    noisy = [density / density.sum() for density in noisy]
    shell = spectrum.shells(SHAPE)
    signal, error = (spectrum.power(np.fft.rfftn(part), shell, SHAPE[2]) for part in (solid, noise[0]))
    known = Signal("half maps", np.arange(len(signal)) / max(SHAPE), signal / (signal + error))
    apart, unknown, plain = (
        np.linalg.norm(density - solid / solid.sum())
        for density in (
            blended(*noisy, noisy, signals=(known, known))[0],
            blended(*noisy, noisy)[0],
            sum(noisy) / 2.0,
        )
    )
    assert apart < 0.85 * min(unknown, plain)


def test_grains_of_mass_that_draws_together_are_not_kept(double, structure):
    solid = gaussian_filter(structure, 2.0)
    grainy = solid * (1.0 + 0.5 * np.cos(2.0 * np.pi * np.indices(SHAPE).sum(axis=0) / 8.0))
    grainy /= grainy.sum()
    frame, _ = blended(solid, solid, (grainy, grainy))
    assert power(grainy) > 2.5 * power(solid)
    assert power(frame) < 1.6 * power(solid)
    assert np.linalg.norm(frame - solid) < 0.8 * np.linalg.norm(grainy - solid)

"""How much of a map is signal: by half maps and by the solvent, against noise whose power is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from morphot_jax import Volume, prepare_maps
from morphot_jax.maps import spectrum
from morphot_jax.prepare.background import noise_of
from morphot_jax.prepare.clean import low_pass
from morphot_jax.prepare.signal import signal_of_halves, signal_of_solvent
from morphot_jax.system.errors import InputError

SHAPE = (48, 44, 50)
VOXEL = (2.0, 2.5, 2.2)  # x, y, z


@pytest.fixture(scope="module")
def structure():
    """Many small parts in a ball, with empty space around it."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(500, 3))
    parts *= (rng.uniform(0, 11**3, size=(500, 1)) ** (1 / 3)) / np.linalg.norm(parts, axis=1, keepdims=True)
    density = np.zeros(SHAPE)
    np.add.at(density, tuple(np.rint(parts + np.array(SHAPE) / 2).astype(int).T), 1.0)
    return gaussian_filter(density, 1.3)


def noise(seed, sd):
    """White noise up to 5.5 Å, as in a map that was low-passed there."""
    found = low_pass(np.random.default_rng(seed).normal(size=SHAPE), VOXEL, 5.5)
    return sd * found / found.std()


def halves(structure, sd):
    return tuple(Volume((structure + noise(seed, sd)).astype(np.float32), VOXEL) for seed in (1, 2))


def mean_of(pair):
    return pair[0].with_data((pair[0].data + pair[1].data) / 2)


def true_share(structure, sd, body):
    """S / (S + N) of shells within the body, for half maps with noise of this deviation."""
    shell, weight = spectrum.shells(SHAPE, VOXEL), gaussian_filter(body.astype(float), 1.5)
    signal, error = (
        spectrum.power(np.fft.rfftn(weight * part), shell, SHAPE[2])
        for part in (structure, (noise(1, sd) + noise(2, sd)) / 2)
    )
    return signal / (signal + error)


def shares_of(structure, sd):
    """By the half maps, by the solvent of their mean, and the true ones, up to 6 Å."""
    pair = halves(structure, sd)
    whole = mean_of(pair)
    found = noise_of(whole.data)
    body = structure > 0.02 * structure.max()
    by_halves, by_solvent = signal_of_halves(*pair, "map 1"), signal_of_solvent(whole, found, body)
    some = by_halves.frequency < 1 / 6.0
    true = true_share(structure, sd, body)[: len(some)]
    return by_halves.share[some], by_solvent.share[some], true[some]


@pytest.mark.parametrize("sd", [0.2, 0.5])
def test_both_ways_find_the_share_of_signal(structure, sd):
    by_halves, by_solvent, true = shares_of(structure, sd * structure.std())
    assert true.min() < 0.6  # both little and much signal
    assert true.max() > 0.9
    for found in (by_halves, by_solvent):
        assert np.abs(found - true).mean() < 0.06
        assert (np.diff(found) <= 0).all()
        assert found[0] == 1.0


def test_more_noise_leaves_less_resolution(structure):
    found = [signal_of_halves(*halves(structure, sd * structure.std()), "map 1") for sd in (0.2, 1.0)]
    fine, coarse = (one.resolution for one in found)
    assert 5.0 < fine < coarse < 30.0
    assert found[1].at(np.array([0.0, 1 / coarse, 10.0])) == pytest.approx([1.0, 0.5, 0.0], abs=0.02)


def test_half_maps_without_noise_are_all_signal(structure):
    one, other = halves(structure, 1e-6)
    signal = signal_of_halves(one, other, "map 1")
    assert signal.share[signal.frequency < 1 / 6.0].min() > 0.99


def test_scale_and_background_of_half_maps_do_not_matter(structure):
    one, other = halves(structure, 0.3 * structure.std())
    again = signal_of_halves(*(half.with_data(3.0 * half.data) for half in (one, other)), "map 1")
    np.testing.assert_allclose(again.share, signal_of_halves(one, other, "map 1").share, atol=1e-4)


def test_half_maps_that_do_not_belong_together_are_refused(structure):
    one, other = halves(structure, 0.1)
    with pytest.raises(InputError, match="the same map: give two halves"):
        signal_of_halves(one, one, "map 2")
    with pytest.raises(InputError, match=r"map 2: its half maps have \(48, 44, 50\) and \(47, 44, 50\) voxels"):
        signal_of_halves(one, other.with_data(other.data[1:]), "map 2")
    with pytest.raises(InputError, match="half maps of 1 maps were given for 2 maps"):
        prepare_maps([one, other], half_maps=[(one, other)])


def test_prepared_maps_know_their_signal(structure):
    """By half maps where they are given, else by the solvent; by neither where there is no noise."""
    pair = halves(structure, 0.3 * structure.std())
    whole = mean_of(pair)
    clean = whole.with_data(structure.astype(np.float32))
    (by_halves,) = prepare_maps([whole], half_maps=[pair]).signals
    (by_solvent,) = prepare_maps([whole]).signals
    assert by_halves.source == "half maps"
    assert by_solvent.source == "solvent"
    assert by_solvent.resolution == pytest.approx(by_halves.resolution, rel=0.15)
    assert prepare_maps([clean]).signals == (None,)


def test_solvent_that_shows_nothing_of_the_structure_is_left_out(structure):
    """Dust in it does not count; noise that the structure does not have, and too little solvent, tell nothing."""
    sd = 0.3 * structure.std()
    body = structure > 0.02 * structure.max()
    whole = mean_of(halves(structure, sd))
    found = noise_of(whole.data)
    dusty = whole.data.copy()
    dusty[2:46:6, 2:42:8, 2] = structure.max()
    plain, with_dust = (signal_of_solvent(whole.with_data(data), found, body) for data in (whole.data, dusty))
    np.testing.assert_allclose(with_dust.share, plain.share, atol=0.02)
    around = Volume((structure + ~body * noise(1, 20 * sd)).astype(np.float32), VOXEL)
    assert signal_of_solvent(around, noise_of(around.data), body) is None
    assert signal_of_solvent(whole, found, np.ones(SHAPE, bool)) is None

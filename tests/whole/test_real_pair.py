"""The real Mm-cpn maps of the original (64^3), closed to open: what the solver must show on them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels
from morphot_jax.maps.mrc import read_volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Kept, morph
from morphot_jax.prepare.prepared import Prepared, prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.transport.barycenter import solve_barycenter
from morphot_jax.transport.status import Status

pytestmark = pytest.mark.slow

SETTINGS = Settings(method="barycenter", sigma=1.0, tolerance=1e-6, max_iterations=150)


@pytest.fixture
def pair(shared_data) -> Prepared:
    return prepare_maps([read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")])


def test_all_frames_converge_in_150_iterations_and_batching_changes_nothing(pair):
    found = morph(pair, SETTINGS)
    assert len(found.frames) == 25
    assert found.plan.batch != 3
    for frame in found.frames:
        assert frame.status is Status.CONVERGED
        assert frame.marginal_error <= 1e-6
        target = (1 - frame.time) * pair.masses[0] + frame.time * pair.masses[1]
        assert frame.mass == pytest.approx(target, rel=1e-6)
    chosen = (1, 12, 17)
    known = {i: Kept(found.frames[i], found.densities[i]) for i in range(25) if i not in chosen}
    together = morph(pair, replace(SETTINGS, batch=3), known=known)
    alone = morph(pair, replace(SETTINGS, times=tuple(found.frames[index].time for index in chosen)))
    for place, index in enumerate(chosen):
        # To one rounding of their single precision.
        np.testing.assert_allclose(together.densities[index], found.densities[index], rtol=1.2e-7, atol=1e-14)
        again, before = together.frames[index].marginal_error, found.frames[index].marginal_error
        assert again == pytest.approx(before, rel=1e-6)
        # Few frames start from the plan, many from seven of them: the same answers to the tolerance.
        np.testing.assert_allclose(alone.densities[place], found.densities[index], rtol=0, atol=1e-9)


def test_the_plain_iteration_is_far_from_done_by_then(pair):
    """From the same start, where the relaxed one needs some 70 iterations to 1e-6."""
    plain = morph(pair, replace(SETTINGS, times=(0.5,), relaxation=1.0))
    assert plain.frames[0].status is Status.MAX_ITERATIONS
    assert plain.frames[0].marginal_error > 5e-5


def test_swapping_the_maps_runs_time_backwards(pair):
    swapped = Prepared(pair.volumes[::-1], pair.masses[::-1], pair.actions, pair.warnings)
    there = morph(pair, replace(SETTINGS, times=(0.3,)))
    back = morph(swapped, replace(SETTINGS, times=(0.7,)))
    one_bit = 1.2e-7  # of single precision
    np.testing.assert_allclose(there.densities, back.densities, rtol=one_bit, atol=1e-10)
    with jax.enable_x64(True):
        maps = jnp.stack([jnp.asarray(volume.data, jnp.float64) for volume in pair.volumes])
        kernel = kernels.dense(maps.shape[1:], 1.0)
        one, other = (
            solve_barycenter(given, jnp.array([weights]), kernel, tolerance=1e-6).value
            for given, weights in ((maps, (0.7, 0.3)), (maps[::-1], (0.3, 0.7)))
        )
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_research_use(pair, double, count_compilations):
    """A caller's jit, vmap over sigma, vmap over pairs of maps and separate calls agree to 1e-10."""
    maps = jnp.asarray(np.stack([volume.data for volume in pair.volumes]), jnp.float64)
    maps = maps / maps.sum(axis=(1, 2, 3), keepdims=True)
    t = jnp.array([0.3])[0]
    pairs, sigmas = jnp.stack([maps, maps[::-1]]), jnp.array([1.0, 2.0])

    @jax.jit
    def barycenter(maps, sigma, t):
        weights = jnp.stack([1 - t, t])[None]
        return solve_barycenter(maps, weights, kernels.dense(maps.shape[1:], sigma), tolerance=1e-4).value

    separate = [[barycenter(maps, sigma, t) for sigma in sigmas] for maps in pairs]
    over_sigma = jax.vmap(barycenter, (None, 0, None))(maps, sigmas, t)
    over_pairs = jax.vmap(barycenter, (0, None, None))(pairs, sigmas[0], t)
    largest = float(maps.max())
    for i in range(2):
        np.testing.assert_allclose(over_sigma[i], separate[0][i], rtol=0, atol=1e-10 * largest)
        np.testing.assert_allclose(over_pairs[i], separate[i][0], rtol=0, atol=1e-10 * largest)
    kernel = kernels.dense(maps.shape[1:], 2.0)
    direct = solve_barycenter(maps, jnp.array([[0.7, 0.3]]), kernel, tolerance=1e-4).value
    np.testing.assert_allclose(direct, separate[0][1], rtol=0, atol=1e-10 * largest)
    sigma, t = jnp.array([1.7, 0.9])
    with count_compilations() as again:
        barycenter(maps, sigma, t).block_until_ready()
    assert again.count == 0


def test_single_precision_is_refused_at_small_sigma_and_lost_lanes_stay_sound(shared_data):
    """Under jit, where nothing can be raised, the status says it, and the state before the loss is returned.

    The maps are as a user reads them: their densities go down to 1e-38 and below.
    """
    volumes = [read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")]
    maps = jnp.stack([jnp.asarray(volume.data.clip(0.0)) for volume in volumes])
    weights, kernel = jnp.array([[0.75, 0.25]], jnp.float32), kernels.dense(maps.shape[1:], 1.0, jnp.float32)
    with pytest.raises(InputError, match="1 of 1 solves left the range of single precision"):
        solve_barycenter(maps, weights, kernel, max_iterations=20)
    traced = jax.jit(lambda weights: solve_barycenter(maps, weights, kernel, max_iterations=20))(weights)
    assert Status(int(traced.status[0])) is Status.NONFINITE
    assert 0.1 < float(traced.value.sum()) < 10.0

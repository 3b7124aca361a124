"""From coarse to fine: the same answer from a better start."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import morph
from morphot_jax.transport import coarse_start
from morphot_jax.transport.barycenter import solve_barycenter
from morphot_jax.transport.sinkhorn import solve_sinkhorn
from morphot_jax.transport.status import Status
from shapes import blob, scatter


def test_halved_maps_keep_their_mass_and_its_place():
    maps = np.stack([scatter((5, 6, 8), 1), scatter((5, 6, 8), 2)])
    coarse = coarse_start.halved(maps)
    assert coarse.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(coarse.sum(axis=(1, 2, 3)), 1.0)
    np.testing.assert_allclose(coarse[0, 1, 2, 3], maps[0, 2:4, 4:6, 6:8].sum())
    np.testing.assert_allclose(coarse[1, 2, 0, 0], maps[1, 4:, :2, :2].sum())


@pytest.mark.parametrize("kind", ["heat", "dense"])
def test_halved_kernel_sees_the_same_cost(double, kind):
    """K_c[i, j] = K[2 i, 2 j]: the values of the fine kernel at the distance of the coarse voxels."""
    fine = kernels.make(kind, (8, 10, 12), 1.3)
    coarse = fine.halved()
    assert coarse.shape == (4, 5, 6)
    np.testing.assert_array_equal(coarse.x[1, 4], fine.x[2, 8])
    np.testing.assert_array_equal(coarse.z, np.asarray(fine.z)[::2, ::2])


def test_start_is_near_the_solution(double):
    """log K u and log K v of the whole solve, up to the constant that the potentials leave free."""
    shape, sigma = (20, 22, 24), 2.0
    a, b = blob(shape, (9, 10, 10), 2.6, 1e-4), blob(shape, (10, 11, 13), 2.2, 1e-4)
    kernel = kernels.heat(shape, sigma)
    fine = solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, tolerance=1e-8)
    small = kernel.halved()
    coarse = solve_sinkhorn(
        *(jnp.asarray(m) for m in coarse_start.halved(np.stack([a, b]))), small, tolerance=1e-6
    )
    for found, potential, support in zip(
        coarse_start.start_on(shape, coarse, small),
        fine.potentials,
        (b > 0, a > 0),
        strict=True,
    ):
        difference = np.asarray(found - kernel.log_apply(potential))[support]
        assert np.ptp(np.asarray(kernel.log_apply(potential))[support]) > 5
        assert difference.std() < 0.2


@pytest.mark.parametrize("method", ["bridge", "displacement"])
def test_a_coarse_start_saves_iterations_and_leaves_the_frames(monkeypatch, method):
    shape = (24, 26, 31)
    parts = (
        blob(shape, (11, 12, 9), 2.0, 1e-4),
        blob(shape, (12, 13, 17), 1.8, 1e-4),
        blob(shape, (13, 11, 22), 2.1, 1e-4),
    )
    maps = [Volume((parts[0] + parts[k]).astype(np.float32), (1.0, 1.0, 1.0)) for k in (1, 2)]
    settings = Settings(method=method, times=(0.5,), sigma=1.5, tolerance=1e-8)
    direct = morph(maps, settings)
    monkeypatch.setattr(coarse_start, "FROM", 1)
    started = morph(maps, settings)
    assert started.frames[0].status is Status.CONVERGED
    assert started.frames[0].iterations < 0.85 * direct.frames[0].iterations
    largest = direct.densities.max()
    np.testing.assert_allclose(started.densities, direct.densities, atol=1e-6 * largest)
    exact = morph(maps, replace(settings, iterations=7))
    assert exact.frames[0].iterations == 7


def test_three_maps_start_from_half_the_grid(double):
    shape = (21, 24, 31)
    places = ((10, 12, 9), (9, 14, 17), (12, 10, 22))
    maps = np.stack([blob(shape, (10, 12, 12), 2.0, 1e-4) + blob(shape, centre, 1.7, 1e-4) for centre in places])
    weights, kernel = jnp.array([[0.5, 0.2, 0.3]]), kernels.dense(shape, 1.2)
    start = coarse_start.barycenter_start(maps, weights, kernel)
    assert start.shape == (1, 3, *shape)
    cold, warm = (
        solve_barycenter(jnp.asarray(maps), weights, kernel, tolerance=1e-7, start=s) for s in (None, start)
    )
    assert warm.status[0] == cold.status[0] == Status.CONVERGED
    assert warm.iterations[0] < 0.85 * cold.iterations[0]
    np.testing.assert_allclose(warm.value, cold.value, atol=1e-6 * float(cold.value.max()))

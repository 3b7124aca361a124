"""Unbalanced barycenters: closed forms, another program in NumPy, equal maps, mass that only some maps have."""

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import InputError, Status, kernels
from morphot_jax.transport.unbalanced_barycenter import solve_unbalanced_barycenter
from shapes import blob

pytestmark = pytest.mark.usefixtures("double")

SIGMA = 1.2


def solved(maps, weights, reach, **options):
    maps = jnp.asarray(np.stack(maps))
    kernel = kernels.heat(maps.shape[1:], SIGMA)
    options = {"tolerance": 1e-10, "max_iterations": 1000} | options
    found = solve_unbalanced_barycenter(maps, jnp.asarray(weights, float), kernel, reach=reach, **options)
    return found, np.asarray(found.value) * float(maps.sum()) / len(maps)


@pytest.mark.parametrize("reach", [0.5, 3.0])
def test_masses_at_one_place_blend_by_their_square_roots(reach):
    """P_k = sqrt(m_k q) for every r, and q = (sum_k alpha_k sqrt(m_k))^2."""
    masses, weights = np.array([1.0, 4.0, 0.25]), np.array([0.5, 0.2, 0.3])
    _, q = solved(masses.reshape(3, 1, 1, 1), weights[None], reach)
    assert float(q[0, 0, 0, 0]) == pytest.approx((weights @ np.sqrt(masses)) ** 2, rel=1e-7)


def numpy_barycenter(maps, weights, matrix, r, iterations):
    """The equations in turn, with a matrix and without logs."""
    power = r / (1.0 + r)

    def own(a):
        d = np.sqrt(a)
        for _ in range(60):
            d = np.sqrt(d * a / np.where(a > 0, matrix @ d, 1.0))
        return d

    d_of = [own(a) for a in maps]
    d = np.sqrt(matrix @ (weights @ np.stack(maps)))
    v = [d.copy() for _ in maps]
    for _ in range(iterations):
        u = [
            dk * np.where(a > 0, a / np.where(a > 0, dk * (matrix @ w), 1.0), 0.0) ** power
            for a, dk, w in zip(maps, d_of, v, strict=True)
        ]
        smoothed = np.stack([matrix @ one for one in u])
        g = (weights @ smoothed ** (1.0 - power)) ** (1.0 / (1.0 - power))
        q = d * g
        for _ in range(2):
            d = np.sqrt(d * d * g / np.where(d > 0, matrix @ d, 1.0))
        v = [d * (g / one) ** power for one in smoothed]
    return q


@pytest.mark.parametrize("reach", [1.5, 5.0])
def test_another_program_makes_the_same_iterations(reach):
    rng = np.random.default_rng(0)
    shape = (4, 5, 3)
    maps = [rng.uniform(size=shape) * (rng.uniform(size=shape) > 0.3) for _ in range(3)]
    weights = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    _, q = solved(maps, weights, reach, tolerance=0.0, max_iterations=60)
    kernel, n = kernels.heat(shape, SIGMA), int(np.prod(shape))
    matrix = np.asarray(kernel.apply(jnp.eye(n).reshape(n, *shape))).reshape(n, n)
    mean = np.mean([density.sum() for density in maps])
    flat = [density.ravel() / mean for density in maps]
    for row, answer in zip(weights, q, strict=True):
        wanted = mean * numpy_barycenter(flat, row, matrix, (reach / 2.0) ** 2, 60)
        np.testing.assert_allclose(answer.ravel(), wanted, atol=1e-10 * wanted.max())


def test_equal_maps_and_whole_weights_give_the_maps():
    a, b = (blob((12, 12, 16), centre, 1.6, 1e-6) for centre in ((5, 6, 6), (6, 6, 9)))
    _, q = solved([a, a, a], [[0.2, 0.3, 0.5]], 3.0, tolerance=1e-9)
    np.testing.assert_allclose(q[0], a, atol=1e-5 * a.max())
    _, q = solved([a, b], [[1.0, 0.0], [0.0, 1.0]], 3.0, tolerance=1e-9)
    np.testing.assert_allclose(q[0], a, atol=1e-5 * a.max())
    np.testing.assert_allclose(q[1], b, atol=1e-5 * b.max())


def test_what_one_map_lacks_has_the_square_of_the_weight_and_the_rest_stays():
    still, new = blob((12, 12, 26), (6, 6, 6), 1.5), 0.5 * blob((12, 12, 26), (6, 6, 18), 1.5)
    found, q = solved([still, still + new], [[0.5, 0.5], [0.2, 0.8]], 3.0, tolerance=1e-6)
    far = np.indices(still.shape)[2] > 12
    for answer, weight in zip(q, (0.5, 0.8), strict=True):
        assert answer[far].sum() == pytest.approx(weight**2 * new.sum(), rel=0.03)
        assert np.abs(answer - still)[~far].sum() < 0.01
    assert {int(code) for code in found.status} == {Status.CONVERGED}
    assert int(found.iterations.max()) < 60


def test_a_body_within_reach_moves_half_way():
    a, b, half = (blob((12, 12, 20), (6, 6, x), 1.8, 1e-6) for x in (8, 11, 9.5))
    _, q = solved([a, b], [[0.5, 0.5]], 12.0, tolerance=1e-6)
    assert np.linalg.norm(q[0] / q[0].sum() - half) < 0.06 * np.linalg.norm(half)


def test_a_reach_of_zero_is_refused():
    with pytest.raises(InputError, match="reach is 0"):
        solved([blob((4, 4, 4), (2, 2, 2), 1.0)] * 2, [[0.5, 0.5]], 0.0)

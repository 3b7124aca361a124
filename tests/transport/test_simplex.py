"""Interpolation over the simplex of weights, and the search for the nearest ones: polynomials, closed forms."""

from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax.transport import simplex

GRID = np.stack(np.meshgrid(*[np.arange(n) for n in (9, 8, 7)], indexing="ij"), axis=-1).reshape(-1, 3)
CENTRES = np.array([(3.0, 3.0, 3.0), (5.0, 3.0, 2.0), (4.0, 5.0, 4.0)])
TRUE = np.array([(0.2, 0.5, 0.3), (0.0, 0.4, 0.6), (1.0, 0.0, 0.0), (0.05, 0.05, 0.9)])


def gaussians(weights):
    """Barycenters of Gaussians of one width: at the means of their centres, by weight."""
    return np.exp(-0.5 * np.sum((GRID - weights @ CENTRES) ** 2, axis=-1) / 1.5**2)


@pytest.fixture(scope="module")
def lattice():
    nodes = simplex.nodes_of(3, 2)
    with jax.enable_x64(True):
        return simplex.Lattice(nodes, jnp.log(jnp.asarray([gaussians(row) for row in nodes / 2])))


def arguments(lattice, maps, norms=None):
    maps = jnp.asarray(np.stack(maps))
    norms = jnp.sum(maps**2, axis=1) if norms is None else jnp.asarray(norms)
    return simplex.Comparison(maps, norms, lattice, jnp.zeros_like(maps))


@pytest.mark.parametrize(("maps", "degree"), [(2, 5), (3, 4), (4, 3), (6, 2)])
def test_polynomials_reproduce_every_polynomial_of_their_degree(maps, degree):
    nodes = simplex.nodes_of(maps, degree)
    assert len(nodes) == comb(maps - 1 + degree, degree)
    rng = np.random.default_rng(maps)
    linear, point = rng.normal(size=maps), rng.dirichlet(np.ones(maps))
    with jax.enable_x64(True):
        own = jax.vmap(lambda w: simplex.polynomials(w, nodes))(jnp.asarray(nodes / degree))
        at = np.asarray(simplex.polynomials(jnp.asarray(point), nodes))
    np.testing.assert_allclose(own, np.eye(len(nodes)), atol=1e-12)
    values = (nodes / degree @ linear) ** degree
    assert float(at @ values) == pytest.approx((point @ linear) ** degree, abs=1e-11)


@pytest.mark.parametrize("maps", [2, 3, 4, 6, 10, 20])
def test_the_degree_keeps_the_lattice_small(maps):
    degree = simplex.degree_for(maps)
    nodes = comb(maps - 1 + degree, degree)
    assert degree == 2 or nodes <= simplex.MOST_NODES
    assert degree == 6 or comb(maps + degree, degree + 1) > simplex.MOST_NODES


def test_gaussians_of_one_width_are_interpolated_exactly(lattice):
    """The log of such a barycenter is a polynomial of degree two in the weights."""
    with jax.enable_x64(True):
        found = np.exp(simplex.log_barycenters(jnp.asarray(TRUE), lattice))
    np.testing.assert_allclose(found, [gaussians(row) for row in TRUE], rtol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 40.0])
def test_the_nearest_weights_of_a_barycenter_are_its_own(lattice, scale):
    with jax.enable_x64(True):
        given = arguments(lattice, [scale * gaussians(row) for row in TRUE])
        weights, misfit = simplex.nearest_weights(given, np.full((4, 3), 1 / 3))
    np.testing.assert_allclose(weights, TRUE, atol=1e-5)
    assert misfit.max() < 1e-9


def test_a_map_outside_the_simplex_gets_the_nearest_edge(lattice):
    """A blob beyond the edge between two centres: the third map has no weight, and no other weights are nearer."""
    beyond = gaussians(np.array([-0.2, 0.6, 0.6]))
    with jax.enable_x64(True):
        given = arguments(lattice, [beyond])
        weights, misfit = simplex.nearest_weights(given, np.full((1, 3), 1 / 3))
        others = [
            simplex.fits(row[None], given).misfit[0] for row in np.random.default_rng(0).dirichlet(np.ones(3), 40)
        ]
    assert weights[0, 0] == 0.0
    assert misfit[0] <= min(map(float, others))


def test_slope_and_curvature_are_those_of_f(lattice):
    """Against differences, along changes that keep the sum of the weights."""
    rng = np.random.default_rng(2)
    maps = [gaussians(TRUE[0]) + 0.05 * rng.random(len(GRID))]
    w, way, h = np.array([0.3, 0.3, 0.4]), np.array([0.5, -0.2, -0.3]), 1e-4
    with jax.enable_x64(True):
        given = arguments(lattice, maps, norms=[3.0])
        fit = simplex.fits(w[None], given)
        up, down = (float(simplex.fits((w + s * h * way)[None], given).misfit[0]) for s in (1, -1))
    assert float(-2.0 * np.asarray(fit.slope[0]) @ way) == pytest.approx((up - down) / (2 * h), rel=1e-5)
    assert np.linalg.eigvalsh(fit.curvature[0]).min() > -1e-12


def test_offsets_stand_for_a_better_known_barycenter(lattice):
    """A wrong lattice with the right offset at the true weights finds these."""
    with jax.enable_x64(True):
        wrong = lattice._replace(log_q=lattice.log_q + 0.05 * np.sin(GRID[:, 0]))
        maps, norms, _, _ = arguments(lattice, [gaussians(TRUE[0])])
        offsets = jnp.log(maps) - simplex.log_barycenters(jnp.asarray(TRUE[:1]), wrong)
        start = TRUE[:1] + np.array([0.1, -0.05, -0.05])
        weights, _ = simplex.nearest_weights(simplex.Comparison(maps, norms, wrong, offsets), start)
    np.testing.assert_allclose(weights, TRUE[:1], atol=1e-5)


def test_deviations_are_the_spread_of_the_weights_of_noisy_maps(lattice):
    rng = np.random.default_rng(3)
    noisy = [gaussians(TRUE[0]) + 0.02 * rng.normal(size=len(GRID)) for _ in range(60)]
    blocks = np.ravel_multi_index(tuple((GRID // 2).T), (5, 4, 4))
    with jax.enable_x64(True):
        given = arguments(lattice, noisy)
        weights, _ = simplex.nearest_weights(given, np.tile(TRUE[0], (60, 1)))
        spread = simplex.deviations(weights, given, blocks)
    np.testing.assert_allclose(np.sqrt(np.mean(spread**2, axis=0)), weights.std(axis=0), rtol=0.3)
    np.testing.assert_allclose(weights.mean(axis=0), TRUE[0], atol=0.005)

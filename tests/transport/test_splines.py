"""Mass shared by cubic splines: exact at the voxels, adjoint to interpolation, without stripes."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from morphot_jax.transport.displacement import splat
from morphot_jax.transport.splines import CHUNK, coefficients, share, unblurred, values_and_gradients, weights

SHAPE = (12, 13, 14)


def shared(mass, positions, shape=SHAPE):
    return np.asarray(share(jnp.asarray(mass), jnp.asarray(positions), shape))


def test_masses_at_the_voxels_come_back(double):
    density = np.random.default_rng(0).uniform(size=SHAPE)
    positions = np.stack([grid.ravel() for grid in np.indices(SHAPE)]).astype(float)
    np.testing.assert_allclose(shared(density.ravel(), positions), density, atol=1e-13)


@pytest.mark.parametrize("count", [5, CHUNK + 3])
def test_no_mass_is_lost_at_the_faces_or_beyond(double, count):
    rng = np.random.default_rng(1)
    mass, positions = rng.uniform(size=count), rng.uniform(-3, 17, size=(3, count))
    assert shared(mass, positions).sum() == pytest.approx(mass.sum(), rel=1e-12)


def test_sharing_is_adjoint_to_interpolation(double):
    """<share(m, y), f> = sum of m_i f(y_i), away from the faces, beyond which the two differ."""
    rng = np.random.default_rng(2)
    mass, positions = rng.uniform(size=30), rng.uniform(4, 8, size=(3, 30))
    field = np.zeros(SHAPE)
    field[5:8, 5:8, 5:8] = rng.normal(size=(3, 3, 3))
    values = ndimage.map_coordinates(field, positions, order=3, mode="mirror")
    assert np.sum(shared(mass, positions) * field) == pytest.approx(np.sum(mass * values), rel=1e-4)


def test_a_plane_of_masses_turned_by_an_eighth_shows_no_stripes(double):
    """Rows 1.4 voxels apart along both axes; trilinear sharing leaves 13 %."""
    step, side = np.sqrt(2.0), 40
    rows = np.arange(0, side, 1.0)
    y, x = (grid.ravel() for grid in np.meshgrid(rows, rows))
    y, x = (x - y) / step + side / 2, (x + y) / step - side / 4
    inside = (y > 0) & (y < side - 1) & (x > 0) & (x < side - 1)
    positions = np.stack([np.zeros(inside.sum()), y[inside], x[inside]])
    shape, middle = (1, side, side), (0, slice(15, 25), slice(15, 25))
    smooth, striped = (
        np.asarray(make(jnp.ones(inside.sum()), jnp.asarray(positions), shape))[middle] for make in (share, splat)
    )
    assert np.ptp(smooth) < 0.05
    assert np.ptp(striped) > 0.1


def test_weights_sum_to_one_and_their_mean_is_the_position(double):
    fraction = jnp.linspace(0, 1, 7)
    shares = np.asarray(weights(fraction))
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-15)
    np.testing.assert_allclose(np.arange(-1, 3) @ shares, fraction, atol=1e-15)


def test_the_blur_is_undone(double):
    field = np.random.default_rng(3).normal(size=SHAPE)
    blurred = np.asarray(field)
    for axis in range(3):
        blurred = ndimage.correlate1d(blurred, [1 / 6, 4 / 6, 1 / 6], axis=axis, mode="reflect")
    np.testing.assert_allclose(unblurred(jnp.asarray(blurred)), field, atol=1e-12)


def test_the_spline_goes_through_the_field_and_its_gradient_is_the_slope(double):
    rng = np.random.default_rng(3)
    wide = coefficients(jnp.asarray(field := rng.normal(size=SHAPE)))
    voxels = np.stack([grid.ravel() for grid in np.indices(SHAPE)]).astype(float)
    np.testing.assert_allclose(values_and_gradients(wide, jnp.asarray(voxels))[0], field.ravel(), atol=1e-12)
    places = rng.uniform(2, 9, size=(3, 20))
    _, gradient = values_and_gradients(wide, jnp.asarray(places))
    for axis, step in enumerate(np.eye(3) * 1e-6):
        ahead, behind = (values_and_gradients(wide, jnp.asarray(places + s * step[:, None]))[0] for s in (1, -1))
        np.testing.assert_allclose(gradient[axis], (ahead - behind) / 2e-6, atol=1e-6)


def test_beyond_the_faces_the_spline_stays_finite(double):
    wide = coefficients(jnp.ones(SHAPE))
    places = jnp.array([[-9.0, 50.0], [3.0, 3.0], [3.0, 99.0]])
    value, gradient = values_and_gradients(wide, places)
    np.testing.assert_allclose(value, 1.0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)

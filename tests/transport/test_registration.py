"""Motions that lay one density over another: the right one has no misfit, and steps find it from nearby."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax.transport import kernels
from morphot_jax.transport.locally_rigid import Task
from morphot_jax.transport.registration import Motions, misfits, overlay, refined
from morphot_jax.transport.support import side_of

SHAPE = (22, 24, 26)
EDGES = jnp.array([1.0, 1.0, 1.0])
PLACES = np.array([[9.0, 10.0, 9.0], [13.0, 14.0, 12.0], [11.0, 9.0, 15.0], [14.0, 12.0, 17.0], [8.0, 14.0, 14.0]])
HEIGHTS = np.array([1.0, 2.0, 1.5, 0.7, 1.2])


def blobs(places):
    """Gaussian blobs around places in space, where voxel i lies at i + 1/2."""
    grid = np.indices(SHAPE) + 0.5
    squares = ((grid[:, None] - places.T[:, :, None, None, None]) ** 2).sum(axis=0)
    density = (HEIGHTS[:, None, None, None] * np.exp(-squares / (2 * 1.5**2))).sum(axis=0)
    return np.where(density > 1e-4, density, 0.0)


def motion(degrees, shift):
    """A turn about the middle of the blobs, then a shift."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    middle = PLACES.mean(axis=0)
    return Motions(jnp.asarray(turn)[None], jnp.asarray(middle - turn @ middle + shift)[None])


@pytest.fixture
def laid(double):
    """Two maps of one body that moved, each over the other, and the motion."""
    true = motion(25.0, np.array([1.0, -0.5, 0.7]))
    pair = np.stack([blobs(PLACES), blobs(np.asarray(true.carried(jnp.asarray(PLACES.T)))[0].T)])
    pair /= pair.sum(axis=(1, 2, 3), keepdims=True)
    kernel = kernels.heat(SHAPE, 1.0, jnp.float64)
    sides = [side_of(one) for one in pair]
    tasks = Task(sides[0], sides[1], kernel, EDGES), Task(sides[1], sides[0], kernel, EDGES)
    blur = jnp.asarray(0.5)
    return true, (overlay(tasks[0], jnp.asarray(pair), blur), overlay(tasks[1], jnp.asarray(pair[::-1]), blur))


def joined(*motions):
    return Motions(*(jnp.concatenate(part) for part in zip(*motions, strict=True)))


def test_the_right_motion_has_no_misfit_and_empty_space_all(laid):
    true, (first, second) = laid
    far = Motions(jnp.eye(3)[None], jnp.array([[0.0, 0.0, 100.0]]))
    here = np.asarray(misfits(first, joined(true, far), jnp.asarray(2.0)))
    inside = np.asarray(first.task.mass) > 1e-4
    assert here[0, inside].max() < 0.01
    assert here[1, inside].min() > 0.9
    back = np.asarray(misfits(second, true.inverse(), jnp.asarray(2.0)))
    assert back[0, np.asarray(second.task.mass) > 1e-4].max() < 0.01


@pytest.mark.parametrize("both", [True, False])
def test_steps_find_the_motion_from_nearby(laid, both):
    true, pair = laid
    some = pair if both else pair[:1]
    weights = tuple(jnp.ones((1, one.values.size)) * (one.task.mass > 0) for one in some)
    found, left = refined(some, motion(12.0, np.zeros(3)), weights, 15)
    np.testing.assert_allclose(found.rotation, true.rotation, atol=2e-3)
    np.testing.assert_allclose(found.shift, true.shift, atol=0.05)
    assert float(left[0]) < 1e-4


def test_no_step_is_taken_without_weight(laid):
    _, pair = laid
    start = motion(12.0, np.zeros(3))
    weights = tuple(jnp.zeros((1, one.values.size)) for one in pair)
    found, _ = refined(pair, start, weights, 3)
    np.testing.assert_allclose(found.rotation, start.rotation, atol=1e-12)
    np.testing.assert_allclose(found.shift, start.shift, atol=1e-12)


def test_the_inverse_takes_points_back(double):
    true = motion(40.0, np.array([1.0, 2.0, 3.0]))
    points = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)))
    np.testing.assert_allclose(true.inverse().carried(true.carried(points)[0])[0], points, atol=1e-12)

"""Locally rigid transport: exact for what is rigid, and each part against a direct computation."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax import kernels
from morphot_jax.maps.pose import Pose
from morphot_jax.transport import locally_rigid
from morphot_jax.transport.locally_rigid import MOMENTUM, Task
from morphot_jax.transport.support import side_of
from shapes import scatter

SHAPE = (10, 11, 12)
TIGHT = 1e-7  # error of the plans


def task_of(a, b, sigma=1.0, edges=(1.0, 1.0, 1.0)):
    kernel = kernels.make("heat", a.shape, sigma)
    return Task(side_of(a), side_of(b), kernel, jnp.asarray(edges))


def rows(array):
    return np.array(array).T


def test_equal_maps_do_not_move(double):
    a = scatter(SHAPE, 0)
    task = task_of(a, a)
    state = locally_rigid.next_round(
        task, locally_rigid.unmoved(task), jnp.asarray(3.0), jnp.asarray(0.0), jnp.asarray(TIGHT)
    )
    assert float(state.change) < 1e-6
    assert float(state.left) < 1e-5


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (1.5, 1.0, 2.0)])
def test_a_fit_is_procrustes_in_a_window(double, edges):
    rng = np.random.default_rng(1)
    a = scatter(SHAPE, 1)
    task = task_of(a, a, edges=edges)
    start, mass, radius = rows(task.start), np.asarray(task.mass), 3.0
    found = Rotation.from_rotvec([0.2, -0.3, 0.1]).apply(start) + 0.3 * rng.normal(size=start.shape) + 2.0
    unmoved = locally_rigid.unmoved(task)
    rotation, image = locally_rigid.fitted(task, jnp.asarray(found.T), jnp.asarray(radius), unmoved.rotation)
    for voxel in (0, 57, 200):
        weight = mass * np.exp(-((start - start[voxel]) ** 2).sum(axis=1) / (2 * radius**2))
        some = mass > 0
        pose = Pose.fitted(start[some], found[some], weight[some])
        np.testing.assert_allclose(rows(image)[voxel], pose.carried(start[voxel]), atol=5e-3)
        np.testing.assert_allclose(np.asarray(rotation)[:, :, voxel], pose.rotation, atol=5e-3)


def test_what_is_left_is_the_way_between_the_mean_places_of_plans(double):
    """Against the plan as a dense matrix, less that of the map to itself."""
    shape, sigma = (4, 5, 4), 1.2
    a, b = scatter(shape, 2), scatter(shape, 3)
    task = task_of(a, b, sigma)
    way, *_ = locally_rigid.remaining(task, task.mass, task.start, jnp.zeros(shape), jnp.asarray(TIGHT))
    line = [np.asarray(kernels.heat((1, 1, n), sigma).x) for n in shape]
    K = np.einsum("ai,bj,ck->abcijk", *line).reshape(a.size, a.size)
    places = np.stack([grid.ravel() for grid in np.indices(shape)], axis=1)

    def mean_places(target, steps=4000):
        u = np.ones(a.size)
        for _ in range(steps):
            v = target.ravel() / (K.T @ u)
            u = a.ravel() / (K @ v)
        return (K @ (v[:, None] * places)) / (K @ v)[:, None]

    wanted = (mean_places(b) - mean_places(a))[a.ravel() > 0]
    np.testing.assert_allclose(rows(way)[: len(wanted)], wanted, atol=1e-4)


def test_a_shift_is_found_in_one_round_and_stays(double):
    a = np.zeros((16, 12, 12))
    a[3:9, 3:9, 3:9] = scatter((6, 6, 6), 4, fill=0.9)
    task = task_of(a, np.roll(a, (4, 2, 1), axis=(0, 1, 2)))
    state = locally_rigid.unmoved(task)
    for momentum in (0.0, MOMENTUM, 0.0):
        state = locally_rigid.next_round(task, state, jnp.asarray(20.0), jnp.asarray(momentum), jnp.asarray(TIGHT))
    motion = locally_rigid.motion_of(task, state, jnp.asarray(1.5))
    some = np.asarray(motion.mass) > 0
    for t in (0.0, 0.5, 1.0):
        moved = rows(motion.at(jnp.asarray(t)) - motion.start)[some]
        np.testing.assert_allclose(moved, t * np.array([4.0, 2.0, 1.0]) * np.ones_like(moved), atol=0.02)


def test_one_motion_everywhere_is_carried_exactly_to_other_points(double):
    a = scatter(SHAPE, 5, fill=0.8)
    task = task_of(a, a)
    turn = Rotation.from_rotvec([0.3, 0.5, -0.2])
    image = jnp.asarray(turn.apply(rows(task.start)).T + 1.0)
    rotation = jnp.broadcast_to(jnp.asarray(turn.as_matrix())[:, :, None], (3, *task.start.shape))
    state = locally_rigid.first_round(task, image, rotation)
    motion = locally_rigid.motion_of(task, state, jnp.asarray(1.5))
    points = np.random.default_rng(6).uniform(3, 8, size=(3, 20))
    carried = locally_rigid.carried(task, motion, jnp.asarray(points), jnp.ones(20))
    np.testing.assert_allclose(rows(carried.image), turn.apply(points.T) + 1.0, atol=1e-12)
    np.testing.assert_allclose(np.asarray(carried.rotation)[:, :, 0], turn.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rows(carried.at(jnp.asarray(1.0))), rows(carried.image), atol=1e-12)

"""Motions made symmetric: each part moves as the parts that are equal to it do."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax.transport import kernels
from morphot_jax.transport.locally_rigid import Motion, Task
from morphot_jax.transport.registration import Motions
from morphot_jax.transport.support import side_of
from morphot_jax.transport.symmetric_motion import symmetrised

pytestmark = pytest.mark.usefixtures("double")
SIDE = 12
MIDDLE = np.full(3, SIDE / 2.0)


def quarter_turns(shift=(0.0, 0.0, 0.0)):
    """C4 about the first axis through a point: it takes voxels to voxels."""
    turns = Rotation.from_rotvec(np.outer(np.arange(4) * np.pi / 2, [0.0, 0.0, 1.0])).as_matrix()[:, ::-1, ::-1]
    centre = MIDDLE + np.array(shift)
    return Motions(jnp.asarray(turns), jnp.asarray(centre - turns @ centre))


def task_of(box):
    kernel = kernels.make("heat", box.shape, np.ones(3), np.float64)
    return Task(side_of(jnp.asarray(box)), side_of(jnp.asarray(box)), kernel, jnp.ones(3))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def task(rng):
    box = rng.uniform(0.1, 1.0, (SIDE,) * 3)
    box = sum(np.rot90(box, k, axes=(1, 2)) for k in range(4))
    return task_of(box / box.sum())


def some_motion(task, rng, size=0.2):
    start = task.start
    vectors = size * rng.normal(size=(start.shape[1], 3))
    turns = np.moveaxis(Rotation.from_rotvec(vectors).as_matrix(), 0, 2)
    image = start + rng.normal(size=start.shape)
    return Motion(task.mass, start, image, jnp.asarray(turns), jnp.asarray(size * rng.normal(size=start.shape)))


def alone(task, motion, here, there):
    """The motion of a map of one part, made symmetric."""
    (found,) = symmetrised(task, (motion,), np.zeros((len(here.shift), 1), int), here, there)
    return found


def moved(group, k, values):
    return group.rotation[k] @ values + group.shift[k][:, None]


def test_every_part_moves_as_its_copies_do(task, rng):
    here, there = quarter_turns(), quarter_turns((0.0, 0.7, -0.4))
    found = alone(task, some_motion(task, rng), here, there)
    start = np.asarray(task.start)
    for k in range(4):
        places = np.asarray(moved(here, k, task.start))
        partner = [int(np.abs(start - place[:, None]).max(axis=0).argmin()) for place in places.T]
        np.testing.assert_allclose(start[:, partner], places, atol=1e-9)
        np.testing.assert_allclose(found.image[:, partner], moved(there, k, found.image), atol=1e-9)
        np.testing.assert_allclose(found.rest[:, partner], here.rotation[k] @ found.rest, atol=1e-9)
        turned = jnp.einsum("ij,jkn,lk->iln", there.rotation[k], found.rotation, here.rotation[k])
        np.testing.assert_allclose(found.rotation[:, :, partner], turned, atol=1e-6)


def test_the_image_is_the_mean_over_the_copies(task, rng):
    group, motion = quarter_turns(), some_motion(task, rng)
    found = alone(task, motion, group, group)
    start, total = np.asarray(task.start), 0.0
    for k in range(4):
        places = np.asarray(moved(group, k, task.start))
        partner = [int(np.abs(start - place[:, None]).max(axis=0).argmin()) for place in places.T]
        back = group.rotation[k].T @ (motion.image[:, np.array(partner)] - group.shift[k][:, None])
        total = total + np.asarray(back) / 4.0
    np.testing.assert_allclose(found.image, total, atol=1e-9)


def test_a_symmetric_motion_stays_as_it_is(task, rng):
    group = quarter_turns()
    once = alone(task, some_motion(task, rng, 0.05), group, group)
    twice = alone(task, once, group, group)
    for name in ("image", "rotation", "rest"):
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), atol=1e-6)


def test_a_rigid_motion_about_the_axis_stays_as_it_is_between_voxels(rng):
    """A third of a turn takes voxels in between others."""
    turns = Rotation.from_rotvec(np.outer(np.arange(3) * 2 * np.pi / 3, [0.0, 0.0, 1.0])).as_matrix()[
        :, ::-1, ::-1
    ]
    group = Motions(jnp.asarray(turns), jnp.asarray(MIDDLE - turns @ MIDDLE))
    task = task_of(np.full((SIDE,) * 3, 1.0 / SIDE**3))
    turn = jnp.asarray(Rotation.from_rotvec([0.0, 0.0, 0.5]).as_matrix()[::-1, ::-1])
    image = turn @ (task.start - MIDDLE[:, None]) + MIDDLE[:, None] + jnp.array([[2.0], [0.0], [0.0]])
    turned = jnp.broadcast_to(turn[:, :, None], (3, 3, image.shape[1]))
    found = alone(task, Motion(task.mass, task.start, image, turned, jnp.zeros_like(image)), group, group)
    np.testing.assert_allclose(found.image, image, atol=1e-9)
    np.testing.assert_allclose(found.rotation, turned, atol=1e-9)


def test_without_other_motions_nothing_changes(task, rng):
    motion = some_motion(task, rng)
    none = Motions(jnp.eye(3)[None], jnp.zeros((1, 3)))
    found = alone(task, motion, none, none)
    np.testing.assert_allclose(found.image, motion.image, atol=1e-9)
    np.testing.assert_allclose(found.rest, motion.rest, atol=1e-12)


def test_parts_that_the_symmetry_exchanges_move_as_each_other(task, rng):
    """Half a turn takes each of two parts, of equal shares, to the other one."""
    group = Motions(*(part[::2] for part in quarter_turns()))
    _, y, x = np.asarray(task.start) - MIDDLE[:, None]
    share = jnp.asarray(1.0 / (1.0 + np.exp(y + 0.3 * x)))
    parts = [some_motion(task, rng), some_motion(task, rng)]
    parts = tuple(replace(m, mass=task.mass * s) for m, s in zip(parts, (share, 1.0 - share), strict=True))
    one, other = symmetrised(task, parts, np.array([[0, 1], [1, 0]]), group, group)
    start, places = np.asarray(task.start), np.asarray(moved(group, 1, task.start))
    partner = np.array([int(np.abs(start - place[:, None]).max(axis=0).argmin()) for place in places.T])
    np.testing.assert_allclose(other.image[:, partner], moved(group, 1, one.image), atol=1e-9)
    np.testing.assert_allclose(other.mass[partner], one.mass, atol=1e-12)
    wanted = (parts[0].image + moved(group, 1, parts[1].image[:, partner])) / 2.0  # half a turn is its own inverse
    np.testing.assert_allclose(one.image, wanted, atol=1e-9)

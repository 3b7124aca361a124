"""Sums do not depend on the order of what is added, and have the derivatives of plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from morphot_jax.transport import sharing, splines

SHAPE = (9, 8, 7)


@pytest.fixture
def scattered():
    rng = np.random.default_rng(0)
    positions = rng.uniform(-0.5, np.array(SHAPE)[:, None] - 0.5, size=(3, 3000))
    return rng.lognormal(sigma=3.0, size=3000), positions


def test_shared_masses_have_the_same_bits_in_any_order(double, scattered):
    mass, positions = scattered
    order = np.random.default_rng(1).permutation(len(mass))
    one, other = (
        np.asarray(splines.share(jnp.asarray(mass[some]), jnp.asarray(positions[:, some]), SHAPE))
        for some in (slice(None), order)
    )
    np.testing.assert_array_equal(one, other)
    assert one.sum() == pytest.approx(mass.sum(), rel=1e-13)


def test_grouped_sums_have_the_same_bits_in_any_order(double):
    rng = np.random.default_rng(2)
    values, group = rng.normal(size=5000) * 10.0 ** rng.uniform(-6, 6, size=5000), rng.integers(0, 11, 5000)
    order = rng.permutation(5000)
    one, other = (
        np.asarray(sharing.summed_by(jnp.asarray(values[some]), jnp.asarray(group[some]), 11))
        for some in (slice(None), order)
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, np.bincount(group, values), rtol=1e-11)


def test_derivatives_are_those_of_plain_sums(double, scattered):
    mass, positions = (jnp.asarray(part[..., :20]) for part in scattered)
    weight = jnp.asarray(np.random.default_rng(3).normal(size=SHAPE))
    positions = jnp.clip(positions, 2.2, 4.8)
    jitted = jax.jit(lambda m, y: jnp.sum(weight * splines.share(m, y, SHAPE)))
    check_grads(lambda m, y: jitted(jnp.asarray(m), jnp.asarray(y)), (mass, positions), 1, rtol=1e-6)
    group = jnp.arange(20) % 3
    cubes = jax.jit(lambda m: jnp.sum(sharing.summed_by(m, group, 3) ** 3))
    check_grads(lambda m: cubes(jnp.asarray(m)), (mass,), 1, rtol=1e-6)
    slope = jax.grad(lambda m: sharing.summed_by(m, group, 3)[1])(mass)
    np.testing.assert_array_equal(slope, group == 1)


def test_nothing_sums_to_nothing(double):
    zero = jnp.zeros(5)
    np.testing.assert_array_equal(splines.share(zero, jnp.ones((3, 5)), SHAPE), np.zeros(SHAPE))
    np.testing.assert_array_equal(sharing.summed_by(zero, jnp.arange(5), 5), np.zeros(5))


def test_parts_make_up_the_whole(scattered):
    _, positions = (jnp.asarray(part) for part in scattered)

    def make(y):
        return y[0] ** 2, jnp.einsum("in,jn->ijn", y, y)

    for size in (1000, 700, 5000):
        for whole, parts in zip(make(positions), sharing.in_parts(make, positions, size), strict=True):
            np.testing.assert_array_equal(whole, parts)

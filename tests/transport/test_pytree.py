"""Registered dataclasses: leaves and structure, and classes that are never taken for one another."""

from dataclasses import dataclass, field, make_dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax.transport import kernels
from morphot_jax.transport.pytree import pytree


@pytree
@dataclass(frozen=True)
class Scaled:
    values: jax.Array
    power: int = field(metadata={"static": True})
    factor: float = 1.0


def test_fields_are_leaves_and_static_fields_are_structure():
    leaves, structure = jax.tree.flatten(Scaled(2.0, 3, 4.0))
    assert leaves == [2.0, 4.0]
    assert structure.unflatten([5.0, 6.0]) == Scaled(5.0, 3, 6.0)
    assert structure != jax.tree.structure(Scaled(2.0, 2, 4.0))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(Scaled(2.0, 3))]
    assert paths == [".values", ".factor"]


def test_static_fields_are_values_under_jit():
    powered = jax.jit(lambda scaled: scaled.factor * scaled.values**scaled.power)
    assert [float(powered(Scaled(jnp.array(2.0), power))) for power in (3, 2)] == [8.0, 4.0]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "c")])
def test_classes_with_as_many_fields_have_different_structures(names):
    """jax 0.10.2 compares them as equal where ``jax.tree_util.register_dataclass`` registers them."""
    one, other = pytree(make_dataclass("One", ["a", "b"])), pytree(make_dataclass("Other", names))
    assert jax.tree.structure(one(1, 2)) != jax.tree.structure(other(1, 2))


def test_a_compiled_function_never_takes_one_kernel_for_another(double):
    """One jitted function over kernels of the same three shapes."""
    smooth, values = jax.jit(lambda kernel, values: kernel.apply(values)), jnp.ones((3, 3, 3))
    gaussian = kernels.dense((3, 3, 3), 1.0)
    made = [gaussian, kernels.LogKernel(*(jnp.log(matrix) for matrix in jax.tree.leaves(gaussian)))]
    assert jax.tree.structure(made[0]) != jax.tree.structure(made[1])
    np.testing.assert_allclose(*(smooth(kernel, values) for kernel in made), rtol=1e-12)

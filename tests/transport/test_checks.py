"""What is no option of a solve is refused in one sentence that quotes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels, solve_barycenter, solve_sinkhorn
from morphot_jax.system.errors import InputError
from morphot_jax.transport.relaxation import Relaxation

SHAPE = (3, 4, 5)
MAPS = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
WEIGHTS = np.array([[0.5, 0.5]], np.float32)
pytestmark = pytest.mark.usefixtures("unchecked")

OF_ALL = [
    (
        "tolerance",
        ["5", None, -1.0, float("nan"), True, 1j, np.array([1e-3, 1e-4]), np.array("x")],
        "one number of at least 0",
    ),
    (
        "max_iterations",
        ["5", 2.5, 0, -3, None, True, np.array([3, 4]), np.float32(3)],
        "a whole number, 1 or more",
    ),
    ("relaxation", [1.5, "auto", True], r"Relaxation\(w\), or leave it out"),
    ("fixed_iterations", ["x", 3, None, 0.0], "True or False"),
]
OF_BARYCENTERS = [
    ("guard", ["x", -1.0, 0.0, float("nan"), np.ones(2)], "one number above 0, or None"),
    ("debias", ["x", 1, None], "True or False"),
    ("start", ["x", MAPS, np.zeros((1, 2, 3, 4, 4)), 0.0], r"an array of the shape \(1, 2, 3, 4, 5\)"),
]


def each(table):
    return [(name, value, wanted) for name, values, wanted in table for value in values]


@pytest.mark.parametrize(("name", "value", "wanted"), each(OF_ALL))
def test_options_of_every_solve(name, value, wanted):
    kernel = kernels.dense(SHAPE, 1.0)
    for solve, arrays in ((solve_sinkhorn, MAPS), (solve_barycenter, (MAPS, WEIGHTS))):
        with pytest.raises(InputError, match=f"^{name} is [^\n]*: give {wanted}$"):
            solve(*arrays, kernel, **{name: value})


@pytest.mark.parametrize(("name", "value", "wanted"), each(OF_BARYCENTERS))
def test_options_of_barycenters(name, value, wanted):
    with pytest.raises(InputError, match=f"^{name} is [^\n]*: give {wanted}$"):
        solve_barycenter(MAPS, WEIGHTS, kernels.dense(SHAPE, 1.0), **{name: value})


def test_numbers_of_array_libraries_are_numbers():
    kernel, a, b = kernels.dense(SHAPE, 1.0), *MAPS
    plain = solve_sinkhorn(a, b, kernel, tolerance=1e-3, max_iterations=40)
    for tolerance, most in ((np.float32(1e-3), np.int32(40)), (jnp.asarray(1e-3), jnp.asarray(40))):
        options = {"relaxation": Relaxation(1.0), "fixed_iterations": np.bool_(False)}
        found = solve_sinkhorn(a, b, kernel, tolerance=tolerance, max_iterations=most, **options)
        assert found.status == plain.status
    traced = jax.jit(lambda tolerance: solve_sinkhorn(a, b, kernel, tolerance=tolerance).iterations)
    assert traced(1e-3) < traced(1e-5)


def test_a_masked_array_is_refused():
    hidden = np.ma.masked_array(MAPS[0], mask=MAPS[0] > 0.5)
    with pytest.raises(InputError, match=r"source is a masked array: give \.filled\(0\.0\)"):
        solve_sinkhorn(hidden, MAPS[1], kernels.dense(SHAPE, 1.0))

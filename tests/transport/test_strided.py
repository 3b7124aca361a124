"""Barycenters on every h-th voxel are those on all voxels, and what is left is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels
from morphot_jax.system.errors import InputError
from morphot_jax.transport.barycenter import MultilevelBarycenter, Problem, solve_barycenter
from morphot_jax.transport.loop import Options, solve
from morphot_jax.transport.status import Status
from morphot_jax.transport.strided import StridedBarycenter, strided
from morphot_jax.transport.support import side_of
from shapes import blob

pytestmark = pytest.mark.usefixtures("double")

FLAT = (1, 81, 84)
TOLERANCE = 1e-8


def maps(count=2, shape=FLAT):
    """Blobs of several widths, far from the edges of the box along all axes of more than one voxel."""
    z, y, x = (n // 2 for n in shape)
    centres = [(z, y, x - 4), (z, y - 3, x + 4), (z, y + 2, x)]
    return np.stack([blob(shape, centre, 1.2 + k, 1e-4) for k, centre in enumerate(centres[:count])])


def problem_of(densities, weights, sigma, kind="dense"):
    kernel = kernels.make(kind, densities.shape[1:], sigma, jnp.float64)
    return Problem(side_of(densities), jnp.array(weights), kernel)


def on_nodes(problem, stride, tolerance=TOLERANCE, guess=None):
    return solve(StridedBarycenter(stride), problem, Options(tolerance), guess)


@pytest.mark.parametrize("kind", ["dense", "heat"])
@pytest.mark.parametrize("weights", [[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.5, 0.3]]])
@pytest.mark.parametrize("stride", [2, 3])
def test_barycenters_are_those_on_all_voxels(kind, weights, stride):
    same_on_all_voxels(problem_of(maps(len(weights[0])), weights, 1.8 * stride, kind), stride)


def test_barycenters_in_a_box_are_too():
    same_on_all_voxels(problem_of(maps(2, (41, 42, 49)), [[0.5, 0.5]], 3.2), 2)


def same_on_all_voxels(problem, stride):
    whole = solve(MultilevelBarycenter(), problem, Options(TOLERANCE))
    found = on_nodes(problem, stride)
    assert found.value.shape == whole.value.shape
    assert (np.asarray(found.status) == Status.CONVERGED).all()
    np.testing.assert_allclose(jnp.sum(found.value, axis=(1, 2, 3)), 1.0, atol=2e-6)
    assert float(jnp.max(jnp.sum(jnp.abs(found.value - whole.value), axis=(1, 2, 3)))) < 2e-6


def test_the_error_falls_like_that_of_the_trapezoidal_rule():
    """Ten times and more for each tenth of a sigma a node, down to the tolerance."""

    def error(sigma_per_node):
        problem = problem_of(maps(), [[0.5, 0.5]], 2 * sigma_per_node)
        return float(on_nodes(problem, 2, tolerance=1e-10).marginal_error[0])

    assert error(0.8) > 10 * error(0.9) > 100 * error(1.0) > 1e-9
    assert error(1.5) < 1e-10


def test_the_error_is_that_of_the_plans_on_all_voxels():
    """Recomputed from the potentials with dense arrays: rows and columns of both plans."""
    densities = maps()
    problem = problem_of(densities, [[0.3, 0.7]], 2.0)
    found = on_nodes(problem, 2)
    (q,), (log_u, log_v) = np.asarray(found.value), (potential[0] for potential in found.potentials)
    error = 0.0
    for k, share in enumerate((0.3, 0.7)):
        first = jnp.exp(log_u[k] + problem.kernel.log_apply(log_v[k]))
        second = jnp.exp(log_v[k] + problem.kernel.log_apply(log_u[k]))
        error += share * (np.abs(first - densities[k]).sum() + np.abs(second - q).sum())
    assert float(found.marginal_error[0]) == pytest.approx(error, rel=1e-6)
    last = np.asarray(found.history.marginal_error)[0, int(found.iterations[0]) - 1]
    assert last == found.marginal_error[0]


def test_a_weight_of_one_is_the_blurred_map():
    densities = maps()
    found = on_nodes(problem_of(densities, [[1.0, 0.0], [0.0, 1.0]], 3.2), 2)
    alone = solve_barycenter(jnp.asarray(densities), jnp.eye(2), kernels.dense(FLAT, 3.2))
    np.testing.assert_allclose(found.value, alone.value, atol=1e-6 * float(alone.value.max()))
    assert np.isfinite(np.asarray(found.potentials[1])).all()


def test_a_solve_on_all_voxels_from_there_takes_fewer_iterations():
    """Mass at the edge of the box, where sums over nodes end abruptly: the error says so."""
    densities = np.stack([blob(FLAT, (0, 40, x), 2.0, 1e-5) for x in (1, 8)])
    problem = problem_of(densities, [[0.5, 0.5]], 3.2)
    rough = on_nodes(problem, 2)
    assert float(rough.marginal_error[0]) > 1e-6 > TOLERANCE
    polished = solve(MultilevelBarycenter(), problem, Options(TOLERANCE), rough.potentials[1])
    cold = solve(MultilevelBarycenter(), problem, Options(TOLERANCE))
    assert int(polished.iterations[0]) < int(cold.iterations[0])
    np.testing.assert_allclose(polished.value, cold.value, atol=1e-6 * float(cold.value.max()))


def test_a_start_saves_iterations():
    problem = problem_of(maps(), [[0.5, 0.5]], 3.2)
    first = on_nodes(problem, 2)
    again = on_nodes(problem, 2, guess=first.potentials[1])
    assert int(again.iterations[0]) == 1


def test_changes_are_measured_on_all_voxels():
    """The norms of what the last step changes are those of a solve on all voxels, which makes the same steps."""
    problem = problem_of(maps(), [[0.5, 0.5]], 3.6)
    exact = Options(max_iterations=4, fixed_iterations=True)
    found, whole = (solve(solver, problem, exact) for solver in (StridedBarycenter(2), MultilevelBarycenter()))
    for name in ("change_l1", "change_l2"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=0.02)


def test_a_strided_kernel_acts_between_voxels_and_nodes():
    """sqrt(h) K[:, ::h] along each axis, both ways; all rows and columns by basis vectors."""
    shape, stride = (4, 5, 7), 2
    kernel = kernels.dense(shape, 1.5)
    nodes = strided(kernel, stride)
    whole = jax.vmap(kernel.apply)(jnp.eye(4 * 5 * 7).reshape(-1, *shape)).reshape(140, 140)
    index = np.arange(140).reshape(shape)[::2, ::2, ::2].ravel()
    everywhere = side_of(np.ones(shape)).places
    listed = len(everywhere.index)
    up = jax.vmap(lambda row: nodes.apply_between(row, None, everywhere))(jnp.eye(24).reshape(-1, 2, 3, 4))
    down = jax.vmap(lambda row: nodes.apply_between(row, everywhere, None))(jnp.eye(140, listed))
    np.testing.assert_allclose(up[:, :140], stride**1.5 * whole[index], rtol=1e-12)
    np.testing.assert_allclose(down.reshape(140, 24), stride**1.5 * whole[:, index], rtol=1e-12)
    among = jax.vmap(nodes.apply)(jnp.eye(24).reshape(-1, 2, 3, 4)).reshape(24, 24)
    np.testing.assert_allclose(among, stride**3 * whole[np.ix_(index, index)], rtol=1e-12)


def test_kernels_without_matrices_are_refused():
    with pytest.raises(InputError, match=r"is a FourierKernel: give one by kernels.dense or kernels.heat"):
        strided(kernels.fft((4, 5, 6), 1.5), 2)

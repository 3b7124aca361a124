"""Landscapes: distances between maps are those of shifts, symmetric, batched like single solves, and in order."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from morphot_jax import Settings, kernels, landscape, prepare_maps, sinkhorn_divergence
from morphot_jax.morphing.settings import LANDSCAPE
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status
from shapes import blob, volume_of

SHAPE = (11, 12, 20)
SETTINGS = replace(LANDSCAPE, sigma=1.0, tolerance=1e-7)
PLACES = np.array([8.0, 5.0, 11.0, 6.0, 9.0])  # along x
VOXEL = 2.5


@pytest.fixture(scope="module")
def prepared():
    maps = [volume_of(blob(SHAPE, (5, 5, x), 1.3, 1e-5), 1.0 + x) for x in PLACES]
    maps = [replace(volume, voxel_size=(VOXEL,) * 3) for volume in maps]
    return prepare_maps(maps)


@pytest.fixture(scope="module")
def found(prepared):
    return landscape(prepared, SETTINGS)


def test_the_distance_of_a_map_and_its_shift_is_the_shift_in_angstrom(found):
    shifts = VOXEL * np.abs(PLACES[:, None] - PLACES)
    np.testing.assert_allclose(found.distances, shifts, atol=0.01)
    assert found.complete
    assert found.plan.kernel == "dense"


def test_distances_are_a_symmetric_matrix_without_diagonal(found):
    assert np.array_equal(found.distances, found.distances.T)
    assert not np.diag(found.distances).any()
    assert len(found.pairs) == 15


def test_a_distance_is_that_of_the_divergence_alone(prepared, found):
    first, second = (volume.data for volume in prepared.volumes[:2])
    with found.plan.scope():
        a, b = (np.asarray(data, np.float64) for data in (first, second))
        kernel = kernels.dense(SHAPE, 1.0)
        value, _ = sinkhorn_divergence(*map(jnp.asarray, (a, b)), kernel, tolerance=1e-7)
    assert found.distances[0, 1] == pytest.approx(VOXEL * np.sqrt(2 * float(value)), rel=1e-6)


def test_maps_come_in_order_with_a_path_through_all(found):
    order = found.order.indices
    assert abs(kendalltau(PLACES[order], np.arange(5))[0]) == pytest.approx(1.0)
    assert found.path == tuple(order)
    assert found.order.agreement == 1.0
    np.testing.assert_allclose(found.coordinates[:, 1:], 0.0, atol=0.2)
    steps = np.abs(found.coordinates[:, 0][:, None] - found.coordinates[:, 0])
    np.testing.assert_allclose(steps, found.distances, atol=0.02)


def test_known_pairs_are_not_solved_again(prepared, found):
    kept = {}
    known = {pair: solved for pair, solved in found.pairs.items() if 1 not in pair}
    again = landscape(prepared, SETTINGS, known=known, keep=kept.__setitem__)
    assert sorted(kept) == [(0, 1), (1, 1), (1, 2), (1, 3), (1, 4)]
    assert np.array_equal(again.distances, found.distances)


def test_progress_counts_the_plans(prepared, monkeypatch):
    monkeypatch.setattr("morphot_jax.morphing.landscape.SECONDS_BETWEEN_REPORTS", 0.0)
    steps = []
    landscape(prepared, SETTINGS, report=steps.append)
    assert [step.done for step in steps] == list(range(1, 16))
    assert {step.lanes for step in steps} == {15}


def test_plans_that_do_not_converge_are_said(prepared):
    hasty = landscape(prepared, replace(SETTINGS, max_iterations=1))
    assert not hasty.complete
    assert any("plans did not converge" in text for text in hasty.warnings)
    assert {pair.status for pair in hasty.pairs.values()} >= {Status.MAX_ITERATIONS}


def test_two_maps_are_no_landscape(prepared):
    with pytest.raises(InputError, match="2 maps were given: a landscape has 3 to 1000"):
        landscape(list(prepared.volumes[:2]), Settings(method="barycenter"))

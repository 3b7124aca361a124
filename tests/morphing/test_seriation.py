"""Order, embedding and path from distances alone: lines, arcs, branches, noise."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau

from morphot_jax.morphing.seriation import (
    agreement,
    by_neighbours,
    embedded,
    ordered,
    path_between,
    stops_along,
)


def shuffled(points, seed=0):
    """The distances of points in another order, and the place of each in theirs."""
    places = np.random.default_rng(seed).permutation(len(points))
    return cdist(points[places], points[places]), places


def along(distances, places):
    """Kendall's tau of the order that is found, in either direction."""
    return abs(kendalltau(places[ordered(distances).indices], np.arange(len(places)))[0])


def arc(degrees, count=30):
    angles = np.radians(np.linspace(0.0, degrees, count))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("count", [3, 4, 7, 40])
def test_points_on_a_line_come_in_order(count):
    points = np.random.default_rng(count).random((count, 1)).cumsum(axis=0)
    distances, places = shuffled(points)
    assert along(distances, places) == pytest.approx(1.0)
    assert ordered(distances).agreement == 1.0


@pytest.mark.parametrize("degrees", [90.0, 180.0, 300.0])
def test_a_path_that_bends_back_is_unrolled(degrees):
    distances, places = shuffled(arc(degrees))
    assert along(distances, places) == pytest.approx(1.0)


def test_the_order_survives_noise():
    """Noise of two steps between neighbours: what tells the order is the distances of maps that lie far apart."""
    rng = np.random.default_rng(5)
    distances, places = shuffled(np.linspace(0.0, 1.0, 30)[:, None])
    noise = np.triu(rng.normal(scale=2 / 29, size=distances.shape), 1)
    assert along(np.abs(distances + noise + noise.T), places) > 0.9


def test_the_first_named_comes_before_the_last_named():
    distances, _ = shuffled(np.linspace(0.0, 1.0, 9)[:, None])
    place = np.argsort(ordered(distances).indices)
    assert place[0] < place[-1]
    turned = ordered(distances[::-1, ::-1])
    np.testing.assert_array_equal(8 - turned.indices, ordered(distances).indices[::-1])


def test_agreement_is_one_on_a_line_and_a_third_by_chance():
    line = cdist(np.arange(12.0)[:, None], np.arange(12.0)[:, None])
    assert agreement(line, np.arange(12)) == 1.0
    rng = np.random.default_rng(1)
    random = rng.random((40, 40))
    assert agreement(random + random.T, rng.permutation(40)) == pytest.approx(1 / 3, abs=0.05)
    assert agreement(line[:2, :2], np.arange(2)) == 1.0


def test_embedding_keeps_the_distances_of_points_in_a_plane():
    points = np.random.default_rng(2).normal(size=(15, 2))
    coordinates, shares = embedded(cdist(points, points), 3)
    np.testing.assert_allclose(cdist(coordinates, coordinates), cdist(points, points), atol=1e-7)
    assert shares[:2].sum() == pytest.approx(1.0)
    assert (np.diff(shares) <= 0).all()
    largest = np.abs(coordinates).argmax(axis=0)[:2]
    assert (coordinates[largest, [0, 1]] > 0).all()


def test_embedding_of_few_points_has_empty_axes():
    coordinates, shares = embedded(np.array([[0.0, 2.0], [2.0, 0.0]]), 3)
    np.testing.assert_allclose(np.abs(coordinates[:, 0]), 1.0)
    np.testing.assert_allclose(coordinates[:, 1:], 0.0, atol=1e-7)
    assert shares[0] == pytest.approx(1.0)


def test_ways_by_neighbours_are_no_shorter_and_join_all():
    points = np.concatenate([arc(270.0, 20), arc(270.0, 5) + np.array([9.0, 0.0])])
    distances = cdist(points, points)
    ways = by_neighbours(distances)
    assert (ways >= distances - 1e-12).all()
    assert np.isfinite(ways).all()
    np.testing.assert_allclose(ways, ways.T)


def test_a_path_goes_by_small_steps_and_leaves_out_what_lies_aside():
    line = np.stack([np.arange(7.0), np.zeros(7)], axis=1)
    points = np.concatenate([line, [[3.0, 4.0], [2.0, -5.0]]])
    distances = cdist(points, points)
    assert path_between(distances, 0, 6) == [0, 1, 2, 3, 4, 5, 6]
    assert path_between(distances, 6, 6) == [6]


def test_equal_maps_do_not_break_a_path():
    distances = cdist(np.array([[0.0], [0.0], [1.0]]), np.array([[0.0], [0.0], [1.0]]))
    path = path_between(distances, 0, 2)
    assert path[0] == 0
    assert path[-1] == 2


@pytest.mark.parametrize(
    ("most", "expected"), [(2, [0, 6]), (3, [0, 3, 6]), (4, [0, 2, 4, 6]), (20, list(range(7)))]
)
def test_stops_are_spread_along_a_path(most, expected):
    line = cdist(np.arange(7.0)[:, None], np.arange(7.0)[:, None])
    assert stops_along(list(range(7)), line, most) == expected

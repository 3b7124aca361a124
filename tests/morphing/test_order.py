import re

import numpy as np
import pytest

from morphot_jax import Settings, prepare_maps
from morphot_jax.morphing.order import distances_between, order_maps, refined
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

SHAPE = (9, 20, 30)
SETTINGS = Settings(frames=13, sigma=1.0)


def moving(t):
    """A blob that goes along x, beside one that stays."""
    return volume_of(blob(SHAPE, (4, 4, 6 + 16 * t), 1.6, 1e-4) + blob(SHAPE, (4, 14, 20), 1.5, 1e-4))


@pytest.mark.parametrize("method", ["displacement", "bridge"])
def test_maps_are_found_where_they_lie(method):
    times = (0.7, 0.2, 0.45)
    found = order_maps(
        [moving(t) for t in times],
        (moving(0.0), moving(1.0)),
        Settings(frames=13, sigma=1.0, method=method),
    )
    np.testing.assert_allclose(found.places, times, atol=0.02)
    assert found.order.tolist() == [1, 2, 0]
    assert found.distances.shape == (3, 13)
    assert not found.off_path.any()
    assert np.abs(found.times[found.nearest] - found.places).max() <= 1 / 12
    assert found.trajectory.complete
    first, last = min(times), max(times)
    assert repr(found).startswith("Ordering(3 maps from t = ")
    assert [round(float(t), 1) for t in re.findall(r"\d\.\d{3}", repr(found))[:2]] == [
        round(first, 1),
        round(last, 1),
    ]
    assert len(repr(found).splitlines()) == 1


def test_places_do_not_depend_on_the_scale_of_the_maps():
    ends = moving(0.0), moving(1.0)
    one = order_maps([moving(0.3)], ends, SETTINGS)
    other = order_maps([moving(0.3).with_data(7.0 * moving(0.3).data)], ends, SETTINGS)
    np.testing.assert_allclose(one.distances, other.distances, atol=1e-6)


def test_the_ends_lie_at_the_ends():
    found = order_maps([moving(1.0), moving(0.0)], (moving(0.0), moving(1.0)), SETTINGS)
    assert found.places.tolist() == [1.0, 0.0]
    assert found.distances.min(axis=1).max() < 1e-3


def test_prepared_maps_give_the_same():
    maps = [moving(t) for t in (0.0, 1.0, 0.4)]
    prepared = order_maps(prepare_maps(maps), settings=SETTINGS)
    given = order_maps(maps[2:], (maps[0], maps[1]), SETTINGS)
    np.testing.assert_array_equal(prepared.distances, given.distances)


def test_distance_is_the_least_over_all_scales():
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 3, 4, 5))
    scales = np.linspace(0, 3, 30001)
    tried = [np.linalg.norm(a - c * b) for c in scales]
    assert distances_between(a[None], b[None])[0, 0] == pytest.approx(min(tried) / np.linalg.norm(a), abs=1e-7)
    assert distances_between(a[None], 0.0 * b[None])[0, 0] == 1.0


def test_places_between_frames_come_from_the_parabola():
    times = np.linspace(0, 1, 11)
    np.testing.assert_allclose(refined(np.abs(times - 0.437)[None], times), [0.437], atol=1e-12)
    np.testing.assert_array_equal(refined(np.abs(times + 0.2)[None], times), [0.0])
    np.testing.assert_array_equal(refined(np.ones((1, 11)), times), [0.0])


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(InputError, match="between is None: give the two maps"):
        order_maps([moving(0.5)])
    with pytest.raises(InputError, match="0 maps to order were given"):
        order_maps([], (moving(0.0), moving(1.0)))


@pytest.mark.parametrize(
    ("maps", "between", "words"),
    [
        (
            "a.mrc",
            (moving(0.0), moving(1.0)),
            "order_maps needs one or more maps (Volume), and got the path 'a.mrc'",
        ),
        ([moving(0.5)], "ends", "two maps to order the others between (Volume), and got the path 'ends'"),
        ([moving(0.5)], (moving(0.0), None), "and map 2 is None"),
        ([moving(0.5)], [moving(0.0)], "1 maps were given to order the others between: give two"),
    ],
)
def test_what_is_no_map_is_refused(unchecked, maps, between, words):
    with pytest.raises(InputError, match=re.escape(words)):
        order_maps(maps, between, SETTINGS)

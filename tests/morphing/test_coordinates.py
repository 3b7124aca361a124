"""Coordinates of maps among references: synthetic barycenters come back, and what does not belong is said."""

from dataclasses import replace

import numpy as np
import pytest

from morphot_jax import Settings, morph, place_maps, prepare_maps
from morphot_jax.morphing.settings import PLACING
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

SHAPE = (13, 14, 15)
SETTINGS = replace(PLACING, sigma=1.0)
WEIGHTS = np.array([(0.2, 0.5, 0.3), (0.0, 0.4, 0.6), (1.0, 0.0, 0.0), (0.1, 0.1, 0.8)])


def body(first, second, share):
    """Two blobs, of which the second has another share of the mass."""
    return blob(SHAPE, first, 1.3, 1e-5) + share * blob(SHAPE, second, 1.1, 1e-5)


@pytest.fixture(scope="module")
def references():
    places = [((6, 6, 4), (6, 9, 8), 0.5), ((5, 7, 6), (8, 8, 10), 0.7), ((8, 5, 7), (7, 9, 11), 0.4)]
    return [volume_of(body(*place), 2.0 + k) for k, place in enumerate(places)]


@pytest.fixture(scope="module")
def made(references):
    return list(morph(references, Settings(weights=WEIGHTS, sigma=1.0)))


@pytest.fixture(scope="module")
def placed(references, made):
    return place_maps(made, references, SETTINGS)


def test_weights_of_barycenters_come_back(placed):
    np.testing.assert_allclose(placed.weights, WEIGHTS, atol=2e-3)
    np.testing.assert_allclose(placed.weights.sum(axis=1), 1.0)
    assert placed.residuals.max() < 5e-3
    assert (placed.blurs == 0.0).all()
    assert placed.complete
    assert not placed.far.any()


def test_sharp_barycenters_come_back_too(references):
    """They are blurred like those that they are compared with."""
    sharp = morph(references, Settings(weights=WEIGHTS, sigma=1.0, debias=True))
    found = place_maps(list(sharp), references, SETTINGS)
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=0.02)
    assert (found.blurs > 0).all()


def test_references_have_weights_of_one(references):
    found = place_maps(references, references, SETTINGS)
    np.testing.assert_allclose(found.weights, np.eye(3), atol=0.01)


def test_scale_order_and_company_change_nothing(references, made, placed):
    scaled = [made[2].with_data(7.0 * made[2].data), made[0]]
    found = place_maps(scaled, references, SETTINGS)
    np.testing.assert_allclose(found.weights, placed.weights[[2, 0]], atol=1e-5)
    turned = place_maps(made[:1], references[::-1], SETTINGS)
    np.testing.assert_allclose(turned.weights[0, ::-1], placed.weights[0], atol=2e-3)


def test_a_map_that_does_not_belong_is_said_to_be_far(references):
    other = volume_of(blob(SHAPE, (3, 3, 12), 1.2, 1e-5))
    found = place_maps([other, references[1]], references, SETTINGS)
    assert found.far.tolist() == [True, False]
    assert found.residuals[0] > 0.5


def test_prepared_maps_are_placed_as_they_are(references, made, placed):
    prepared = prepare_maps([*references, *made])
    assert np.array_equal(place_maps(prepared, 3, SETTINGS).weights, placed.weights)


@pytest.mark.parametrize(
    ("among", "settings", "message"),
    [
        (1, None, "1 references and 6 maps were given: give two or more and one or more"),
        (7, None, "7 references and 0 maps were given: give two or more and one or more"),
        (
            3,
            Settings(method="rigid"),
            "the method is 'rigid': maps are placed among plain barycenters; leave it out",
        ),
        (
            3,
            replace(PLACING, debias=True),
            "debias is True: maps are placed among plain barycenters; leave it out",
        ),
        (
            3,
            replace(PLACING, memory=2**18),
            "the barycenters to compare with need 1 MiB and 0 MiB may be used: "
            "give a smaller --grid, or fewer references",
        ),
    ],
)
def test_what_cannot_be_placed_is_refused(references, made, among, settings, message):
    prepared = prepare_maps([*references, *made])
    with pytest.raises(InputError) as caught:
        place_maps(prepared, among, settings)
    assert str(caught.value) == message

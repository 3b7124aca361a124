"""Unbalanced morphs: what is new appears where it is, what stays stays, what moves moves."""

from dataclasses import replace

import numpy as np
import pytest

from morphot_jax import InputError, Settings, Status, morph, prepare_maps
from morphot_jax.morphing.fading import Fading, about_fading, regions_of
from morphot_jax.morphing.trajectory import Kept
from morphot_jax.prepare.preparation import Preparation
from shapes import balls, turn_about

BODY = np.array([[-10.0, 0.0, 0.0], [-18.0, 6.0, 4.0], [-14.0, -7.0, 6.0], [-6.0, 4.0, -8.0]])
NEW = np.array([[20.0, 4.0, 2.0], [24.0, -2.0, 0.0]])
FAR = np.array([[4.0, 20.0, 20.0]])
METHODS = ("bridge", "displacement", "rigid")
SETTINGS = Settings(sigma=1.0, times=(0.0, 0.5, 1.0), unbalanced=8.0)


def relative(frame, wanted):
    frame, wanted = np.asarray(frame, float), np.asarray(wanted, float)
    return np.linalg.norm(frame - wanted) / np.linalg.norm(wanted)


def density(*parts):
    """A map of several groups of balls."""
    volume = balls(parts[0])
    return volume.with_data(sum(balls(part).data for part in parts))


@pytest.fixture(scope="module", params=METHODS)
def growing(request):
    """A body to which two balls are added."""
    maps = prepare_maps([density(BODY), density(BODY, NEW)])
    return maps, morph(maps, replace(SETTINGS, method=request.param))


def test_what_is_new_fades_in_and_the_rest_stays(growing):
    maps, found = growing
    half = (maps.volumes[0].data + maps.volumes[1].data) / 2.0
    assert relative(found.densities[1], half) < 0.03
    balanced = morph(maps, replace(found.settings, unbalanced=None))
    assert relative(found.densities[1], half) < 0.2 * relative(balanced.densities[1], half)
    assert {frame.status for frame in found.frames} == {Status.CONVERGED}


def test_ends_are_the_maps_and_masses_lie_between(growing):
    maps, found = growing
    for k, index in ((0, 0), (1, -1)):
        np.testing.assert_array_equal(found.densities[index], maps.volumes[k].data)
    masses = [(1 - frame.time) * maps.masses[0] + frame.time * maps.masses[1] for frame in found.frames]
    np.testing.assert_allclose([frame.mass for frame in found.frames], masses, rtol=1e-5)


def test_what_appears_is_told_with_its_regions(growing):
    maps, found = growing
    (faded,) = found.faded
    new = balls(NEW)
    assert faded.fades.mass < 0.05 * new.mass
    assert np.abs(faded.appears.data - new.data).sum() < 0.1 * new.mass
    assert faded.carried.mass + faded.fades.mass == pytest.approx(maps.masses[0], rel=1e-5)
    assert faded.shares[1] == pytest.approx(new.mass / maps.masses[1], rel=0.05)
    (nothing, (region,)) = faded.regions()
    assert nothing == ()
    np.testing.assert_allclose(region.centre, np.average(NEW, axis=0, weights=[2, 3]), atol=0.5)
    assert region.mass == pytest.approx(new.mass, rel=0.1)
    assert region.share == pytest.approx(region.mass / maps.masses[1])
    assert about_fading(found.faded) == ()
    assert any("of map 2 appears" in action for action in found.actions)


def test_the_way_back_fades_what_appeared(growing):
    maps, found = growing
    back = morph(list(maps.volumes)[::-1], found.settings)
    assert relative(back.densities[1], found.densities[1]) < 1e-4
    np.testing.assert_allclose(back.faded[0].fades.data, found.faded[0].appears.data, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_equal_maps_give_equal_frames(method):
    body = density(BODY, FAR)
    found = morph([body, body], replace(SETTINGS, method=method))
    exact = 1e-5 if method != "bridge" else 0.03  # which spreads half way
    assert relative(found.densities[1], body.data) < exact
    assert max(found.faded[0].shares) < 1e-6


def test_a_body_that_turns_is_carried_while_another_appears():
    pose = turn_about([1.0, 2.0, 3.0], 20.0, (3.0, 0.0, 0.0))
    last = density(pose.carried(BODY), NEW)
    found = morph([density(BODY), last], replace(SETTINGS, method="rigid"))
    half = density(pose.part(0.5).carried(BODY)).data + balls(NEW).data / 2.0
    assert relative(found.densities[1], half) < 0.12
    balanced = morph([density(BODY), last], replace(SETTINGS, method="rigid", unbalanced=None))
    assert relative(found.densities[1], half) < 0.5 * relative(balanced.densities[1], half)


def test_bodies_and_fading_go_together():
    maps = [density(BODY), density(BODY + np.array([4.0, 0.0, 0.0]), NEW)]
    found = morph(maps, replace(SETTINGS, method="rigid", bodies="auto"))
    half = density(BODY + np.array([2.0, 0.0, 0.0])).data + balls(NEW).data / 2.0
    assert relative(found.densities[1], half) < 0.12


def test_frames_that_are_known_do_not_hide_what_fades(growing):
    maps, found = growing
    known = {frame.index: Kept(frame, found.densities[frame.index]) for frame in found.frames}
    again = morph(maps, found.settings, known=known)
    np.testing.assert_array_equal(again.densities, found.densities)
    np.testing.assert_array_equal(again.faded[0].appears.data, found.faded[0].appears.data)


def test_each_pair_of_a_sequence_has_its_own():
    maps = [density(BODY), density(BODY, NEW), density(BODY, NEW, FAR)]
    found = morph(maps, replace(SETTINGS, method="displacement", times=(0.25, 0.75)))
    assert [faded.before for faded in found.faded] == [0, 1]
    for faded, new in zip(found.faded, (NEW, FAR), strict=True):
        assert faded.appears.mass == pytest.approx(balls(new).mass, rel=0.05)


def test_regions_are_connected_and_the_largest_comes_first():
    whole, part = density(BODY, NEW, FAR), density(NEW, FAR)
    regions = regions_of(part, whole)
    masses = [region.mass for region in regions]
    assert len(regions) == 2
    assert masses == sorted(masses, reverse=True)
    np.testing.assert_allclose(regions[1].centre, FAR[0], atol=0.2)
    assert regions_of(part.with_data(0.0 * part.data), whole) == ()


def test_maps_on_two_scales_are_told_and_brought_to_one():
    first, last = density(BODY), density(BODY, NEW)
    twice = last.with_data(2.0 * last.data)
    nothing = first.with_data(0.0 * first.data)
    (warning,) = about_fading([Fading(0, (first, twice), nothing, nothing)])
    assert "map 2 has 2 times the density of map 1" in warning
    maps = prepare_maps([first, twice], Preparation(match="density"))
    assert maps.masses[1] == pytest.approx(last.mass, rel=0.02)
    assert any("as dense as map 1" in action for action in maps.actions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mixed"}, "the method is 'mixed'"),
        ({"method": "linear"}, "the method is 'linear'"),
        ({"method": "barycenter", "debias": True}, "unbalanced barycenters have no blur"),
        ({"method": "displacement", "relaxation": 1.5}, "relaxation is 1.5, which it does not use"),
    ],
)
def test_what_does_not_go_with_fading_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Settings(unbalanced=10.0, **options)

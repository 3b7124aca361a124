"""Bodies of the method 'rigid': found from the maps, or moved as masks say."""

from dataclasses import replace

import numpy as np
import pytest

from morphot_jax import InputError, Settings, find_bodies, morph, prepare_maps
from morphot_jax.maps.pose import degrees_between
from morphot_jax.morphing.rigid import carried_points
from morphot_jax.prepare.prepared import unit_mass
from shapes import hinged, volume_of

RIGID = Settings(method="rigid", sigma=1.0, times=(0.5,))


@pytest.fixture(scope="module")
def hinge():
    """A body with an arm that turns by 40 degrees, and the bodies found in its maps."""
    made = hinged(40.0)
    maps = prepare_maps([made.first, made.last])
    return made, maps, find_bodies(maps, RIGID)


def test_both_parts_and_their_motions_are_found(hinge):
    made, _, (body, arm) = hinge
    assert body.pose.degrees < 1.0
    assert body.shift < 0.3
    assert degrees_between(arm.pose.rotation, made.pose.rotation) < 3.0
    assert np.linalg.norm(arm.pose.carried(arm.centre) - made.pose.carried(arm.centre)) < 1.0
    assert min(body.clear, arm.clear) > 0.5


def test_masks_of_both_maps_cover_the_parts(hinge):
    made, maps, (body, arm) = hinge
    for k, volume in enumerate(maps.volumes):
        total = body.masks[k] + arm.masks[k]
        assert total.max() <= 1.0 + 1e-6
        assert min(body.masks[k].min(), arm.masks[k].min()) >= 0.0
        seen = volume.data > 0.1 * volume.data.max()
        mine, true = (arm.masks[k] > 0.5) & seen, (made.arms[k] > 0.5) & seen
        assert (mine & true).sum() / (mine | true).sum() > 0.7


def test_the_same_map_twice_is_one_body_that_stays(hinge):
    made, _, _ = hinge
    (body,) = find_bodies([made.first, made.first], RIGID)
    assert body.pose.degrees < 1e-3
    assert body.mass[0] == pytest.approx(1.0, abs=1e-3)
    told = []
    found = morph(
        [made.first, made.first], replace(RIGID, bodies="auto"), report=lambda step: told.append(step.doing)
    )
    assert "searching for bodies" in told
    assert any("no parts were found" in warning for warning in found.warnings)
    np.testing.assert_allclose(unit_mass(found.densities[0]), unit_mass(made.first.data), atol=1e-8)


@pytest.mark.parametrize("both", [False, True])
def test_given_parts_move_on_their_screws(hinge, both):
    made, maps, _ = hinge
    masks = [volume.with_data(arm) for volume, arm in zip(maps.volumes, made.arms, strict=True)]
    found = morph(maps, RIGID, bodies={"arm": (masks[0], masks[1]) if both else masks[0]})
    ((arm,),) = found.bodies
    assert arm.name == "arm"
    assert degrees_between(arm.pose.rotation, made.pose.rotation) < 3.0
    frame, wanted = unit_mass(found.densities[0]), unit_mass(made.half.data)
    assert np.linalg.norm(frame - wanted) / np.linalg.norm(wanted) < 0.08
    assert found.densities[0].sum() == pytest.approx(np.mean(maps.masses), rel=1e-5)


def test_points_go_with_the_part_that_holds_them(hinge):
    made, maps, _ = hinge
    found = morph(maps, replace(RIGID, bodies="auto"))
    times = np.array([0.0, 0.5, 1.0])
    moved = carried_points(made.atoms, found.motions[0], *maps.volumes, times, found.plan)
    np.testing.assert_allclose(moved[0], made.atoms, atol=1e-9)
    for places, t in zip(moved, times, strict=True):
        away = places - made.path(t)
        assert np.sqrt((away**2).sum(axis=1).mean()) <= 1.0


def test_bodies_that_slide_past_each_other_keep_what_is_theirs():
    """Two bars that touch all along; one slides along the other. A voxel between them belongs to both."""
    z, y, x = np.indices((20, 24, 40), float)
    bumps = 1.0 + 0.5 * np.sin(x) * np.exp(-(((x - 20.0) / 8.0) ** 2))

    def bar(middle, shift):
        ends = 1.0 / (1.0 + np.exp(2.0 * (np.abs(x - 20.0 - shift) - 8.0)))
        moved = np.interp(x - shift, x[0, 0], bumps[0, 0])
        return ends * moved * np.exp(-((y - middle) ** 2 + (z - 10.0) ** 2) / (2.0 * 2.0**2))

    def both(t):
        return np.array([bar(10.0, -4.0 * t), bar(14.0, 4.0 * t)]).astype(np.float32)

    volumes = [volume_of(both(t).sum(axis=0)) for t in (0.0, 0.5, 1.0)]
    first, half, last = (np.where(v.data > 1e-3 * v.data.max(), v.data, 0.0).astype(np.float32) for v in volumes)
    maps = prepare_maps([volume_of(first), volume_of(last)])
    masks = {}
    for name, k in (("one", 0), ("other", 1)):
        at = [volume_of(both(t)[k] / np.maximum(both(t).sum(axis=0), 1e-9)) for t in (0.0, 1.0)]
        masks[name] = (at[0], at[1])
    with_bodies = morph(maps, RIGID, bodies=masks)
    wanted, frame = unit_mass(half), unit_mass(with_bodies.densities[0])
    assert np.linalg.norm(frame - wanted) < 0.02 * np.linalg.norm(wanted)
    assert frame.sum() == pytest.approx(1.0, abs=1e-9)
    motion = with_bodies.motions[0].motions[0]
    mass, start = np.asarray(motion.mass), np.asarray(motion.start).T
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)
    places, counts = np.unique(start[mass > 0], axis=0, return_counts=True)
    assert len(places) == np.count_nonzero(maps.volumes[0].data)
    assert (counts >= 2).sum() > 0.1 * len(places)


def test_bodies_that_do_not_go_with_the_rest_are_refused(unchecked, hinge):
    made, maps, _ = hinge
    mask = made.first.with_data(made.arms[0])
    with pytest.raises(InputError, match="leads through 3 maps"):
        morph([made.first, made.last, made.first], RIGID, bodies={"arm": mask})
    with pytest.raises(InputError, match="method 'bridge'"):
        morph(maps, replace(RIGID, method="bridge"), bodies={"arm": mask})
    with pytest.raises(InputError, match="give one of the two"):
        morph(maps, replace(RIGID, bodies="auto"), bodies={"arm": mask})
    with pytest.raises(InputError, match="holds 0 voxels"):
        morph(maps, RIGID, bodies={"arm": mask.with_data(np.zeros_like(mask.data))})
    with pytest.raises(InputError, match="a mask goes from 0 to 1"):
        morph(maps, RIGID, bodies={"arm": mask.with_data(5.0 * mask.data)})
    with pytest.raises(InputError, match="needs a mask"):
        morph(maps, RIGID, bodies={"arm": "arm.mrc"})
    with pytest.raises(InputError, match="overlap in 100"):
        morph(maps, RIGID, bodies={"arm": mask, "again": mask})
    with pytest.raises(InputError, match="does not go with the method 'linear'"):
        Settings(method="linear", bodies="auto")
    with pytest.raises(InputError, match="give two"):
        find_bodies([made.first])


def test_a_part_that_fits_nowhere_gets_a_warning(hinge):
    made, _, _ = hinge
    changed = made.last.with_data(np.where(made.arms[1] > 0.3, 0.0, made.last.data))
    mask = made.first.with_data(made.arms[0])
    found = morph([made.first, changed], RIGID, bodies={"arm": mask})
    assert any("arm does not fit where it goes" in warning for warning in found.warnings)

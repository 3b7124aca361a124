"""Morphs of maps with a point group: all equal parts move alike, and maps without the group are refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from morphot_jax import InputError, Settings, Volume, morph, prepare_maps
from morphot_jax.maps.symmetry import operators
from morphot_jax.morphing.rigid import carried_points
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.prepare.symmetric import symmetry_of
from shapes import balls, turn_about

RIGID = Settings(method="rigid", sigma=1.0, times=(0.5,))
PART = np.array([[0, 0, -7], [4, -3, -3], [-3, 2, 2], [1, 5, 6], [-2, -5, 1]], float)  # of one subunit, about 0
AWAY = np.array([16.0, 0.0, 0.0])
TURNED = 40.0  # degrees, about x


def subunits(t, group="C3"):
    part = PART @ turn_about((1, 0, 0), t * TURNED).rotation.T + AWAY
    return np.concatenate([part @ turn.T for turn in operators(group)])


@pytest.fixture(scope="module")
def turning():
    """Three subunits that turn by 40 degrees, each about an axis of its own: maps, and the same with noise."""
    volumes = [balls(subunits(t), width=3.5, alike=True) for t in (0.0, 0.5, 1.0)]
    rng = np.random.default_rng(2)
    noise = [0.25 * volume.data.std() * rng.normal(size=volume.shape) for volume in volumes]
    noisy = [v.with_data((v.data + some).astype(np.float32)) for v, some in zip(volumes, noise, strict=True)]
    mask = np.exp(-((places(volumes[0]) - AWAY) ** 2).sum(axis=-1) / (2 * 10.0**2))
    return SimpleNamespace(first=volumes[0], half=volumes[1], last=volumes[2], noisy=noisy, mask=mask)


def places(volume):
    """Å along x, y, z of each voxel."""
    z, y, x = np.indices(volume.shape)
    return np.stack([x, y, z], axis=-1) * np.array(volume.voxel_size) + np.array(volume.origin)


def unlikeness(maps, settings):
    """How far subunits move otherwise than the first one does, and all from where they truly go: both in Å."""
    prepared = prepare_maps(maps)
    found = morph(prepared, settings)
    (ends,) = carried_points(subunits(0.0), found.motions[0], *prepared.volumes, np.array([1.0]), found.plan)
    turns = operators("C3")
    parts = ends.reshape(3, -1, 3) @ turns  # each turned back
    return np.abs(parts - parts.mean(axis=0)).max(), np.sqrt(((ends - subunits(1.0)) ** 2).sum(axis=1).mean())


def test_in_noise_all_subunits_move_alike_and_nearer_to_their_places(turning):
    maps = [turning.noisy[0], turning.noisy[2]]
    unlike, away = unlikeness(maps, RIGID)
    unlike_3, away_3 = unlikeness(maps, replace(RIGID, symmetry="C3"))
    assert unlike_3 < 0.3 * unlike
    assert away_3 < away


def test_frames_have_the_symmetry_and_the_report_of_it(turning):
    found = morph([turning.first, turning.last], replace(RIGID, symmetry="c3"))
    assert found.settings.symmetry == "C3"
    one, other = found.motions[0].symmetry
    assert one.group == other.group == "C3"
    assert min(one.overlap, other.overlap) > 0.95
    assert symmetry_of(found[0], "C3").overlap > 0.95


def test_equal_maps_stay_as_they_are(turning):
    found = morph([turning.first, turning.first], replace(RIGID, symmetry="C3"))
    np.testing.assert_allclose(unit_mass(found.densities[0]), unit_mass(turning.first.data), atol=1e-8)


def test_a_mask_of_one_subunit_is_that_of_all(turning):
    mask = turning.first.with_data(turning.mask.astype(np.float32))
    found = morph([turning.first, turning.last], replace(RIGID, symmetry="C3"), bodies={"arm": mask})
    (bodies,) = found.bodies
    assert [body.name for body in bodies] == ["arm", "arm-2", "arm-3"]
    for body in bodies:
        assert body.pose.degrees == pytest.approx(TURNED, abs=2.0)
    difference = unit_mass(found.densities[0]) - unit_mass(turning.half.data)
    assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(unit_mass(turning.half.data))


def test_masks_have_copies_but_where_the_symmetry_takes_them_to_themselves(turning):
    arm = turning.first.with_data((turning.mask > 0.5).astype(np.float32))
    core = np.hypot(*np.moveaxis(places(turning.first)[..., :2], -1, 0)) < 4.0
    masks = {"arm": arm, "core": arm.with_data(core.astype(np.float32))}
    (bodies,) = morph([turning.first, turning.last], replace(RIGID, symmetry="C3"), bodies=masks).bodies
    assert [body.name for body in bodies] == ["arm", "arm-2", "arm-3", "core"]
    centres = [body.centre for body in bodies[:3]]
    for number, turn in ((1, 120.0), (2, 240.0)):
        there = [Rotation.from_rotvec([0, 0, np.radians(turn * sign)]).apply(centres[0]) for sign in (1, -1)]
        assert min(np.linalg.norm(centres[number] - place) for place in there) < 1.0
        assert bodies[number].mass == pytest.approx(bodies[0].mass, rel=0.02)
        assert bodies[number].pose.degrees == pytest.approx(bodies[0].pose.degrees, abs=0.02)


def test_copies_of_a_mask_in_a_small_box_are_not_cut(turning):
    """The box of the mask holds one subunit alone; its copies lie outside of it."""
    arm = turning.first.with_data(np.where(turning.mask > 0.5, turning.mask, 0.0).astype(np.float32))
    z, y, x = (slice(low.min(), low.max() + 1) for low in np.nonzero(arm.data))
    corner = np.array(arm.origin) + np.array([x.start, y.start, z.start]) * np.array(arm.voxel_size)
    small = Volume(arm.data[z, y, x], arm.voxel_size, tuple(corner.tolist()))
    whole, cropped = (
        morph([turning.first, turning.last], replace(RIGID, symmetry="C3"), bodies={"arm": mask})
        for mask in (arm, small)
    )
    assert [body.name for body in cropped.bodies[0]] == ["arm", "arm-2", "arm-3"]
    for one, other in zip(whole.bodies[0], cropped.bodies[0], strict=True):
        np.testing.assert_allclose(one.masks[0], other.masks[0], atol=1e-5)
    np.testing.assert_allclose(whole.densities, cropped.densities, atol=1e-5 * whole.densities.max())


def test_bodies_that_are_found_are_completed_by_the_symmetry(turning):
    found = morph([turning.first, turning.last], replace(RIGID, symmetry="C3", bodies="auto"))
    (bodies,) = found.bodies
    assert len(bodies) == 3
    for body in bodies:
        assert body.pose.degrees == pytest.approx(bodies[0].pose.degrees, abs=0.02)
        assert body.pose.degrees == pytest.approx(TURNED, abs=2.0)
    difference = unit_mass(found.densities[0]) - unit_mass(turning.half.data)
    assert np.linalg.norm(difference) < 0.03 * np.linalg.norm(unit_mass(turning.half.data))
    assert symmetry_of(found[0], "C3").overlap > 0.98


def test_what_is_not_a_mask_is_refused(turning):
    maps = [turning.first, turning.last]
    with pytest.raises(InputError, match=r"body 'arm' has values .* a mask goes from 0 to 1"):
        morph(
            maps, replace(RIGID, symmetry="C3"), bodies={"arm": turning.first.with_data(9.0 + turning.first.data)}
        )


def test_maps_without_the_symmetry_are_refused(turning):
    other = balls(subunits(0.0, "C4"), width=3.5, alike=True)
    with pytest.raises(InputError, match=r"^map 2 does not have the symmetry C3: [^\n]*$"):
        morph([turning.first, other], replace(RIGID, symmetry="C3"))
    tilted = balls(subunits(1.0) @ turn_about((0, 1, 0), 30.0).rotation.T, width=3.5, alike=True)
    with pytest.raises(InputError, match=r"axes of the symmetry C3 lie differently [^\n]* align the maps"):
        morph([turning.first, tilted], replace(RIGID, symmetry="C3"))


def test_only_the_method_rigid_has_a_symmetry():
    with pytest.raises(InputError, match="symmetry 'C3' does not go with the method 'bridge'"):
        Settings(method="bridge", symmetry="C3")
    with pytest.raises(InputError, match="the symmetry 'E2' is unknown"):
        Settings(symmetry="E2")

"""The method 'rigid': exact for rigid motions, right at the ends, honest where nothing is rigid."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from morphot_jax.maps.atoms import simulate_density
from morphot_jax.maps.pose import IDENTITY
from morphot_jax.maps.resample import indices_of
from morphot_jax.maps.samples import sample_atoms
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Kept, morph
from morphot_jax.prepare.prepared import prepare_maps
from morphot_jax.runs.report import doubt_names, rounds_table
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status
from shapes import balls, turn_about

POINTS = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, -2.0], [-3.0, 9.0, 3.0], [2.0, -5.0, 11.0]])
RIGID = Settings(method="rigid", sigma=1.0, times=(0.5,))
AXIS = np.array([1.0, 2.0, 3.0])


def relative(frame, wanted):
    """Relative L2 difference of two densities at unit mass."""
    frame, wanted = (np.asarray(data, float) / np.sum(data, dtype=float) for data in (frame, wanted))
    return np.linalg.norm(frame - wanted) / np.linalg.norm(wanted)


def posed(pose, **options):
    return balls(pose.carried(POINTS), **options)


@pytest.fixture(scope="module")
def turned():
    """A body, and the same turned by 50 degrees and shifted: the morph of every other test."""
    pose = turn_about(AXIS, 50.0, (3.0, -2.0, 1.0))
    maps = prepare_maps([posed(IDENTITY), posed(pose)])
    return pose, maps, morph(maps, replace(RIGID, times=(0.0, 0.25, 0.5, 1.0)))


@pytest.mark.parametrize(("index", "t"), [(1, 0.25), (2, 0.5)])
def test_a_body_that_turns_goes_on_its_screw(turned, index, t):
    pose, _, found = turned
    assert relative(found.densities[index], posed(pose.part(t)).data) < 0.02


def test_the_ends_are_the_maps_and_masses_lie_between(turned):
    _, maps, found = turned
    np.testing.assert_array_equal(found.densities[0], maps.volumes[0].data)
    np.testing.assert_array_equal(found.densities[-1], maps.volumes[1].data)
    masses = [(1 - frame.time) * maps.masses[0] + frame.time * maps.masses[1] for frame in found.frames]
    np.testing.assert_allclose([frame.mass for frame in found.frames], masses, rtol=1e-6)
    assert {frame.status for frame in found.frames} == {Status.CONVERGED}
    assert found.warnings == ()
    assert "rounds" in found.frames[0].reason


def test_the_way_back_is_the_same(turned):
    _, maps, found = turned
    back = morph(list(maps.volumes)[::-1], replace(RIGID, times=(0.75,)))
    assert relative(back.densities[0], found.densities[1]) < 1e-5


def test_equal_maps_give_equal_frames():
    body = posed(IDENTITY)
    found = morph([body, body], RIGID)
    assert relative(found.densities[0], body.data) < 1e-5


def test_a_turn_that_transport_misses_is_found_from_an_alignment():
    pose = turn_about(AXIS, 120.0)
    atoms = sample_atoms("adk-open")
    places = atoms.positions - atoms.positions.mean(axis=0)
    grid = {"shape": (32, 32, 32), "voxel_size": (3.0, 3.0, 3.0), "origin": (-46.5, -46.5, -46.5), "width": 3.0}
    first, half, last = (
        simulate_density(replace(atoms, positions=some.carried(places)), **grid)
        for some in (IDENTITY, pose.part(0.5), pose)
    )
    found = morph([first, last], RIGID)
    assert relative(found.densities[0], half.data) < 0.02
    assert "alignment of the maps as wholes, turned by 120.0°" in " ".join(found.warnings)
    json.dumps(asdict(found.frames[0]) | {"history": []})  # as in the record that a later run reads


def test_voxels_that_are_not_cubes_turn_in_space():
    """The same body on a grid that is finer along z: the motion is that of the cubes, in Å."""
    pose = turn_about(np.array([1.0, 0.0, 0.0]), 40.0)

    def flat(pose):
        fine = posed(pose, side=64, voxel=1.0).data  # every second plane and row is left out along y and x
        return Volume(fine[:, ::2, ::2].copy(), (2.0, 2.0, 1.0), (-31.0, -31.0, -31.0))

    found = morph([flat(IDENTITY), flat(pose)], Settings(method="rigid", sigma_angstrom=2.0, times=(0.5,)))
    assert relative(found.densities[0], flat(pose.part(0.5)).data) < 0.02


def test_a_rigid_motion_is_not_doubted(turned):
    _, maps, found = turned
    doubts = found.doubts[0]
    for doubt, volume in zip(doubts, maps.volumes, strict=True):
        assert doubt.same_grid(volume)
        assert np.average(doubt.data, weights=volume.data) < 0.2  # of voxels of 2 Å
    assert max(found.motions[0].doubt_of(0.95)) < 0.2


def test_mass_without_a_counterpart_is_doubted_and_what_stays_is_not():
    """A ball comes out of another one beside a third that stays; doubts are in Å."""
    still, near, far = np.array([[-16.0, 0.0, 0.0], [12.0, 0.0, 0.0], [12.0, 22.0, 0.0]])
    first, last = balls(np.stack([still, near, near])), balls(np.stack([still, near, far]))
    found = morph([first, last], RIGID)
    (there, back) = found.doubts[0]
    places = {
        name: tuple(int(v) for v in indices_of(last, point[None])[0])
        for name, point in (("still", still), ("far", far))
    }
    assert there.data[places["still"]] < 0.5
    assert back.data[places["still"]] < 0.5
    assert back.data[places["far"]] > 3.0
    assert any("disagree by" in warning and "--bodies auto" in warning for warning in found.warnings)


def test_doubts_are_measured_in_space():
    """The same motion on voxels twice as long, in Å, has doubts twice as large."""
    one = [posed(IDENTITY), posed(turn_about(AXIS, 30.0, (0.0, 0.0, 4.0)))]
    two = [Volume(volume.data, tuple(2.0 * edge for edge in volume.voxel_size), volume.origin) for volume in one]
    (small, _), (large, _) = (morph(maps, RIGID).doubts[0] for maps in (one, two))
    np.testing.assert_allclose(large.data, 2.0 * small.data, atol=1e-5)


def test_doubts_belong_to_their_pair_of_maps(turned):
    """Of three maps, all times lie between the last two."""
    _, maps, found = turned
    first, last = maps.volumes
    later = morph([last, first, last], replace(RIGID, times=(0.75, 1.0)))
    ((before, doubts),) = later.doubts.items()
    assert before == 1
    for doubt, expected in zip(doubts, found.doubts[0], strict=True):
        np.testing.assert_allclose(doubt.data, expected.data, atol=1e-3)
    assert rounds_table(later).splitlines()[1].startswith("2,3,1,")
    assert doubt_names(before) == ("doubt_2_to_3.mrc", "doubt_3_to_2.mrc")


def test_every_round_is_told(turned):
    _, _, found = turned
    for side in found.motions[0].sides:
        assert side.rounds[-1].left < 0.05 * side.rounds[0].left
        first_of_radius = [made for k, made in enumerate(side.rounds) if made.radius != side.rounds[k - 1].radius]
        assert max(made.error for made in (*first_of_radius, side.rounds[-1])) <= 1e-6
        assert len(side.rounds) <= max(frame.iterations for frame in found.frames)


def test_motions_are_found_for_frames_that_are_all_known(turned):
    _, maps, found = turned
    known = {
        frame.index: Kept(frame, density) for frame, density in zip(found.frames, found.densities, strict=True)
    }
    again = morph(maps, replace(RIGID, times=(0.0, 0.25, 0.5, 1.0)), known=known)
    np.testing.assert_array_equal(again.densities, found.densities)
    np.testing.assert_array_equal(again.doubts[0][0].data, found.doubts[0][0].data)


def test_frames_that_are_known_are_not_made_again(turned):
    _, maps, found = turned
    kept = []
    again = morph(
        maps,
        replace(RIGID, times=(0.0, 0.25, 0.5, 1.0)),
        keep=lambda frame, _: kept.append(frame.index),
        known={1: Kept(found.frames[1], found.densities[1])},
    )
    np.testing.assert_array_equal(again.densities, found.densities)
    assert kept == [0, 2, 3]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iterations": 20}, ["iterations '20'", "method 'rigid'", "leave it out"]),
        ({"kernel": "dense"}, ["kernel 'dense'", "auto or heat"]),
        ({"debias": True}, ["method 'rigid' has nothing to debias"]),
    ],
)
def test_what_it_has_no_use_for_is_refused(values, words):
    with pytest.raises(InputError) as refused:
        Settings(method="rigid", **values)
    assert [word for word in words if word not in str(refused.value)] == []

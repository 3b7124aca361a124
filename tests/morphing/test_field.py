"""Displacement fields: what they say of rigid motions that are known, and what the command leaves."""

import csv
import json
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers import morphot
from morphot_jax import Preparation, Volume, displacement_field, prepare_maps, read_volume, write_volume
from morphot_jax.maps.atoms import Atoms, choose_box, simulate_density
from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import places_of
from morphot_jax.morphing.bodies import ROUNDS, STILL
from morphot_jax.morphing.field import Displacement, arrows, displacement_between, domain_of, field_maps, magnitude
from morphot_jax.system.errors import InputError
from shapes import balls, blob, volume_of

SHAPE = (12, 13, 14)


def rigid_field(volume, pose):
    """The field of a rigid motion, in closed form."""
    indices = np.argwhere(volume.data > 0)
    points = places_of(volume, indices)
    field = np.full((3, *volume.shape), np.nan)
    field[:, *indices.T] = (pose.carried(points) - points).T
    return field


@pytest.fixture
def body():
    return volume_of(blob(SHAPE, (6, 6, 7), 2.0, 1e-3))


def test_a_rigid_field_gives_its_motion(body):
    pose = Pose(Rotation.from_rotvec([0.2, -0.1, 0.4]).as_matrix(), np.array([1.0, -2.0, 0.5]))
    found = domain_of(rigid_field(body, pose), body, "all")
    np.testing.assert_allclose(found.pose.matrix, pose.matrix, atol=1e-9)
    assert found.rest < 1e-9
    assert found.share == pytest.approx(1.0)
    points = places_of(body, np.argwhere(body.data > 0))
    ways = pose.carried(points) - points
    mass = body.data[body.data > 0]
    np.testing.assert_allclose(found.mean, np.average(ways, axis=0, weights=mass), atol=1e-9)


def test_a_field_that_is_known_nowhere_has_no_motion(body):
    with pytest.raises(InputError, match="'nothing' holds 0 voxels"):
        domain_of(np.full((3, *SHAPE), np.nan), body, "nothing")


def test_a_displacement_prints_one_line_without_its_field(body):
    field = rigid_field(body, turning(12.0, shift=(1.0, 2.0, 3.0)))
    text = repr(Displacement(field, (domain_of(field, body, "all"),)))
    assert len(text.splitlines()) == 1
    assert "nan" not in text
    assert "turned by 12°" in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a.mrc", "b.mrc"], "displacement_field needs two maps (Volume), and map 1 is the path 'a.mrc'"),
        (None, "displacement_field needs two maps (Volume), and got None"),
        (np.zeros((2, 3, 4, 5)), "got an array of shape (2, 3, 4, 5): a map has three axes"),
    ],
)
def test_what_is_no_map_is_refused(unchecked, given, words):
    with pytest.raises(InputError, match=re.escape(words)):
        displacement_field(given)


def test_maps_and_arrows_of_a_field(body):
    pose = Pose(np.eye(3), np.array([1.0, 2.0, -2.0]))
    field = rigid_field(body, pose)
    np.testing.assert_allclose(magnitude(field)[body.data > 0], 3.0)
    assert magnitude(field)[body.data == 0].max() == 0.0
    maps = field_maps(field, body)
    for name, value in (("displacement_x", 1.0), ("displacement_y", 2.0), ("displacement_z", -2.0)):
        np.testing.assert_allclose(maps[name].data[body.data > 0], value, rtol=1e-6)
    starts, ends = arrows(field, body, 30)
    assert 0 < len(starts) <= 30
    np.testing.assert_allclose(ends - starts, np.tile([1.0, 2.0, -2.0], (len(starts), 1)))


BODY = np.array([[0, 0, 0], [12, 2, -3], [-11, 6, 5], [4, -13, 8], [-5, -6, -12], [7, 9, 11]], float)
AXIS = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
GRID = {"side": 40, "voxel": 1.6, "origin": (-31.2,) * 3}


def turning(degrees, axis=AXIS, shift=(0.0, 0.0, 0.0)):
    return Pose(Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis)).as_matrix(), np.array(shift, float))


def everywhere(volume):
    return {"all of it": volume.with_data(np.ones(volume.shape))}


def moved_by(pose):
    """Maps of a body before and after a motion, in closed form."""
    return prepare_maps([balls(points, **GRID) for points in (BODY, pose.carried(BODY))], Preparation(level=0.2))


def assert_same_motion(found, true, degrees, angstrom):
    """The angle that is left between them, and how far they take a body apart."""
    assert found.after(true.inverse()).degrees < degrees
    assert np.linalg.norm(found.carried(BODY) - true.carried(BODY), axis=1).max() < angstrom


def about_a_pivot(degrees, slide=0.0):
    """A turn about an axis beside the body, and a slide along it."""
    pivot, turn = np.array([4.0, -3.0, 2.0]), turning(degrees)
    return Pose(turn.rotation, pivot - turn.rotation @ pivot + slide * AXIS)


def test_without_masks_a_shift_is_a_shift():
    shift = np.array([3.0, 2.0, -4.0])
    prepared = moved_by(turning(0.0, shift=shift))
    found = domain_of(displacement_field(prepared), prepared.volumes[0], "all")
    np.testing.assert_allclose(found.mean, shift, atol=0.1)
    assert found.pose.degrees < 1.0


def test_without_masks_a_turn_looks_smaller_than_it_is():
    """Transport takes short cuts."""
    prepared = moved_by(about_a_pivot(15.0))
    found = domain_of(displacement_field(prepared), prepared.volumes[0], "all")
    assert np.degrees(np.arccos(found.pose.axis @ AXIS)) < 4.5
    assert 10.0 < found.pose.degrees < 14.0


@pytest.mark.parametrize(("degrees", "slide"), [(15.0, 0.0), (30.0, 5.0), (45.0, 0.0)])
def test_a_body_is_found_to_turn_about_its_axis_by_its_whole_angle(degrees, slide):
    pose = about_a_pivot(degrees, slide)
    prepared = moved_by(pose)
    found = displacement_between(prepared, domains=everywhere(prepared.volumes[0]))
    whole, body = found.domains
    assert found.warnings == ()
    assert body.pose.degrees == pytest.approx(degrees, rel=0.02)
    assert np.degrees(np.arccos(body.pose.axis @ AXIS)) < 1.0
    assert body.pose.slide == pytest.approx(slide, abs=0.1)
    np.testing.assert_allclose(body.pose.pivot, pose.pivot, atol=0.3)
    assert body.share == pytest.approx(1.0)
    assert 1 < body.rounds < ROUNDS
    assert body.change < STILL * 1.6
    np.testing.assert_array_equal(whole.pose.matrix, body.pose.matrix)
    assert whole.rounds is None


def test_maps_that_are_the_same_have_bodies_that_do_not_move():
    prepared = moved_by(turning(0.0))
    body = displacement_between(prepared, domains=everywhere(prepared.volumes[0])).domains[1]
    assert body.rounds == 1
    assert_same_motion(body.pose, turning(0.0), degrees=0.05, angstrom=0.02)


def test_a_field_with_domains_is_that_of_the_turned_maps_turned():
    """Axes of both maps exchanged, x to y to z to x: the field is exchanged with them."""
    prepared = moved_by(about_a_pivot(15.0))
    field = displacement_field(prepared, domains=everywhere(prepared.volumes[0]))
    volumes = [
        volume.with_data(np.ascontiguousarray(volume.data.transpose(1, 2, 0))) for volume in prepared.volumes
    ]
    turned = displacement_field(prepare_maps(volumes), domains=everywhere(volumes[0]))
    np.testing.assert_allclose(turned, field.transpose(0, 2, 3, 1)[[2, 0, 1]], atol=0.02)


def test_bodies_turn_beside_what_stays():
    """Two bodies with an axis each, and one that is in no mask."""
    offset = np.array([26.0, 0.0, 0.0])
    grid = {"side": 40, "voxel": 2.4, "origin": (-46.8,) * 3}
    poses = [
        Pose(turn.rotation, centre - turn.rotation @ centre)
        for turn, centre in ((turning(25.0), -offset), (turning(20.0, axis=[0.0, 1.0, 0.0]), offset))
    ]
    parts = [0.9 * BODY - offset, 0.9 * BODY + offset, 0.5 * BODY + [0.0, 30.0, 0.0]]
    after = [poses[0].carried(parts[0]), poses[1].carried(parts[1]), parts[2]]
    first, last = (sum(balls(points, **grid).data for points in some) for some in (parts, after))
    like = balls(parts[0], **grid)
    prepared = prepare_maps([like.with_data(first), like.with_data(last)], Preparation(level=0.2))
    alone = [balls(points, **grid).data for points in parts]
    masks = {
        name: like.with_data((alone[k] == np.max(alone, axis=0)).astype(float)) for k, name in ((0, "l"), (1, "r"))
    }
    found = displacement_between(prepared, domains=masks)
    assert [domain.name for domain in found.domains] == ["all", "l", "r"]
    for domain, pose in zip(found.domains[1:], poses, strict=True):
        assert domain.pose.degrees == pytest.approx(pose.degrees, rel=0.05)
        assert np.degrees(np.arccos(domain.pose.axis @ pose.axis)) < 3.0
    resting = (alone[2] == np.max(alone, axis=0)) & (prepared.volumes[0].data > 0)
    assert np.sqrt((found.field[:, resting] ** 2).sum(axis=0)).mean() < 0.3


def test_progress_counts_the_rounds():
    reports = []
    prepared = moved_by(about_a_pivot(15.0))
    masks = everywhere(prepared.volumes[0])
    found = displacement_between(prepared, domains=masks, report=reports.append)
    assert {progress.lanes for progress in reports} <= {ROUNDS}
    assert [progress.done for progress in reports] == sorted(progress.done for progress in reports)
    assert max(progress.done for progress in reports) < found.domains[1].rounds


@pytest.mark.study
def test_the_receptor_binding_domain_of_the_spike_goes_as_far_as_its_atoms(shared_data):
    """6VXX to 6VYB: one of three rises. Within 15 %, where without the mask a third of the way is lost."""
    with np.load(shared_data / "spike_ca.npz") as file:
        closed, opened = (file[state].astype(float) for state in ("closed", "open"))
        ways = np.linalg.norm(opened - closed, axis=1)
        rising = file["rbd"] & (file["chain"] == 1)
    box = choose_box(*(Atoms(p, np.ones(len(p))) for p in (closed, opened)), resolution=17.8, grid=64, apix=3.2)
    maps = [simulate_density(Atoms(p, np.ones(len(p))), **vars(box), width=4.0) for p in (closed, opened)]
    part = simulate_density(Atoms(closed[rising], np.ones(rising.sum())), **vars(box), width=4.0)
    mask = maps[0].with_data((part.data > 0.5 * maps[0].data).astype(float))
    domain = displacement_between(maps, domains={"rbd": mask}).domains[1]
    true = Pose.fitted(closed[rising], opened[rising])
    assert domain.length == pytest.approx(ways[rising].mean(), rel=0.15)
    mean = (opened - closed)[rising].mean(axis=0)
    np.testing.assert_allclose(domain.mean, mean, atol=0.15 * np.linalg.norm(mean))
    assert domain.pose.degrees == pytest.approx(true.degrees, rel=0.05)
    assert np.degrees(np.arccos(domain.pose.axis @ true.axis)) < 3.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("field")
    paths = {}
    mask = np.zeros((20, 20, 20))
    mask[:, :, :13] = 1.0
    wide = (2.4, 2.0, 1.6)  # a ball would turn as it liked
    contents = {"a": blob((20, 20, 20), (9, 10, 8), wide, 1e-4), "b": blob((20, 20, 20), (11, 10, 11), wide, 1e-4)}
    for name, data in (contents | {"mask": mask}).items():
        paths[name] = folder / f"{name}.mrc"
        write_volume(Volume(data.astype(np.float32), (2.0, 2.0, 2.0)), paths[name])
    out = folder / "out"
    done = morphot("field", paths["a"], paths["b"], "-o", out, "--domain", paths["mask"])
    assert done.code == 0, done.err
    return paths, out, done


def test_the_command_writes_maps_arrows_and_domains(run):
    paths, out, done = run
    expected = {"first", "displacement", "displacement_x", "displacement_y", "displacement_z"}
    assert {path.stem for path in out.glob("*.mrc")} == expected
    x, z = (read_volume(out / f"displacement_{axis}.mrc").data for axis in "xz")
    mass = read_volume(out / "first.mrc").data
    assert np.average(x, weights=mass) == pytest.approx(6.0, rel=0.02)  # 3 voxels of 2 Å
    assert np.average(z, weights=mass) == pytest.approx(4.0, rel=0.02)
    with (out / "domains.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["domain"] for row in rows] == ["all", str(paths["mask"])]
    details = json.loads((out / "field.json").read_text(encoding="utf-8"))
    assert details["domains"][0]["mean_x"] == pytest.approx(6.0, rel=0.02)
    assert 0 < float(rows[1]["share_of_mass"]) < 1
    assert rows[0]["rounds"] == rows[0]["last_change"] == ""
    assert int(rows[1]["rounds"]) >= 1
    assert details["domains"][1]["rounds"] == int(rows[1]["rounds"])
    assert details["domains"][1]["last_change"] == pytest.approx(float(rows[1]["last_change"]))
    assert float(rows[1]["mean_x"]) == pytest.approx(6.0, rel=0.02)
    lines = (out / "field.bild").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(".arrow ") for line in lines) > 20
    assert (out / "displacement.png").stat().st_size > 5000
    assert "open displacement.mrc" in (out / "field.cxc").read_text(encoding="utf-8")
    assert "slides" in done.err


def test_a_body_that_does_not_settle_gives_one_and_is_marked(run, tmp_path, monkeypatch):
    paths, _, done = run
    assert done.code == 0
    monkeypatch.setattr("morphot_jax.morphing.bodies.ROUNDS", 1)
    monkeypatch.setattr("morphot_jax.morphing.field.SETTLED", 0.0)  # one round gets near, but not all the way
    done = morphot("field", paths["a"], paths["b"], "-o", tmp_path / "out", "--domain", paths["mask"])
    assert done.code == 1
    assert "did not settle" in done.err
    with (tmp_path / "out" / "domains.csv").open(newline="", encoding="utf-8") as file:
        assert [row["settled"] for row in csv.DictReader(file)] == ["", "False"]
    assert (tmp_path / "out" / "displacement.mrc").is_file()


def test_a_field_is_between_two_maps(run, tmp_path):
    paths, _, _ = run
    done = morphot("field", paths["a"], "-o", tmp_path / "x")
    assert done.code == 2
    done = morphot("field", paths["a"], paths["b"], "-o", tmp_path / "x", "--domain", "gone.mrc")
    assert done.code == 2
    assert "gone.mrc" in done.err
    twice = ("--domain", paths["mask"], "--domain", paths["mask"])
    done = morphot("field", paths["a"], paths["b"], "-o", tmp_path / "x", *twice)
    assert done.code == 2
    assert "mask.mrc' was given twice" in done.err
    assert not (tmp_path / "x").exists()

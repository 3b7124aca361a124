"""Displacement fields: what they say of rigid motions that are known, and what the command leaves."""

import csv
import json

import numpy as np
import pytest
from conftest import blob, volume_of
from scipy.spatial.transform import Rotation
from test_align import balls
from test_cli import morphot

from morphot_jax import Volume, displacement_field, prepare_maps, read_volume, write_volume
from morphot_jax.errors import InputError
from morphot_jax.field import arrows, domain_of, field_maps, magnitude
from morphot_jax.grids import places_of
from morphot_jax.pose import Pose

SHAPE = (12, 13, 14)


def rigid_field(volume, pose):
    """The field of a rigid motion, in closed form."""
    indices = np.argwhere(volume.data > 0)
    points = places_of(volume, indices)
    field = np.full((3, *volume.shape), np.nan)
    field[:, *indices.T] = (pose.carried(points) - points)[:, ::-1].T
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


def test_a_mask_tells_parts_apart(body):
    one = Pose(np.eye(3), np.array([3.0, 0.0, 0.0]))
    other = Pose(Rotation.from_rotvec([0.0, 0.0, 0.3]).as_matrix(), np.zeros(3))
    left = np.zeros(SHAPE)
    left[:, :, :7] = 1.0
    field = np.where(left > 0, rigid_field(body, one), rigid_field(body, other))
    first, second = (domain_of(field, body, name, mask) for name, mask in (("l", left), ("r", 1.0 - left)))
    assert first.share + second.share == pytest.approx(1.0)
    assert first.mean == pytest.approx((3.0, 0.0, 0.0))
    assert first.pose.degrees == pytest.approx(0.0, abs=1e-6)
    assert second.pose.degrees == pytest.approx(np.degrees(0.3))
    with pytest.raises(InputError, match="'nothing' holds 0 voxels"):
        domain_of(field, body, "nothing", np.zeros(SHAPE))


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


@pytest.mark.slow
def test_a_shifted_body_is_seen_to_shift_and_a_turned_one_to_turn_about_its_axis():
    """From two maps alone. Transport takes short cuts, so that a turn looks smaller than it is."""
    points = np.array([[0, 0, 0], [12, 2, -3], [-11, 6, 5], [4, -13, 8], [-5, -6, -12], [7, 9, 11]], float)
    axis = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    shift = np.array([3.0, 2.0, -4.0])
    for degrees in (0.0, 15.0):
        pose = Pose(Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix(), shift)
        first, last = (balls(p, side=40, voxel=1.6, origin=(-31.2,) * 3) for p in (points, pose.carried(points)))
        prepared = prepare_maps([first, last], level=0.2)
        found = domain_of(displacement_field(prepared), prepared.volumes[0], "all")
        if degrees == 0.0:
            np.testing.assert_allclose(found.mean, shift, atol=0.1)
            assert found.pose.degrees < 1.0
        else:
            assert np.degrees(np.arccos(found.pose.axis @ axis)) < 4.5
            assert 10.0 < found.pose.degrees < 15.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("field")
    paths = {}
    mask = np.zeros((20, 20, 20))
    mask[:, :, :10] = 1.0
    contents = {"a": blob((20, 20, 20), (9, 10, 8), 2.0, 1e-4), "b": blob((20, 20, 20), (11, 10, 11), 2.0, 1e-4)}
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
    told = json.loads((out / "field.json").read_text(encoding="utf-8"))
    assert told["domains"][0]["mean_x"] == pytest.approx(6.0, rel=0.02)
    assert 0 < float(rows[1]["share_of_mass"]) < 1
    lines = (out / "field.bild").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(".arrow ") for line in lines) > 20
    assert (out / "displacement.png").stat().st_size > 5000
    assert "open displacement.mrc" in (out / "field.cxc").read_text(encoding="utf-8")
    assert "slides" in done.err


def test_a_field_is_between_two_maps(run, tmp_path):
    paths, _, _ = run
    done = morphot("field", paths["a"], "-o", tmp_path / "x")
    assert done.code == 2
    done = morphot("field", paths["a"], paths["b"], "-o", tmp_path / "x", "--domain", "gone.mrc")
    assert done.code == 2
    assert "gone.mrc" in done.err
    assert not (tmp_path / "x").exists()

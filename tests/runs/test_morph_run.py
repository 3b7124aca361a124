"""One run from maps to a folder, from Python: what it reads, replaces, removes and leaves alone."""

import csv
import hashlib
import json
import struct

import numpy as np
import pytest

from morphot_jax.cli.terminal import Terminal
from morphot_jax.maps.load import describe_map, load
from morphot_jax.maps.mrc import read_volume, write_volume
from morphot_jax.maps.samples import sample_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.runs import morph_run as running
from morphot_jax.runs.folder import FOLDER, RUN
from morphot_jax.runs.morph_run import run_morph
from morphot_jax.runs.request import Request
from morphot_jax.system.errors import InputError

PICTURES = "frames", "slices", "surfaces", "along"
SHAPE = (8, 10, 12)
FOLDERS = "plain", "certified"
LINEAR = Settings(method="linear", frames=2)


def blob(centre, width=1.5, height=1.0):
    distance2 = sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), centre, strict=True))
    density = height * np.exp(-distance2 / (2 * width**2))
    return np.where(density > 1e-3 * height, density, 0).astype(np.float32)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two overlapping blobs of different mass."""
    folder = tmp_path_factory.mktemp("maps")
    for name, data in (("a", blob((3, 4, 5))), ("b", blob((4, 5, 7), height=2.0))):
        write_volume(Volume(data, (2.0, 2.0, 2.0), (1.0, -2.0, 3.0)), folder / f"{name}.mrc")
    return [str(folder / "a.mrc"), str(folder / "b.mrc")]


def run(maps, output, settings=LINEAR, **options):
    request = Request(maps=maps, output=output, command="morphot morph", **options)
    return run_morph(request, settings, Terminal(quiet=True))


def content(folder):
    """The files of a folder but for the run's own records."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(FOLDER)}


def reported(folder):
    return json.loads((folder / "report.json").read_text())


# Reading


def test_map_is_loaded_with_its_checksum(maps):
    item = load(maps[0])
    with open(maps[0], "rb") as file:
        assert item.sha256 == hashlib.sha256(file.read()).hexdigest()
    assert item.name == maps[0]
    np.testing.assert_array_equal(item.volume.data, blob((3, 4, 5)))
    assert load(maps[0], 3.5).volume.voxel_size == (3.5, 3.5, 3.5)


def test_sample_is_loaded_without_a_checksum():
    item = load("sample:adk-open")
    assert (item.name, item.sha256) == ("sample:adk-open", None)
    np.testing.assert_array_equal(item.volume.data, sample_volume("adk-open").data)


def test_description_of_a_map_is_what_was_written(maps):
    entry, data = describe_map(maps[1]), blob((4, 5, 7), height=2.0)
    assert (entry["path"], entry["sha256"]) == (maps[1], load(maps[1]).sha256)
    assert (entry["shape_zyx"], entry["voxel_size_xyz"]) == ([8, 10, 12], [2.0, 2.0, 2.0])
    assert (entry["origin_xyz"], entry["nstart_xyz"]) == ([1.0, -2.0, 3.0], [0, 0, 0])
    assert (entry["mode"], entry["byte_order"], entry["axis_order"]) == (2, "little", [1, 2, 3])
    assert (entry["minimum"], entry["maximum"]) == (0.0, data.max())
    assert entry["mass"] == pytest.approx(data.sum(dtype=float))
    assert entry["mean"] == pytest.approx(data.mean(dtype=float))
    assert entry["sd"] == pytest.approx(data.std(dtype=float))
    assert entry["negative_share"] == 0.0
    assert entry["nonzero_share"] == pytest.approx((data > 0).mean())
    assert entry["nonfinite_voxels"] == 0
    json.dumps(entry, allow_nan=False)


def test_description_counts_negative_voxels(tmp_path):
    data = np.array([-1, 0, 2, 3, -4, 0, 0, 5], np.float32).reshape(2, 2, 2)
    write_volume(Volume(data, (1.0, 1.0, 1.0)), tmp_path / "map.mrc")
    entry = describe_map(str(tmp_path / "map.mrc"))
    assert (entry["negative_share"], entry["nonzero_share"]) == (0.25, 0.625)
    assert (entry["minimum"], entry["maximum"], entry["mass"]) == (-4.0, 5.0, 5.0)


def test_description_of_a_map_without_voxel_size_invents_none(tmp_path):
    path = tmp_path / "map.mrc"
    write_volume(Volume(np.ones((2, 3, 4), np.float32), (2.0, 2.0, 2.0), (10.0, 0.0, 0.0), (5, 0, 0)), path)
    header = bytearray(path.read_bytes())
    header[40:52] = struct.pack("<3f", 0, 0, 0)  # the cell
    path.write_bytes(header)
    entry = describe_map(str(path))
    assert (entry["voxel_size_xyz"], entry["nstart_xyz"]) == ([0.0, 0.0, 0.0], [5, 0, 0])
    assert entry["origin_xyz"] == [0.0, 0.0, 0.0]  # nstart times an unknown voxel size is no place


def test_description_of_a_map_with_voxels_that_are_no_numbers(tmp_path):
    path = tmp_path / "map.mrc"
    write_volume(Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), (2.0, 2.0, 2.0)), path)
    content = bytearray(path.read_bytes())
    content[-8:] = struct.pack("<2f", np.nan, np.inf)
    path.write_bytes(content)
    entry = describe_map(str(path))
    assert entry["nonfinite_voxels"] == 2
    assert (entry["minimum"], entry["maximum"], entry["mass"], entry["mean"]) == (0.0, 21.0, 231.0, 10.5)
    content[-96:] = struct.pack("<f", np.nan) * 24
    path.write_bytes(content)
    entry = describe_map(str(path))
    assert (entry["nonfinite_voxels"], entry["minimum"], entry["mass"]) == (24, None, None)
    json.dumps(entry, allow_nan=False)


def test_description_of_a_sample():
    entry = describe_map("sample:adk-closed")
    assert (entry["path"], entry["shape_zyx"]) == ("sample:adk-closed", [64, 64, 64])
    assert "sha256" not in entry


# Writing


def test_frames_of_a_run_are_those_of_its_trajectory(maps, tmp_path):
    trajectory = run(maps, tmp_path / "out", Settings(method="linear", frames=3))
    for index, frame in enumerate(reported(tmp_path / "out")["frames"]):
        volume = read_volume(tmp_path / "out" / frame["file"])
        np.testing.assert_array_equal(volume.data, trajectory.densities[index])
        assert frame["mass"] == pytest.approx(volume.mass, rel=1e-12)
        assert (volume.voxel_size, volume.origin) == ((2.0, 2.0, 2.0), (1.0, -2.0, 3.0))


def test_output_folder_is_made_with_those_above_it(maps, tmp_path):
    run(maps, tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "vol_001.mrc").is_file()


def test_times_of_the_parts_add_up_to_less_than_the_whole(maps, tmp_path):
    run(maps, tmp_path / "out", Settings(sigma=1.0, frames=2))
    seconds = reported(tmp_path / "out")["seconds"]
    assert set(seconds) == {"read", "prepare", "compile", "solve", "write", "total"}
    assert min(seconds.values()) >= 0
    assert sum(seconds.values()) - seconds["total"] <= seconds["total"]


def test_sha256_of_the_inputs_is_reported(maps, tmp_path):
    run(maps, tmp_path / "out")
    assert [entry["sha256"] for entry in reported(tmp_path / "out")["inputs"]] == [load(m).sha256 for m in maps]


def test_memory_given_is_kept(maps, tmp_path):
    trajectory = run(maps, tmp_path / "out", Settings(sigma=1.0, frames=2, memory=1))
    assert trajectory.settings.memory == 1
    assert trajectory.plan.batch == 1


# Overwriting


def test_folder_that_holds_something_is_refused_and_left_alone(maps, tmp_path):
    run(maps, tmp_path)
    before = content(tmp_path)
    with pytest.raises(InputError, match="not empty"):
        run(maps, tmp_path)
    assert content(tmp_path) == before


@pytest.mark.figures
def test_overwriting_removes_frames_of_a_longer_run_and_nothing_else(maps, tmp_path):
    run(maps, tmp_path, Settings(method="linear", frames=5))
    strangers = {"notes.txt": b"mine", "vol_099.mrc": b"unreported", "vol_1.mrc": b"", "figures/own.png": b"art"}
    for name, held in strangers.items():
        (tmp_path / name).write_bytes(held)
    run(maps, tmp_path, Settings(method="linear", frames=2), overwrite=True)
    after = content(tmp_path)
    ours = {"vol_000.mrc", "vol_001.mrc", "report.json", "metrics.csv", "view.cxc", "viewer.html", "run.log"}
    ours |= {f"figures/{name}.{kind}" for name in PICTURES for kind in ("png", "svg")}
    assert set(after) == ours | set(strangers)
    assert {name: after[name] for name in strangers} == strangers
    assert len(reported(tmp_path)["frames"]) == 2


def test_overwriting_replaces_with_what_a_fresh_run_gives(maps, tmp_path):
    run(maps[::-1], tmp_path / "old", Settings(method="linear", frames=3))
    run(maps, tmp_path / "old", Settings(method="linear", frames=3), overwrite=True)
    run(maps, tmp_path / "new", Settings(method="linear", frames=3))
    old, new = content(tmp_path / "old"), content(tmp_path / "new")
    for name in ("report.json", "run.log"):  # they hold times
        del old[name], new[name]
    assert old == new


def test_overwriting_leaves_no_table_or_picture_of_another_run(maps, tmp_path):
    run(maps, tmp_path, Settings(sigma=1.0, frames=2, iterations=2))
    assert (tmp_path / "convergence.csv").exists()
    run(maps, tmp_path, overwrite=True)
    assert not (tmp_path / "convergence.csv").exists()
    assert not list((tmp_path / "figures").glob("convergence.*"))


@pytest.mark.parametrize(
    "names",
    [
        ["../victim.mrc"],
        ["../vol_007.mrc"],
        ["{absolute}"],
        ["figures/../../vol_007.mrc"],
        [""],
        5,
        None,
    ],
)
def test_hostile_record_removes_nothing(maps, tmp_path, names):
    out = tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    victims = [tmp_path / "victim.mrc", tmp_path / "vol_007.mrc", out / "notes.txt"]
    for victim in victims:
        victim.write_bytes(b"precious")
    files = names
    if isinstance(names, list):
        files = {name.format(absolute=tmp_path / "vol_007.mrc"): None for name in names}
    record = {"fingerprint": "a", "finished": True, "writer": "0" * 16, "files": files}
    (out / FOLDER / RUN).write_text(json.dumps(record))
    run(maps, out, overwrite=True)
    assert [victim.read_bytes() for victim in victims] == [b"precious"] * 3


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": 5}', '{"writer": [1]}', "[" * 100_000, "\xff"])
def test_earlier_record_that_is_none_does_not_matter(maps, tmp_path, text):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / RUN).write_text(text, encoding="latin-1")
    (tmp_path / "vol_005.mrc").write_bytes(b"precious")
    run(maps, tmp_path, overwrite=True)
    assert (tmp_path / "vol_005.mrc").read_bytes() == b"precious"
    assert len(reported(tmp_path)["frames"]) == 2


def test_folder_named_as_an_earlier_frame_is_left_alone(maps, tmp_path):
    run(maps, tmp_path, Settings(method="linear", frames=6))
    (tmp_path / "vol_005.mrc").unlink()
    (tmp_path / "vol_005.mrc").mkdir()
    (tmp_path / "vol_005.mrc" / "kept").touch()
    with pytest.raises(InputError, match=r"vol_005.mrc' is not as an earlier run wrote it"):
        run(maps, tmp_path, overwrite=True)
    assert (tmp_path / "vol_005.mrc" / "kept").exists()


def test_frames_of_an_earlier_run_may_be_the_maps_of_the_next(maps, tmp_path):
    first = run(maps, tmp_path, Settings(method="linear", frames=3))
    ends = [str(tmp_path / "vol_000.mrc"), str(tmp_path / "vol_002.mrc")]
    second = run(ends, tmp_path / "next", Settings(method="linear", frames=3))
    np.testing.assert_allclose(second.densities, first.densities, rtol=1e-5, atol=1e-6)


# Failing


@pytest.mark.parametrize("error", [InputError("bad"), KeyboardInterrupt()])
def test_failure_while_solving_leaves_no_folder(maps, tmp_path, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(running, "morph", fail)
    with pytest.raises(type(error)):
        run(maps, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frame_that_does_not_converge_is_written_and_said(maps, tmp_path):
    trajectory = run(maps, tmp_path, Settings(method="barycenter", sigma=0.7, frames=3, max_iterations=2))
    assert not trajectory.complete
    frames = reported(tmp_path)["frames"]
    assert [frame["status"] for frame in frames] == ["converged", "max_iterations", "converged"]
    assert frames[1]["iterations"] == 2
    assert read_volume(tmp_path / "vol_001.mrc").mass > 0
    (line,) = [line for line in reported(tmp_path)["warnings"] if "max_iterations" in line]
    assert line.startswith("1 of 3 frames")


@pytest.mark.parametrize(
    ("kernel", "precision"), [("truncated", "double"), ("dense", "single"), ("fft", "double")]
)
def test_maps_out_of_reach_are_reported_and_every_file_is_written(tmp_path, kernel, precision):
    for name, centre in (("a", (1, 1, 1)), ("b", (6, 8, 10))):
        data = np.zeros(SHAPE, np.float32)
        data[centre] = 1
        write_volume(Volume(data, (2.0, 2.0, 2.0)), tmp_path / f"{name}.mrc")
    settings = Settings(sigma=0.3, frames=3, kernel=kernel, precision=precision, max_iterations=20)
    trajectory = run([str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")], tmp_path / "out", settings)
    assert not trajectory.complete
    statuses = [frame["status"] for frame in reported(tmp_path / "out")["frames"]]
    assert statuses == ["converged", "infeasible", "converged"]
    for index in range(3):
        assert np.isfinite(read_volume(tmp_path / "out" / f"vol_{index:03d}.mrc").data).all()
    assert any(
        "infeasible" in line and "does not reach" in line for line in reported(tmp_path / "out")["warnings"]
    )
    with open(tmp_path / "out" / "metrics.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == statuses


# Certificates


def test_a_certificate_is_reported_and_changes_no_frame(maps, tmp_path):
    run(maps, tmp_path / "plain")
    run(maps, tmp_path / "certified", certify=True)
    frames = [{n: data for n, data in content(tmp_path / name).items() if n.endswith(".mrc")} for name in FOLDERS]
    assert frames[0] == frames[1]
    assert "certificate" not in reported(tmp_path / "plain")
    report = reported(tmp_path / "certified")
    found = report["certificate"]
    assert set(found) == {
        *("lower", "upper", "lower_angstrom2", "upper_angstrom2", "gap", "sigma", "iterations", "seconds")
    }
    assert 0 < found["lower"] <= found["upper"]
    assert found["upper_angstrom2"] == pytest.approx(4.0 * found["upper"])  # voxels of 2 Å
    assert found["gap"] <= 0.01
    assert "certify" in report["seconds"]
    assert "true transport cost: between" in (tmp_path / "certified" / "run.log").read_text()


def test_a_finished_run_gets_its_certificate_later(maps, tmp_path):
    run(maps, tmp_path / "out")
    before = content(tmp_path / "out")
    run(maps, tmp_path / "out", resume=True, certify=True)
    found = reported(tmp_path / "out")["certificate"]
    assert found["lower"] <= found["upper"]
    after = content(tmp_path / "out")
    assert all(after[name] == data for name, data in before.items() if name.endswith(".mrc"))
    assert run(maps, tmp_path / "out", resume=True, certify=True) is None


def test_a_certificate_is_about_two_maps(maps, tmp_path):
    with pytest.raises(InputError, match="certify is about two maps, and 3 were given"):
        run([*maps, maps[0]], tmp_path / "out", certify=True)

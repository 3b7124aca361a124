"""The command ``morphot`` as people use it: exit codes, messages, and the files in the folder."""

import json
import os
import shlex
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import mrcfile
import numpy as np
import pytest
from matplotlib.image import imread
from typer.main import get_command

import morphot_jax
from helpers import REPORT_KEYS, ROOT, SHARED_DATA, morphot, table
from morphot_jax.cli import main
from morphot_jax.cli.examples import EXAMPLES
from morphot_jax.maps.metrics import compare_maps
from morphot_jax.maps.mrc import read_volume, write_volume
from morphot_jax.maps.samples import sample_atoms
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.preparation import Preparation

SHAPE, VOXEL_SIZE, ORIGIN = (8, 10, 12), (2.0, 2.0, 2.0), (1.0, -2.0, 3.0)
FRAME_KEYS = {"index", "time", "file", "mass", "marginal_error", "iterations", "status"}
PICTURES = "frames", "slices", "surfaces", "along", "convergence"
INPUT_KEYS = {"path", "sha256", "shape", "voxel_size", "origin", "mass"}


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def content(folder):
    """Every file below a folder, byte for byte, and every folder."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def blob(centre, width=1.5, height=1.0, shape=SHAPE):
    distance2 = sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True))
    density = height * np.exp(-distance2 / (2 * width**2))
    return np.where(density > 1e-3 * height, density, 0).astype(np.float32)


def patched(path, source, offset, replacement):
    data = bytearray(Path(source).read_bytes())
    data[offset : offset + len(replacement)] = replacement
    path.write_bytes(data)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Good maps (a, b, c and others on grids of their own) and bad ones, by name."""
    folder = tmp_path_factory.mktemp("maps")
    first = Volume(blob((3, 4, 5)), VOXEL_SIZE, ORIGIN)
    volumes = {
        "a": first,
        "b": first.with_data(blob((4, 5, 7), height=2.0)),
        "c": first.with_data(blob((4, 6, 5), height=3.0)),
        "coarse": Volume(blob((2, 2, 2), shape=(5, 5, 5)), (4.0, 4.0, 4.0), ORIGIN),
        "moved": Volume(first.data, VOXEL_SIZE, (1.0, -2.0, 13.0)),
        "zero": first.with_data(np.zeros(SHAPE, np.float32)),
        "negative": first.with_data(-1 - first.data),
        "noisy": first.with_data(first.data - np.float32(0.01)),
        "oblique": Volume(first.data, VOXEL_SIZE, ORIGIN, (0, 0, 0), (90.0, 100.0, 90.0)),
    }
    paths = {name: folder / f"{name}.mrc" for name in (*volumes, "text", "short", "nan", "inf", "nosize", "none")}
    for name, volume in volumes.items():
        write_volume(volume, paths[name])
    paths["text"].write_text("x y z\n" * 1000)
    paths["short"].write_bytes(paths["a"].read_bytes()[:-1])
    patched(paths["nan"], paths["a"], 1024, struct.pack("<f", float("nan")))
    patched(paths["inf"], paths["a"], 1024, struct.pack("<f", float("inf")))
    patched(paths["nosize"], paths["a"], 40, bytes(12))  # the cell
    paths["corrupt"] = SHARED_DATA / "io" / "sfftk_corrupt_header.map"
    paths["monoclinic"] = SHARED_DATA / "io" / "5i55_tiny.ccp4"
    return paths


@pytest.fixture(scope="module")
def solved(maps, tmp_path_factory):
    """One run of three barycenters, for the tests that look at different parts of it."""
    out = tmp_path_factory.mktemp("runs") / "out"
    options = "--method", "barycenter", "--frames", 3, "--sigma", 1
    done = morphot("morph", maps["a"], maps["b"], "-o", out, *options)
    return SimpleNamespace(out=out, code=done.code, stdout=done.out, stderr=done.err)


def linear(maps, out, *options, names=("a", "b")):
    return morphot("morph", *(maps[name] for name in names), "-o", out, "--method", "linear", *options)


# morph


def test_morph_leaves_every_file_of_the_contract(solved):
    assert solved.code == 0
    records = {f".morphot/{name}" for name in ("lock", "run.json", "000.json", "001.json", "002.json")}
    assert set(content(solved.out)) - records - {".morphot"} == {
        "vol_000.mrc",
        "vol_001.mrc",
        "vol_002.mrc",
        "report.json",
        "metrics.csv",
        "convergence.csv",
        "view.cxc",
        "viewer.html",
        "run.log",
        "figures",
        *(f"figures/{name}.{kind}" for name in PICTURES for kind in ("png", "svg")),
    }


def test_morph_speaks_on_standard_error_only(solved):
    assert solved.stdout == ""
    assert "3 frames" in solved.stderr
    assert "Traceback" not in solved.stderr


def test_frames_are_valid_maps_in_their_place(solved):
    masses = [entry["mass"] for entry in report(solved.out)["inputs"]]
    assert masses[1] == pytest.approx(2 * masses[0], rel=1e-3)
    for index, time in enumerate((0.0, 0.5, 1.0)):
        path = solved.out / f"vol_{index:03d}.mrc"
        with open(os.devnull, "w") as nowhere:
            assert mrcfile.validate(path, print_file=nowhere)
        with mrcfile.open(path) as file:
            assert file.header.mode == 2
            assert file.voxel_size.item() == VOXEL_SIZE
            assert file.header.origin.item() == ORIGIN
            assert file.data.shape == SHAPE
            expected = (1 - time) * masses[0] + time * masses[1]
            assert file.data.sum(dtype=float) == pytest.approx(expected, rel=1e-5)


def test_first_frame_looks_like_the_first_map_and_last_like_the_last(solved, maps):
    a, b = (read_volume(maps[name]).data for name in ("a", "b"))
    frames = [read_volume(solved.out / f"vol_{index:03d}.mrc").data for index in range(3)]
    for frame, near, far in ((frames[0], a, b), (frames[2], b, a)):
        assert compare_maps(frame, near)["correlation"] > 0.95 > compare_maps(frame, far)["correlation"]
    centre = np.average(np.indices(SHAPE)[2], weights=frames[1])
    assert centre == pytest.approx(6.0, abs=0.1)  # half-way from 5 to 7 along x


def test_report_has_every_key_of_the_contract(solved, maps):
    found = report(solved.out)
    assert set(found) >= REPORT_KEYS
    assert found["version"] == morphot_jax.__version__
    expected = ["morphot", "morph", maps["a"], maps["b"], "-o", solved.out, "--method", "barycenter"]
    expected += ["--frames", 3, "--sigma", 1]
    assert shlex.split(found["command"]) == [str(part) for part in expected]
    assert [set(entry) >= INPUT_KEYS for entry in found["inputs"]] == [True, True]
    assert [set(entry) >= FRAME_KEYS for entry in found["frames"]] == [True] * 3
    assert set(found["settings"]) == {field.name for field in fields(Settings)} | {"preparation", "resolved"}
    assert set(found["settings"]["preparation"]) == {field.name for field in fields(Preparation)} | {"voxel_size"}
    assert set(found["seconds"]) >= {"read", "prepare", "compile", "solve", "write", "total"}
    assert found["device"]
    assert found["peak_memory_bytes"] > 2**20


def test_report_says_what_was_read_and_what_was_solved(solved, maps):
    found = report(solved.out)
    first = found["inputs"][0]
    assert (first["path"], first["shape"]) == (str(maps["a"]), list(SHAPE))
    assert (first["voxel_size"], first["origin"]) == (list(VOXEL_SIZE), list(ORIGIN))
    assert len(first["sha256"]) == 64
    assert [frame["file"] for frame in found["frames"]] == ["vol_000.mrc", "vol_001.mrc", "vol_002.mrc"]
    assert [frame["time"] for frame in found["frames"]] == [0.0, 0.5, 1.0]
    assert [frame["status"] for frame in found["frames"]] == ["converged"] * 3
    assert all(frame["marginal_error"] <= 1e-6 for frame in found["frames"])
    resolved = found["settings"]["resolved"]
    assert (found["settings"]["sigma"], resolved["sigma_voxels_zyx"]) == (1.0, [1.0, 1.0, 1.0])
    assert (resolved["kernel"], resolved["precision"], found["precision"]) == ("dense", "double", "double")
    assert resolved["batch"] >= 1


def test_tables_agree_with_the_report(solved):
    frames = report(solved.out)["frames"]
    metrics, convergence = table(solved.out / "metrics.csv"), table(solved.out / "convergence.csv")
    assert [float(row["time"]) for row in metrics] == [frame["time"] for frame in frames]
    assert [float(row["mass"]) for row in metrics] == [frame["mass"] for frame in frames]
    assert len(convergence) == sum(frame["iterations"] for frame in frames)
    last = {row["frame"]: float(row["marginal_error"]) for row in convergence}
    for frame in frames:
        assert last[str(frame["index"])] == pytest.approx(frame["marginal_error"], rel=1e-5)


def test_pictures_and_script_can_be_opened(solved):
    for name in PICTURES:
        assert imread(solved.out / "figures" / f"{name}.png").ndim == 3
        assert (solved.out / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
    assert "open vol_000.mrc vol_001.mrc vol_002.mrc vseries true" in (solved.out / "view.cxc").read_text()


def test_samples_need_no_file(tmp_path):
    done = morphot(
        "morph", "sample:adk-open", "sample:adk-closed", "--grid", 16, "--frames", 3, "-o", tmp_path / "out"
    )
    found = report(tmp_path / "out")
    assert done.code == 0
    assert [entry["sha256"] for entry in found["inputs"]] == [None, None]
    assert any("resampled" in line for line in found["actions"])
    assert "\nall maps resampled" in f"\n{done.err}"  # information: a plain line
    assert read_volume(tmp_path / "out" / "vol_001.mrc").shape == (16, 16, 16)
    assert read_volume(tmp_path / "out" / "vol_001.mrc").voxel_size == (6.0, 6.0, 6.0)


@pytest.mark.figures
def test_frame_that_does_not_converge_gives_one_and_every_file(maps, tmp_path):
    done = morphot(
        *("morph", maps["a"], maps["b"], "-o", tmp_path, "--method", "barycenter"),
        *("--sigma", 1, "--frames", 3, "--max-iterations", 2),
    )
    assert done.code == 1
    assert [frame["status"] for frame in report(tmp_path)["frames"]] == [
        "converged",
        "max_iterations",
        "converged",
    ]
    assert any("max_iterations" in line for line in report(tmp_path)["warnings"])
    assert "1 of 3 frames ended as max_iterations" in done.err
    assert set(content(tmp_path)) >= {"vol_002.mrc", "metrics.csv", "view.cxc", "figures/frames.png"}


def test_exact_iterations_are_made_and_give_zero(maps, tmp_path):
    options = "--method", "barycenter", "--sigma", 1, "--frames", 3, "--iterations", 7
    done = morphot("morph", maps["a"], maps["b"], "-o", tmp_path, *options)
    assert done.code == 0
    frames = report(tmp_path)["frames"]
    assert [(frame["status"], frame["iterations"]) for frame in frames[1:2]] == [("fixed_iterations", 7)]
    assert {frame["iterations"] for frame in frames} == {7}
    assert len(table(tmp_path / "convergence.csv")) == 21


def test_times_are_taken_as_given(maps, tmp_path):
    assert linear(maps, tmp_path, "--times", "0.75,0,0.25").code == 0
    assert [frame["time"] for frame in report(tmp_path)["frames"]] == [0.75, 0.0, 0.25]
    a, b = (read_volume(maps[name]).data for name in ("a", "b"))
    frames = [read_volume(tmp_path / f"vol_{index:03d}.mrc").data for index in range(3)]
    np.testing.assert_allclose(frames[0], 0.25 * a + 0.75 * b, rtol=1e-6)
    np.testing.assert_array_equal(frames[1], a)


def test_one_time_is_enough(maps, tmp_path):
    assert linear(maps, tmp_path, "--times", "0.5").code == 0
    assert len(report(tmp_path)["frames"]) == 1


@pytest.mark.parametrize(
    ("rate", "second"),
    [("linear", 0.25), ("sinusoidal", 0.1464466), ("ramp-up", 0.0761205), ("ramp-down", 0.3826834)],
)
def test_rate_sets_the_times(maps, tmp_path, rate, second):
    assert linear(maps, tmp_path, "--frames", 5, "--rate", rate).code == 0
    times = [frame["time"] for frame in report(tmp_path)["frames"]]
    assert times[1] == pytest.approx(second, abs=1e-7)
    assert (times[0], times[-1]) == (0.0, 1.0)
    np.testing.assert_array_equal(
        read_volume(tmp_path / "vol_004.mrc").data, read_volume(maps["b"]).data
    )  # the last map itself


def test_linear_frames_are_weighted_means(maps, tmp_path):
    assert linear(maps, tmp_path, "--frames", 3).code == 0
    a, b = (read_volume(maps[name]).data for name in ("a", "b"))
    frames = [read_volume(tmp_path / f"vol_{index:03d}.mrc").data for index in range(3)]
    for frame, expected in zip(frames, (a, (a + b) / 2, b), strict=True):
        np.testing.assert_allclose(frame, expected, rtol=1e-6, atol=1e-9)
    assert report(tmp_path)["settings"]["resolved"] == {}
    assert not (tmp_path / "convergence.csv").exists()


def test_mixed_frames_are_means_of_barycenters(maps, tmp_path, solved):
    options = "--method", "mixed", "--keyframes", 3, "--frames", 5, "--sigma", 1
    assert morphot("morph", maps["a"], maps["b"], "-o", tmp_path, *options).code == 0
    frames = [read_volume(tmp_path / f"vol_{index:03d}.mrc").data for index in range(5)]
    keys = [read_volume(solved.out / f"vol_{index:03d}.mrc").data for index in range(3)]
    for mixed, key in zip(frames[::2], keys, strict=True):
        np.testing.assert_allclose(mixed, key, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(frames[1], (frames[0] + frames[2]) / 2, rtol=1e-5, atol=1e-7)


def test_three_maps_are_a_sequence(maps, tmp_path):
    assert linear(maps, tmp_path, "--frames", 5, names="abc").code == 0
    a, b, c = (read_volume(maps[name]).data for name in "abc")
    frames = [read_volume(tmp_path / f"vol_{index:03d}.mrc").data for index in range(5)]
    for frame, expected in zip(frames, (a, (a + b) / 2, b, (b + c) / 2, c), strict=True):
        np.testing.assert_allclose(frame, expected, rtol=1e-6, atol=1e-9)
    assert len(report(tmp_path)["inputs"]) == 3


def test_barycenters_of_three_maps_pass_through_the_second(maps, tmp_path):
    done = morphot(
        "morph", maps["a"], maps["b"], maps["c"], "-o", tmp_path, "--frames", 3, "--sigma", 1, "--batch", 1
    )
    assert done.code == 0
    middle = read_volume(tmp_path / "vol_001.mrc")
    b = read_volume(maps["b"])
    assert middle.mass == pytest.approx(b.mass, rel=1e-3)
    assert compare_maps(middle.data, b.data)["correlation"] > 0.95


def test_level_cuts_what_lies_below_it(maps, tmp_path):
    assert linear(maps, tmp_path, "--frames", 2, "--level", "0.5,1.5").code == 0
    for name, index, level in (("a", 0, 0.5), ("b", 1, 1.5)):
        data = read_volume(maps[name]).data
        frame = read_volume(tmp_path / f"vol_{index:03d}.mrc").data
        np.testing.assert_array_equal(frame, np.where(data >= level, data, 0))
    assert sum("below the level" in line for line in report(tmp_path)["actions"]) == 2


def test_negative_voxels_are_cut_and_said(maps, tmp_path):
    done = linear(maps, tmp_path, "--frames", 2, names=("noisy", "b"))
    assert done.code == 0
    data = read_volume(maps["noisy"]).data
    (line,) = [line for line in report(tmp_path)["actions"] if "negative" in line]
    assert f"{(data < 0).sum()} voxels" in line
    assert str(maps["noisy"]) in line
    assert line in done.err.splitlines()
    np.testing.assert_array_equal(read_volume(tmp_path / "vol_000.mrc").data, np.maximum(data, 0))


def test_map_on_another_grid_is_resampled_and_said(maps, tmp_path):
    done = linear(maps, tmp_path, "--frames", 2, names=("a", "coarse"))
    assert done.code == 0
    line, other = report(tmp_path)["warnings"]  # a part of it lies outside the first map's box
    assert "looks like map 1" in other  # the same blob, with voxels of twice the size
    assert f"({maps['coarse']}) resampled" in line
    assert f"warning: {line}" in done.err.splitlines()
    assert read_volume(tmp_path / "vol_001.mrc").shape == SHAPE


def test_apix_stands_in_for_a_missing_voxel_size(maps, tmp_path):
    assert linear(maps, tmp_path, "--frames", 2, "--apix", 1.5, names=("nosize", "nosize")).code == 0
    assert read_volume(tmp_path / "vol_000.mrc").voxel_size == (1.5, 1.5, 1.5)


def test_sigma_in_angstrom_is_divided_by_the_voxel_size(maps, tmp_path):
    options = "--sigma-angstrom", 3, "--times", "0.5", "--iterations", 1
    assert morphot("morph", maps["a"], maps["b"], "-o", tmp_path, *options).code == 0
    assert report(tmp_path)["settings"]["resolved"]["sigma_voxels_zyx"] == [1.5, 1.5, 1.5]


def test_quiet_says_nothing(maps, tmp_path):
    done = linear(maps, tmp_path, "--frames", 2, "-q", names=("noisy", "b"))
    assert (done.code, done.out, done.err) == (0, "", "")


def test_summary_groups_frames_and_verbose_lists_all(maps, tmp_path):
    brief = linear(maps, tmp_path / "brief", "--frames", 40)
    verbose = linear(maps, tmp_path / "verbose", "--frames", 40, "-v")
    assert [done.err.count(" converged") for done in (brief, verbose)] == [1, 40]
    assert str(maps["a"]) in verbose.err
    assert brief.out == verbose.out == ""


def test_overwriting_replaces_and_keeps_strangers(maps, tmp_path):
    assert linear(maps, tmp_path, "--frames", 4).code == 0
    (tmp_path / "notes.txt").write_text("mine")
    done = linear(maps, tmp_path, "--frames", 2, "--overwrite", names=("b", "a"))
    assert done.code == 0
    frames = {path.name for path in tmp_path.glob("vol_*")}
    assert frames == {"vol_000.mrc", "vol_001.mrc"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    np.testing.assert_array_equal(read_volume(tmp_path / "vol_000.mrc").data, read_volume(maps["b"]).data)
    assert len(report(tmp_path)["frames"]) == len(table(tmp_path / "metrics.csv")) == 2


def test_original_recipe_gives_the_original_frame(tmp_path):
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real maps at {SHARED_DATA}")
    ends = SHARED_DATA / "mmcpn_closed_64.mrc", SHARED_DATA / "mmcpn_open_64.mrc"
    recipe = (
        "--times 0.5 --kernel truncated --sigma 0.4 --relaxation 1 --iterations 20 --level none --mass original"
    )
    assert morphot("morph", *ends, "-o", tmp_path, *recipe.split()).code == 0
    theirs = mrcfile.read(SHARED_DATA / "mmcpn_morphot_t050.mrc").astype(np.float64)
    ours = read_volume(tmp_path / "vol_000.mrc").data
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)
    assert report(tmp_path)["frames"][0]["status"] == "fixed_iterations"


@pytest.mark.figures
@pytest.mark.parametrize("voxel_size", [0.02, 900.0])
def test_voxel_size_in_another_unit_does_not_break_the_pictures(maps, tmp_path, voxel_size):
    done = linear(maps, tmp_path, "--frames", 2, "--apix", voxel_size)
    assert done.code == 0
    assert imread(tmp_path / "figures" / "frames.png").ndim == 3


# Bad input and usage: one line, exit code 2, nothing written

NO_GPU = pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here")
BAD = {
    # arguments, and what the line quotes
    "missing file": ("{none} {b}", ["{none}", "no such file"]),
    "second missing": ("{a} {none}", ["{none}", "no such file"]),
    "text file": ("{text} {b}", ["{text}", "not an MRC or CCP4 map"]),
    "file cut short": ("{a} {short}", ["{short}", "truncated", "3840", "3839"]),
    "header beyond its data": ("{corrupt} {corrupt}", ["{corrupt}"]),
    "NaN voxel": ("{nan} {b}", ["{nan}", "1 of 960 voxels"]),
    "infinite voxel": ("{a} {inf}", ["{inf}", "1 of 960 voxels"]),
    "all zero": ("{a} {zero}", ["{zero}", "no positive density", "maximum is 0"]),
    "all negative": ("{negative} {b}", ["{negative}", "no positive density", "maximum is -1"]),
    "oblique cell": ("{oblique} {b}", ["{oblique}", "(90, 100, 90)"]),
    "monoclinic entry": ("{monoclinic} {monoclinic}", ["{monoclinic}", "angles"]),
    "no voxel size": ("{nosize} {b}", ["{nosize}", "--apix"]),
    "voxel size zero": ("{a} {b} --apix 0", ["--apix", "is 0", "above 0"]),
    "folder as a map": ("{folder} {b}", ["{folder}", "folder"]),
    "no such sample": ("sample:adk-opem {b}", ["adk-opem", "adk-open"]),
    "one map": ("{a}", ["1 map"]),
    "no map": ("", ["maps"]),
    "no output": ("{a} {b}", ["--output"]),
    "sigma zero": ("{a} {b} --sigma 0", ["sigma is 0"]),
    "sigma negative": ("{a} {b} --sigma -1.5", ["sigma is -1.5"]),
    "sigma NaN": ("{a} {b} --sigma nan", ["sigma is nan"]),
    "sigma no number": ("{a} {b} --sigma wide", ["--sigma", "'wide'"]),
    "sigma twice": ("{a} {b} --sigma 1 --sigma-angstrom 4", ["1 voxels", "4 Å"]),
    "unknown method": ("{a} {b} --method warp", ["--method", "'warp'", "barycenter"]),
    "unknown kernel": ("{a} {b} --kernel box", ["--kernel", "'box'", "dense"]),
    "unknown rate": ("{a} {b} --rate fast", ["--rate", "'fast'", "ramp-up"]),
    "unknown option": ("{a} {b} --speed 3", ["--speed"]),
    "no frames": ("{a} {b} --frames 0", ["frames is 0"]),
    "frames no number": ("{a} {b} --frames x", ["--frames", "'x'"]),
    "frames without a number": ("{a} {b} --frames", ["--frames"]),
    "time outside": ("{a} {b} --times 0,2", ["times holds 2", "from 0 to 1"]),
    "time no number": ("{a} {b} --times 0,half", ["'0,half'"]),
    "times and rate": ("{a} {b} --times 0.5 --rate ramp-up", ["'ramp-up'", "times"]),
    "keyframes": ("{a} {b} --method mixed --keyframes 1", ["keyframes is 1"]),
    "tolerance": ("{a} {b} --tolerance 0", ["tolerance is 0"]),
    "no iterations": ("{a} {b} --iterations 0", ["iterations is 0"]),
    "too many iterations": ("{a} {b} --max-iterations 99999999999999999999999", ["max_iterations"]),
    "more iterations than an integer holds": ("{a} {b} --max-iterations 3000000000", ["max_iterations"]),
    "batch": ("{a} {b} --batch 2.5", ["batch is '2.5'", "whole number"]),
    "relaxation no number": ("{a} {b} --relaxation x", ["relaxation is 'x'"]),
    "relaxation too large": ("{a} {b} --relaxation 2.5", ["relaxation is 2.5", "below 2"]),
    "more levels than maps": ("{a} {b} --level 0.1,0.2,0.3", ["3 levels", "2 maps"]),
    "level above the maximum": ("{a} {b} --level 0.1,7", ["level 7", "{b}", "maximum 2"]),
    "level no number": ("{a} {b} --level high", ["'high'"]),
    "grid too small": ("{a} {b} --grid 2", ["grid is 2", "from 4 to 2048"]),
    "grid too large": ("{a} {b} --grid 100000", ["100000"]),
    "no such device": ("{a} {b} --device npu", ["--device", "'npu'"]),
    "device that is not here": ("{a} {b} --device tpu", ["tpu", "JAX finds"]),
}
WITHOUT_OUTPUT = {"no output"}


def arguments_and_words(name, maps, folder):
    template, words = BAD[name]
    places = {**maps, "folder": folder}
    for needed in ("corrupt", "monoclinic"):
        if f"{{{needed}}}" in template and not places[needed].exists():
            pytest.skip(f"{places[needed]} is not here")
    return template.format(**places).split(), [word.format(**places) for word in words]


def assert_refused(done, words):
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("morphot: error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert [word for word in words if word not in done.err] == []


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_line_and_nothing_is_written(maps, tmp_path, name):
    arguments, words = arguments_and_words(name, maps, tmp_path)
    out = tmp_path / "out"
    output = [] if name in WITHOUT_OUTPUT else ["-o", out]
    assert_refused(morphot("morph", *output, *arguments), words)
    assert not out.exists()
    if output:
        (out / "figures").mkdir(parents=True)
        for kept in ("vol_900.mrc", "notes.json", "figures/mine.png"):
            (out / kept).write_bytes(b"precious")
        before = content(tmp_path)
        assert_refused(morphot("morph", "--overwrite", "-o", out, *arguments), words)
        assert content(tmp_path) == before


@NO_GPU
def test_missing_gpu_is_bad_input(maps, tmp_path):
    done = linear(maps, tmp_path / "out", "--device", "gpu")
    assert_refused(done, ["no gpu device", "JAX finds"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "vol_000.mrc"])
def test_folder_that_holds_something_is_refused(maps, tmp_path, name):
    (tmp_path / name).write_bytes(b"precious")
    assert_refused(linear(maps, tmp_path), [str(tmp_path), "not empty", "--overwrite"])
    assert content(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("below", ["", "out"])
def test_output_that_is_a_file_is_refused(maps, tmp_path, overwrite, below):
    (tmp_path / "file").write_bytes(b"precious")
    assert_refused(linear(maps, tmp_path / "file" / below, *overwrite), [str(tmp_path / "file")])
    assert content(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["morf"], ["'morf'", "--help"]),
        (["--speed"], ["--speed", "--help"]),
        (["compare", "sample:adk-open"], ["second"]),
        (["compare", "{a}", "{coarse}"], ["{a}", "{coarse}", "(8, 10, 12)", "(5, 5, 5)", "one grid"]),
        (["compare", "{a}", "{moved}"], ["{moved}", "13.0", "one grid"]),
        (["compare", "{a}", "{b}", "--threshold", "1.5"], ["threshold 1.5"]),
        (["compare", "{a}", "{none}"], ["{none}"]),
        (["info", "{text}"], ["{text}"]),
        (["info", "sample:nothing"], ["nothing"]),
        (["simulate", "{none}", "-o", "{out}"], ["{none}", "structure"]),
        (["simulate", "sample:adk", "-o", "{out}"], ["'adk'", "adk-open"]),
        (["simulate", "sample:adk-open", "-o", "{out}", "--grid", "0"], ["grid 0"]),
        (["simulate", "sample:adk-open", "-o", "{out}", "--resolution", "-2"], ["resolution -2"]),
        (["simulate", "sample:adk-open", "-o", "{out}", "--resolution", "1e-9"], []),
        (["simulate", "sample:adk-open", "-o", "{a}"], ["{a}", "exists"]),
        (["demo"], ["--output"]),
        (["demo", "-o", "{out}", "--frames", "1"], ["frames is 1"]),
    ],
)
def test_other_commands_refuse_in_one_line_too(maps, tmp_path, arguments, words):
    places = {**maps, "out": tmp_path / "out.mrc"}
    before = maps["a"].read_bytes()
    done = morphot(*(part.format(**places) for part in arguments))
    assert_refused(done, [word.format(**places) for word in words])
    assert content(tmp_path) == {}
    assert maps["a"].read_bytes() == before


def test_interrupt_gives_130_and_leaves_no_folder(maps, tmp_path):
    with mock.patch("morphot_jax.runs.morph_run.morph", side_effect=KeyboardInterrupt):
        done = linear(maps, tmp_path / "out", "-q")
    assert (done.code, done.out, done.err) == (130, "", "morphot: interrupted\n")
    assert not (tmp_path / "out").exists()


# What was most likely meant

MEANT = {
    # arguments, and what the line asks for
    "option": ("morph {a} {b} -o {out} --framse 3", "did you mean '--frames'?"),
    "option with one dash": ("morph {a} {b} -o {out} -sigma 1", "did you mean '--sigma'?"),
    "option with its value": ("order {a} {b} -o {out} --betwen={a}", "did you mean '--between'?"),
    "option of the program": ("--halp", "did you mean '--help'?"),
    "command": ("morf {a} {b} -o {out}", "Did you mean 'morph'?"),
    "method": ("morph {a} {b} -o {out} --method brige", "did you mean 'bridge'?"),
    "method in capitals": ("morph {a} {b} -o {out} --method Bridge", "did you mean 'bridge'?"),
    "device": ("align {a} {b} -o {out} --device gpus", "did you mean 'gpu'?"),
    "level": ("morph {a} {b} -o {out} --level nome", "did you mean 'none'?"),
    "batch": ("morph {a} {b} -o {out} --batch atuo", "did you mean 'auto'?"),
    "sample": ("morph sample:adk-opne {b} -o {out}", "did you mean 'adk-open'?"),
    "sample without its prefix": ("morph adk-open {b} -o {out}", "did you mean 'sample:adk-open'?"),
    "prefix of a sample": ("info sampel:adk-open", "did you mean 'sample:adk-open'?"),
    "sample of atoms": ("simulate sample:akd-open -o {out}", "did you mean 'adk-open'?"),
    "entry without its prefix": ("compare EMD-5138 {b}", "did you mean 'emdb:5138'?"),
    "map": ("morph {folder}/clsoed.mrc {b} -o {out}", "did you mean '{folder}/closed.mrc'?"),
    "mask": ("morph {a} {b} -o {out} --mask {folder}/open.mcr", "did you mean '{folder}/open.mrc'?"),
    "model": ("simulate {folder}/modle.pdb -o {out}", "did you mean '{folder}/model.pdb'?"),
}


@pytest.mark.parametrize("name", list(MEANT))
def test_errors_ask_for_what_was_most_likely_meant(maps, tmp_path, name):
    folder = tmp_path / "given"
    folder.mkdir()
    for file in ("closed.mrc", "open.mrc", "model.pdb"):
        (folder / file).touch()
    (folder / "clsoed.mrc.d").mkdir()  # a folder is no map
    places = {**maps, "folder": folder, "out": tmp_path / "out.mrc"}
    arguments, question = (text.format(**places) for text in MEANT[name])
    assert_refused(morphot(*arguments.split()), [question])
    assert not places["out"].exists()


def test_nothing_is_asked_where_nothing_is_near(maps, tmp_path):
    for arguments in (["--method", "warp"], ["--zzz"], ["--level", "high"]):
        done = morphot("morph", maps["a"], maps["b"], "-o", tmp_path / "out", *arguments)
        assert_refused(done, [arguments[-1]])
        assert "did you mean" not in done.err.lower()
    assert_refused(morphot("info", tmp_path / "none.mrc"), ["check the name"])


def test_usage_errors_name_the_help_of_their_command(maps):
    assert morphot("morph", maps["a"], "--speed").err.endswith("See 'morphot morph --help'\n")
    assert morphot("morf").err.endswith("Did you mean 'morph'? See 'morphot --help'\n")


# demo, simulate, info, compare


def test_demo_runs_on_what_comes_along(tmp_path):
    done = morphot("demo", "-o", tmp_path, "--frames", 3, "--method", "linear", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    found = report(tmp_path)
    assert [entry["path"] for entry in found["inputs"]] == ["sample:mmcpn-open", "sample:mmcpn-closed"]
    assert [frame["time"] for frame in found["frames"]] == [0.0, 0.5, 1.0]
    assert read_volume(tmp_path / "vol_002.mrc").shape == (64, 64, 64)


def test_simulated_atoms_have_their_electrons_and_their_place(tmp_path):
    lines = [
        "ATOM      1  CA  ALA A   1       0.000   2.000  -3.000  1.00  0.00           C",
        "ATOM      2  N   ALA A   1       4.000   2.000  -3.000  1.00  0.00           N",
    ]
    (tmp_path / "two.pdb").write_text("\n".join([*lines, "END", ""]))
    done = morphot("simulate", tmp_path / "two.pdb", "-o", tmp_path / "two.mrc", "--resolution", 6, "--apix", 1)
    assert done.code == 0
    assert "2 atoms" in done.out
    assert done.err == ""
    volume = read_volume(tmp_path / "two.mrc")
    assert volume.mass == pytest.approx(13.0, rel=1e-5)
    assert volume.voxel_size == (1.0, 1.0, 1.0)
    x, y, z = (
        float(np.average(np.arange(n), weights=volume.data.sum(axis=axes))) * size + start
        for n, axes, size, start in zip(
            volume.shape[::-1], ((0, 1), (0, 2), (1, 2)), volume.voxel_size, volume.origin, strict=True
        )
    )
    assert (x, y, z) == pytest.approx((4.0 * 7 / 13, 2.0, -3.0), abs=1e-3)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """One sample on one grid at two resolutions, through the command line."""
    folder = tmp_path_factory.mktemp("simulated")
    paths = {resolution: folder / f"at_{resolution}.mrc.gz" for resolution in (8, 14)}
    for resolution, path in paths.items():
        options = "--resolution", resolution, "--grid", 24, "--apix", 5
        assert morphot("simulate", "sample:adk-open", "-o", path, *options).code == 0
    return list(paths.values())


def test_info_goes_on_after_a_file_that_it_cannot_read(maps):
    done = morphot("info", maps["text"], maps["a"], maps["none"], maps["b"], "--json")
    assert done.code == 1
    assert [entry["path"] for entry in json.loads(done.out)] == [str(maps["a"]), str(maps["b"])]
    errors = done.err.splitlines()
    assert [line.startswith("morphot: error: ") for line in errors] == [True, True]
    assert str(maps["text"]) in errors[0]
    assert str(maps["none"]) in errors[1]


def test_info_tells_what_simulate_made(simulated):
    done = morphot("info", *simulated, "--json")
    assert (done.code, done.err) == (0, "")
    entries = json.loads(done.out)
    assert [entry["path"] for entry in entries] == [str(path) for path in simulated]
    for entry in entries:
        assert entry["mass"] == pytest.approx(sample_atoms("adk-open").mass, rel=1e-5)
        assert (entry["shape_zyx"], entry["voxel_size_xyz"]) == ([24, 24, 24], [5.0, 5.0, 5.0])
        assert (entry["mode"], entry["negative_share"]) == (2, 0.0)
        assert entry["mean"] * 24**3 == pytest.approx(entry["mass"])
    assert entries[0]["maximum"] > entries[1]["maximum"]  # the finer is the sharper
    assert entries[0]["nonzero_share"] < entries[1]["nonzero_share"]


def test_info_in_words_holds_the_same(simulated):
    entry = json.loads(morphot("info", simulated[0], "--json").out)[0]
    text = morphot("info", simulated[0]).out
    said = dict(line.split(None, 1) for line in text.splitlines() if " " in line and not line.endswith(" "))
    for key in ("shape_zyx", "mass", "maximum", "sha256"):
        assert said[key] == str(entry[key])


def test_compare_prints_the_measures_of_the_library(simulated):
    volumes = [read_volume(path) for path in simulated]
    for threshold in (0.01, 0.2):
        expected = compare_maps(volumes[0].data, volumes[1].data, threshold)
        done = morphot("compare", *simulated, "--threshold", threshold, "--json")
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out) == expected
    assert 0 < expected["voxel_difference"] < 2


def test_compare_in_words_holds_the_same(simulated):
    measures = json.loads(morphot("compare", *simulated, "--json").out)
    said = dict(line.split() for line in morphot("compare", *simulated).out.splitlines())
    assert {name: float(value) for name, value in said.items()} == pytest.approx(measures, rel=1e-5)


def test_map_does_not_differ_from_itself(maps):
    measures = json.loads(morphot("compare", maps["a"], maps["a"], "--json").out)
    for name in ("rmsd", "relative_rms", "volume_difference", "voxel_difference"):
        assert measures[name] == 0.0
    assert measures["correlation"] == pytest.approx(1.0)


def test_json_of_compare_is_json_even_beside_an_empty_map(maps):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    done = morphot("compare", maps["a"], maps["zero"], "--json")
    assert done.code in (0, 2)
    if done.code == 0:
        json.loads(done.out, parse_constant=refuse)


# Help

OPTIONS = {
    "morph": """--output --method --frames --times --rate --keyframes --sigma --sigma-angstrom --kernel --tolerance
        --criterion --max-iterations --iterations --relaxation --mass --precision --level --grid --apix --batch
        --device --overwrite --quiet --verbose""",
    "demo": "--output --method --frames --device --overwrite --quiet --verbose",
    "compare": "--threshold --json",
    "simulate": "--output --resolution --grid --apix --overwrite",
    "info": "--json",
}


@pytest.mark.parametrize("command", list(OPTIONS))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_command_names_its_options(command, flag):
    done = morphot(command, flag)
    assert (done.code, done.err) == (0, "")
    assert [option for option in OPTIONS[command].split() if option not in done.out] == []


def test_help_names_the_commands():
    done = morphot("--help")
    assert (done.code, done.err) == (0, "")
    listed = {line.split()[0] for line in done.out.splitlines() if line.startswith("  ") and line.split()}
    assert listed >= set(OPTIONS)


def test_no_command_shows_the_help():
    done = morphot()
    assert done.code in (0, 2)
    assert max(map(len, (done.out + done.err).splitlines())) < 120  # set in lines, not run together
    assert all(f"\n  {command}" in done.out + done.err for command in OPTIONS)


COMMANDS = get_command(main.app).commands


def parsed(typed):
    """What the command makes of a line: its name, and the values of its arguments and options."""
    program, name, *words = shlex.split(typed)
    assert program == "morphot"
    with COMMANDS[name].make_context(name, words) as context:
        return name, context.params


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_ends_with_examples_that_can_be_pasted(command):
    lines = morphot(command, "--help").out.splitlines()
    examples = lines[lines.index("Examples:") + 1 :]
    typed = [line.strip() for line in examples if not line.strip().startswith("#")]
    assert typed == [typed for _, typed in EXAMPLES[command]]
    assert len(examples) == 2 * len(typed) > 0
    for line in typed:
        assert parsed(line)[0] == command


def test_first_steps_are_shown_where_no_command_is_given_and_are_commands():
    typed = [line.strip() for line in morphot().out.splitlines() if line.strip().startswith("morphot ")]
    assert len(typed) == 2
    assert [parsed(line)[0] for line in typed] == ["demo", "morph"]


def test_examples_of_morph_do_what_they_say(maps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"closed.mrc": "b", "open.mrc": "c", "a.map.gz": "b", "b.map.gz": "c", "a.mrc": "b", "b.mrc": "c"}
    files |= {"c.mrc": "b", "a1.mrc": "b", "a2.mrc": "c", "b1.mrc": "b", "b2.mrc": "c"}
    for name, given in files.items():
        write_volume(read_volume(maps[given]), name)
    first = read_volume(maps["b"])
    write_volume(first.with_data(np.ones_like(first.data)), "mask.mrc")
    for _, typed in EXAMPLES["morph"]:
        done = morphot(*shlex.split(typed)[1:], *([] if "--dry-run" in typed else ["--dry-run"]))
        assert done.code == 0, done.err
        assert "nothing was solved or written" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {*files, "mask.mrc"}


def test_commands_of_the_readme_are_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = [line for line in readme.splitlines() if line.startswith("morphot ")]
    assert [parsed(line)[0] for line in typed] == ["morph"]


def test_options_stand_in_groups():
    said = morphot("morph", "--help").out
    places = [said.index(f"\n{name}:\n") for name in ("Arguments", "Options", "Trajectory", "Solve", "Examples")]
    assert places == sorted(places)
    assert (
        places[1] < said.index("--output") < places[2] < said.index("--rate") < places[3] < said.index("--kernel")
    )
    assert said.index("\nPreparing the maps:\n") < said.index("--lowpass") < places[4]


@pytest.mark.parametrize("arguments", [["--help"], ["morph", "--help"]])
def test_help_does_not_wait_for_heavy_imports(arguments):
    script = (
        "import sys\n"
        "from morphot_jax.cli.main import main\n"
        f"sys.argv = ['morphot', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'jax', 'jaxlib', 'scipy', 'matplotlib', 'numpy', 'gemmi'} & set(sys.modules)\n"
        "print('loaded', code, *sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded", "0"]

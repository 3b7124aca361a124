"""Runs with --within and --avoid: what is written and reported, resumed and refused."""

import json

import numpy as np
import pytest

from helpers import morphot
from morphot_jax import read_volume, write_volume
from shapes import blob, volume_of

SHAPE = (9, 20, 20)
WORDS = ("--frames", 3, "--sigma", 1, "--level", "none")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A ball at either end of a U-shaped tube, the tube, what is around it, and the wall between its arms."""
    folder = tmp_path_factory.mktemp("tube")
    tube = np.zeros(SHAPE)
    tube[2:7, 2:18, 2:7] = tube[2:7, 2:18, 13:18] = tube[2:7, 12:18, 2:18] = 1.0
    wall = np.zeros(SHAPE)
    wall[:, :12, 9:11] = 1.0
    made = {
        "a": blob(SHAPE, (4, 4, 4), 1.0, 0.01),
        "b": blob(SHAPE, (4, 4, 15), 1.0, 0.01),
        "tube": tube,
        "around": 1.0 - tube,
        "wall": wall,
    }
    paths = {name: folder / f"{name}.mrc" for name in made}
    for name, density in made.items():
        write_volume(volume_of(density), paths[name])
    return paths


def frames_of(out):
    return np.stack([read_volume(out / f"vol_{index:03d}.mrc").data for index in range(3)])


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("within") / "out"
    return morphot("morph", inputs["a"], inputs["b"], "-o", out, "--within", inputs["tube"], *WORDS), out


def test_frames_stay_inside_and_the_report_says_so(inputs, run):
    done, out = run
    assert done.code == 0, done.err
    inside = read_volume(inputs["tube"]).data > 0
    assert np.all(frames_of(out)[:, ~inside] == 0)
    report = json.loads((out / "report.json").read_text())
    region, resolved = report["region"], report["settings"]["resolved"]
    assert region["within"] == str(inputs["tube"])
    assert region["avoid"] is None
    assert region["voxels"] == np.count_nonzero(inside)
    assert resolved["steps"] == region["longest_way"] > 30
    assert report["settings"]["method"] == "bridge"
    assert any("of its mass lay outside the region: removed" in text for text in report["actions"])
    assert "lay outside the region: removed" in done.err + done.out


def test_avoiding_what_is_around_is_staying_within(inputs, run, tmp_path):
    done = morphot("morph", inputs["a"], inputs["b"], "-o", tmp_path, "--avoid", inputs["around"], *WORDS)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(frames_of(tmp_path), frames_of(run[1]))


def test_a_wall_is_gone_around(inputs, tmp_path):
    done = morphot("morph", inputs["a"], inputs["b"], "-o", tmp_path, "--avoid", inputs["wall"], *WORDS)
    assert done.code == 0, done.err
    middle = frames_of(tmp_path)[1]
    assert np.all(middle[:, :12, 9:11] == 0)
    assert middle[:, 12:].sum() > 0.5 * middle.sum()


def test_a_finished_run_is_not_solved_again_and_another_region_is_another_run(inputs, run):
    words = ("morph", inputs["a"], inputs["b"], "-o", run[1], *WORDS, "--resume")
    again = morphot(*words, "--within", inputs["tube"])
    assert "nothing is left to do" in again.err + again.out
    assert morphot(*words, "--avoid", inputs["wall"]).code == 2
    assert morphot(*words).code == 2


def test_a_run_without_a_region_reports_none(inputs, tmp_path):
    done = morphot("morph", inputs["a"], inputs["b"], "-o", tmp_path, "--method", "linear", *WORDS[:2])
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "report.json").read_text())["region"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--within", "{wall}"), "of the mass of map 1 lies outside the region"),
        (("--within", "gone.mrc"), "there is no such file"),
        (
            ("--within", "{tube}", "--method", "displacement"),
            "a region does not go with the method 'displacement'",
        ),
        (("--within", "{tube}", "--bodies", "auto"), "does not go with the method"),
        (("--avoid", "{wall}", "--certify"), "certify is about transport without walls"),
    ],
)
def test_what_does_not_go_together_is_one_line(inputs, tmp_path, words, message):
    given = [word.format(**inputs) for word in words]
    done = morphot("morph", inputs["a"], inputs["b"], "-o", tmp_path / "out", *given)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()

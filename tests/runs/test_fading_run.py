"""Runs with --unbalanced: what fades and appears, as files, a table, entries of reports, scripts and colours."""

import json

import numpy as np
import pytest

from helpers import morphot, table
from morphot_jax import read_volume, write_volume
from shapes import balls

BODY = np.array([[-10.0, 0.0, 0.0], [-18.0, 6.0, 4.0], [-14.0, -7.0, 6.0], [-6.0, 4.0, -8.0]])
NEW = np.array([[20.0, 4.0, 2.0], [24.0, -2.0, 0.0]])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fading")
    first = balls(BODY)
    last = first.with_data(first.data + balls(NEW).data)
    paths = [folder / name for name in ("first.mrc", "last.mrc")]
    for path, volume in zip(paths, (first, last), strict=True):
        write_volume(volume, path)
    out = folder / "out"
    words = ("--method", "displacement", "--unbalanced", "8", "--frames", "3", "--sigma", "1")
    done = morphot("morph", *paths, "-o", out, *words)
    assert done.code == 0, done.err
    return paths, out, done


def test_what_fades_and_appears_is_written(run):
    (first, last), out, done = run
    fades, appears, carried = (read_volume(out / f"{name}_1_to_2.mrc") for name in ("fades", "appears", "carried"))
    new = balls(NEW)
    assert np.abs(appears.data - new.data).sum() < 0.1 * new.mass
    np.testing.assert_allclose(carried.data + fades.data, read_volume(first).data, atol=1e-4)
    (entry,) = json.loads((out / "report.json").read_text())["fading"]
    assert entry["appears"]["file"] == "appears_1_to_2.mrc"
    assert entry["appears"]["mass"] == pytest.approx(appears.mass, rel=1e-5)
    assert entry["appears"]["share"] == pytest.approx(appears.mass / read_volume(last).mass, rel=1e-4)
    assert entry["carried"]["mass"] == pytest.approx(carried.mass, rel=1e-5)
    assert "of map 2 appears: nothing within reach matches it" in done.err


def test_its_regions_are_listed(run):
    (row,) = table(run[1] / "fading.csv")
    assert (row["map"], row["what"], row["region"]) == ("2", "appears", "1")
    centre = np.average(NEW, axis=0, weights=[2, 3])
    np.testing.assert_allclose([float(row[axis]) for axis in "xyz"], centre, atol=0.5)


def test_chimerax_opens_it_beside_the_series(run):
    script = (run[1] / "view.cxc").read_text()
    assert "open fades_1_to_2.mrc\nvolume #2 style mesh" in script
    assert "open appears_1_to_2.mrc\nvolume #3 style mesh" in script


def test_the_viewer_can_be_made_again_in_its_colours(run):
    out = run[1]
    own = (out / "viewer.html").read_bytes()
    assert morphot("view", out, "--colour", "fading").code == 0
    assert (out / "viewer.html").read_bytes() == own


def test_a_finished_run_is_not_solved_again(run):
    paths, out, _ = run
    words = ("--method", "displacement", "--unbalanced", "8", "--frames", "3", "--sigma", "1", "--resume")
    again = morphot("morph", *paths, "-o", out, *words)
    assert "nothing is left to do" in again.err + again.out
    other = morphot("morph", *paths, "-o", out, *words[:3], "9", *words[4:])
    assert other.code == 2


def test_a_balanced_run_has_nothing_to_colour(run, tmp_path):
    out = tmp_path / "out"
    assert morphot("morph", *run[0], "-o", out, "--method", "bridge", "--frames", "2").code == 0
    assert not (out / "fading.csv").exists()
    done = morphot("view", out, "--colour", "fading")
    assert done.code == 2
    assert "is no unbalanced morph" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--unbalanced", "0"), "0"), (("--unbalanced", "10", "--method", "mixed"), "the method is 'mixed'")],
)
def test_what_does_not_go_together_is_refused(run, tmp_path, words, message):
    done = morphot("morph", *run[0], "-o", tmp_path / "out", *words)
    assert done.code == 2
    assert message in done.err

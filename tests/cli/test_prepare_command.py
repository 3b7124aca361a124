"""``morphot prepare`` and the options of cleaning, as users run them."""

import json

import numpy as np
import pytest

from helpers import morphot
from morphot_jax import read_volume, write_volume
from shapes import blob, volume_of

SHAPE = (20, 21, 22)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A clean map, a noisy one, a dusty one, and a mask."""
    folder = tmp_path_factory.mktemp("maps")
    body = blob(SHAPE, (10, 10, 11), 2.5, 1e-3)
    body = body / body.max()
    dusty = body.copy()
    dusty[1, 1, 1:4] = 0.5
    mask = np.zeros(SHAPE)
    mask[:, :, :12] = 1.0
    noise = np.random.default_rng(0).normal(scale=0.04, size=SHAPE)
    contents = {"clean": body, "noisy map": body + noise, "dusty": dusty, "mask": mask}
    paths = {}
    for name, data in contents.items():
        paths[name] = folder / f"{name}.mrc"
        write_volume(volume_of(data), paths[name])
    return paths


def test_prepared_maps_are_written_with_what_was_done(maps, tmp_path):
    out = tmp_path / "out"
    done = morphot("prepare", maps["clean"], maps["noisy map"], "-o", out)
    assert done.code == 0, done.err
    expected = {"000_clean.mrc", "001_noisy_map.mrc", "prepare.json", "run.log"}
    assert {path.name for path in out.iterdir()} == expected | {".morphot"}
    content = json.loads((out / "prepare.json").read_text(encoding="utf-8"))
    assert [entry["file"] for entry in content["maps"]] == ["000_clean.mrc", "001_noisy_map.mrc"]
    assert any("solvent noise" in action for action in content["actions"])
    for entry in content["maps"]:
        volume = read_volume(out / entry["file"])
        assert volume.data.min() >= 0
        assert volume.mass == pytest.approx(entry["mass"], rel=1e-6)
        assert volume.origin == pytest.approx((1.0, 2.0, 3.0))
    assert content["maps"][0]["mass_kept"] == pytest.approx(1.0, abs=1e-5)
    assert set(content["actions"]) <= set(done.err.splitlines())


def test_prepared_maps_need_no_more_preparing(maps, tmp_path):
    assert morphot("prepare", maps["noisy map"], maps["dusty"], "-o", tmp_path / "once", "--dust", 9).code == 0
    once = sorted((tmp_path / "once").glob("*.mrc"))
    assert morphot("prepare", *once, "-o", tmp_path / "twice").code == 0
    for one, other in zip(once, sorted((tmp_path / "twice").glob("*.mrc")), strict=True):
        np.testing.assert_array_equal(read_volume(one).data, read_volume(other).data)


def test_morph_takes_the_same_options(maps, tmp_path):
    options = ("--dust", 9, "--lowpass", 8, "--mask", maps["mask"], "--method", "linear", "--frames", 2)
    done = morphot("morph", maps["dusty"], maps["clean"], "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    actions = " ".join(json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["actions"])
    assert "low-passed to 8 Å" in actions
    assert "masked" in actions
    frame = read_volume(tmp_path / "out" / "vol_000.mrc").data
    assert frame[:, :, 12:].max() == 0
    assert morphot("prepare", maps["dusty"], "-o", tmp_path / "p", "--dust", 2).code == 0
    assert read_volume(tmp_path / "p" / "000_dusty.mrc").data[1, 1, 2] == pytest.approx(0.5)
    assert morphot("prepare", maps["dusty"], "-o", tmp_path / "q", "--dust", 4).code == 0
    assert read_volume(tmp_path / "q" / "000_dusty.mrc").data[1, 1, 2] == 0


def test_actions_are_plain_lines_and_warnings_begin_with_the_word(maps, tmp_path):
    done = morphot("prepare", maps["noisy map"], "-o", tmp_path, "--level", 0.01)
    content = json.loads((tmp_path / "prepare.json").read_text(encoding="utf-8"))
    assert content["actions"]
    assert any("mostly noise" in warning for warning in content["warnings"])
    lines = done.err.splitlines()
    assert set(lines) >= {*content["actions"], *(f"warning: {warning}" for warning in content["warnings"])}
    log = [line.split(maxsplit=2)[1:] for line in (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()]
    assert [text for level, text in log if level == "WARNING"] == content["warnings"]
    assert set(content["actions"]) <= {text for level, text in log if level == "INFO"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dust", "many"), "dust is 'many'"),
        (("--dust", 99999), "would remove all"),
        (("--lowpass", 0), "lowpass is 0"),
        (("--mask", "nowhere.mrc"), "nowhere.mrc"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(maps, tmp_path, options, words):
    done = morphot("prepare", maps["clean"], "-o", tmp_path / "out", *options)
    assert done.code == 2
    assert words in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()

"""``morphot align`` and ``--align``, as users run them."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers import morphot
from morphot_jax import read_volume, write_volume
from morphot_jax.maps.pose import Pose
from shapes import BODY, balls

TRUE = Pose(Rotation.from_rotvec([0.4, -1.0, 0.3]).as_matrix(), np.array([3.0, -2.0, 4.0]))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A map to move and the one that it is moved onto."""
    folder = tmp_path_factory.mktemp("maps")
    paths = folder / "moving map.mrc", folder / "fixed.mrc"
    for path, points in zip(paths, (BODY, TRUE.carried(BODY)), strict=True):
        write_volume(balls(points), path)
    return paths


def test_the_motion_and_the_moved_map_are_written(maps, tmp_path):
    out = tmp_path / "out"
    done = morphot("align", *maps, "-o", out)
    assert done.code == 0, done.err
    assert {path.name for path in out.iterdir()} == {
        "aligned.mrc", "align.json", "align.cxc", "run.log", ".morphot",
    }  # fmt: skip
    logged = (out / "run.log").read_text(encoding="utf-8")
    assert [words for words in ("morphot align", "DEBUG   aligning", "turned by") if words not in logged] == []
    content = json.loads((out / "align.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(content["matrix"], TRUE.matrix, atol=0.05)
    assert content["rotation_degrees"] == pytest.approx(TRUE.degrees, abs=0.2)
    assert content["correlation"] > 0.999 > content["correlation_before"]
    assert content["chimerax"] in (out / "align.cxc").read_text(encoding="utf-8")
    moved, fixed = read_volume(out / "aligned.mrc"), read_volume(maps[1])
    assert moved.origin == pytest.approx(fixed.origin)
    assert np.linalg.norm(moved.data - fixed.data) < 0.02 * np.linalg.norm(fixed.data)
    assert "correlation" in done.err


def test_the_options_of_an_alignment_are_written(maps, tmp_path):
    done = morphot("align", *maps, "-o", tmp_path / "out", "--local", "--motion", "translation")
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "out" / "align.json").read_text(encoding="utf-8"))
    chosen = {"motion": "translation", "mirror": False, "local": True, "symmetry": "C1", "equal_poses": 1}
    assert {name: content[name] for name in chosen} == chosen


def test_a_morph_aligns_first_where_it_is_asked_to(maps, tmp_path):
    options = ("--frames", 3, "--method", "linear", "--align", "rigid")
    done = morphot("morph", maps[1], maps[0], "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert any("aligned to map 1" in action for action in report["actions"])
    first, last = (read_volume(tmp_path / "out" / f"vol_00{index}.mrc").data for index in (0, 2))
    assert np.linalg.norm(first - last) < 0.02 * np.linalg.norm(first)


def test_a_part_is_laid_into_a_complex(maps, tmp_path):
    """The map to move with a second copy of it beside it, from near its place."""
    near, beside = (
        Pose(np.eye(3), np.array([1.0, -1.5, 0.5])),
        np.vstack([BODY, BODY + np.array([0.0, 30.0, 0.0])]),
    )
    whole = tmp_path / "complex.mrc"
    write_volume(balls(near.carried(beside), side=48, origin=(-47.0, -47.0, -47.0)), whole)
    out = tmp_path / "out"
    done = morphot("align", maps[0], whole, "-o", out, "--part", "--local")
    assert done.code == 0, done.err
    content = json.loads((out / "align.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(content["matrix"], near.matrix, atol=0.1)
    assert content["part"] is True
    assert content["correlation"] > 0.99 > content["correlation_before"]
    assert content["warnings"] == []
    assert read_volume(out / "aligned.mrc").same_grid(read_volume(whole))


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (
            ("align", "MOVING", "FIXED", "--part", "--motion", "translation"),
            "--motion translation does not go with",
        ),
        (("align", "MOVING", "gone.mrc"), "gone.mrc"),
        (("align", "MOVING", "FIXED", "--motion", "sideways"), "sideways"),
        (("align", "MOVING", "FIXED", "--symmetry", "D"), "the symmetry 'D' is unknown"),
        (("align", "MOVING", "FIXED", "--symmetry", "C4", "--local"), "does not have the symmetry C4"),
        (("morph", "MOVING", "FIXED", "--align", "sideways"), "sideways"),
        (("prepare", "MOVING", "--box", "2"), "2"),
    ],
)
def test_bad_input_is_one_line(maps, tmp_path, arguments, quoted):
    named = {"MOVING": str(maps[0]), "FIXED": str(maps[1])}
    done = morphot(*(named.get(word, word) for word in arguments), "-o", tmp_path / "out")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert quoted in done.err
    assert not (tmp_path / "out").exists()

"""``morphot place`` as people use it: files in, a table and a picture out."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from helpers import morphot, table
from morphot_jax import Settings, morph, write_volume
from shapes import blob, volume_of

SHAPE = (12, 12, 13)
CENTRES = [(5, 5, 4), (5, 7, 8), (7, 5, 8)]
WEIGHTS = np.array([(0.2, 0.5, 0.3), (0.7, 0.1, 0.2)])


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    references = [volume_of(blob(SHAPE, centre, 1.3, 1e-5)) for centre in CENTRES]
    made = morph(references, Settings(weights=WEIGHTS, sigma=1.0))
    far = volume_of(blob(SHAPE, (5, 5, 8), 2.6, 1e-5))
    named = dict(zip(("a", "b", "c", "x", "y", "far"), (*references, *made, far), strict=True))
    for name, volume in named.items():
        write_volume(volume, folder / f"{name}.mrc")
    among = [word for name in "abc" for word in ("--among", folder / f"{name}.mrc")]
    maps = [folder / f"{name}.mrc" for name in ("x", "y", "far")]
    out = folder / "out"
    return out, maps, morphot("place", *maps, *among, "--sigma", "1", "-o", out)


def test_weights_and_residuals_stand_in_the_table(placed):
    out, maps, done = placed
    assert done.code == 0, done.err
    rows = table(out / "coordinates.csv")
    assert [row["map"] for row in rows] == list(map(str, maps))
    found = np.array([[float(row[f"weight_{k}"]) for k in (1, 2, 3)] for row in rows])
    np.testing.assert_allclose(found[:2], WEIGHTS, atol=5e-3)
    assert float(rows[0]["residual"]) < 0.01 < float(rows[2]["residual"])
    assert float(rows[2]["deviation_1"]) > float(rows[0]["deviation_1"])
    assert {row["status"] for row in rows} == {"converged"}


def test_the_report_says_how_each_barycenter_was_solved(placed):
    out, maps, _ = placed
    content = json.loads((out / "place.json").read_text())
    assert len(content["references"]) == 3
    assert content["nodes"] == 28
    assert [entry["map"] for entry in content["maps"]] == list(map(str, maps))
    assert all(entry["marginal_error"] <= 1e-5 for entry in content["maps"])
    np.testing.assert_allclose([sum(entry["weights"]) for entry in content["maps"]], 1.0)


def test_the_terminal_and_the_picture_show_the_weights(placed):
    out, _, done = placed
    assert "0.500 ±" in done.err
    assert "weight 2: " in done.err
    picture = imread(out / "coordinates.png")
    assert picture.shape[1] > 300
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10


def test_one_reference_is_too_few(placed, tmp_path):
    _, maps, _ = placed
    done = morphot("place", maps[0], "--among", maps[1], "-o", tmp_path / "out")
    assert done.code == 2
    assert (
        "1 references and 1 maps were given: name two or more with --among, and one or more to place" in done.err
    )

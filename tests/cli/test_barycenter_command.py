"""``morphot barycenter`` and ``morphot morph --loop`` as people use them: files in, files out."""

import json

import numpy as np
import pytest

from helpers import REPORT_KEYS, morphot, table
from morphot_jax import read_volume, write_volume
from shapes import blob, moments, volume_of

SHAPE = (9, 10, 12)
CENTRES = np.array([(4.0, 4.0, 3.0), (4.0, 6.0, 6.0), (5.0, 4.0, 8.0)])


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    for name, centre in zip("abc", CENTRES, strict=True):
        write_volume(volume_of(blob(SHAPE, centre, 1.1, 1e-5)), folder / f"{name}.mrc")
    return [folder / f"{name}.mrc" for name in "abc"]


@pytest.fixture(scope="module")
def made(maps, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    weights = ("--weights", "0.2,0.5,0.3", "--weights", "2,1,1")
    return out, morphot("barycenter", *maps, *weights, "--sigma", "1", "-o", out)


def test_a_map_is_written_for_each_row_of_weights(made):
    out, done = made
    assert done.code == 0, done.err
    for name, share in (("vol_000.mrc", (0.2, 0.5, 0.3)), ("vol_001.mrc", (0.5, 0.25, 0.25))):
        mean, _ = moments(read_volume(out / name).data)
        np.testing.assert_allclose(mean, np.array(share) @ CENTRES, atol=0.02)
    assert not (out / "vol_002.mrc").exists()


def test_weights_stand_in_the_table_the_report_and_the_terminal(made):
    out, done = made
    rows = table(out / "metrics.csv")
    assert [float(rows[0][f"weight_{k}"]) for k in (1, 2, 3)] == [0.2, 0.5, 0.3]
    content = json.loads((out / "report.json").read_text())
    assert set(content) >= REPORT_KEYS
    assert content["settings"]["weights"] == [[0.2, 0.5, 0.3], [2.0, 1.0, 1.0]]
    assert "0.2 : 0.5 : 0.3" in done.err
    assert (out / "figures" / "frames.png").is_file()
    assert not (out / "figures" / "along.png").exists()


def test_a_run_is_resumed_with_the_same_weights_alone(made, maps):
    out, _ = made
    again = morphot(
        "barycenter",
        *maps,
        "--weights",
        "0.2,0.5,0.3",
        "--weights",
        "2,1,1",
        "--sigma",
        "1",
        "-o",
        out,
        "--resume",
    )
    assert again.code == 0
    assert "holds all 2 frames already" in again.err
    other = morphot("barycenter", *maps, "--weights", "0.2,0.4,0.4", "--sigma", "1", "-o", out, "--resume")
    assert other.code == 2


def test_without_weights_all_maps_count_alike(maps, tmp_path):
    done = morphot("barycenter", *maps, "--sigma", "1", "-o", tmp_path / "mean")
    assert done.code == 0, done.err
    mean, _ = moments(read_volume(tmp_path / "mean" / "vol_000.mrc").data)
    np.testing.assert_allclose(mean, CENTRES.mean(axis=0), atol=0.02)


def test_wrong_weights_are_refused_before_maps_are_read(tmp_path):
    done = morphot("barycenter", "none.mrc", "nowhere.mrc", "--weights", "1,1,1", "-o", tmp_path / "out")
    assert done.code == 2
    assert "weights has rows of 3 and 2 maps were given" in done.err
    done = morphot("barycenter", "none.mrc", "nowhere.mrc", "--weights", "1,x", "-o", tmp_path / "out")
    assert "weights is '1,x': give numbers of at least 0, separated by commas" in done.err


def test_a_loop_comes_back_to_the_first_map(maps, tmp_path):
    out = tmp_path / "loop"
    done = morphot("morph", *maps, "--loop", "--frames", "6", "--method", "linear", "-o", out)
    assert done.code == 0, done.err
    for k, path in enumerate(maps):
        np.testing.assert_array_equal(
            read_volume(out / f"vol_{2 * k:03d}.mrc").data > 0, read_volume(path).data > 0
        )
    back = read_volume(out / "vol_005.mrc").data
    mean, _ = moments(back)
    np.testing.assert_allclose(mean, (CENTRES[0] + CENTRES[2]) / 2, atol=0.02)
    movie = morphot("movie", out, "-o", tmp_path / "loop.gif", "--size", "100")
    assert "6 frames, in a loop" in movie.err

"""``morphot order`` as people use it: files in, a table and a picture out."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from helpers import REPORT_KEYS, morphot, table
from morphot_jax import Settings, morph, write_volume
from morphot_jax.morphing.order import Ordering
from morphot_jax.show import figures
from shapes import blob, volume_of

SHAPE = (9, 9, 24)
TIMES = {"late": 0.8, "early": 0.25, "middle": 0.5, "first": 0.0, "last": 1.0}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A blob on its way along x, by the name of the time."""
    folder = tmp_path_factory.mktemp("series")
    paths = {}
    for name, t in TIMES.items():
        paths[name] = folder / f"{name}.mrc"
        write_volume(volume_of(blob(SHAPE, (4, 4, 6 + 10 * t), 1.6, 1e-4)), paths[name])
    return paths


@pytest.fixture(scope="module")
def ordered(maps, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    others = (maps[name] for name in ("late", "early", "middle"))
    done = morphot("order", *others, "--between", maps["first"], maps["last"], "-o", out, "--frames", 21)
    return out, done


def test_maps_are_listed_by_their_places(ordered, maps):
    out, done = ordered
    assert done.code == 0, done.err
    assert done.out == ""
    rows = table(out / "order.csv")
    assert [row["map"] for row in rows] == [str(maps[name]) for name in ("early", "middle", "late")]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    np.testing.assert_allclose([float(row["time"]) for row in rows], [0.25, 0.5, 0.8], atol=0.02)
    assert {row["off_path"] for row in rows} == {"False"}
    lines = [line.split() for line in done.err.splitlines()]
    ranks = [line[0] for line in lines if line and line[0] in ("1", "2", "3")]
    assert ranks == ["1", "2", "3"]


def test_distances_are_those_from_every_frame(ordered):
    out, _ = ordered
    rows = table(out / "distances.csv")
    assert len(rows) == 3
    assert list(rows[0])[:3] == ["map", "t=0", "t=0.05"]
    late = np.array(list(rows[0].values())[1:], float)
    assert late.argmin() == 16
    assert late[0] > 0.5


def test_report_and_picture_are_there(ordered):
    out, _ = ordered
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(report) >= REPORT_KEYS
    assert len(report["inputs"]) == 5
    assert {frame["status"] for frame in report["frames"]} == {"converged"}
    assert {frame["file"] for frame in report["frames"]} == {None}
    assert imread(out / f"{figures.ORDER}.png").shape[0] > 50
    tables = {"order.csv", "distances.csv", "report.json", "run.log", ".morphot"}
    assert {path.name for path in out.iterdir()} == tables | {"order.png", "order.svg"}
    logged = (out / "run.log").read_text(encoding="utf-8")
    assert [words for words in ("morphot order", "rank", "middle.mrc") if words not in logged] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--between", "a.mrc"), "--between"),
        ((), "--between"),
        (("--between", "nowhere.mrc", "b.mrc"), "nowhere.mrc"),
        (("--between", "sample:mmcpn-open", "sample:mmcpn-shut"), "mmcpn-shut"),
        (("--between", "sample:adk-open", "sample:adk-closed", "--frames", "0"), "0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(maps, tmp_path, options, words):
    done = morphot("order", "-o", tmp_path / "out", maps["early"], *options)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(ordered, maps):
    out, _ = ordered
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    done = morphot("order", maps["early"], "--between", maps["first"], maps["last"], "-o", out)
    assert done.code == 2
    assert "is not empty" in done.err
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_a_map_of_something_else_is_named(maps, tmp_path):
    """It was placed at t = 1 once without a word."""
    write_volume(volume_of(blob(SHAPE, (4, 7, 20), 0.9, 1e-4)), tmp_path / "other.mrc")
    others = (tmp_path / "other.mrc", maps["middle"])
    done = morphot(
        "order", *others, "--between", maps["first"], maps["last"], "-o", tmp_path / "out", "--frames", 5
    )
    assert done.code == 0
    assert done.err.count("it may not belong on it") == 1
    assert f"warning: {tmp_path / 'other.mrc'} lies " in done.err
    rows = table(tmp_path / "out" / "order.csv")
    assert {row["map"]: row["off_path"] for row in rows} == {str(others[0]): "True", str(others[1]): "False"}


def test_frames_that_do_not_converge_give_one(maps, tmp_path):
    ends = ("--between", maps["first"], maps["last"])
    options = ("-o", tmp_path / "out", "--frames", 3, "--sigma", 0.15, "--method", "barycenter")
    done = morphot("order", maps["early"], *ends, *options)
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert done.code == 1
    assert [frame["status"] for frame in report["frames"]] == ["converged", "max_iterations", "converged"]
    assert "1 of 3 frames ended as max_iterations" in done.err


def test_the_picture_has_a_box_at_each_nearest_frame_and_shows_names_word_for_word():
    times = np.linspace(0, 1, 11)
    places = np.array([0.2, 0.73])
    distances = np.abs(times - places[:, None])
    ends = [volume_of(blob((4, 5, 6), (2, 2, x), 1.0)) for x in (2, 3)]
    trajectory = morph(ends, Settings(method="linear", frames=11))
    ordering = Ordering(distances, times, places, distances.argmin(axis=1), trajectory, span=1.0)
    panel = figures.order_figure(ordering, ["a$x$b.mrc", "c.mrc"]).axes[0]
    middles = [box.get_x() + box.get_width() / 2 for box in panel.patches]
    np.testing.assert_allclose(middles, [0.2, 0.7])
    assert [text.get_text() for text in panel.texts][:2] == ["0.200", "0.730"]
    assert panel.get_yticklabels()[0].get_text() == r"a\$x\$b.mrc"

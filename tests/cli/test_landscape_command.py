"""``morphot landscape`` as people use it: a folder in, tables, a picture and a morph out; killed and resumed."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib.image import imread

from helpers import morphot, table
from morphot_jax import read_volume, write_volume
from shapes import blob, volume_of

SHAPE = (10, 10, 22)
PLACES = [9.0, 13.0, 6.0, 11.0]  # along x
ORDER = ["vol_2.mrc", "vol_0.mrc", "vol_3.mrc", "vol_1.mrc"]
OPTIONS = ("--sigma", "1", "--stops", "2")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    for k, x in enumerate(PLACES):
        write_volume(volume_of(blob(SHAPE, (5, 5, x), 1.5, 1e-5)), folder / f"vol_{k}.mrc")
    return folder


@pytest.fixture(scope="module")
def made(series, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, morphot("landscape", series, *OPTIONS, "-o", out)


def test_maps_of_a_folder_come_in_order(made, series):
    out, done = made
    assert done.code == 0, done.err
    assert f"{series}: 4 maps, from vol_0.mrc to vol_3.mrc" in done.err
    rows = table(out / "landscape.csv")
    assert [row["map"].rsplit("/", 1)[-1] for row in rows] == ORDER
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    np.testing.assert_allclose([float(row["from_previous"]) for row in rows[1:]], [6.0, 4.0, 4.0], atol=0.05)
    assert {row["on_path"] for row in rows} == {"True"}


def test_distances_are_those_of_the_shifts(made):
    out, _ = made
    rows = table(out / "distances.csv")
    found = np.array([[float(value) for value in list(row.values())[1:]] for row in rows])
    np.testing.assert_allclose(found, 2.0 * np.abs(np.subtract.outer(PLACES, PLACES)), atol=0.05)


def test_the_report_says_how_it_was_solved(made):
    out, _ = made
    content = json.loads((out / "landscape.json").read_text())
    assert content["statuses"] == {"converged": 10}
    assert content["plans"] == 10
    assert content["agreement"] == 1.0
    assert [name.rsplit("/", 1)[-1] for name in content["order"]] == ORDER
    assert content["marginal_error"] <= 1e-3
    assert len(np.unique(imread(out / "landscape.png").reshape(-1, 4), axis=0)) > 20
    assert "K3D" in (out / "viewer.html").read_text(encoding="utf-8")


def test_the_morph_leads_from_end_to_end(made, series):
    out, _ = made
    for frame, name in (("vol_000.mrc", "vol_2.mrc"), ("vol_024.mrc", "vol_1.mrc")):
        np.testing.assert_array_equal(
            read_volume(out / "path" / frame).data > 0, read_volume(series / name).data > 0
        )
    assert json.loads((out / "path" / "report.json").read_text())["settings"]["method"] == "rigid"


def test_a_run_with_another_map_solves_its_plans_alone(made, series, tmp_path):
    out, _ = made
    write_volume(volume_of(blob(SHAPE, (5, 5, 15), 1.5, 1e-5)), tmp_path / "late.mrc")
    done = morphot(
        "landscape", series, tmp_path / "late.mrc", "--sigma", "1", "--stops", "0", "-o", out, "--resume"
    )
    assert done.code == 0, done.err
    assert "10 of 15 plans were solved by an earlier run" in done.err
    rows = table(out / "landscape.csv")
    assert [row["map"].rsplit("/", 1)[-1] for row in rows] == [*ORDER, "late.mrc"]


def test_killed_and_resumed_it_gives_the_same_table(series, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ["landscape", str(series), "--sigma", "1", "--stops", "0", "-o"]
    assert morphot(*words, whole).code == 0
    kept = parts / ".morphot" / "pairs.csv"
    program = "from morphot_jax.cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, *words, str(parts)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (kept.is_file() and kept.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open(kept, "ab") as file:
        file.write(b"0123,0.5,7")  # a line that was cut short
    done = morphot(*words, parts, "--resume")
    assert done.code == 0, done.err
    assert "plans were solved by an earlier run" in done.err
    for name in ("distances.csv", "landscape.csv"):
        assert (parts / name).read_text() == (whole / name).read_text()


def test_too_few_maps_are_refused(series, tmp_path):
    done = morphot("landscape", series / "vol_0.mrc", series / "vol_1.mrc", "-o", tmp_path / "out")
    assert done.code == 2
    assert "2 maps were given: a landscape has 3 to 1000" in done.err

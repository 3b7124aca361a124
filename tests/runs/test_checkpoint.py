"""Runs that are interrupted: what is there is complete, and what goes on ends like a run that was not."""

import io
import json
import random
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import mrcfile
import numpy as np
import pytest

from helpers import COMMAND, morphot
from morphot_jax import Settings, morph, prepare_maps
from morphot_jax.runs import checkpoint
from morphot_jax.runs.checkpoint import Checkpoint, fingerprint
from morphot_jax.runs.folder import FOLDER, OutputFolder, Record
from morphot_jax.runs.report import frame_name
from morphot_jax.system.errors import InputError
from shapes import blob, blobs_in_files, volume_of

SHAPE = (14, 15, 16)
VARYING = (
    "seconds",
    "peak_memory_bytes",
    "command",
    "warnings",
    "estimate",
)  # of report.json, from one run to the next


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Three maps in files."""
    return blobs_in_files(tmp_path_factory.mktemp("maps"), SHAPE, [(5, 6, 5), (7, 8, 9), (8, 6, 11)])


@pytest.fixture(scope="module")
def prepared():
    return prepare_maps(
        [volume_of(blob(SHAPE, centre, 1.6, 1e-4)) for centre in ((5, 6, 5), (7, 8, 9), (8, 6, 11))]
    )


def frames_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("vol_*.mrc")}


@contextmanager
def opened(path, prepared, settings):
    """The frames of a run that writes into a folder, which it may go on in."""
    folder = OutputFolder(path, [frame_name(index) for index in range(settings.frames)], resume=True)
    folder.fingerprint = fingerprint(prepared, settings)
    with folder, Checkpoint(folder, prepared.volumes[0], frame_name) as kept:
        yield kept


# The library: any frames may be known.


@pytest.mark.parametrize("method", ["displacement", "bridge", "barycenter"])
@pytest.mark.parametrize("known", [{0, 1, 2, 3}, {4, 5, 6}, {1, 3, 5}])
def test_frames_that_are_known_change_nothing_about_the_others(prepared, method, known):
    settings = Settings(method=method, frames=7, sigma=1.0, batch=2 if method == "barycenter" else None)
    kept = {}
    whole = morph(prepared, settings, keep=lambda frame, density: kept.update({frame.index: (frame, density)}))
    assert sorted(kept) == list(range(7))
    again = {}
    made = {index: checkpoint.Kept(*kept[index]) for index in known}
    part = morph(prepared, settings, known=made, keep=lambda frame, density: again.update({frame.index: frame}))
    assert set(again) == set(range(7)) - known
    np.testing.assert_array_equal(part.densities, whole.densities)
    for one, other in zip(part.frames, whole.frames, strict=True):
        np.testing.assert_array_equal(one.history, other.history)
        assert (one.status, one.iterations, one.mass, one.marginal_error, one.kernel) == (
            other.status,
            other.iterations,
            other.mass,
            other.marginal_error,
            other.kernel,
        )
    assert part.actions == whole.actions


def test_what_is_kept_is_what_comes_back(prepared, tmp_path):
    settings = Settings(method="barycenter", frames=4, sigma=1.0)
    with opened(tmp_path, prepared, settings) as kept:
        whole = morph(prepared, settings, keep=kept.keep)
        kept.wait()
        found = kept.known()
        kept.folder.finish()
    assert sorted(found) == [0, 1, 2, 3]
    for index, entry in found.items():
        np.testing.assert_array_equal(entry.density, whole.densities[index])
        np.testing.assert_array_equal(entry.frame.history, whole.frames[index].history)
        assert repr(entry.frame) == repr(whole.frames[index])
    assert sorted(path.name for path in tmp_path.iterdir()) == [FOLDER, *(frame_name(i) for i in range(4))]
    assert Record.read(tmp_path).finished


@pytest.mark.parametrize("damage", ["map gone", "map changed", "record gone", "record cut"])
def test_a_frame_that_is_not_what_it_was_is_made_again(prepared, tmp_path, damage):
    settings = Settings(method="linear", frames=3)
    with opened(tmp_path, prepared, settings) as kept:
        morph(prepared, settings, keep=kept.keep)
    path, record = tmp_path / frame_name(1), tmp_path / FOLDER / "001.json"
    match damage:
        case "map gone":
            path.unlink()
        case "map changed":
            path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        case "record gone":
            record.unlink()
        case "record cut":
            record.write_bytes(record.read_bytes()[:-9])
    with opened(tmp_path, prepared, settings) as kept:
        assert sorted(kept.known()) == [0, 2]


def test_the_fingerprint_is_that_of_all_that_frames_depend_on(prepared):
    settings = Settings(sigma=1.0)
    same = fingerprint(prepared, Settings(sigma=1.0, memory=10**9))
    others = [
        fingerprint(prepared, Settings(sigma=1.1)),
        fingerprint(prepared, Settings(sigma=1.0, frames=24)),
        fingerprint(prepare_maps(prepared.volumes[:2]), settings),
        fingerprint(prepare_maps(prepared.volumes[::-1]), settings),
    ]
    assert fingerprint(prepared, settings) == same
    assert len({same, *others}) == 5


def test_two_runs_do_not_write_into_one_folder(prepared, tmp_path):
    settings = Settings(method="linear", frames=3)
    with (
        opened(tmp_path, prepared, settings),
        pytest.raises(InputError, match="another run writes into"),
        opened(tmp_path, prepared, settings),
    ):
        pass
    with opened(tmp_path, prepared, settings) as third:
        third.folder.begin()


def test_an_error_of_a_writer_is_not_lost(prepared, tmp_path):
    settings = Settings(method="linear", frames=3)
    with opened(tmp_path, prepared, settings) as kept:
        (tmp_path / frame_name(1)).mkdir()
        morph(prepared, settings, keep=kept.keep)
        with pytest.raises(InputError, match="is a folder"):
            kept.wait()


# The command line.


def test_resume_without_an_earlier_run_is_a_run(maps, tmp_path):
    options = ("--frames", 3, "--method", "linear")
    assert morphot("morph", *maps, "-o", tmp_path / "one", *options, "--resume").code == 0
    assert morphot("morph", *maps, "-o", tmp_path / "two", *options).code == 0
    assert frames_of(tmp_path / "one") == frames_of(tmp_path / "two")


def test_a_finished_run_is_left_as_it_is(maps, tmp_path):
    arguments = ("morph", *maps, "-o", tmp_path, "--frames", 3, "--method", "linear", "--resume")
    assert morphot(*arguments).code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = morphot(*arguments)
    assert done.code == 0
    assert "nothing is left to do" in done.err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_not_taken_for_this_one(maps, prepared, tmp_path, finished):
    if finished:
        assert morphot("morph", *maps, "-o", tmp_path, "--frames", 3, "--method", "linear").code == 0
    else:
        with opened(tmp_path, prepared, Settings(frames=9)) as kept:
            kept.folder.begin()
    before = frames_of(tmp_path)
    done = morphot("morph", *maps, "-o", tmp_path, "--frames", 4, "--method", "linear", "--resume")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "other maps, settings or versions" in done.err
    assert frames_of(tmp_path) == before
    done = morphot("morph", *maps, "-o", tmp_path, "--frames", 4, "--method", "linear", "--resume", "--overwrite")
    assert done.code == 0, done.err
    assert len(frames_of(tmp_path)) == 4


def test_a_run_that_has_not_finished_is_named(maps, prepared, tmp_path):
    with opened(tmp_path, prepared, Settings(frames=9)) as kept:
        kept.folder.begin()
    done = morphot("morph", *maps, "-o", tmp_path, "--frames", 4)
    assert done.code == 2
    assert "--resume" in done.err


def test_resume_does_not_touch_a_folder_of_something_else(maps, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = morphot("morph", *maps, "-o", tmp_path, "--resume")
    assert done.code == 2
    assert "not empty" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# Killed.


def started(maps, output, *options):
    arguments = ["morph", *maps, "-o", output, "-q", *options]
    return subprocess.Popen([*COMMAND, *map(str, arguments)])


def assert_nothing_half(folder):
    """Every file under a final name is complete."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            match path.suffix:
                case ".mrc":
                    assert mrcfile.validate(path, print_file=io.StringIO())
                case ".json":
                    json.loads(path.read_text(encoding="utf-8"))
                case ".png":
                    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def wait_for_files(process, folder, count):
    """Wait until so many more files are in a folder; whether the process still runs then."""
    have = sum(1 for _ in folder.rglob("*"))
    while sum(1 for _ in folder.rglob("*")) < have + count:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return process.poll() is None


def killed_and_resumed(maps, tmp_path, options, kills, seed):
    """Kill a run at random moments, each after a few more files, and go on each time."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert started(maps, whole, *options).wait() == 0
    rng, done = random.Random(seed), 0
    while done < kills:
        process = started(maps, broken, *options, "--resume")
        if wait_for_files(process, broken, rng.randint(1, 9)):
            time.sleep(rng.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            done += 1
            assert_nothing_half(broken)
        else:  # it ended before it was to be killed
            assert process.returncode == 0
            assert frames_of(broken) == frames_of(whole)
            rmtree(broken)
    assert started(maps, broken, *options, "--resume").wait() == 0
    assert frames_of(broken) == frames_of(whole)
    reports = [json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (whole, broken)]
    for report in reports:
        report["settings"].pop("memory")  # what was free
        for name in VARYING:
            report.pop(name)
    assert reports[0] == reports[1]
    assert (whole / "metrics.csv").read_bytes() == (broken / "metrics.csv").read_bytes()
    assert not list(broken.rglob("*.part"))
    assert Record.read(broken).finished


@pytest.mark.study
def test_a_run_killed_at_random_ends_like_one_that_was_not(maps, tmp_path):
    options = ("--frames", "9", "--method", "barycenter", "--sigma", "0.8")
    killed_and_resumed(maps, tmp_path, options, kills=1, seed=1)


@pytest.mark.study
@pytest.mark.parametrize("method", ["barycenter", "displacement"])
def test_twenty_kills_of_runs_of_25_frames(maps, tmp_path, method):
    """Ten of each method."""
    options = ("--frames", "25", "--sigma", "0.8", "--method", method)
    killed_and_resumed(maps[:2], tmp_path, options, kills=10, seed=2)


def test_interrupted_by_hand_leaves_what_is_finished(tmp_path):
    maps = ("sample:adk-open", "sample:adk-closed")
    output = Path(tmp_path) / "out"
    arguments = ["morph", *maps, "-o", output, "--grid", "48", "--method", "barycenter", "--sigma", "0.6"]
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(output.glob(f"{FOLDER}/0*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "add --resume to continue" in printed
    assert "interrupted" in printed
    assert "Traceback" not in printed
    logged = (output / "run.log").read_text(encoding="utf-8")
    assert "add --resume to continue" in logged
    assert re.search(r"ERROR +interrupted$", logged)
    assert_nothing_half(output)
    assert frames_of(output)

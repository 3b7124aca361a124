"""The output folder of a run: no input is written over, and nothing is removed that is not a run's own."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helpers import COMMAND, ROOT, morphot
from morphot_jax import write_volume
from morphot_jax.runs.folder import FOLDER, LOCK, RUN, OutputFolder, Record
from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from shapes import blobs_in_files, volume_of

SHAPE = (14, 15, 16)
LINEAR = ("--frames", 3, "--method", "linear")
# Each command with two maps, the options that make it quick, and a file that it writes.
COMMANDS = {
    "morph": (LINEAR, "vol_001.mrc"),
    "prepare": ((), "000_a.mrc"),
    "align": (("--motion", "translation"), "aligned.mrc"),
    "field": (("--sigma", 1), "first.mrc"),
}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two maps in files."""
    return blobs_in_files(tmp_path_factory.mktemp("maps"), SHAPE, [(5, 6, 5), (7, 8, 9)])


def contents(folder):
    """The bytes of all files below a folder, but for the lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def as_it_is(path):
    return path


def through_another_folder(path):
    return path.parent / ".." / path.parent.name / path.name


def relative(path):
    return os.path.relpath(path)


def by_a_link_to_the_file(path):
    link = path.parent.parent / "link.mrc"
    link.symlink_to(path)
    return link


def by_a_link_to_the_folder(path):
    link = path.parent.parent / "linked"
    link.symlink_to(path.parent)
    return link / path.name


def by_a_second_name(path):
    link = path.parent.parent / "second.mrc"
    os.link(path, link)
    return link


SPELLINGS = (as_it_is, through_another_folder, relative, by_a_link_to_the_file, by_a_link_to_the_folder)
SPELLINGS += (by_a_second_name,)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_input_is_written_over(maps, tmp_path, command, spelling):
    """A map in the output folder, under a name that the run writes."""
    options, name = COMMANDS[command]
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(maps[1].read_bytes())
    given = spelling(out / name)
    before = contents(tmp_path)
    done = morphot(command, maps[0], given, "-o", out, *options, "--overwrite")
    assert done.code == 2
    assert f"{name}' is read by this run" in done.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_frames_of_an_earlier_run_can_be_inputs_of_another_and_are_kept(maps, tmp_path, command):
    """Its own folder is refused: even frames that the run would not write would be cleared away."""
    out = tmp_path / "out"
    assert morphot("morph", *maps, "-o", out, "--frames", 5, "--method", "linear").code == 0
    before, arguments = contents(out), (command, out / "vol_003.mrc", out / "vol_004.mrc", *COMMANDS[command][0])
    done = morphot(*arguments, "-o", out, "--overwrite")
    assert done.code == 2
    assert "is read by this run" in done.err
    assert len(done.err.splitlines()) == 1
    assert contents(out) == before
    done = morphot(*arguments, "-o", tmp_path / "new")
    assert done.code == 0, done.err
    assert contents(out) == before


def test_a_mask_is_an_input_too(maps, tmp_path):
    mask = tmp_path / "vol_000.mrc"
    write_volume(volume_of(np.ones(SHAPE)), mask)
    before = mask.read_bytes()
    done = morphot("morph", *maps, "-o", tmp_path, *LINEAR, "--mask", mask, "--overwrite")
    assert (done.code, mask.read_bytes()) == (2, before)
    done = morphot("field", *maps, "-o", tmp_path, "--domain", mask, "--overwrite")
    assert (done.code, mask.read_bytes()) == (0, before), done.err


def test_a_simulated_map_does_not_replace_the_map_whose_grid_it_takes(maps, tmp_path):
    like = tmp_path / "like.mrc"
    like.write_bytes(maps[0].read_bytes())
    done = morphot("simulate", "sample:adk-open", "-o", like, "--like", like, "--overwrite")
    assert done.code == 2
    assert "is read by this run" in done.err
    assert like.read_bytes() == maps[0].read_bytes()


def test_overwriting_removes_what_an_earlier_run_recorded_and_nothing_else(maps, tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("thesis.txt", "vol_009.mrc", "figures/mine.png", "vol_000.mrc.bak"):
        (tmp_path / name).write_text("mine")
    assert morphot("morph", *maps, "-o", tmp_path, "--frames", 4, "--method", "linear", "--overwrite").code == 0
    assert morphot("morph", *maps, "-o", tmp_path, "--frames", 2, "--method", "linear", "--overwrite").code == 0
    assert {path.name for path in tmp_path.glob("vol_*.mrc")} == {"vol_000.mrc", "vol_001.mrc", "vol_009.mrc"}
    for name in ("thesis.txt", "vol_009.mrc", "figures/mine.png", "vol_000.mrc.bak"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["vol_001.mrc", "report.json", "viewer.html", "figures/slices.png"])
def test_a_file_that_no_run_wrote_is_not_replaced(maps, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    done = morphot("morph", *maps, "-o", tmp_path, *LINEAR, "--overwrite")
    assert done.code == 2
    assert f"'{tmp_path / name}' is of no earlier run" in done.err
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_that_was_changed_is_not_removed(maps, tmp_path):
    assert morphot("morph", *maps, "-o", tmp_path, *LINEAR).code == 0
    (tmp_path / "vol_002.mrc").write_bytes(maps[0].read_bytes())
    for frames in (3, 2):
        done = morphot("morph", *maps, "-o", tmp_path, "--frames", frames, "--method", "linear", "--overwrite")
        assert done.code == 2
        assert "vol_002.mrc' is not as an earlier run wrote it" in done.err
    assert (tmp_path / "vol_002.mrc").read_bytes() == maps[0].read_bytes()


def test_of_two_runs_that_begin_at_once_one_is_refused_and_none_is_harmed(maps, tmp_path):
    out = tmp_path / "out"
    arguments = ["morph", *maps, "-o", out, "--frames", 12, "--method", "bridge", "--sigma", 1]
    runs = [
        subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    ended = [(run.communicate()[1], run.returncode) for run in runs]
    assert sorted(code for _, code in ended) == [0, 2, 2]
    for said, code in ended:
        if code == 2:
            last = said.strip().splitlines()[-1]
            assert "another run writes into" in last or "is not empty" in last or "unfinished run" in last
    assert Record.read(out).finished
    assert Record.read(out).damaged(out) == []
    assert len(list(out.glob("vol_*.mrc"))) == 12


def test_only_the_unfinished_files_of_the_run_itself_are_swept_away(tmp_path):
    writer = "0123456789abcdef"
    mine = [tmp_path / f".{writer}.0a.part", tmp_path / "figures" / f".{writer}.0b.part"]
    below = tmp_path / "other" / f".{writer}.0c.part"
    others = [tmp_path / ".fedcba9876543210.0d.part", tmp_path / ".0e.part", below]
    for path in (*mine, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / FOLDER).mkdir()
    Record("key", False, writer, {"figures/a.png": None}).write(tmp_path)
    folder = OutputFolder(tmp_path, ["figures/a.png"], resume=True)
    folder.fingerprint = "key"
    with folder:
        folder.begin()
    assert [path.exists() for path in (*mine, *others)] == [False, False, True, True, True]


# Resumed


def finished(maps, out):
    assert morphot("morph", *maps, "-o", out, *LINEAR).code == 0
    return contents(out)


def changed(folder, before):
    """The names of the files that are not as they were; all are still there."""
    after = contents(folder)
    assert set(after) == set(before)
    return {path.name for path in after if after[path] != before[path]}


@pytest.mark.parametrize("name", ["vol_002.mrc", "viewer.html", "metrics.csv", "view.cxc", "report.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "emptied", "replaced"])
def test_what_is_damaged_is_made_again_and_said(maps, tmp_path, name, damage):
    before = finished(maps, tmp_path)
    path = tmp_path / name
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-7])
        case "emptied":
            path.write_bytes(b"")
        case "replaced":
            path.write_bytes(maps[0].read_bytes())
    done = morphot("morph", *maps, "-o", tmp_path, *LINEAR, "--resume")
    assert done.code == 0, done.err
    assert f"made again: {name}" in done.err
    assert changed(tmp_path, before) <= {"report.json", "run.log", "viewer.html", RUN}  # these tell times
    assert Record.read(tmp_path).damaged(tmp_path) == []
    done = morphot("morph", *maps, "-o", tmp_path, *LINEAR, "--resume")
    assert "nothing is left to do" in done.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("001.json", "[" * 100_000),
        ("001.json", "null"),
        ("001.json", '{"sha256": 1, "frame": {"index": 1}}'),
        ("²³¹.json", "{}"),
        ("-01.json", "{}"),
        (RUN, "[" * 100_000),
        (RUN, '{"files": {"../../thesis.txt": null}, "writer": "0123456789abcdef"}'),
        (RUN, '{"writer": 3}'),
    ],
)
def test_a_record_that_is_no_record_ends_in_no_traceback(maps, tmp_path, name, text):
    (tmp_path / "thesis.txt").write_text("mine")
    out = tmp_path / "in" / "out"
    finished(maps, out)
    (out / FOLDER / name).write_text(text, encoding="utf-8")
    (out / "vol_001.mrc").unlink()
    done = morphot("morph", *maps, "-o", out, *LINEAR, "--resume")
    assert done.code in (0, 2)
    assert done.code == 0 or len(done.err.splitlines()) == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_record_of_another_frame_is_not_taken(maps, tmp_path):
    before = finished(maps, tmp_path)
    records = tmp_path / FOLDER
    (records / "001.json").write_text((records / "000.json").read_text())
    (tmp_path / "vol_001.mrc").write_bytes((tmp_path / "vol_000.mrc").read_bytes())
    assert morphot("morph", *maps, "-o", tmp_path, *LINEAR, "--resume").code == 0
    assert contents(tmp_path)[tmp_path / "vol_001.mrc"] == before[tmp_path / "vol_001.mrc"]


def test_a_lock_that_is_a_folder_is_one_line(maps, tmp_path):
    (tmp_path / "out" / FOLDER / LOCK).mkdir(parents=True)
    done = morphot("morph", *maps, "-o", tmp_path / "out", *LINEAR)
    assert done.code == 2
    assert "cannot lock" in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("morphot: error")]) == 1


def test_a_viewer_that_view_wrote_again_is_the_runs_own(maps, tmp_path):
    finished(maps, tmp_path)
    assert morphot("view", tmp_path, "--colour", "displacement").code == 0
    assert Record.read(tmp_path).damaged(tmp_path) == []
    assert morphot("morph", *maps, "-o", tmp_path, "--frames", 2, "--method", "linear", "--overwrite").code == 0


def test_a_record_names_all_files_of_a_run(maps, tmp_path):
    for command, (options, _) in COMMANDS.items():
        out = tmp_path / command
        assert morphot(command, *maps, "-o", out, *options).code == 0
        written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert set(Record.read(out).files) == {name for name in written if not name.startswith(FOLDER)}
        content = json.loads((out / FOLDER / RUN).read_text(encoding="utf-8"))
        assert content["finished"]


def test_outputs_are_kept_apart_from_inputs_by_what_they_are(tmp_path):
    given = tmp_path / "a.mrc"
    given.write_text("")
    other = tmp_path / "b.mrc"
    other.symlink_to(given)
    files.keep_apart([tmp_path / "c.mrc"], [given, tmp_path / "gone.mrc"])
    with pytest.raises(InputError, match=r"b.mrc' is read by this run"):
        files.keep_apart([Path("c.mrc"), other], [given])

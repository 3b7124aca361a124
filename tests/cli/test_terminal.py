"""Progress and tables in a terminal, plain lines elsewhere, and every message in run.log."""

import fcntl
import io
import os
import re
import struct
import subprocess
import termios
import time
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Task, TaskID

import morphot_jax
from helpers import COMMAND, morphot
from morphot_jax import Settings, morph, prepare_maps, write_volume
from morphot_jax.cli import terminal as terminals
from morphot_jax.cli.terminal import Terminal
from morphot_jax.morphing.progress import Progress
from morphot_jax.runs import log
from morphot_jax.runs.estimate import Estimate
from morphot_jax.runs.folder import FOLDER
from morphot_jax.runs.log import LOG, Log
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status
from shapes import blob, volume_of

SHAPE = (14, 15, 16)
ESCAPE = "\x1b"
COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")
LINE = re.compile(r"(\S+) (DEBUG|INFO|WARNING|ERROR) +(.*)")
FRAMES = ("--frames", 3, "--sigma", 1)
LINEAR = ("--frames", 3, "--method", "linear")  # as quick as a run can be


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two maps, and a file that is not a map."""
    folder = tmp_path_factory.mktemp("maps")
    for name, centre in (("a", (5, 6, 5)), ("b", (7, 8, 9))):
        write_volume(volume_of(blob(SHAPE, centre, 1.6, 1e-4)), folder / f"{name}.mrc")
    (folder / "text.mrc").write_text("x" * 2000)
    return SimpleNamespace(a=folder / "a.mrc", b=folder / "b.mrc", text=folder / "text.mrc")


@pytest.fixture(scope="module")
def trajectory():
    """20 frames with errors that differ, as if each had been solved."""
    maps = [volume_of(blob(SHAPE, centre, 1.6, 1e-4)) for centre in ((5, 6, 5), (7, 8, 9))]
    blended = morph(prepare_maps(maps), Settings(method="linear", frames=20))
    frames = (replace(frame, iterations=40, marginal_error=1e-7 / (1 + frame.index)) for frame in blended.frames)
    return replace(blended, frames=tuple(frames))


def lines_of(folder):
    """Level and text of each line of a log; every one has its time."""
    found = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        when, level, text = LINE.fullmatch(line).groups()
        assert datetime.fromisoformat(when).tzinfo is not None
        found.append((level, text))
    return found


def texts_of(folder, level=None):
    return [text for found, text in lines_of(folder) if level in (None, found)]


def environment(**changes):
    """The variables of this process without those that change how a console behaves."""
    known = [
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
        "PYTHONIOENCODING",
    ]
    return {name: value for name, value in os.environ.items() if name not in known} | changes


def run(*arguments, **variables):
    arguments = [*COMMAND, *map(str, arguments)]
    return subprocess.run(arguments, capture_output=True, check=False, env=environment(**variables))


def in_terminal(*arguments, columns=100, **variables):
    """Run the command in a terminal of its own: exit code, and what came out on its screen."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = environment(TERM="xterm-256color", **variables)
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # nobody writes any more
            break
        seen += piece
        if not piece:
            break
    os.close(ours)
    return SimpleNamespace(code=process.wait(), seen=seen.decode(errors="replace"))


def lines_on(screen):
    """What was on a screen, each line as often as it was drawn, without its colours."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.seen))


def shown(console_width, show, **options):
    """What a terminal of so many columns shows, and what its log gets."""
    terminal = Terminal(**options)
    terminal.console = Console(file=io.StringIO(), width=console_width, force_terminal=False, highlight=False)
    show(terminal)
    return terminal.console.file.getvalue(), "".join(terminal.log.held)


# run.log


def test_the_log_begins_with_the_command_and_the_versions(maps, tmp_path):
    assert morphot("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR).code == 0
    level, command = lines_of(tmp_path)[0]
    assert (level, command.split()[:3]) == ("INFO", ["morphot", "morph", str(maps.a)])
    assert f"morphot_jax {morphot_jax.__version__}, jax " in texts_of(tmp_path)[1]
    assert re.search(r", on (cpu|gpu|tpu)", texts_of(tmp_path)[1])


@pytest.mark.parametrize("flag", ["-q", "-v"])
def test_the_log_is_the_same_whatever_the_terminal_says(maps, tmp_path, flag):
    done = morphot("morph", maps.a, maps.b, "-o", tmp_path, "--level", "0.001", *FRAMES, flag)
    assert done.code == 0
    assert (done.err == "") == (flag == "-q")
    assert any(text.startswith(f"{maps.a}: (14, 15, 16) voxels") for text in texts_of(tmp_path, "DEBUG"))
    assert any("below the level 0.001 set to zero" in text for text in texts_of(tmp_path, "INFO"))
    assert any(re.match(r"method +rigid", text) for text in texts_of(tmp_path, "DEBUG"))
    assert {"reading", "preparing", "writing"} <= set(texts_of(tmp_path, "DEBUG"))
    assert sum(" converged" in text for text in texts_of(tmp_path, "INFO")) == 1  # one pair of motions
    *_, last = texts_of(tmp_path)
    assert last == f"3 frames and report.json are in {tmp_path}; {tmp_path / 'viewer.html'} shows them"


def test_the_log_has_every_row_that_the_table_leaves_out(trajectory):
    printed, logged = shown(80, lambda out: out.summary(trajectory, {"total": 1.0}))
    assert printed.count(" converged") == 11
    assert logged.count(" converged") == 20


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("field", ("{b}",), "domain  of the mass"),
        ("prepare", ("{b}",), "2 maps and prepare.json are in"),
        ("demo", ("--frames", 2, "--method", "linear"), "2 frames and report.json"),
    ],
)
def test_other_commands_keep_a_log_too(maps, tmp_path, command, options, said):
    given = [] if command == "demo" else [maps.a]
    options = [str(option).format(a=maps.a, b=maps.b) for option in options]
    done = morphot(command, *given, *options, "-o", tmp_path, "-q")
    assert (done.code, done.err) == (0, "")
    assert texts_of(tmp_path)[0].startswith(f"morphot {command}")
    assert any(text.startswith(said) for text in texts_of(tmp_path))


@pytest.mark.parametrize("command", ["morph", "align", "field", "prepare"])
def test_bad_input_leaves_no_folder_and_no_line_in_another_run_s_log(maps, tmp_path, command):
    out = tmp_path / "out"
    assert morphot(command, maps.a, maps.text, "-o", out).code == 2
    assert not out.exists()
    out.mkdir()
    (out / LOG).write_text("of another run\n")
    assert morphot(command, maps.a, maps.text, "-o", out, "--overwrite").code == 2
    assert (out / LOG).read_text() == "of another run\n"


def test_a_dry_run_leaves_no_log(maps, tmp_path):
    assert morphot("morph", maps.a, maps.b, "-o", tmp_path / "out", "--dry-run").code == 0
    assert not (tmp_path / "out").exists()


def test_overwriting_begins_a_new_log(maps, tmp_path):
    for frames in (4, 2):
        options = ("--frames", frames, "--method", "linear", "--overwrite")
        assert morphot("morph", maps.a, maps.b, "-o", tmp_path, *options).code == 0
    assert [text for text in texts_of(tmp_path) if text.startswith("morphot morph")] == [texts_of(tmp_path)[0]]
    assert "--frames 2" in texts_of(tmp_path)[0]


def test_what_fails_after_the_folder_is_made_is_logged(maps, tmp_path, monkeypatch):
    def fail(*_args):
        raise InputError("cannot write 'x': No space left on device")

    monkeypatch.setattr("morphot_jax.show.figures.all_figures", fail)
    done = morphot("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR)
    assert done.code == 2
    assert lines_of(tmp_path)[-1] == ("ERROR", "cannot write 'x': No space left on device")


def test_a_crash_is_logged_with_its_traceback(maps, tmp_path, monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("morphot_jax.show.figures.all_figures", fail)
    with pytest.raises(ZeroDivisionError):
        morphot("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR)
    errors = texts_of(tmp_path, "ERROR")
    assert errors[0] == "Traceback (most recent call last):"
    assert errors[-1] == "ZeroDivisionError: a bug"


def started(maps, output, *options):
    """A run of barycenters, one after the other, with its first frame written."""
    command = ["morph", maps.a, maps.b, "-o", output, "--method", "barycenter", "--batch", 1, *options]
    process = subprocess.Popen([*COMMAND, *map(str, command)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(output.glob(f"{FOLDER}/0*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_run_that_is_killed_keeps_its_log_and_a_resumed_one_adds_to_it(maps, tmp_path):
    options = ("--frames", 60, "--sigma", 0.7, "--tolerance", 1e-9)
    process = started(maps, tmp_path, *options)
    process.kill()
    process.wait(timeout=60)
    before = lines_of(tmp_path)
    assert before[0][1].startswith("morphot morph")
    arguments = ("--method", "barycenter", "--batch", 1, *options, "--resume")
    assert morphot("morph", maps.a, maps.b, "-o", tmp_path, *arguments).code == 0
    after = lines_of(tmp_path)
    assert after[: len(before)] == before
    assert after[len(before)][1].startswith("morphot morph")
    assert any(text.endswith("of 60 frames were finished by an earlier run") for _, text in after)


def test_a_log_that_cannot_be_written_ends_no_run(maps, tmp_path):
    (tmp_path / LOG).mkdir()
    done = morphot("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, "--overwrite")
    assert done.code == 0
    assert done.err.count(f"cannot write '{tmp_path / LOG}'") == 1
    assert (tmp_path / "report.json").is_file()


def test_lines_are_held_until_there_is_a_file_and_written_at_once_from_then_on(tmp_path):
    kept = Log(pytest.fail)
    kept.add(log.INFO, "one\ntwo")
    assert list(tmp_path.iterdir()) == []
    kept.begin(tmp_path / LOG, ["heading"], append=True)
    kept.begin(tmp_path / "other.log", ["never"], append=False)
    kept.add(log.WARNING, "thr\udceee")  # as from a file name that is no UTF-8
    assert lines_of(tmp_path) == [
        ("INFO", "heading"),
        ("INFO", "one"),
        ("INFO", "two"),
        ("WARNING", r"thr\udceee"),
    ]
    assert not (tmp_path / "other.log").exists()


def test_a_log_that_fails_complains_once(tmp_path):
    complaints = []
    kept = Log(complaints.append)
    kept.begin(tmp_path / "gone" / LOG, [], append=False)
    kept.add(log.INFO, "one")
    kept.add(log.INFO, "two")
    assert len(complaints) == 1
    assert "No such file or directory" in complaints[0]


# Progress and the time left


def test_the_time_left_is_told_by_the_work_else_by_its_share_else_by_what_was_expected():
    def left(completed=0, total=None, **fields):
        task = Task(TaskID(0), "working", total, completed, _get_time=lambda: 100.0, fields=fields)
        task.start_time = 90.0
        return terminals._seconds_left(task)

    assert left() is None
    assert left(expected=None) is None
    assert left(expected=25.0) == 15.0
    assert left(expected=5.0) is None  # it takes longer than was thought: nothing is known
    assert left(2, 8, expected=25.0) == 30.0
    assert left(2, 8, expected=25.0, end=107.0) == 7.0
    assert left(end=90.0) == 0.0


def test_frames_of_a_solved_plan_tell_their_own_time_left():
    pace = terminals._Pace(since=0.0)
    assert pace.left(Progress(0, 10, 40, 1e-4, 3.0), 5.0) == 3.0
    assert not pace.making(Progress(0, 10, 80, 1e-6, None))
    made = Progress(2, 10, 80, 1e-6, None)
    assert pace.making(made)
    assert pace.left(made, 7.0) == pytest.approx(8.0)  # two frames in two seconds, eight to come


def test_a_terminal_shows_progress_with_the_time_left(maps, tmp_path):
    options = ("--method", "barycenter", "--batch", 1, "--frames", 40, "--sigma", 0.7, "--tolerance", 1e-9)
    done = in_terminal("morph", maps.a, maps.b, "-o", tmp_path, *options)
    assert done.code == 0
    assert COLOURS.search(done.seen)
    lines = lines_on(done)
    for step in ("reading", "preparing", "compiling", "iteration", "writing"):
        assert any(step in line for line in lines)
    assert any(re.search(r" compiling .*\d:\d\d left", line) for line in lines)
    solving = r" iteration +\d+, marginal error \d\.\de-\d\d .*\d+/40 .*\d:\d\d left"
    assert any(re.search(solving, line) for line in lines)


def test_what_is_no_terminal_gets_lines_alone(maps, tmp_path):
    done = run("morph", maps.a, maps.b, "-o", tmp_path, *FRAMES, "-v")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert not set(said) & {ESCAPE, "\r", "\x08"}
    assert "iteration " not in said
    assert "compiling" not in said
    assert said.count(" converged") == 3


def test_colours_that_are_forced_into_a_file_bring_no_progress(maps, tmp_path):
    done = run("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, FORCE_COLOR="1")
    said = done.stderr.decode()
    assert COLOURS.search(said)
    assert "compiling" not in said
    assert "\r" not in said


def test_no_color_is_heeded(maps, tmp_path):
    done = in_terminal("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, NO_COLOR="1")
    assert done.code == 0
    assert not COLOURS.search(done.seen)
    assert "converged" in done.seen


def test_quiet_is_silent_in_a_terminal_too(maps, tmp_path):
    done = in_terminal("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, "-q")
    assert (done.code, done.seen) == (0, "")


def test_a_narrow_terminal_is_not_overrun(maps, tmp_path):
    done = in_terminal("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, columns=40)
    assert done.code == 0
    table = [line for line in lines_on(done) if "converged" in line or "marginal" in line]
    assert len(table) == 2
    assert max(map(len, table)) <= 40
    progress = [line for line in lines_on(done) if "compiling" in line]
    assert progress
    assert max(map(len, progress)) <= 40


@pytest.mark.parametrize("width", [40, 50, 60, 80, 200])
def test_the_table_of_frames_loses_columns_before_it_breaks_values(trajectory, width):
    said, logged = shown(width, lambda console: console.summary(trajectory, {"total": 1.0}))
    heads, *rows = said.splitlines()[:-1]
    assert max(len(line.rstrip()) for line in (heads, *rows)) <= width
    assert heads.split()[0] == "frame"
    assert "marginal error" in heads
    assert all(row.split()[-1] == "converged" for row in rows)
    assert ("mass" in heads) == (width >= 60)
    assert logged.count(" converged") == 20
    assert "mass" in logged


def summary_of(centres, **options):
    """The rows of the table for a morph of blobs, on the terminal and in the log; and the trajectory."""
    maps = [volume_of(blob(SHAPE, centre, 1.6, 1e-4)) for centre in centres]
    solved = morph(prepare_maps(maps), Settings(sigma=1.0, **options))
    printed, logged = shown(100, lambda out: out.summary(solved, {"total": 1.0}))
    rows = [line.split() for line in printed.splitlines() if line.endswith("converged")]
    assert rows == [line.split()[2:] for line in logged.splitlines() if line.endswith("converged")]
    return rows, solved


TWO, THREE = ((5, 6, 5), (7, 8, 9)), ((5, 6, 5), (7, 8, 9), (8, 6, 11))


@pytest.mark.parametrize(
    ("centres", "expected"), [(TWO, [("0-4", "0-1")]), (THREE, [("0-1", "0-0.25"), ("2-4", "0.5-1")])]
)
def test_the_frames_of_one_plan_are_one_row(centres, expected):
    rows, solved = summary_of(centres, method="displacement", frames=5)
    assert [tuple(row[:2]) for row in rows] == expected
    for row in rows:
        first, last = map(int, row[0].split("-"))
        frames = solved.frames[first : last + 1]
        masses = [f"{mass(frame.mass for frame in frames):.6g}" for mass in (min, max)]
        assert row[2] == "-".join(dict.fromkeys(masses))
        assert row[3:5] == [str(frames[0].iterations), f"{frames[0].marginal_error:.1e}"]


def test_barycenters_have_a_row_each():
    rows, solved = summary_of(TWO, method="barycenter", frames=4)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[4] for row in rows] == [f"{frame.marginal_error:.1e}" for frame in solved.frames]


def test_frames_that_ended_differently_do_not_share_a_row(trajectory):
    alike = [replace(frame, marginal_error=float("nan")) for frame in trajectory.frames]
    alike[5] = replace(alike[5], status=Status.NONFINITE)
    printed, _ = shown(100, lambda out: out.summary(replace(trajectory, frames=tuple(alike)), {"total": 1.0}))
    assert [line.split()[0] for line in printed.splitlines()[1:-1]] == ["0-4", "5", "6-19"]


def test_details_are_in_the_log_and_in_a_terminal_that_wants_them():
    estimate = Estimate(memory=2**30, seconds=75.0)
    settings = Settings(method="linear", frames=7)
    for verbose in (False, True):
        said, logged = shown(
            80, lambda out: out.outlook(settings, None, estimate, 7, in_full=False), verbose=verbose
        )
        assert ("about 1:15" in said) == verbose
        assert "about 1:15" in logged
        assert "1.00 GiB" in logged


def test_names_are_shown_as_they_are_and_never_taken_for_markup():
    said, logged = shown(80, lambda out: (out.say("[red]a.mrc[/red]"), out.warn("[b]"), out.detail("[/i]")))
    assert "[red]a.mrc[/red]" in said
    assert "warning: [b]" in said
    assert "[/i]" in logged


def test_quiet_and_verbose_contradict_each_other(maps, tmp_path):
    done = morphot("morph", maps.a, maps.b, "-o", tmp_path / "out", "-q", "-v")
    assert done.code == 2
    assert done.err.startswith("morphot: error: --quiet and --verbose")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_comes_out_whatever_the_encoding(maps, tmp_path, encoding):
    out = tmp_path / "out"
    done = run("simulate", "sample:adk-open", "-o", tmp_path / "a.mrc", "--apix", 4, PYTHONIOENCODING=encoding)
    unit = "A" if encoding == "ascii" else "Å"
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).rstrip().endswith(f"of 4 x 4 x 4 {unit}")
    done = run("morph", maps.a, maps.b, "-o", out, *LINEAR, "-v", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert f"(2.0, 2.0, 2.0) {unit}" in done.stderr.decode(encoding)
    assert "(2.0, 2.0, 2.0) Å" in (out / LOG).read_text(encoding="utf-8")
    done = run("morph", "--help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"finer than this (" in done.stdout


def test_letters_that_an_encoding_has_not_become_the_nearest(maps):
    assert morphot("info", maps.a).code == 0  # the command line makes it so
    assert "12.5° about é, 3 Å \udcff".encode("ascii", "morphot") == b"12.5 deg about e, 3 A ?"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "morphot")


def test_progress_needs_no_letters_that_the_encoding_has_not(maps, tmp_path):
    done = in_terminal("morph", maps.a, maps.b, "-o", tmp_path, *LINEAR, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert "compiling" in done.seen
    assert done.seen.isascii()


def test_a_file_name_that_is_no_text_is_quoted_all_the_same(tmp_path):
    name = os.fsdecode(b"m\xff.mrc")
    write_volume(volume_of(np.ones((4, 4, 4))), tmp_path / name)
    done = run("info", tmp_path / name)
    assert done.returncode == 0, done.stderr
    assert b"m?.mrc" in done.stdout

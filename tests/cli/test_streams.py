"""Standard streams that fail: a reader that goes away, a full disk, streams that are closed from the start."""

import os
import shlex
import subprocess

import pytest

from helpers import COMMAND
from shapes import blobs_in_files

SHAPE = (10, 11, 12)
LINEAR = ("--frames", 3, "--method", "linear")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return blobs_in_files(tmp_path_factory.mktemp("maps"), SHAPE, [(4, 5, 5), (5, 5, 6)], sd=1.3)


@pytest.fixture(scope="module")
def frames(maps, tmp_path_factory):
    """The frames of a run whose streams are sound."""
    out = tmp_path_factory.mktemp("run") / "out"
    subprocess.run(words("morph", *maps, "-o", out, *LINEAR), check=True, capture_output=True)
    return frames_in(out)


def words(*arguments):
    return [*COMMAND, *map(str, arguments)]


def in_shell(redirections, *arguments):
    """Run the command with its streams redirected by a shell: exit code, and what came out."""
    done = subprocess.run(
        f"{shlex.join(words(*arguments))} {redirections}", shell=True, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def frames_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("vol_*.mrc")}


@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-", ">&- 2>&- <&-", "2>&1 | head -1 >/dev/null"])
def test_no_run_ends_for_what_happens_to_its_messages(maps, frames, tmp_path, redirections):
    out = tmp_path / "out"
    code, _, said = in_shell(redirections, "morph", *maps, "-o", out, *LINEAR, "-v")
    assert code == 0
    assert "Traceback" not in said
    assert frames_in(out) == frames
    assert (out / "report.json").is_file()


def test_a_reader_that_goes_away_hears_of_no_error(maps):
    """As head does, after one line of many."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(words("info", *maps * 20), stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["info", "compare", "simulate", "help"])
def test_a_full_disk_behind_the_standard_output_is_one_line(maps, tmp_path, command):
    given = {
        "info": ("info", maps[0]),
        "compare": ("compare", *maps),
        "simulate": ("simulate", "sample:adk-open", "-o", tmp_path / "a.mrc", "--apix", 6),
        "help": ("morph", "--help"),
    }
    code, _, said = in_shell(">/dev/full", *given[command])
    assert code == 2
    assert said == (
        "morphot: error: cannot write to the standard output: No space left on device; check where it goes\n"
    )
    assert (tmp_path / "a.mrc").is_file() == (command == "simulate")


def test_closed_streams_do_not_write_into_the_next_file_that_is_opened(tmp_path):
    """A file that takes the number of the standard output would get its text."""
    whole, other = tmp_path / "whole.mrc", tmp_path / "other.mrc"
    assert in_shell("", "simulate", "sample:adk-open", "-o", whole, "--apix", 6)[0] == 0
    assert in_shell(">&- 2>&- <&-", "simulate", "sample:adk-open", "-o", other, "--apix", 6)[0] == 0
    assert whole.read_bytes() == other.read_bytes()

"""Scripts for ChimeraX: documented forms of commands, and names that cannot break out of their line."""

import ast
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.show import chimerax


def words(line):
    """A command's words, as ChimeraX splits it: at spaces, but for what is between double quotes."""
    found = re.findall(r'"(?:[^"\\]|\\.)*"|[^\s"]+', line)
    return [ast.literal_eval(word) if word.startswith('"') else word for word in found]


@given(name=st.text(min_size=1, max_size=40))
def test_any_name_is_one_word_of_one_line(name):
    quoted = chimerax.quoted(name)
    assert quoted.isprintable()
    assert words(f"open {quoted} vseries true") == ["open", name, "vseries", "true"]


@pytest.mark.parametrize("name", ['x"; close session; "', "a b.mrc", "a\nclose session", "C:\\new\\map.mrc", "#1"])
def test_hostile_names_stay_names(name):
    script = chimerax.alignment_script("aligned.mrc", name, name, IDENTITY)
    lines = script.splitlines()
    assert [words(line) for line in lines if line.startswith("open")] == [["open", name]] * 2
    assert not any(line.startswith("close") for line in lines)
    assert ";" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", script)


def test_plain_names_are_not_quoted():
    assert chimerax.quoted("vol_000.mrc") == "vol_000.mrc"


def test_an_alignment_is_the_matrix_of_the_motion():
    pose = Pose(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.array([4.0, 5.0, 6.5]))
    script = chimerax.alignment_script("aligned.mrc", "a.mrc", "b.mrc", pose)
    assert "view matrix models #1,0,-1,0,4,1,0,0,5,0,0,1,6.5" in script.splitlines()
    assert [line for line in script.splitlines() if line.startswith("open")] == ["open a.mrc", "open b.mrc"]


@pytest.mark.parametrize(
    ("moving", "pose"), [(None, IDENTITY), ("a.mrc", Pose(np.diag([-1.0, 1.0, 1.0]), np.zeros(3)))]
)
def test_what_no_motion_can_show_is_shown_by_the_aligned_map(moving, pose):
    script = chimerax.alignment_script("aligned.mrc", moving, None, pose)
    assert [line for line in script.splitlines() if line.startswith("open")] == ["open aligned.mrc"]
    assert "view matrix" not in script


FORMS = (  # of the commands, after the user guide
    r"open( \S+)+ vseries true",
    r"open \S+",
    r"set bgColor \w+",
    r"volume #\d+ style (surface|mesh)( step 1)? color #[0-9a-f]{6}",
    r"volume #\d+\.\d+ level [\d.e+-]+",
    r"view matrix models #\d+(,-?[\d.e+-]+){12}",
    r"surface dust #1 size [\d.]+",
    r"lighting soft",
    r"view",
    r"vseries slider #1",
    r"vseries play #1 loop true direction oscillate maxFrameRate \d+",
)
RECORDING = (
    r"movie record",
    r"vseries play #1 range 0,\d+ maxFrameRate \d+",
    r"wait \d+",
    r"movie encode \S+\.mp4",
)


def unknown(lines, forms):
    return [line for line in lines if not any(re.fullmatch(form, line) for form in forms)]


def test_a_series_is_opened_each_frame_at_its_level_and_played():
    levels = np.array([1.5, 2e-7, 0.25])
    script = chimerax.series_script(["vol_000.mrc", "vol_001.mrc", "vol_002.mrc"], levels)
    assert script.endswith("\n")
    commands = [line for line in script.splitlines() if not line.startswith("#")]
    assert unknown(commands, FORMS) == []
    assert commands[0] == "open vol_000.mrc vol_001.mrc vol_002.mrc vseries true"
    told = [line.split() for line in commands if re.match(r"volume #1\.", line)]
    assert [words[1] for words in told] == ["#1.1", "#1.2", "#1.3"]
    np.testing.assert_allclose([float(words[3]) for words in told], levels, rtol=1e-5)
    *_, comments = script.partition("# For a movie")
    lines = [line.removeprefix("# ") for line in comments.splitlines()[1:]]
    assert unknown(lines, RECORDING) == []


def test_the_alignment_has_known_commands_only():
    script = chimerax.alignment_script("aligned.mrc", "a.mrc", "b.mrc", IDENTITY)
    assert unknown([line for line in script.splitlines() if not line.startswith("#")], FORMS) == []

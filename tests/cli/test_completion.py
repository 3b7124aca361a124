"""Completion as shells ask for it: of commands, options, their words, and names of maps."""

import os
import select
import subprocess
import sys
import time

import pytest

from helpers import COMMAND, ROOT
from morphot_jax.cli.completion import after_break, complete_map, joined
from morphot_jax.system.words import SAMPLE_NAMES

SAMPLES = [f"sample:{name}" for name in SAMPLE_NAMES]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with maps, folders and other files in it."""
    for name in (
        "closed.mrc",
        "clash.map.gz",
        "open.MRC",
        "notes.txt",
        ".hidden.mrc",
        "few/one.ccp4",
        "alone/x.mrc",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def completed(shell, typed, action=""):
    """What the command answers a shell for a line that is being typed; of bash, the words as it splits them."""
    variables = {**os.environ, "_MORPHOT_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        variables |= {"COMP_WORDS": "\n".join(typed), "COMP_CWORD": str(len(typed) - 1)}
    else:
        variables |= {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": action}
    return subprocess.run(COMMAND, env=variables, capture_output=True, text=True, check=False)


def in_bash(*typed):
    done = completed("bash", ("morphot", *typed))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["mor"], ["morph"]),
        (["morph", "--method", "b"], ["barycenter", "bridge"]),
        (["morph", "--method", "=", "bri"], ["bridge"]),  # --method=bri
        (["order", "--match", ""], ["none", "mass", "density", "spectrum"]),
        (["morph", "--level", ""], ["auto", "none"]),
        (["morph", "--dry"], ["--dry-run"]),
        (["morph", "closed.mrc", "sample", ":", "mm"], ["mmcpn-open", "mmcpn-closed"]),
        (["morph", "sample", ":"], list(SAMPLE_NAMES)),
        (["morph", "sam"], SAMPLES),
        (["morph", "cl"], ["clash.map.gz", "closed.mrc"]),
        (["field", "closed.mrc", "op"], ["open.MRC"]),
        (["order", "a", "--between", "closed.mrc", "op"], ["open.MRC"]),
        (["field", "a", "b", "--domain", "few/"], ["few/one.ccp4"]),
        (["morph", "few"], []),  # the shell goes on into a folder by itself
        (["morph", "notes"], []),
        (["morph", "-o", "cl"], []),
        (["morph", "no/such/folder/"], []),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bash_is_answered(typed, expected):
    assert in_bash(*typed) == expected


def test_every_choice_of_an_option_is_offered(folder):
    offered = in_bash("morph", "--kernel", "")
    assert offered == ["auto", "dense", "fft", "log", "heat", "truncated"]
    assert "simulate" in in_bash("")
    assert set(in_bash("morph", "")) == {*SAMPLES, "closed.mrc", "clash.map.gz", "open.MRC", "few/", "alone/"}


@pytest.mark.usefixtures("folder")
def test_zsh_and_fish_are_answered():
    done = completed("zsh", "morphot morph --method br")
    assert (done.returncode, done.stdout.strip()) == (0, """_arguments '*: :(("bridge"))'""")
    assert "closed.mrc" in completed("zsh", "morphot morph cl").stdout
    assert completed("zsh", "morphot morph notes").stdout.strip() == "_files"
    assert completed("fish", "morphot morph sample:adk-o", "get-args").stdout.split() == ["sample:adk-open"]
    assert completed("fish", "morphot morph cl", "is-args").returncode == 0
    assert completed("fish", "morphot morph notes", "is-args").returncode == 1  # fish's own file names


def test_completion_loads_nothing_heavy(folder):
    script = (
        "import sys\nfrom morphot_jax.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*({'jax', 'scipy', 'matplotlib', 'numpy', 'gemmi', 'rich'} & set(sys.modules)), file=sys.stderr)\n"
    )
    variables = {"_MORPHOT_COMPLETE": "complete_bash", "COMP_WORDS": "morphot\nmorph\ncl", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["clash.map.gz", "closed.mrc"]
    assert done.stderr.split() == []


def test_names_that_need_quotes_are_left_to_the_shell(folder):
    (folder / "closed 2.mrc").touch()
    assert complete_map("clo") == []
    assert complete_map("cla") == ["clash.map.gz"]


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert complete_map("~/cl") == ["~/clash.map.gz", "~/closed.mrc"]
    assert complete_map(".h") == [".hidden.mrc"]


@pytest.mark.parametrize(
    ("words", "current", "expected"),
    [
        (["morphot", "morph", "sample", ":", "adk"], 4, (["morphot", "morph", "sample:adk"], 2)),
        (["morphot", "morph", "sample", ":"], 3, (["morphot", "morph", "sample:"], 2)),
        (["morphot", "a", "emdb", ":", "1", "b"], 5, (["morphot", "a", "emdb:1", "b"], 3)),
        (["morphot", "morph", ""], 2, (["morphot", "morph", ""], 2)),
        (["morphot"], 0, (["morphot"], 0)),
    ],
)
def test_words_that_bash_has_split_are_joined(words, current, expected):
    assert joined(words, current) == expected


def test_bash_gets_what_stands_behind_the_last_break():
    assert after_break("sample:mm", ["sample:mmcpn-open"]) == ["mmcpn-open"]
    assert after_break("--method=b", ["bridge"]) == ["bridge"]
    assert after_break("mo", ["morph"]) == ["morph"]


# A real bash

WRAPPER = f"#!/bin/sh\nexec '{COMMAND[0]}' -c '{COMMAND[2]}' \"$@\"\n"


@pytest.fixture
def bash(tmp_path, monkeypatch):
    """A home and a path in which ``morphot`` is a command."""
    if subprocess.run(["bash", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no bash here")
    place = tmp_path / "bin"
    place.mkdir()
    (place / "morphot").write_text(WRAPPER)
    (place / "morphot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def said_by_bash(script):
    return subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_script_that_is_shown_works_in_bash(bash, folder):
    script = """
    script=$(morphot --show-completion; true) && eval "$script"
    COMP_WORDS=(morphot morph sample : ad) COMP_CWORD=4; _morphot_completion morphot; echo "${COMPREPLY[@]}"
    COMP_WORDS=(morphot morph --rate ramp) COMP_CWORD=3; _morphot_completion morphot; echo "${COMPREPLY[@]}"
    complete -p morphot
    """
    samples, rates, registered = said_by_bash(script).splitlines()
    assert samples.split() == ["adk-open", "adk-closed"]
    assert rates.split() == ["ramp-up", "ramp-down"]
    assert registered == "complete -o default -F _morphot_completion morphot"


def test_completion_is_installed_for_the_shell_at_hand(bash):
    said = said_by_bash("morphot --install-completion; true")
    assert "bash completion installed" in said
    assert "_MORPHOT_COMPLETE=complete_bash" in (bash / ".bash_completions" / "morphot.sh").read_text()
    assert "morphot.sh" in (bash / ".bashrc").read_text()


def test_the_tab_key_completes_samples_and_maps(bash, folder):
    """Through readline, which has its own mind about colons."""
    said_by_bash("morphot --install-completion; true")
    screen, theirs = os.openpty()
    shell = subprocess.Popen(["bash", "--noprofile", "-i"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        for keys, expected in (
            (b"morphot morph sample:adk-o\t", "sample:adk-open "),
            (b"clo\t", "closed.mrc "),
            (b"--meth\t", "--method "),
            (b"dis\t", "displacement "),
        ):
            os.write(screen, keys)
            assert_shown(screen, expected)
    finally:
        shell.kill()
        shell.wait()
        os.close(screen)


def assert_shown(screen, expected, seconds=30.0):
    seen, deadline = "", time.monotonic() + seconds
    while expected not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([screen], [], [], 0.1)[0]:
            seen += os.read(screen, 4096).decode(errors="replace")

"""Options of the command line: each that is declared is there, with its default, and comes out as it was meant."""

import importlib.util
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from typer.main import get_command

from helpers import ROOT, morphot
from morphot_jax import Preparation, Settings
from morphot_jax.cli import main
from morphot_jax.cli.commands import maps, solve
from morphot_jax.cli.options import with_options
from morphot_jax.cli.table import declared_in, options_table
from morphot_jax.morphing.settings import LANDSCAPE, ORDERING, PLACING
from morphot_jax.runs.request import Request

DECLARED = declared_in(Settings) | declared_in(Request)
COMMANDS = get_command(main.app).commands
PAIRS = [(command, one) for one in DECLARED.values() for command in one.option.commands]
DEFAULTS = {  # where the command line has others than Python
    "order": ORDERING,
    "field": solve.ONE_PLAN,
    "barycenter": solve.MEAN,
    "place": PLACING,
    "landscape": LANDSCAPE,
}
WORDS = {"symmetry": "D7"}  # of options that do not take any text
GIVEN = {"output": Path("out"), "maps": ("a.mrc", "b.mrc")}


def probe(command):
    """A program with one command of that name, which returns the settings and the request that it was given."""

    usual = DEFAULTS.get(command, Settings())

    def both(*, settings: Settings = usual, request: Request) -> tuple:
        return settings, request

    both.__name__ = command
    program = typer.Typer(rich_markup_mode=None)
    program.command()(with_options(both))
    takes_maps = command in DECLARED["maps"].option.commands

    def run(*words):
        typed = ["--output", "out", *(GIVEN["maps"] if takes_maps else ()), *words]
        return program(typed, standalone_mode=False)

    return run


def value_in(chosen, name):
    """An option among the settings, the request and its preparation."""
    settings, request = chosen
    return next(getattr(one, name) for one in (settings, request, request.preparation) if hasattr(one, name))


def texts(one):
    """Texts that stand for values of an option, and the values."""
    kind, bounds = one.kind, one.option
    if kind.flag:
        return {None: True}
    if one.name in GIVEN:
        return {}
    found = {word: word for word in kind.words} | ({bounds.none: None} if bounds.none else {})
    low = bounds.least if bounds.least is not None else (bounds.above or 0) + 0.5
    if kind.number is int:
        found[f"{int(low) + 3}"] = int(low) + 3
    elif kind.number is float:
        found[f"{low + 0.25}"] = low + 0.25
    if kind.many is float:
        found["0.25,0.75"] = (0.25, 0.75)
    if kind.rows is float:
        found["0.25,0.75"] = ((0.25, 0.75),)
    if str in kind.classes:
        words = WORDS.get(one.name, "some words")
        found[words] = words
    return found


def typed(one, text):
    return [one.flags[0]] if text is None else [one.flags[0], text]


@pytest.mark.parametrize(("command", "one"), PAIRS, ids=lambda one: getattr(one, "name", one))
def test_what_is_typed_reaches_the_dataclass(command, one):
    run = probe(command)
    alone = {"debias": ("--method", "barycenter")} if command == "morph" else {}
    for text, value in texts(one).items():
        chosen = run(*typed(one, text), *alone.get(one.name, ()))
        assert value_in(chosen, one.name) == value
        assert type(value_in(chosen, one.name)) is type(value)


@pytest.mark.parametrize("command", sorted({command for command, _ in PAIRS}))
def test_defaults_are_those_of_python(command):
    settings, request = probe(command)()
    assert settings == DEFAULTS.get(command, Settings())
    assert request.preparation == Preparation()
    given = {name: value for name, value in GIVEN.items() if command in DECLARED[name].option.commands}
    assert request == Request(**given)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_commands_have_the_options_that_are_declared_for_them(command):
    there = {param.name: param for param in COMMANDS[command].params}
    for name, one in DECLARED.items():
        if command in one.option.commands:
            assert there[name].help == one.option.help
            assert getattr(there[name], "rich_help_panel", None) == one.option.group
            if not one.option.argument:
                assert set(there[name].opts) == set(one.flags)


def test_the_commands_of_declarations_are_commands():
    assert {command for command, _ in PAIRS} <= set(COMMANDS)


@pytest.mark.parametrize(("command", "one"), PAIRS, ids=lambda one: getattr(one, "name", one))
def test_an_unknown_word_is_refused_with_the_nearest(command, one, tmp_path):
    words = [*one.kind.words, *([one.option.none] if one.option.none else [])]
    if not words or command == "field":  # whose usage has arguments of its own
        return
    arguments = ["a.mrc", "b.mrc"] if command != "demo" else []
    arguments += {"order": ["--between", "a.mrc", "b.mrc"], "place": ["--among", "a.mrc"]}.get(command, [])
    done = morphot(command, *arguments, "-o", tmp_path / "out", one.flags[0], f"{words[0]}x")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert f"'{words[0]}x'" in done.err
    assert f"did you mean '{words[0]}'?" in done.err


def test_numbers_out_of_bounds_are_one_line_that_names_the_flag(tmp_path):
    done = morphot("prepare", "a.mrc", "-o", tmp_path / "out", "--apix", "-1")
    assert (done.code, done.err) == (2, "morphot: error: voxel_size (--apix) is -1: give a number above 0\n")


# The table of the documentation


def test_every_option_of_every_command_is_in_the_table():
    rows = [line.split(" | ") for line in options_table().splitlines() if line.startswith("| `")]
    for command, found in COMMANDS.items():
        for param in found.params:
            if param.param_type_name == "option":
                (row,) = [
                    row
                    for row in rows
                    if all(f"`{flag}`" in row[0] for flag in param.opts) and command in row[1].split(", ")
                ]
                assert " ".join(param.help.split()) in row[4]
    assert len(rows) == len({tuple(row) for row in rows})


def test_the_table_tells_words_bounds_and_defaults():
    (frames,) = [line for line in options_table().splitlines() if line.startswith("| `--frames`")]
    assert "| morph, demo, order | `25`, order: `101` | a whole number from 2 to 10000 |" in frames
    (relaxation,) = [line for line in options_table().splitlines() if line.startswith("| `--relaxation`")]
    assert "| `auto` | `auto`, a number above 0 and below 2 |" in relaxation


def test_the_page_of_options_gets_the_table():
    pytest.importorskip("jupyter_client")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert options_table() in hooks.on_page_markdown(page, page=None, config=None, files=None)
    assert hooks.on_page_markdown("other", page=None, config=None, files=None) == "other"
    assert "options.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_commands_that_take_dataclasses_are_all_tried_here():
    whole = [getattr(one, "__wrapped__", None) for module in (solve, maps) for one in vars(module).values()]
    taking = {one.__name__ for one in whole if one and any(map(is_dataclass, get_type_hints(one).values()))}
    assert taking - {"_run"} == {command for command, _ in PAIRS}

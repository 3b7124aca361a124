"""The options of all commands as Markdown tables, for the documentation."""

from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import typer

from morphot_jax.cli import main
from morphot_jax.morphing.settings import Settings
from morphot_jax.runs.request import Request
from morphot_jax.system.options import Declared, options_of, wanted, words_of

HEADER = "| option | commands | default | values | what |\n|---|---|---|---|---|"
RUNS, OTHERS = "Runs", "Other options"  # headings of options without a group: declared ones, and others


class Row(NamedTuple):
    """An option as one or more commands have it."""

    flags: str
    values: str
    help: str


def options_table() -> str:
    """A heading and a table for each group; an option that is the same in several commands has one line."""
    declared = declared_in(Settings) | declared_in(Request)
    groups: dict[str, dict[Row, dict[str, str]]] = {}  # group, row, command: the default
    for name, command in typer.main.get_command(main.app).commands.items():  # pyright: ignore
        for param in command.params:
            if param.param_type_name == "argument":
                continue
            one = declared.get(param.name)
            own = one if one and name in one.option.commands else None
            group = getattr(param, "rich_help_panel", None) or (RUNS if own else OTHERS)
            groups.setdefault(group, {}).setdefault(_row(param, own), {})[name] = _default(param)
    ordered = sorted(groups, key=lambda group: (RUNS, OTHERS).index(group) if group in (RUNS, OTHERS) else -1)
    tables = {group: "\n".join([HEADER, *map(_line, groups[group].items())]) for group in ordered}
    return "\n\n".join(f"## {group}\n\n{table}" for group, table in tables.items()) + "\n"


def declared_in(cls: Any) -> dict[str, Declared]:
    """The options of a dataclass and of the dataclasses in it."""
    options = dict(options_of(cls))
    for one in fields(cls):
        if is_dataclass(one.type):
            options |= declared_in(one.type)
    return options


def _line(entry: tuple[Row, dict[str, str]]) -> str:
    row, defaults = entry
    usual = next(iter(defaults.values()))
    others = [f"{command}: {default}" for command, default in defaults.items() if default != usual]
    return f"| {row.flags} | {', '.join(defaults)} | {', '.join([usual, *others])} | {row.values} | {row.help} |"


def _row(param: Any, declared: Declared | None) -> Row:
    flags = ", ".join(f"`{flag}`" for flag in sorted(param.opts, key=len, reverse=True))
    if declared and not declared.kind.flag:
        values = [*(f"`{word}`" for word in words_of(declared, typed=True)), *wanted(declared, typed=True)]
    else:
        values = [f"`{word}`" for word in getattr(param.type_descriptor, "choices", None) or ()]
    return Row(flags, ", ".join(values), " ".join((param.help or "").split()).replace("|", "\\|"))


def _default(param: Any) -> str:
    if param.required:
        return "required"
    return "" if param.default in (None, False, ()) else f"`{param.default}`"

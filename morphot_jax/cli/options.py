"""The options of commands: those that dataclasses declare (``system.options``), and a few written by hand."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
from typer.core import TyperCommand

from morphot_jax.cli.completion import complete_map, complete_words
from morphot_jax.system.options import Declared, Kind, options_of, read, words_of

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details, and list every frame.")]


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["morphot", *sys.argv[1:]])


class GroupedCommand(TyperCommand):
    """A command whose help lists its options in groups, then its examples, as plain text.

    (Typer draws groups with rich, whose import takes longer than everything else here.)
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text(self.epilog)


def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function into a command that has the options which its dataclass parameters declare.

    The function gets each dataclass with the values that were typed. The default of a parameter gives the defaults
    of its options, and the values of fields that are no option of this command.
    """
    hints = get_type_hints(function, include_extras=True)
    command, given = function.__name__, signature(function).parameters.values()
    declaring = {one.name: (hints[one.name], _default(one)) for one in given if is_dataclass(hints[one.name])}
    parameters = []
    for one in given:
        if one.name in declaring:
            parameters += _parameters(command, *declaring[one.name])
        else:
            parameters.append(one.replace(annotation=hints[one.name]))

    @wraps(function)
    def run(**typed: Any) -> Any:
        made = {name: _made(command, cls, usual, typed) for name, (cls, usual) in declaring.items()}
        return function(**{one.name: typed[one.name] for one in given if one.name not in made}, **made)

    keywords = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = Signature(keywords, return_annotation=hints.get("return"))  # pyright: ignore
    run.__annotations__ = {one.name: one.annotation for one in keywords} | {"return": hints.get("return")}
    return run


def _default(parameter: Parameter) -> Any:
    return None if parameter.default is Parameter.empty else parameter.default


def _parameters(command: str, cls: Any, usual: Any) -> list[Parameter]:
    """The options of a dataclass as parameters for typer; ``usual``: an instance with the defaults."""
    parameters = []
    for one in fields(cls):
        if is_dataclass(one.type):
            parameters += _parameters(command, one.type, getattr(usual, one.name, None))
        elif (declared := options_of(cls).get(one.name)) and command in declared.option.commands:
            parameters.append(_parameter(declared, getattr(usual, one.name, declared.default)))
    return parameters


def _parameter(one: Declared, default: Any) -> Parameter:
    option = one.option
    completion = complete_map if option.maps else None
    if one.spelled and (words := words_of(one, typed=True)):
        completion = complete_words(*words)
    if option.argument:
        info, default = typer.Argument(help=option.help, autocompletion=completion), Parameter.empty
    else:
        info = typer.Option(
            *one.flags,
            help=option.help,
            rich_help_panel=option.group,
            autocompletion=completion,
            metavar=_metavar(one) if one.spelled else None,
        )
        default = Parameter.empty if default is MISSING else _text(one, default) if one.spelled else default
    annotation = Annotated[_typed(one), info]
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typed(one: Declared) -> Any:
    """The type that typer converts to; text for an option that ``read`` converts."""
    kind = one.kind
    if kind.rows:
        return list[str] | None
    if one.spelled:
        return str if one.option.none or kind.words else str | None
    plain: Any = Literal[kind.words] if kind.words else _plain_type(kind)
    return plain | None if kind.optional else plain


def _plain_type(kind: Kind) -> Any:
    if kind.flag:
        return bool
    if kind.many:
        return list[str]
    return kind.number or (Path if Path in kind.classes else str)


def _metavar(one: Declared) -> str:
    """The placeholder in the help for the value of an option that ``read`` converts, such as <auto|float>."""
    number = one.kind.number or one.kind.many or one.kind.rows
    assert number is not None
    several = bool(one.kind.many or one.kind.rows)
    return f"<{'|'.join([*words_of(one, typed=True), number.__name__ + ',...' * several])}>"


def _text(one: Declared, value: Any) -> str | None:
    """A value as it is typed."""
    if value is None:
        return one.option.none
    return value if isinstance(value, str) else ",".join(map(repr, value if one.kind.many else [value]))


def _made(command: str, cls: Any, usual: Any, typed: dict[str, Any]) -> Any:
    """The dataclass with the values that were typed."""
    values: dict[str, Any] = {}
    for one in fields(cls):
        if is_dataclass(one.type):
            values[one.name] = _made(command, one.type, getattr(usual, one.name, None), typed)
        elif (declared := options_of(cls).get(one.name)) and command in declared.option.commands:
            text = typed[one.name]
            values[one.name] = read(declared, text) if declared.spelled and text is not None else text
    return cls(**values) if usual is None else replace(usual, **values)

"""The command ``morphot``: its commands, its error messages and its exit codes."""

import io
import logging
import os
import re
import sys
from contextlib import redirect_stdout
from typing import Any

import typer
from pydantic import ValidationError

from morphot_jax.cli import streams
from morphot_jax.cli.commands import look, maps, solve
from morphot_jax.cli.completion import after_break, joined
from morphot_jax.cli.examples import FIRST_STEPS, lines_for
from morphot_jax.cli.options import GroupedCommand
from morphot_jax.system.errors import BAD_INPUT, INTERRUPTED, InputError, did_you_mean

NAME = "morphot"
COMPLETING = "_MORPHOT_COMPLETE"  # the variable that a shell sets to ask for completions

app = typer.Typer(
    help="Morph cryo-EM density maps into one another by entropic optimal transport.",
    epilog=FIRST_STEPS,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    solve.morph,
    solve.demo,
    solve.barycenter,
    solve.order,
    solve.place,
    solve.landscape,
    solve.field,
    solve.bodies,
    look.view,
    look.movie,
    maps.prepare,
    maps.align,
    maps.compare,
    maps.simulate,
    maps.fetch,
    maps.info,
):
    # The line of a command in the list of all is the beginning of its docstring.
    summary = re.split("[:;,(.]", command.__doc__ or "")[0].strip()
    app.command(cls=GroupedCommand, short_help=summary, epilog=lines_for(command.__name__))(command)


def main() -> None:
    """Run the command line and exit: 0 done, 1 a frame did not converge, 2 bad input or usage, 130 interrupted."""
    streams.prepare()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains of a cache that it cannot write
    if os.environ.get(COMPLETING) == "complete_bash":
        _complete_in_bash()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name=NAME, standalone_mode=False)
    except InputError as error:
        code = _fail(str(error))
    except typer.TyperException as error:
        code = _fail(_usage(error))
    if code == INTERRUPTED:  # typer returns it after Ctrl-C
        print(f"{NAME}: interrupted", file=sys.stderr)
    if lost := streams.failure():
        code = _fail(lost)
    sys.exit(code or 0)


def _complete_in_bash() -> None:
    """Complete for bash, which splits words such as ``sample:adk-open``; typer finds the completions and exits."""
    typed = os.environ.get("COMP_WORDS", "")
    separator = "\n" if "\n" in typed else " "
    words, place = joined(typed.split(separator), int(os.environ.get("COMP_CWORD", "0")))
    os.environ |= {"COMP_WORDS": separator.join(words), "COMP_CWORD": str(place)}
    completions = io.StringIO()
    try:
        with redirect_stdout(completions):
            app([], prog_name=NAME)
    finally:
        print("\n".join(after_break(words[place], completions.getvalue().splitlines())))


def _usage(error: typer.TyperException) -> str:
    """The message for a usage error: what is wrong, the value received, and the nearest valid word."""
    context: Any = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if hasattr(error, "possibilities"):  # an unknown option
        message = str(error.message) + did_you_mean(*_option_and_known(error, context))
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        received = cause.errors()[0]["input"]
        if repr(received) not in message:
            message += f"; received {received!r}"
        choices = getattr(getattr(getattr(error, "param", None), "type_descriptor", None), "choices", None)
        message += did_you_mean(str(received), choices or ())
    command = NAME if context is None else context.command_path
    return f"{message}{'' if message.endswith('?') else '.'} See '{command} --help'"


def _option_and_known(error: Any, context: Any) -> tuple[str, list[str]]:
    """The unknown option as it was typed (``-sigma`` too), and all options of the command."""
    typed = next((word for word in sys.argv[1:] if word.startswith(error.option_name)), error.option_name)
    params = [] if context is None else context.command.get_params(context)
    return typed.split("=")[0], [name for param in params for name in (*param.opts, *param.secondary_opts)]


def _fail(message: str) -> int:
    print(f"{NAME}: error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT

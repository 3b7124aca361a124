"""The command ``morphot``: what commands it has, and how it ends."""

import sys

import typer
from pydantic import ValidationError

from morphot_jax import commands, look, tools
from morphot_jax.errors import BAD_INPUT, INTERRUPTED, InputError

app = typer.Typer(
    help="Morph cryo-EM density maps into one another by entropic optimal transport.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    commands.morph,
    commands.demo,
    commands.order,
    commands.field,
    look.view,
    look.movie,
    tools.prepare,
    tools.align,
    tools.compare,
    tools.simulate,
    tools.fetch,
    tools.info,
):
    app.command()(command)


def main() -> None:
    """Run the command line: 0 done, 1 a frame did not converge, 2 bad input or usage (one line, no traceback)."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except InputError as error:
        code = _fail(str(error))
    except typer.TyperException as error:
        code = _fail(_usage(error))
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        print("morphot: interrupted", file=sys.stderr)
    sys.exit(code or 0)


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the command, with the value that was received."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        received = cause.errors()[0]["input"]
        if repr(received) not in message:
            message += f"; received {received!r}"
    return f"{message}. See 'morphot --help'"


def _fail(message: str) -> int:
    print(f"morphot: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT

"""Arguments and options that several commands share, and what is made of their text."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.core import TyperCommand

from morphot_jax.cli.completion import complete_map, complete_words
from morphot_jax.system.errors import InputError, did_you_mean
from morphot_jax.system.words import Align, Device, Match, MethodChoice

Number = TypeVar("Number", int, float)

TRAJECTORY, SOLVE, MAPS = "Trajectory", "Solve", "Preparing the maps"  # groups of options

Maps = Annotated[
    list[str],
    typer.Argument(
        help="Maps in order: .mrc .map .ccp4, .gz .bz2; sample:NAME, emdb:ENTRY or pdb:ENTRY.",
        autocompletion=complete_map,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Overwrite = Annotated[bool, typer.Option(help="Write into a folder that is not empty.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, and list every frame.")]
Frames = Annotated[int, typer.Option(help="How many frames, evenly spaced in time.", rich_help_panel=TRAJECTORY)]
MethodOption = Annotated[
    MethodChoice,
    typer.Option(
        help="How to interpolate; auto is displacement, or what the other options ask for.",
        rich_help_panel=TRAJECTORY,
    ),
]
SigmaOption = Annotated[
    float | None,
    typer.Option(
        help="Width of the kernel (standard deviation) in voxels. [longest axis / 60]", rich_help_panel=SOLVE
    ),
]
SigmaAngstrom = Annotated[float | None, typer.Option(help="The same in Å.", rich_help_panel=SOLVE)]
LevelOption = Annotated[
    str,
    typer.Option(
        help="Density below it is not mass: auto, none, one number or one for each map (1.2,0.9).",
        rich_help_panel=MAPS,
        autocompletion=complete_words("auto", "none"),
    ),
]
DustOption = Annotated[
    str,
    typer.Option(
        help="Pieces of fewer voxels are not mass: a number, or auto (small ones, in noisy maps).",
        rich_help_panel=MAPS,
        autocompletion=complete_words("auto"),
    ),
]
LowPass = Annotated[
    float | None, typer.Option(help="Take detail finer than this (Å) out of the maps.", rich_help_panel=MAPS)
]
MaskOption = Annotated[
    str | None,
    typer.Option(
        help="A map from 0 to 1 that the maps are multiplied by.",
        rich_help_panel=MAPS,
        autocompletion=complete_map,
    ),
]
AlignOption = Annotated[
    Align, typer.Option(help="Lay every map onto the first one, where they fit best.", rich_help_panel=MAPS)
]
Box = Annotated[
    int | None,
    typer.Option(help="Cut or pad the maps to N^3 voxels about the middle of their box.", rich_help_panel=MAPS),
]
MatchOption = Annotated[
    Match,
    typer.Option(
        help="Give every map the mass of the first, or its amplitudes at each resolution.",
        rich_help_panel=MAPS,
    ),
]
Grid = Annotated[int | None, typer.Option(help="Resample to N^3 voxels.", rich_help_panel=MAPS)]
Apix = Annotated[
    float | None,
    typer.Option(help="Voxel size of the maps in Å, in place of their headers'.", rich_help_panel=MAPS),
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=SOLVE)]


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["morphot", *sys.argv[1:]])


class GroupedCommand(TyperCommand):
    """A command whose help has its options in groups and its examples as they are, in plain text.

    (What typer itself makes of groups is drawn with rich, whose import takes longer than all else here.)
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text(self.epilog)


def preparing(options: dict[str, Any]) -> dict[str, Any]:
    """What the options of preparing are in a request."""
    kept = {name: options[name] for name in ("lowpass", "mask", "match", "align", "box", "grid")}
    cleaning = {"level": level(options["level"]), "dust": auto_or("dust", options["dust"], int)}
    return kept | cleaning | {"voxel_size": options["apix"]}


def auto_or(name: str, text: str, kind: Callable[[str], Number]) -> Number | None:
    """None for auto; InputError quoting what is neither auto nor a number."""
    if text == "auto":
        return None
    try:
        return kind(text)
    except ValueError:
        kinds = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} is '{text}': give auto or {kinds}{did_you_mean(text, ['auto'])}") from None


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas; InputError quoting what is none."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name} is '{text}': give numbers, separated by commas") from None


def level(text: str) -> float | tuple[float, ...] | Literal["auto", "none"]:
    """What --level asks for, one number or one for each map; InputError quoting what is neither."""
    if text == "auto" or text == "none":  # noqa: PLR1714 - so that its type is known
        return text
    if meant := did_you_mean(text, ["auto", "none"]):
        raise InputError(f"level is '{text}': give auto, none or numbers, separated by commas{meant}")
    levels = numbers("level", text)
    return levels[0] if len(levels) == 1 else levels

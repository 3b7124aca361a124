"""Scripts for ChimeraX (.cxc): commands from its user guide, one per line.

ChimeraX runs a script in the folder of the script, so file names are relative to that folder.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import cycle

import numpy as np
from jaxtyping import Float

from morphot_jax import __version__
from morphot_jax.maps.pose import Pose
from morphot_jax.show.colours import APPEARS, BLUE, DOUBT_PALETTE, FADES, GREY, MARK, PALETTE, PARTS

SERIES, ALIGNMENT, FIELD, BODIES = "view.cxc", "align.cxc", "field.cxc", "bodies.cxc"
DOUBT = "doubt.cxc"
SHORTEST_ARROW = 0.2  # Å
FADED_LEVEL = 0.5  # of the lowest level of the frames: for what fades and what appears


def series_script(
    frames: Sequence[str], levels: Iterable[float], model: str | None = None, faded: Sequence[str] = ()
) -> str:
    """A script that opens the frames as a volume series, each at its own level, and plays it back and forth.

    ``model``: a file of atoms with a model for each frame, played beside. ``faded``: files of what fades and what
    appears, in turn, shown as meshes. A comment tells how to record a movie.
    """
    levels = list(levels)
    volumes = [f"volume #1.{number} level {level:.6g}" for number, level in enumerate(levels, start=1)]
    last = len(frames) - 1
    return _script(
        "The frames of a morph",
        f"open {' '.join(map(quoted, frames))} vseries true",
        "set bgColor white",
        f"volume #1 style surface step 1 color {BLUE}",
        *volumes,
        "surface dust #1 size 10",
        "lighting soft",
        "view",
        "vseries slider #1",
        "vseries play #1 loop true direction oscillate maxFrameRate 12",
        *_with_model(model),
        *_with_faded(faded, 2 if model is None else 3, FADED_LEVEL * min(levels)),
        "# For a movie: stop with 'vseries stop #1', then run these lines:",
        "# movie record",
        f"# vseries play #1 range 0,{last} maxFrameRate 12",
        f"# wait {last + 1}",
        "# movie encode morph.mp4",
    )


def _with_model(model: str | None) -> list[str]:
    """Commands that open a trajectory of atoms inside the surface."""
    if model is None:
        return []
    return [
        f"open {quoted(model)} coordsets true",
        "hide #2 atoms",
        "cartoon #2",
        f"color #2 {MARK}",
        "transparency #1 60",
        "coordset slider #2",
    ]


def _with_faded(files: Sequence[str], first: int, level: float) -> list[str]:
    """Commands that open what fades and what appears as meshes in their colours, as models from ``first`` on."""
    commands = []
    for number, (file, colour) in enumerate(zip(files, cycle((FADES, APPEARS))), first):
        commands += [
            f"open {quoted(file)}",
            f"volume #{number} style mesh step 1 level {level:.6g} color {colour}",
        ]
    return commands


def alignment_script(aligned: str, moving: str | None, fixed: str | None, pose: Pose) -> str:
    """A script that opens two maps and moves the first onto the second.

    Where the first is not a file (None) or is mirrored, which no motion does, it opens the ``aligned`` copy.
    """
    if moving is None or pose.mirrored:
        commands = [f"open {quoted(aligned)}"]
    else:
        commands = [f"open {quoted(moving)}", placing(1, pose)]
    commands.append(f"volume #1 style surface color {BLUE}")
    if fixed is not None:
        commands += [f"open {quoted(fixed)}", f"volume #2 style mesh color {GREY}"]
    return _script("Two maps, the first moved onto the second", *commands, "set bgColor white", "view")


def field_script(first: str, arrows: str, magnitude: str, level: float, longest: float) -> str:
    """A script that opens the arrows and a map coloured by how far its mass goes, from 0 to ``longest`` Å."""
    return _script(
        "How far the mass of a map goes, and where",
        f"open {quoted(first)}",
        f"open {quoted(magnitude)}",
        f"open {quoted(arrows)}",
        f"volume #1 style surface step 1 level {level:.6g}",
        "volume #2 hide",
        f"color sample #1 map #2 palette {':'.join(PALETTE.values())} range 0,{longest:.4g}",
        "transparency #1 40",
        "set bgColor white",
        "view",
    )


def doubt_script(surfaces: Sequence[tuple[str, float, str]], most: float) -> str:
    """A script that opens maps side by side, coloured by how far to doubt their motions, from 0 to ``most`` Å.

    ``surfaces``: the file of each map, its level, and the file of its doubts.
    """
    commands = []
    for number, (file, level, doubts) in enumerate(surfaces):
        surface, values = 2 * number + 1, 2 * number + 2
        commands += [
            f"open {quoted(file)}",
            f"open {quoted(doubts)}",
            f"volume #{surface} style surface step 1 level {level:.6g}",
            f"volume #{values} hide",
            f"color sample #{surface} map #{values} palette {':'.join(DOUBT_PALETTE.values())} range 0,{most:.4g}",
        ]
    shown = ",".join(str(2 * number + 1) for number in range(len(surfaces)))
    return _script(
        "How far to doubt the motion of each part", *commands, f"tile #{shown}", "set bgColor white", "view"
    )


def bodies_script(masks: Sequence[str]) -> str:
    """A script that opens the masks of bodies, each in its colour."""
    surfaces = [
        f"volume #{number} style surface step 1 level 0.5 color {colour}"
        for number, colour in zip(range(1, len(masks) + 1), cycle(PARTS))
    ]
    opened = [f"open {quoted(mask)}" for mask in masks]
    return _script("Parts that move as rigid bodies", *opened, *surfaces, "set bgColor white", "view")


def bild(starts: Float[np.ndarray, "n 3"], ends: Float[np.ndarray, "n 3"], longest: float) -> str:
    """The text of a .bild file of arrows, blue to red by length; those below ``SHORTEST_ARROW`` are left out."""
    lines = [".comment displacement of density, in Angstrom"]
    lengths = np.linalg.norm(ends - starts, axis=1)
    for start, end, length in zip(starts, ends, lengths, strict=True):
        if length < SHORTEST_ARROW:
            continue
        share = min(1.0, length / longest) if longest > 0 else 0.0
        lines.append(f".color {share:.3f} 0.25 {1.0 - share:.3f}")
        width = min(0.3, 0.1 * length)
        numbers = " ".join(f"{value:.3f}" for value in (*start, *end))
        lines.append(f".arrow {numbers} {width:.3f} {2.5 * width:.3f} 0.7")
    return "\n".join(lines) + "\n"


def placing(model: int, pose: Pose) -> str:
    """The command that moves an open model by a pose."""
    return f"view matrix models #{model}," + ",".join(f"{value:.9g}" for value in pose.matrix.ravel())


def quoted(text: str) -> str:
    """Quote a word of a command where needed, and escape the characters that would end the word or the line.

    Inside double quotes ChimeraX understands the escapes of Python's string literals.
    """
    if re.fullmatch(r"[\w./-]+", text, re.ASCII):
        return text
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in plain) + '"'


def _script(title: str, *commands: str) -> str:
    return "\n".join((f"# {title}, by morphot_jax {__version__}. Open this file in ChimeraX.", *commands)) + "\n"

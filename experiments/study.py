"""What studies have in common: their options, their maps, how they run, what they claim and how they look.

A study is a grid of settings and a function that computes a point of it (``runs.sweep``), figures drawn
from the table, and claims: statements of the paper, or goals of this package, that the table bears out or not.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import typer
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morphot_jax import Preparation, prepare_maps, read_volume
from morphot_jax.maps.samples import sample_volume
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Settings, Shard, Step, Sweep
from morphot_jax.system import files
from morphot_jax.system.errors import InputError

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
REAL = tuple(str((DATA / f"mmcpn_{state}_64.mrc").resolve()) for state in ("open", "closed"))
SAMPLE = ("sample:mmcpn-open", "sample:mmcpn-closed")

PAPER, GOAL = "the paper", "goal of this package, not of the paper"
CLAIMS = "claims.json"

GammaConvention = Literal["sd", "variance"]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results; a run goes on where one ended.")
]
Maps = Annotated[
    tuple[str, str] | None,
    typer.Option(help="Two maps, or sample:NAMEs; else the real Mm-cpn pair where it is at hand, or the sample."),
]
Quick = Annotated[bool, typer.Option(help="Small boxes and few points: under two minutes on two cores.")]
GammaIs = Annotated[
    GammaConvention,
    typer.Option(
        help="What gamma is of the kernel: its standard deviation, as in the original's code and the "
        "paper's figures, or its variance, as in the paper's text. In voxels."
    ),
]
ShardOption = Annotated[str, typer.Option("--shard", help="I/N: only this share of the points.")]

# Okabe and Ito's colours, which differ in lightness too, and a line and marker of its own for each method.
LOOKS = {
    "linear": ("#000000", ":", "x"),
    "original": ("#999999", "-.", "s"),
    "original-frame": ("#999999", "none", "*"),
    "barycenter": ("#CC79A7", "--", "^"),
    "bridge": ("#0072B2", "-", "o"),
    "displacement": ("#E69F00", "--", "D"),
    "debiased": ("#009E73", (0, (7, 2)), "v"),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
DPI = 130


class Claim(NamedTuple):
    """A statement, whose it is, and whether the numbers bear it out; ``holds`` is None if that cannot be told."""

    claim: str
    source: str
    expected: str
    measured: str
    holds: bool | None


def run(
    sweep: Sweep, compute: Callable[[list[Settings]], Iterable[Outcome]], shard: str = "1/1", **options
) -> bool:
    """Run a share of a sweep, a line on the terminal for each point; whether every point is there now."""
    varying = [name for name in sweep.columns if len({str(p.get(name)) for p in sweep.points.values()}) > 1]

    def report(step: Step) -> None:
        what = ", ".join(f"{name} {_short(step.settings[name])}" for name in varying if name in step.settings)
        took = step.failed or f"{step.seconds:.1f} s"
        left = f", about {_duration(step.seconds_left)} left" if step.done < step.total else ""
        print(f"{step.done}/{step.total} {what}: {took}{left}", flush=True)

    sweep.run(compute, shard=parsed(shard), report=report, **options)
    if missing := len(sweep.missing()):
        print(
            f"{missing} of {len(sweep.points)} points are missing: figures and claims come with the last of them"
        )
    return not missing


def parsed(shard: str) -> Shard:
    """A share as the command line gives it."""
    try:
        return Shard.parse(shard)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--shard") from None


def conclude(output: Path, claims: Iterable[Claim | None]) -> None:
    """Write the claims that could be put to the test, and say them."""
    made = [claim for claim in claims if claim is not None]
    files.write_text(output / CLAIMS, json.dumps([claim._asdict() for claim in made], indent=2) + "\n")
    words = {True: "holds", False: "FAILS", None: "open "}
    for claim in made:
        print(f"{words[claim.holds]}: {claim.claim}: {claim.measured}")


def sigma_of(gamma: float, convention: GammaConvention) -> float:
    """The standard deviation of the kernel, in voxels, that the paper's gamma stands for."""
    return gamma if convention == "sd" else float(np.sqrt(gamma))


def pair_of(maps: tuple[str, str] | None) -> tuple[str, str]:
    """The maps that were asked for, open first as in the paper; paths are made absolute."""
    if maps is None:
        return REAL if all(Path(path).is_file() for path in REAL) else SAMPLE
    first, last = maps
    return absolute(first), absolute(last)


def absolute(name: str) -> str:
    """A map's name that means the same in every folder."""
    return name if name.startswith("sample:") else str(Path(name).resolve())


def about(maps: Sequence[str]) -> dict[str, str]:
    """Settings that tell a pair of maps from others: their names, and what the files hold."""
    sums = [name if name.startswith("sample:") else files.sha256(Path(name))[:16] for name in maps]
    return {"maps": name_of(maps), "contents": " ".join(sums)}


def name_of(maps: Sequence[str]) -> str:
    """A pair of maps as tables name it."""
    return " ".join(name if name.startswith("sample:") else Path(name).stem for name in maps)


def load(maps: Sequence[str], voxels: int) -> Prepared:
    """Maps on a cube of so many voxels."""
    volumes = [
        sample_volume(name.removeprefix("sample:")) if name.startswith("sample:") else read_volume(name)
        for name in maps
    ]
    as_it_is = all(volume.shape == (voxels, voxels, voxels) for volume in volumes)
    return prepare_maps(volumes, Preparation(grid=None if as_it_is else voxels))


def unit_maps(maps: Sequence[str], voxels: int, *, flat: bool = False) -> Float[np.ndarray, "2 z y x"]:
    """The maps at unit mass in double precision, or their projections along z, which becomes one voxel."""
    boxes = np.stack([volume.data.astype(np.float64) for volume in load(maps, voxels).volumes])
    boxes = boxes.sum(axis=1, keepdims=True) if flat else boxes
    return np.stack([unit_mass(data) for data in boxes])


def looks() -> AbstractContextManager:
    """How figures look: a context to draw them in."""
    return mpl.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.handlelength": 3.2,
            "lines.linewidth": 1.4,
            "lines.markersize": 4,
            "figure.constrained_layout.use": True,
        }
    )


def panels(
    rows: int, columns: int, *, size: tuple[float, float] = (3.2, 2.8), **options
) -> tuple[Figure, np.ndarray]:
    """A figure of so many panels, each of this size in inches."""
    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def letter(axes: Iterable[Axes]) -> None:
    """(a), (b) ... before the titles."""
    for mark, panel in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
        panel.set_title(f"({mark}) {panel.get_title()}".rstrip(), loc="left")
        panel.set_title("", loc="center")


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )

"""How close does each method come to the morph of the atoms?

    python -m experiments.benches.accuracy -o OUT

For every pair of maps of ``cases`` and every method, each frame is compared with the density of the moved atoms at
the same time (``measures``).

OUT holds ``results.csv`` (a row for each case, method and time), ``summary.csv`` (means over the frames),
``accuracy.png``, ``claims.json``. About ten minutes in full on 2 cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments import figures, points
from experiments.cases import CASE_NAMES, QUARTERS, Case, at_hand, build_case
from experiments.claims import GOAL, Claim, conclude
from experiments.figures import LOOKS
from experiments.measures import MEASURES, THRESHOLDS, measures
from experiments.methods import METHODS, TRANSPORT, frames_of
from experiments.options import ShardOptions, chosen, command
from experiments.tables import curve
from morphot_jax import Settings, prepare_maps
from morphot_jax.maps.samples import GRID
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.system import files
from morphot_jax.system.tables import columns_to_csv

GIVEN = "original-frame"  # of the cases that have frames of the original program
QUICK_METHODS = ("linear", "bridge", "displacement")
QUICK_CASES = ("adk-sample", "mmcpn-sample")

COLUMNS = ("case", "method", "sigma", "time", *MEASURES, "status", "iterations")
RMS, VOXEL = "relative_rms", "voxel_difference_1"

PANELS_ACROSS = 4

ADK_BOUNDS = (("bridge", RMS, 0.165), ("displacement", VOXEL, 0.090))


@dataclass(frozen=True)
class Means:
    """The measures of the frames, by case and method."""

    rows: Sequence[Row]

    def of(self, case: str, method: str, measure: str) -> dict[float, float]:
        """The measure at each time; empty if nothing was computed."""
        values = curve(self.rows, "time", measure, {"case": case, "method": method})
        return {float(time): float(value) for time, value in values.items()}

    def mean(self, case: str, method: str, measure: str) -> float:
        return float(np.mean(list(self.of(case, method, measure).values())))

    @property
    def cases(self) -> list[str]:
        return [name for name in CASE_NAMES if any(row["case"] == name for row in self.rows)]

    def methods(self, case: str) -> list[str]:
        return [name for name in LOOKS if self.of(case, name, RMS)]


@dataclass(frozen=True)
class Options(ShardOptions):
    """The options of this bench."""

    methods: Annotated[str, typer.Option(help=f"Comma-separated: {','.join(METHODS)}.")] = ""
    cases: Annotated[str, typer.Option(help=f"Comma-separated: {','.join(CASE_NAMES)}.")] = ""
    sigma: Annotated[float, typer.Option(help="Standard deviation of the kernel in voxels.")] = GRID / 60


def main(options: Options) -> None:
    """Compare every method with the morph of the atoms."""
    methods, cases, times = (QUICK_METHODS, QUICK_CASES, QUARTERS) if options.quick else (METHODS, CASE_NAMES, ())
    methods = chosen(options.methods, METHODS, "--methods") or methods
    cases = at_hand(chosen(options.cases, CASE_NAMES, "--cases") or cases)
    places = [point for name in cases for point in points_of(name, (*methods, GIVEN), options.sigma, times)]
    output, sweep = options.output, Sweep(options.output, places, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        means = Means(rows)
        files.write_text(output / "summary.csv", summary(means))
        accuracy_figure(means).savefig(output / "accuracy.png", dpi=110)
        show(means)
        conclude(output, all_claims(means))


def points_of(case: str, methods: Sequence[str], sigma: float, times: tuple[float, ...] = ()) -> list[Point]:
    """A point for each method; ``times``: empty for those of the case."""
    shared = {"study": "accuracy", "case": case, "sigma": sigma, "times": list(times)}
    return [shared | {"method": name} for name in methods if name != GIVEN or case_of(case).given]


@cache
def case_of(name: str) -> Case:
    return build_case(name)


def measure(point: Point) -> Outcome:
    case = case_of(point["case"])
    return Outcome(measured(case, point["method"], tuple(point["times"]) or case.times, point["sigma"]))


def measured(case: Case, method: str, times: tuple[float, ...], sigma: float) -> list[Row]:
    """A row for each frame of a method, compared with the atoms."""
    if method == GIVEN:
        times = tuple(sorted(case.given))
        densities, status, iterations = [case.given[time] for time in times], "given", 0
    else:
        maps = prepare_maps([case.first, case.last])
        densities, status, iterations = frames_of(method, maps, times, Settings(sigma=sigma))
    rows = []
    for time, density in zip(times, densities, strict=True):
        about = {"time": time, "status": status, "iterations": iterations}
        rows.append(about | measures(density, case.reference(time)))
    return rows


def summary(means: Means) -> str:
    """Means over the frames, one line for each case and method."""
    rows = []
    for case in means.cases:
        for method in means.methods(case):
            row = {"case": case, "method": method, "frames": len(means.of(case, method, RMS))}
            rows.append(row | {measure: means.mean(case, method, measure) for measure in MEASURES})
    return columns_to_csv(rows, ("case", "method", "frames", *MEASURES))


def accuracy_figure(means: Means) -> Figure:
    """Relative rms and voxel difference against t: a panel for each case, a line for each method."""
    across = min(PANELS_ACROSS, len(means.cases))
    blocks = [means.cases[i : i + across] for i in range(0, len(means.cases), across)]
    figure = Figure(figsize=(3.1 * across + 0.4, 4.7 * len(blocks) + 0.6), layout="constrained")
    grid = figure.subplots(2 * len(blocks), across, squeeze=False, sharex=True)
    for block, cases in enumerate(blocks):
        for column in range(across):
            panels = grid[2 * block : 2 * block + 2, column]
            if column >= len(cases):
                for panel in panels:
                    panel.set_axis_off()
                continue
            for panel, measure in zip(panels, (RMS, VOXEL), strict=True):
                _draw(panel, means, cases[column], measure)
            panels[0].set_title(cases[column])
            panels[1].set_xlabel("t")
            panels[1].tick_params(labelbottom=True)
        grid[2 * block, 0].set_ylabel("relative rms")
        grid[2 * block + 1, 0].set_ylabel("voxel difference at 1 %")
    lines = {line.get_label(): line for panel in grid.flat for line in panel.get_lines()}
    names = [name for name in LOOKS if name in lines]
    figure.legend([lines[n] for n in names], names, loc="outside lower center", ncols=len(names), handlelength=3.5)
    return figure


def _draw(panel, means: Means, case: str, measure: str) -> None:
    for method in means.methods(case):
        figures.draw(panel, method, means.of(case, method, measure), marks=8)
    panel.set_xlim(0, 1)
    panel.set_ylim(bottom=0)
    panel.spines[["top", "right"]].set_visible(False)


def all_claims(means: Means) -> list[Claim]:
    """All claims that can be tested with the computed cases and methods."""
    claims = [_nearer_than_linear(means, method) for method in (*TRANSPORT, "original")]
    claims += [_bounded(means, *bound) for bound in ADK_BOUNDS]
    claims.append(_one_method_within(means))
    claims += [_beyond_the_original(means, method) for method in TRANSPORT]
    return [claim for claim in claims if claim is not None]


def _nearer_than_linear(means: Means, method: str) -> Claim | None:
    nearer, total, counts = 0, 0, []
    for case in means.cases:
        own, linear = (means.of(case, m, VOXEL) for m in (method, "linear"))
        shared = own.keys() & linear.keys()
        count = sum(own[time] < linear[time] for time in shared)
        nearer, total = nearer + count, total + len(shared)
        if shared:
            counts.append(f"{case} {count} of {len(shared)}")
    name = f"{method} is nearer to the atoms than the linear blend at every frame of every case"
    expected = "voxel difference at 1 % below that of linear"
    measured = f"frames where it is: {', '.join(counts)}"
    return (
        Claim(name, "the paper (voxel difference, Eq 3.3)", expected, measured, nearer == total) if total else None
    )


def _bounded(means: Means, method: str, measure: str, bound: float) -> Claim | None:
    if not means.of("adk-linear", method, measure):
        return None
    value = means.mean("adk-linear", method, measure)
    name = f"{method}: mean {'relative rms' if measure == RMS else 'voxel difference at 1 %'} on adk-linear"
    return Claim(name, GOAL, f"at most {bound:.3f}", f"{value:.4f}", value <= bound)


def _one_method_within(means: Means, rms: float = 0.160, voxel: float = 0.090) -> Claim | None:
    methods = [method for method in TRANSPORT if method in means.methods("adk-linear")]
    found = {method: [means.mean("adk-linear", method, measure) for measure in (RMS, VOXEL)] for method in methods}
    name = "one method is good in both measures on adk-linear"
    expected = f"mean relative rms at most {rms:.3f} and mean voxel difference at 1 % at most {voxel:.3f}"
    measured = ", ".join(f"{method} {pair[0]:.4f} and {pair[1]:.4f}" for method, pair in found.items())
    holds = any(pair[0] <= rms and pair[1] <= voxel for pair in found.values())
    return Claim(name, GOAL, expected, measured, holds) if found else None


def _beyond_the_original(means: Means, method: str, share: float = 0.80) -> Claim | None:
    """A comparison with the original's own frame and with the linear blend, on the real maps of Mm-cpn."""
    own, given, linear = (
        [means.of("mmcpn-real", m, measure) for measure in (RMS, VOXEL)] for m in (method, GIVEN, "linear")
    )
    if not (0.5 in own[0] and 0.5 in given[0] and own[0].keys() <= linear[0].keys()):
        return None
    ratios = [mine[0.5] / theirs[0.5] for mine, theirs in zip(own, given, strict=True)]
    below = all(mine[t] < blend[t] for mine, blend in zip(own, linear, strict=True) for t in mine)
    return Claim(
        f"{method}: nearer than the original's own frame and than the linear blend on mmcpn-real",
        GOAL,
        f"relative rms and voxel difference at 1 % at most {share:.2f} of the frame's at t = 0.5, "
        "and below those of linear at every t",
        f"{own[0][0.5]:.3f} and {own[1][0.5]:.3f}, that is {ratios[0]:.2f} and {ratios[1]:.2f} of the frame's; "
        f"{'below' if below else 'not everywhere below'} linear",
        max(ratios) <= share and below,
    )


def show(means: Means) -> None:
    """Print the means."""
    console = Console()
    table = Table(title="Means over the frames of the differences from the atoms", box=None, pad_edge=False)
    for heading in ("case", "method", "rms", "volume 1 %", *(f"voxel {percent} %" for percent in THRESHOLDS)):
        named = heading in {"case", "method"}
        table.add_column(heading, justify="left" if named else "right", no_wrap=named)
    columns = (RMS, "volume_difference_1", *(f"voxel_difference_{percent}" for percent in THRESHOLDS))
    for case in means.cases:
        for index, method in enumerate(means.methods(case)):
            values = [f"{means.mean(case, method, measure):.3f}" for measure in columns]
            table.add_row("" if index else case, method, *values)
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    command(main)()

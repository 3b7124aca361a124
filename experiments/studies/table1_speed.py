"""The paper's Table 1: the time of 25 frames on cubes of 60, 120 and 240 voxels.

    python -m experiments.studies.table1_speed -o OUT

Wall time of a trajectory, after compilation, by this package's methods (to a marginal error of 1e-6) and by the
original's algorithm in SciPy (20 iterations per frame), on JAX's default device. If all frames would take too
long, a few are timed and the time of all is calculated from them: ``timed_frames``. The results include the
paper's own times, and the exponent of the number of voxels with which each method's time grows.

OUT holds ``results.csv``, ``speed.png``, ``claims.json``. About half an hour in full on 2 cores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import LOOKS
from experiments.maps import side
from experiments.options import PairOptions, RowLimit, command
from experiments.processes import Runner, measured, point_of
from experiments.solves import Solve
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point

GRIDS, QUICK_GRIDS = (60, 120, 240), (16, 24, 32)
FRAMES, QUICK_FRAMES = 25, 5
METHODS = ("displacement", "bridge", "barycenter", "original")
FEW = {120: (0.25, 0.5, 0.75), 240: (0.5,)}  # frames that represent all, of methods that solve each frame
ITERATIVE = ("barycenter", "original")
PAPER_SECONDS = {240: {"GPU": 59.1, "CPU": 6876.0}}  # of 25 frames
COLUMNS = ("method", "implementation", "kernel", "grid", "frames", "sigma", "maps", "timed_frames", "seconds")
COLUMNS += (
    "seconds_per_frame",
    "iterations",
    "marginal_error",
    "peak_memory_bytes",
    "device",
    "exponent",
    "status",
)


@dataclass(frozen=True)
class Options(PairOptions):
    """The options of this study."""

    row_limit: RowLimit = 3600.0


def main(options: Options) -> None:
    """Time trajectories on grids of several sizes."""
    quick, output = options.quick, options.output
    tasks = [_task(n, method, options) for n in (QUICK_GRIDS if quick else GRIDS) for method in METHODS]
    device = jax.devices()[0]
    places = [point_of(task) | {"device": f"{device.platform} {device.device_kind}"} for task in tasks]
    sweep = Sweep(output, places, COLUMNS, derive=with_exponents)
    compute = partial(_measured, runner=Runner((Solve,), options.row_limit, together=quick))
    if rows := points.run(sweep, compute, options.share, at_once=len(places) if quick else 1):
        with figures.style():
            figures.save(speed_figure(rows), output / "speed.png")
        show(rows)
        conclude(output, claims(rows))


def _measured(some: Sequence[Point], runner: Runner) -> Iterator[Outcome]:
    return measured([{name: value for name, value in point.items() if name != "device"} for point in some], runner)


def _task(n: int, method: str, options: Options) -> Solve:
    sigma, pair = options.sigma_of(n / 60), options.pair
    frames, repeats = (QUICK_FRAMES, 1) if options.quick else (FRAMES, 3)
    task = Solve("morphot_jax", method, "heat", "double", f"{n}^3", sigma, pair, frames, repeats=repeats)
    if method in ITERATIVE:
        task = replace(task, kernel="dense", timed=FEW.get(n, ()))
    if method == "original":
        task = replace(task, implementation="original", method="barycenter", kernel="truncated")
    return task


def name_of(row: Row) -> str:
    """The method of a row, or 'original' for the original's algorithm."""
    return "original" if row["implementation"] == "original" else row["method"]


def with_exponents(rows: list[Row]) -> list[Row]:
    """Add the seconds per frame, and the p of seconds ~ voxels^p over all grids."""
    extended = []
    for row in rows:
        same = [other for other in rows if name_of(other) == name_of(row)]
        power = None
        if len(same) > 1:
            voxels = [3 * np.log(side(other["grid"])) for other in same]
            power = float(np.polyfit(voxels, np.log([other["seconds"] for other in same]), 1)[0])
        extended.append(row | {"seconds_per_frame": row["seconds"] / row["frames"], "exponent": power})
    return extended


def speed_figure(rows: Sequence[Row]) -> Figure:
    """Seconds against the voxels along an axis; hollow: from a few frames; stars: the paper's times."""
    figure, axes = figures.panels(1, 1, size=(5.2, 3.8))
    panel = axes[0, 0]
    grids = sorted({side(row["grid"]) for row in rows})
    for method in METHODS:
        some = sorted((row for row in rows if name_of(row) == method), key=lambda row: side(row["grid"]))
        x, seconds = ([side(row["grid"]) for row in some], [row["seconds"] for row in some])
        colour, line, marker = LOOKS[method]
        power = some[0]["exponent"]
        label = method if power is None else f"{method}, voxels$^{{{power:.2f}}}$"
        panel.plot(x, seconds, color=colour, linestyle=line, label=label)
        for row in some:
            whole = row["timed_frames"] == row["frames"]
            panel.plot(
                side(row["grid"]),
                row["seconds"],
                marker,
                color=colour,
                markerfacecolor=colour if whole else "white",
            )
    for grid, known in PAPER_SECONDS.items():
        for device, seconds in known.items() if grid in grids else ():
            panel.plot(grid, seconds, "*", color="black", markersize=8)
            panel.annotate(
                f"the paper, {device}", (grid, seconds), (-6, 4), textcoords="offset points", ha="right"
            )
    figures.log_ticks(panel, grids, "${}^3$")
    panel.set_yscale("log")
    panel.set_xlabel("grid")
    panel.set_ylabel(f"seconds for {rows[0]['frames']} frames")
    panel.legend()
    return figure


def show(rows: Sequence[Row]) -> None:
    """Print a line for each row."""
    for row in rows:
        partly = "" if row["timed_frames"] == row["frames"] else f", from {row['timed_frames']} frames"
        seconds = f"{row['seconds']:9.2f} s, {row['seconds_per_frame']:8.3f} s a frame{partly}"
        print(f"{row['grid']:>6} {name_of(row):13} {seconds}, {row['status']}")


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Compare the paper's times on its own machines with those on this machine."""
    tested = []
    platform = rows[0]["device"].split()[0]
    device = "a CPU" if platform == "cpu" else rows[0]["device"]
    seconds = {(name_of(row), side(row["grid"])): row["seconds"] for row in rows}
    for grid, known in PAPER_SECONDS.items():
        if ("original", grid) not in seconds:
            continue
        own = ", ".join(f"{method} {seconds[method, grid]:.1f} s" for method in METHODS)
        tested += [
            Claim(
                f"{rows[0]['frames']} frames at {grid}^3 take {known['CPU']:g} s on a CPU",
                PAPER,
                "the original's algorithm within a factor of three on this, different machine",
                f"{seconds['original', grid]:.0f} s on {device}",
                bool(1 / 3 <= seconds["original", grid] / known["CPU"] <= 3) if platform == "cpu" else None,
            ),
            Claim(
                f"{rows[0]['frames']} frames at {grid}^3 take {known['GPU']:g} s on a GPU",
                PAPER,
                "needs a GPU",
                f"on {device}: {own}",
                None if platform == "cpu" else bool(seconds["barycenter", grid] <= known["GPU"]),
            ),
            Claim(
                f"bridge and displacement take less on this machine than the paper's GPU at {grid}^3",
                GOAL,
                f"less than {known['GPU']:g} s for {rows[0]['frames']} frames",
                own,
                max(seconds["bridge", grid], seconds["displacement", grid]) < known["GPU"],
            ),
        ]
    powers = {name_of(row): row["exponent"] for row in rows if row["exponent"] is not None}
    tested.append(
        Claim(
            "time grows little faster than the number of voxels",
            GOAL,
            "the exponent of every method of this package at most 4 / 3, that of matrix products",
            ", ".join(f"{name} {power:.2f}" for name, power in powers.items()),
            all(power <= 4 / 3 for name, power in powers.items() if name != "original"),
        )
    )
    return tested


if __name__ == "__main__":
    command(main)()

"""Do the memory and time of a morph agree with its estimates?

    python -m experiments.benches.estimates -o OUT

``morphot morph`` runs on the Mm-cpn sample with every method on several grids, each in a separate process. Its
report gives the estimated and the measured memory and time. OUT holds ``results.csv``, ``estimates.png`` and
``claims.json``. Half an hour in full on 2 cores.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, Claim, conclude
from experiments.figures import LOOKS, methods_in
from experiments.maps import SAMPLE
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax.runs.report import REPORT
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point

METHODS = ("linear", "bridge", "displacement", "barycenter", "debiased")
QUICK_METHODS = ("displacement", "barycenter")
GRIDS, QUICK_GRIDS = (48, 64, 96, 128, 192), (32,)
FRAMES, QUICK_FRAMES = 25, 3
LARGEST = {"debiased": 64, "barycenter": 128}  # of grids: more would take an hour
BATCHES = (None, 8)  # of barycenters: the automatic choice, and a larger one
WITHIN = 1.3  # memory may be up to this multiple of the estimate
COLUMNS = ("method", "grid", "batch", "expected_bytes", "peak_bytes", "share", "expected_seconds", "seconds")
COMMAND = [sys.executable, "-c", "import sys; from morphot_jax.cli.main import main; sys.exit(main())"]


def main(options: ShardOptions) -> None:
    """Run morphs, and compare their memory and time with the estimates."""
    quick, output = options.quick, options.output
    frames, grids, methods = (QUICK_FRAMES, QUICK_GRIDS, QUICK_METHODS) if quick else (FRAMES, GRIDS, METHODS)
    places = [
        point
        for point in grid(study=["estimates"], frames=[frames], grid=grids, method=methods, batch=BATCHES)
        if point["grid"] <= LARGEST.get(point["method"], max(GRIDS))
        and (point["batch"] is None or point["method"] == "barycenter")
    ]
    sweep = Sweep(output, places, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(estimates_figure(rows), output / "estimates.png")
        conclude(output, claims(rows))


def measure(point: Point) -> Outcome:
    """Run the command once, and read its report."""
    method = {"debiased": ("barycenter", "--debias", "--tolerance", "1e-5")}.get(
        point["method"], (point["method"],)
    )
    options = ["--grid", point["grid"], "--frames", point["frames"], "--batch", point["batch"] or "auto"]
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        arguments = ["morph", *SAMPLE, "-q", "-o", out, *options, "--method", *method]
        subprocess.run([*COMMAND, *map(str, arguments)], check=True)
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    expected, peak = report["estimate"], report["peak_memory_bytes"]
    row = {"expected_bytes": expected["memory"], "peak_bytes": peak, "share": peak / expected["memory"]}
    return Outcome([row | {"expected_seconds": expected["seconds"], "seconds": report["seconds"]["total"]}])


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The promises of the estimates."""
    shares = [float(row["share"]) for row in rows]
    times = sorted(float(row["seconds"]) / float(row["expected_seconds"]) for row in rows)
    return [
        Claim(
            "peak memory stays within 1.3 times the estimate",
            GOAL,
            f"<= {WITHIN:g} times",
            f"{min(shares):.2f} to {max(shares):.2f} times, {len(rows)} runs",
            max(shares) <= WITHIN,
        ),
        Claim(
            "the time is what was expected, to a factor of three",
            GOAL,
            "1/3 to 3 times",
            f"{times[0]:.2f} to {times[-1]:.2f} times",
            times[0] >= 1 / 3 and times[-1] <= 3,
        ),
    ]


def estimates_figure(rows: Sequence[Row]) -> Figure:
    """Measured against expected memory and time."""
    figure, axes = figures.panels(1, 2, size=(3.4, 3.0))
    gib = 2**30
    for panel, expected, measured, unit, title in (
        (axes[0][0], "expected_bytes", "peak_bytes", gib, "memory (GiB)"),
        (axes[0][1], "expected_seconds", "seconds", 1.0, "time (s)"),
    ):
        ends = []
        for method in methods_in(rows):
            own = where(rows, {"method": method})
            x, y = ([float(row[name]) / unit for row in own] for name in (expected, measured))
            colour, _, marker = LOOKS[method]
            panel.loglog(x, y, linestyle="none", marker=marker, color=colour, label=method)
            ends += [*x, *y]
        line = [min(ends) / 1.2, max(ends) * 1.2]
        panel.plot(line, line, color="black", linewidth=0.8)
        panel.set_xlabel(f"expected {title}")
        panel.set_ylabel(f"measured {title}")
    axes[0][0].legend(fontsize=7)
    figures.letter(axes[0])
    return figure


if __name__ == "__main__":
    command(main)()

"""Time to a given marginal error, side by side in one run: this package, the original's algorithm, and peers.

    python -m experiments.bench_solver -o OUT [--quick] [--only TABLE] [--grid-limit N] [--maps A B]

OUT gets four tables, and what they show on the terminal and in ``claims.json``:

- ``results.csv``: this package, the original's algorithm in SciPy at its 20 iterations a frame, OTT-JAX and POT
  (extra ``peers``), each to a marginal error of 1e-6 by this package's definition. ``ratio``: how many times
  faster than the original. Where a peer has not converged its seconds are a lower bound.
- ``growth.csv``, ``growth.png``: how the time grows with the box, the number of frames and sigma.
- ``kernels.csv``: the time of one convolution by each kernel, and how far apart their barycenters are.
- ``roofline.csv``: the dense convolution beside the machine's matrix products and memory.

Every row is measured in a process of its own, one after the other (``bench_rows``, ``roofline``); a run that was
interrupted goes on where it ended, and rows that failed are tried again. An hour or two in full on 2 cores, about
two minutes with ``--quick``.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from experiments import bench_report
from experiments.bench_rows import Solve, default_maps
from experiments.bench_tasks import Scope, tasks_of, voxels
from experiments.roofline import (
    KERNEL_COLUMNS,
    KERNEL_KEY,
    ROOFLINE_COLUMNS,
    ROOFLINE_KEY,
    Agreement,
    Convolution,
    Roofline,
)
from experiments.tables import Row, Runner, Table, fill, from_json, measure_and_print, text

COMMAND = ("-m", "experiments.bench_solver", "--row")
TASKS = (Solve, Convolution, Agreement, Roofline)

CASE = ("grid", "frames", "sigma", "maps")  # rows that agree in these are solutions of the same
RESULT_KEY = ("method", "implementation", "kernel", "precision", *CASE, "timed_frames")
RESULT_COLUMNS = (
    *RESULT_KEY,
    "seconds",
    "seconds_per_iteration",
    "iterations",
    "marginal_error",
    "peak_memory_bytes",
    "ratio",
    "status",
)
GROWTH_KEY = ("sweep", "method", *CASE)
GROWTH_COLUMNS = (*GROWTH_KEY, "timed_frames", "seconds", "iterations", "marginal_error", "status")
COLUMNS = {
    "results": (RESULT_COLUMNS, RESULT_KEY),
    "growth": (GROWTH_COLUMNS, GROWTH_KEY),
    "kernels": (KERNEL_COLUMNS, KERNEL_KEY),
    "roofline": (ROOFLINE_COLUMNS, ROOFLINE_KEY),
}


def main(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the results (required).")
    ] = None,
    maps: Annotated[
        tuple[str, str] | None, typer.Option(help="Two maps; else the real Mm-cpn pair, or the sample.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of a trajectory.")] = 25,
    repeats: Annotated[int, typer.Option(help="Runs after compilation; their median counts.")] = 3,
    quick: Annotated[bool, typer.Option(help="Few rows, small boxes, one repeat.")] = False,
    only: Annotated[str, typer.Option(help=f"Comma-separated, else all: {', '.join(COLUMNS)}.")] = "",
    grid_limit: Annotated[int, typer.Option(help="Leave out boxes of more voxels along an axis.")] = 240,
    row_limit: Annotated[float, typer.Option(help="Seconds that one row may take.")] = 7200.0,
    row: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run the bench and write its results."""
    if row:
        measure_and_print(from_json(row, TASKS))
        return
    if output is None:
        raise typer.BadParameter("give a folder for the results", param_hint="-o")
    names = tuple(name.strip() for name in only.split(",") if name.strip()) or tuple(COLUMNS)
    if unknown := [name for name in names if name not in COLUMNS]:
        raise typer.BadParameter(f"{', '.join(unknown)} not known: choose from {', '.join(COLUMNS)}")
    pair = default_maps() if maps is None else tuple(str(Path(name).resolve()) for name in maps)
    scope = Scope(pair, frames, 1 if quick else repeats, quick)
    output.mkdir(parents=True, exist_ok=True)
    tables = {name: Table(output / f"{name}.csv", *COLUMNS[name]) for name in COLUMNS}
    for name in names:
        tasks = [task for task in tasks_of(name, scope) if voxels(task) <= grid_limit]
        runner = Runner(COMMAND, row_limit, together=quick and name != "results")
        fill(tables[name], tasks, runner, partial(with_ratios, tables["results"].rows))
    claims = bench_report.claims(tables["results"].rows, tables["kernels"].rows)
    (output / "claims.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    if "growth" in names and tables["growth"].rows:
        bench_report.growth_figure(tables["growth"].rows).savefig(output / "growth.png", dpi=150)
    bench_report.show({name: tables[name].rows for name in names}, claims)


def with_ratios(known: list[Row], rows: list[dict]) -> list[dict]:
    """The rows, and how many times faster than the original on the same case each is, where that is known."""
    return [row | {"ratio": _ratio(known, row)} for row in rows]


def _ratio(known: list[Row], row: dict) -> float | None:
    if "seconds" not in row or row.get("implementation") is None:
        return None
    if row["implementation"] == "original":
        return 1.0
    for other in known:
        if other["implementation"] == "original" and all(other[name] == text(row[name]) for name in CASE):
            return float(other["seconds"]) / row["seconds"]
    return None


if __name__ == "__main__":
    typer.run(main)

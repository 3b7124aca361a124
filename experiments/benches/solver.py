"""Time to a given marginal error, compared in one run: this package, the original's algorithm, and peers.

    python -m experiments.benches.solver -o OUT [--only TABLE] [--grid-limit N]

OUT holds a folder with a table for each of these, and ``claims.json``:

- ``results``: this package, the original's algorithm in SciPy at its 20 iterations per frame, OTT-JAX and POT
  (extra ``peers``), each to a marginal error of 1e-6 by this package's definition. ``ratio``: how many times
  faster than the original. If a peer has not converged, its seconds are a lower bound.
- ``growth``, and ``growth.png``: the growth of the time with the box, the number of frames and sigma.
- ``kernels``: the time of one convolution by each kernel, and the difference between their barycenters.
- ``roofline``: the dense convolution compared with the machine's matrix products and memory.

The rows are measured one after the other, each in a separate process (``solves``, ``roofline``). An interrupted
run continues where it stopped, and repeats failed rows. An hour or two in full on 2 cores, about two minutes with
``--quick``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from experiments import figures, points
from experiments.benches import solver_report
from experiments.benches.roofline import KERNEL_COLUMNS, ROOFLINE_COLUMNS, Agreement, Convolution, Roofline
from experiments.benches.solver_tasks import Scope, tasks_of, voxels
from experiments.claims import conclude
from experiments.maps import pair_of
from experiments.options import Maps, RowLimit, chosen, command
from experiments.options import Options as BaseOptions
from experiments.processes import Runner, measured, point_of
from experiments.solves import Solve
from morphot_jax.runs.sweep import Row, Sweep

TASKS = (Solve, Convolution, Agreement, Roofline)

CASE = ("grid", "frames", "sigma", "maps")  # rows that agree in these solve the same case
SOLVE_COLUMNS = ("method", "implementation", "kernel", "precision", *CASE, "timed_frames", "seconds")
SOLVED = ("iterations", "marginal_error")
COLUMNS = {
    "results": (*SOLVE_COLUMNS, "seconds_per_iteration", *SOLVED, "peak_memory_bytes", "ratio", "status"),
    "growth": ("sweep", *SOLVE_COLUMNS, *SOLVED, "status"),
    "kernels": KERNEL_COLUMNS,
    "roofline": ROOFLINE_COLUMNS,
}


@dataclass(frozen=True)
class Options(BaseOptions):
    """The options of this bench."""

    maps: Maps = None
    frames: Annotated[int, typer.Option(help="Frames of a trajectory.")] = 25
    repeats: Annotated[int, typer.Option(help="Timed runs after compilation; the median is reported.")] = 3
    only: Annotated[str, typer.Option(help=f"Comma-separated, else all: {', '.join(COLUMNS)}.")] = ""
    grid_limit: Annotated[int, typer.Option(help="Leave out boxes of more voxels along an axis.")] = 240
    row_limit: RowLimit = 7200.0


def main(options: Options) -> None:
    """Run the bench and write its results."""
    names = chosen(options.only, tuple(COLUMNS), "--only") or tuple(COLUMNS)
    quick, output = options.quick, options.output
    scope = Scope(pair_of(options.maps), options.frames, 1 if quick else options.repeats, quick)
    tables: dict[str, list[Row]] = {}
    for name in names:
        tasks = [point_of(task) for task in tasks_of(name, scope) if voxels(task) <= options.grid_limit]
        sweep = Sweep(output / name, tasks, COLUMNS[name], derive=with_ratios if name == "results" else list)
        runner = Runner(TASKS, options.row_limit, together=quick and name != "results")
        points.run(sweep, partial(measured, runner=runner), at_once=len(tasks) if runner.together else 1)
        tables[name] = sweep.rows()
    if tables.get("growth"):
        figures.save(solver_report.growth_figure(tables["growth"]), output / "growth.png")
    solver_report.show(tables)
    conclude(output, solver_report.claims(tables.get("results", []), tables.get("kernels", [])))


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Add to each row how many times faster it is than the original on the same case; None if unknown."""
    originals = {tuple(row[name] for name in CASE): row["seconds"] for row in rows if _by_original(row)}
    extended = []
    for row in rows:
        seconds = originals.get(tuple(row[name] for name in CASE))
        extended.append(row | {"ratio": None if seconds is None else seconds / row["seconds"]})
    return extended


def _by_original(row: Row) -> bool:
    return row["implementation"] == "original"


if __name__ == "__main__":
    command(main)()

"""The same jobs on this package and on others: which can do them, in what time and memory, and how exactly?

    python -m experiments.benches.peers -o OUT [--docs FILE]

There are two jobs: the barycenter half way (t = 0.5), and the plan between two maps. They run on cubes of 64^3 and
128^3, and on 12^3 and images of 64^2 for programs that cannot go further. Each job is solved to a marginal error
of 1e-6 by this package's definition, whatever a program's own criterion, in a separate process.

``difference``: for barycenters the relative L2 distance to this package's at 1e-9, for plans the relative
difference of the entropic cost. If a program cannot do a job, its row gives the reason. Programs that are not
installed (extras ``peers`` and ``geomloss``) are left out.

OUT holds ``results.csv``, ``peers.png``, ``claims.json``; ``--docs`` also writes the table as a page. About forty
minutes in full on 2 cores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.benches.peer_jobs import REFERENCE_ERROR, SMALL, WORK, Job
from experiments.claims import GOAL, Claim, conclude
from experiments.figures import COLOURS
from experiments.maps import is_flat, name_of, side
from experiments.options import PairOptions, RowLimit, command
from experiments.processes import Runner, measured, point_of
from experiments.solves import TOLERANCE
from experiments.tables import where
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.system import files

PROGRAMS = {  # name: the modules that it needs
    "morphot_jax": ("morphot_jax",),
    "original": ("scipy",),
    "OTT-JAX, kernel": ("ott",),
    "OTT-JAX, log": ("ott",),
    "POT": ("ot",),
    "GeomLoss": ("geomloss", "torch", "pykeops"),
}
GRIDS, QUICK_GRIDS = ("64^3", "128^3", "12^3", "64^2"), ("16^3", "8^3", "16^2")
COLUMNS = ("job", "grid", "sigma", "maps", "program", "seconds", "iterations", "marginal_error")
COLUMNS += ("peak_memory_bytes", "difference", "status")
AGREEING = 1e-4
HEAD = """# The same jobs on other programs

Written by `python -m experiments.benches.peers` from its `results.csv`. Each job is solved to a marginal error of
1e-6 by this package's definition, on 2 CPU cores, each program in a separate process. Seconds are those of a run
after compilation. *Difference* is relative to this package's answer at 1e-9: in L2 for a barycenter, in the
entropic cost for a plan. If a program did not reach the error, its seconds are a lower bound. The original makes
20 iterations, cuts its kernel at 4 sigma and reflects it at the faces of the box.
"""


@dataclass(frozen=True)
class Options(PairOptions):
    """The options of this bench."""

    docs: Annotated[Path | None, typer.Option(help="Write the tables to this Markdown page.")] = None
    row_limit: RowLimit = 600.0


def main(options: Options) -> None:
    """Run the same jobs on every program."""
    quick, output = options.quick, options.output
    grids, repeats, patience = (QUICK_GRIDS, 1, 20) if quick else (GRIDS, 3, 300)
    missing = [name for name, modules in PROGRAMS.items() if not all(map(find_spec, modules))]
    for program in missing:
        print(f"{program} is not installed: left out")
    places = [
        point_of(Job(job, program, n, _sigma(n, options), options.pair, repeats=repeats, patience=patience))
        for n in grids
        for job in WORK
        for program in PROGRAMS
        if program not in missing
    ]
    sweep = Sweep(output, places, COLUMNS)
    compute = partial(answers, runner=Runner((Job,), options.row_limit, together=quick))
    if rows := points.run(sweep, compute, options.share, at_once=len(places) if quick else 1):
        with figures.style():
            figures.save(peers_figure(rows), output / "peers.png")
        conclude(output, claims(rows))
        if options.docs is not None:
            files.write_text(options.docs, page(rows))


def answers(some: list[Point], runner: Runner) -> Iterator[Outcome]:
    """Run the jobs. A failure of another program becomes its row; one of this package remains a failure."""
    for point, outcome in zip(some, measured(some, runner), strict=True):
        if outcome.failed and point["program"] != "morphot_jax":
            yield Outcome([{"maps": name_of(point["maps"]), "status": outcome.failed}])
        else:
            yield outcome


def _sigma(grid: str, options: Options) -> float:
    return 1.0 if side(grid) <= SMALL and not is_flat(grid) else options.sigma_of(side(grid) / 60)


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Claim that this package is the fastest program that reaches the error, and that all programs agree."""
    tested = []
    for job, n in dict.fromkeys((row["job"], row["grid"]) for row in rows):
        done = {row["program"]: row for row in where(rows, {"job": job, "grid": n})}
        converged = {name: row for name, row in done.items() if row["status"] == "converged"}
        if "morphot_jax" in converged:
            own = converged["morphot_jax"]["seconds"]
            ratios = {name: row["seconds"] / own for name, row in converged.items() if name != "morphot_jax"}
            others = [f"{name}: {row['status']}" for name, row in done.items() if row["status"] != "converged"]
            slower = [f"{name} {ratio:.1f} times slower" for name, ratio in ratios.items()]
            tested.append(
                Claim(
                    f"{job}, {n}: this package is the fastest to an error of {TOLERANCE:g}",
                    GOAL,
                    "no other program that reaches the error takes less time",
                    "; ".join(slower + others),
                    all(ratio > 1 for ratio in ratios.values()),
                )
            )
        worst = {name: row["difference"] for name, row in converged.items() if row.get("difference") is not None}
        tested.append(
            Claim(
                f"{job}, {n}: the programs that reach the error agree",
                GOAL,
                f"relative difference from this package's answer at {REFERENCE_ERROR:g} at most {AGREEING:g}",
                ", ".join(f"{name} {value:.1e}" for name, value in worst.items()),
                all(value <= AGREEING for value in worst.values()) if worst else None,
            )
        )
    return tested


def peers_figure(rows: Sequence[Row]) -> Figure:
    """Seconds to the error, a panel for each job and grid; hatched if it was not reached."""
    cases = list(dict.fromkeys((row["job"], row["grid"]) for row in rows))
    programs = [name for name in PROGRAMS if any(row["program"] == name for row in rows)]
    figure, axes = figures.panels(2, -(-len(cases) // 2), size=(3.2, 2.4))
    for panel in axes.flat[len(cases) :]:
        panel.set_axis_off()
    for panel, (job, n) in zip(axes.flat, cases, strict=False):
        for place, name in enumerate(programs):
            some = where(rows, {"job": job, "grid": n, "program": name})
            if some and some[0].get("seconds"):
                row, reached = some[0], some[0]["status"] == "converged"
                colour = COLOURS[0] if name == "morphot_jax" else "0.6"
                panel.barh(place, row["seconds"], color=colour, hatch="" if reached else "////", edgecolor="white")
                label = f" {row['seconds']:.3g} s" + ("" if reached else f", error {row['marginal_error']:.0e}")
                panel.text(row["seconds"], place, label, va="center", fontsize=7)
            else:
                status = some[0]["status"].split(":")[0] if some else ""
                panel.text(0.02, place, status, va="center", fontsize=7, transform=panel.get_yaxis_transform())
        panel.set_yticks(range(len(programs)), programs)
        panel.set_ylim(len(programs) - 0.5, -0.5)
        panel.set_xscale("log")
        panel.margins(x=0.6)
        panel.set_xlabel("seconds")
        panel.set_title(f"{job}, ${n}$")
    return figure


def page(rows: Sequence[Row]) -> str:
    """Write the tables as a page of the documentation."""
    lines = [HEAD]
    for job, n in dict.fromkeys((row["job"], row["grid"]) for row in rows):
        some = where(rows, {"job": job, "grid": n})
        lines += [f"## {job.capitalize()}, {n}, sigma {some[0]['sigma']:.3g} voxels", ""]
        lines += ["| program | seconds | iterations | error | memory (GB) | difference | |"]
        lines += ["|---|---:|---:|---:|---:|---:|---|"]
        for row in some:
            cells = [row["program"], *("" for _ in range(5)), row["status"]]
            if row.get("seconds") is not None:
                shown = (row["seconds"], row["marginal_error"], row["difference"])
                seconds, error, difference = (
                    "" if value is None else format(value, form)
                    for value, form in zip(shown, (".3g", ".1e", ".1e"), strict=True)
                )
                memory = f"{row['peak_memory_bytes'] / 1e9:.2f}"
                cells[1:6] = [seconds, str(row["iterations"]), error, memory, difference]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)()

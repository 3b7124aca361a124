"""Does every method converge on every pair of maps, or report that it did not?

    python -m experiments.benches.robustness -o OUT

Each method runs on each pair of maps at each sigma. A solve must converge with the right mass, or report that it
did not; no value may be NaN. OUT holds ``results.csv`` (a row for each cell), ``robustness.png`` and
``claims.json``.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.cases import at_hand, build_case
from experiments.claims import GOAL, Claim, conclude
from experiments.methods import TRANSPORT, settings_for, worst
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Settings, morph, prepare_maps
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point

CASES = ("adk-linear", "mmcpn-real", "spike", "spliceosome")
QUICK_CASES = ("adk-sample",)
SIGMAS = (4.0, 2.0, 1.0, 0.7, 0.5)  # large first: they take seconds, small ones may take minutes
QUICK_SIGMAS = (2.0, 0.7)
TIMES = (0.01, 0.5)  # close to an end and half way: the easiest and the hardest
MOST = 500  # iterations
MASS = 1e-6  # relative, of frames in single precision
HONEST = {"converged", "max_iterations", "infeasible"}
KEY = ("case", "method", "sigma")
COLUMNS = (*KEY, "status", "kernel", "iterations", "marginal_error", "mass_error", "finite")


def main(options: ShardOptions) -> None:
    """Run the grid and write its results."""
    cases, sigmas = (QUICK_CASES, QUICK_SIGMAS) if options.quick else (CASES, SIGMAS)
    places = grid(study=["robustness"], sigma=sigmas, case=at_hand(cases), method=TRANSPORT)
    sweep = Sweep(options.output, places, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        figures.save(robustness_figure(rows), options.output / "robustness.png")
        conclude(options.output, claims(rows))


@cache
def maps_of(name: str) -> Prepared:
    case = build_case(name)
    return prepare_maps([case.first, case.last])


def measure(point: Point) -> Outcome:
    return Outcome([solve(maps_of(point["case"]), point["method"], point["sigma"])])


def solve(maps: Prepared, method: str, sigma: float) -> Row:
    """One cell of the grid: the worst of its frames."""
    trajectory = morph(maps, settings_for(method, Settings(sigma=sigma, times=TIMES, max_iterations=MOST)))
    targets = [(1 - frame.time) * maps.masses[0] + frame.time * maps.masses[1] for frame in trajectory.frames]
    assert trajectory.plan is not None
    return {
        "status": worst(str(frame.status) for frame in trajectory.frames),
        "kernel": trajectory.plan.kernel,
        "iterations": max(frame.iterations for frame in trajectory.frames),
        "marginal_error": max(frame.marginal_error or 0.0 for frame in trajectory.frames),
        "mass_error": max(abs(f.mass / target - 1) for f, target in zip(trajectory.frames, targets, strict=True)),
        "finite": bool(np.isfinite(trajectory.densities).all()),
    }


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The claims that the grid tests."""
    converged = [row for row in rows if row["status"] == "converged"]
    unreported = [row for row in rows if not set(row["status"].split()) <= HONEST]
    heavy = [row for row in converged if float(row["mass_error"]) > MASS]
    broken = [row for row in rows if not row["finite"]]
    return [
        _claim(
            "every cell is converged, or says infeasible or max_iterations", unreported, len(rows), len(converged)
        ),
        _claim(f"the mass of every converged frame is right to {MASS:g}", heavy, len(converged), len(converged)),
        _claim("no frame holds a value that is not finite", broken, len(rows), len(converged)),
    ]


def _claim(claim: str, exceptions: Sequence[Row], cells: int, converged: int) -> Claim:
    places = ", ".join(" ".join(str(row[name]) for name in KEY) for row in exceptions) or "none"
    measured = f"of {cells} cells, {converged} of them converged; exceptions: {places}"
    return Claim(claim, GOAL, "no exception", measured, not exceptions)


def robustness_figure(rows: Sequence[Row]) -> Figure:
    """A panel for each method: pairs of maps against sigma, with the iterations and the status in each cell."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    sigmas = sorted({float(row["sigma"]) for row in rows})
    figure = Figure(figsize=(3.4 * len(TRANSPORT), 0.62 * len(cases) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(TRANSPORT), squeeze=False, sharey=True)[0]
    for panel, method in zip(panels, TRANSPORT, strict=True):
        iterations = np.full((len(cases), len(sigmas)), np.nan)
        for row in where(rows, {"method": method}):
            at = cases.index(row["case"]), sigmas.index(float(row["sigma"]))
            iterations[at] = int(row["iterations"])
            ended = {"converged": "", "max_iterations": f"\n{float(row['marginal_error']):.0e}"}
            word = ended.get(row["status"], f"\n{row['status']}")
            colour = "white" if iterations[at] > 0.5 * MOST else "black"
            panel.text(
                at[1], at[0], f"{row['iterations']}{word}", ha="center", va="center", color=colour, fontsize=8
            )
        panel.imshow(iterations, vmin=0, vmax=MOST, cmap="cividis_r", aspect="auto")
        panel.set_title(method)
        panel.set_xticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])
        panel.set_yticks(range(len(cases)), cases)
        panel.set_xlabel("sigma (voxels)")
    figure.suptitle(
        f"Iterations of the slowest frame; below {MOST}: converged, else the remaining error", fontsize=10
    )
    return figure


if __name__ == "__main__":
    command(main)()

"""How near do the two bounds of the true transport cost come, and in what time?

    python -m experiments.benches.certificate -o OUT

``certify`` bounds W_2^2 / 2 between the two maps of pairs at 64^3, to a gap of 1 %, and of Mm-cpn in voxels of
twice the edge (blocks of 2 x 2 x 2 added up), whose cost is at least 1.770 voxel^2. Each is timed twice: with
compilation, and compiled.

OUT holds ``results.csv`` (a row for each pair), ``certificate.png``, ``claims.json``. Two minutes in full on 2
cores.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.cases import at_hand, build_case
from experiments.claims import GOAL, Claim, conclude
from experiments.options import ShardOptions, command
from morphot_jax import Preparation, certify, prepare_maps
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.transport.coarse_start import halved


class Goal(NamedTuple):
    """A pair of maps, on half the grid or not, and what is wanted.

    - ``gap``: at most, None for none. ``least``: the lower bound in voxel^2 at least, None for none.
    - ``seconds``: once compiled, at most.
    """

    title: str
    case: str
    half: bool
    gap: float | None
    least: float | None
    seconds: float


GOALS = (
    Goal("Mm-cpn, real, 64^3", "mmcpn-real", False, 0.01, None, 30.0),
    Goal("adenylate kinase, 64^3", "adk-linear", False, 0.01, None, 30.0),
    Goal("adenylate kinase, sample, 64^3", "adk-sample", False, 0.01, None, 30.0),
    Goal("spike, 64^3", "spike", False, None, None, 60.0),
    Goal("Mm-cpn, real, 32^3", "mmcpn-real", True, None, 1.770, 3.0),
)
QUICK_GOALS = (Goal("adenylate kinase, sample, 32^3", "adk-sample", True, 0.02, None, 60.0),)
COLUMNS = ("pair", "lower", "upper", "gap", "sigma", "iterations", "first_seconds", "seconds")


def main(options: ShardOptions) -> None:
    """Certify pairs of maps."""
    goals = QUICK_GOALS if options.quick else GOALS
    cases = at_hand([goal.case for goal in goals])
    titles = [goal.title for goal in goals if goal.case in cases]
    sweep = Sweep(options.output, grid(study=["certificate"], pair=titles), COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(certificate_figure(rows), options.output / "certificate.png")
        conclude(options.output, claims(rows))


def goal_of(title: str) -> Goal:
    return next(goal for goal in (*GOALS, *QUICK_GOALS) if goal.title == title)


def maps_of(goal: Goal) -> Float[np.ndarray, "2 z y x"]:
    """The two maps, cleaned, at unit mass."""
    case = build_case(goal.case)
    prepared = prepare_maps([case.first, case.last], Preparation())
    maps = np.stack([unit_mass(volume.data.astype(np.float64)) for volume in prepared.volumes])
    return halved(maps) if goal.half else maps


def measure(point: Point) -> Outcome:
    """Certify a pair twice; the second time nothing is compiled."""
    source, target = maps_of(goal_of(point["pair"]))
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        found = certify(source, target)
        seconds.append(time.perf_counter() - started)
    row = {name: getattr(found, name) for name in ("lower", "upper", "gap", "sigma", "iterations")}
    return Outcome([row | {"first_seconds": seconds[0], "seconds": seconds[1]}])


def claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each goal of a pair."""
    tested = []
    for row in rows:
        goal, seconds = goal_of(row["pair"]), float(row["seconds"])
        wanted, held, measured = [f"{goal.seconds:g} s at most"], [seconds <= goal.seconds], [f"{seconds:.1f} s"]
        if goal.gap is not None:
            wanted.append(f"gap of {goal.gap:.0%} at most")
            held.append(float(row["gap"]) <= goal.gap)
            measured.append(f"gap {float(row['gap']):.2%}")
        if goal.least is not None:
            wanted.append(f"lower bound of {goal.least:g} voxel^2 at least")
            held.append(float(row["lower"]) >= goal.least)
            measured.append(f"lower bound {float(row['lower']):.4f} voxel^2")
        text = f"{goal.title}: the bounds of the true transport cost are near, and quick"
        tested.append(Claim(text, GOAL, ", ".join(wanted), ", ".join(measured), all(held)))
    return tested


def certificate_figure(rows: Sequence[Row]) -> Figure:
    """Both bounds of every pair, relative to their mean."""
    figure, axes = figures.panels(1, 1, size=(6.0, 0.6 + 0.4 * len(rows)))
    panel = axes[0][0]
    for k, row in enumerate(rows):
        bounds = np.array([float(row["lower"]), float(row["upper"])])
        panel.plot(100.0 * (bounds / bounds.mean() - 1.0), [k, k], "|-", color="black")
    panel.set_yticks(range(len(rows)), [row["pair"] for row in rows])
    panel.set_xlabel("bounds of the transport cost, relative to their mean (%)")
    return figure


if __name__ == "__main__":
    command(main)()

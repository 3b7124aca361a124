"""The same jobs on this package and on others: what can each do, in what time and memory, and is it right?

    python -m experiments.benches.peers -o OUT [--docs FILE]

Two jobs, on cubes of 64^3 and 128^3, and where some programs can go no further on 12^3 and on images of 64^2: the
barycenter half way (t = 0.5), and the plan between two maps. Each is solved to a marginal error of 1e-6 by this
package's definition, whatever a program stops by itself, in a process of its own.

``difference``: of barycenters the relative L2 distance to this package's at 1e-9, of plans the relative
difference of the entropic cost. A program that cannot do a job says why. Programs that are not installed
(extras ``peers`` and ``geomloss``) are left out.

OUT holds ``results.csv``, ``peers.png``, ``claims.json``; ``--docs`` also writes the table as a page. About forty
minutes in full on 2 cores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from matplotlib.figure import Figure
from morphot_jax.transport.status import Status

from experiments import other_programs, study
from experiments.cases import ORIGINAL_ITERATIONS, original_barycenter
from experiments.other_programs import Found, Limits
from experiments.processes import Runner, measure_and_print, measured, settings_of, tasks_from
from experiments.solves import TOLERANCE, own_peak_memory, side, timed
from experiments.study import COLOURS, GOAL, Claim
from morphot_jax import Settings, kernels, morph, solve_barycenter, solve_sinkhorn
from morphot_jax.morphing.plan import spread
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.system import files
from morphot_jax.transport.relaxation import automatic

PROGRAMS = {  # and the modules that they need
    "morphot_jax": ("morphot_jax",),
    "original": ("scipy",),
    "OTT-JAX, kernel": ("ott",),
    "OTT-JAX, log": ("ott",),
    "POT": ("ot",),
    "GeomLoss": ("geomloss", "torch", "pykeops"),
}
GRIDS, QUICK_GRIDS = ("64^3", "128^3", "12^3", "64^2"), ("16^3", "8^3", "16^2")
JOBS = ("barycenter", "plan")
HALF = (0.5, 0.5)
SMALL = 16  # voxels: boxes up to this are for cost matrices, and get a sigma of one voxel
COLUMNS = ("job", "grid", "sigma", "maps", "program", "seconds", "iterations", "marginal_error")
COLUMNS += ("peak_memory_bytes", "difference", "status")
COMMAND = ("-m", "experiments.benches.peers", "-o", "", "--row")
CANNOT = "cannot"
REFERENCE_ERROR = 1e-9
AGREEING = 1e-4
HEAD = """# The same jobs on other programs

Written by `python -m experiments.benches.peers` from its `results.csv`. Each job is solved to a marginal error of
1e-6 by this package's definition, on 2 CPU cores, each program in a process of its own; seconds are those of a run
after compilation. *Difference*: from this package's answer at 1e-9, relative: of the barycenter in L2, of the plan
in its entropic cost. Where a program did not reach the error its seconds are a lower bound. The original makes 20
iterations, cuts its kernel at 4 sigma and reflects at the faces of the box.
"""


@dataclass(frozen=True)
class Job:
    """One job for one program."""

    job: str
    program: str
    grid: str
    sigma: float
    maps: tuple[str, ...]
    repeats: int = 3
    patience: float = 300.0  # seconds
    most: int = 3000  # iterations

    def rows(self) -> list[dict[str, Any]]:
        """Measure; the memory first, before the reference is computed."""
        key = {"maps": study.name_of(self.maps)}
        maps = study.unit_maps(self.maps, side(self.grid), flat=self.flat)
        if why := self.why_not(maps):
            return [key | {"status": f"{CANNOT}: {why}"}]
        with jax.enable_x64(True):
            work = (barycenter_by if self.job == "barycenter" else plan_by)(self.program)
            found = work(self, maps, partial(_seconds, repeats=self.repeats), self.limits)
            memory = own_peak_memory()
            difference = difference_of(self, maps, found)
        found_out = {
            "seconds": found.seconds,
            "iterations": found.iterations,
            "marginal_error": found.marginal_error,
        }
        return [key | found_out | {"peak_memory_bytes": memory, "difference": difference, "status": found.status}]

    @property
    def flat(self) -> bool:
        return self.grid.endswith("^2")

    @property
    def limits(self) -> Limits:
        return Limits(TOLERANCE, self.most, self.patience)

    def why_not(self, maps: np.ndarray) -> str:
        """Why the program cannot do this job; empty if it can."""
        if self.program == "original" and self.job == "plan":
            return "it has no plan between two maps"
        if self.program == "GeomLoss" and self.job == "barycenter":
            return "its barycenters are for images, debiased, and on a fixed schedule"
        if self.program == "GeomLoss" and (self.flat or side(self.grid) & (side(self.grid) - 1)):
            return "its grids are cubes whose side is a power of two"
        if self.program == "POT" and not self.flat and side(self.grid) > SMALL:
            masses = [int((data > 0).sum()) for data in maps]
            pairs = maps[0].size ** 2 if self.job == "barycenter" else masses[0] * masses[1]
            return f"it takes a cost matrix, of {pairs * 8 / 1e9:.0f} GB, and makes copies of it"
        return ""


def main(
    output: study.Output,
    maps: study.Maps = None,
    quick: study.Quick = False,
    gamma_is: study.GammaIs = "sd",
    shard: study.ShardOption = "1/1",
    docs: Annotated[Path | None, typer.Option(help="Write the table into this page, in Markdown.")] = None,
    row_limit: Annotated[float, typer.Option(help="Seconds that one row may take.")] = 600.0,
    row: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Give the same jobs to every program."""
    if row:
        measure_and_print(tasks_from(row, (Job,)))
        return
    pair = study.pair_of(maps)
    grids = QUICK_GRIDS if quick else GRIDS
    missing = [name for name, modules in PROGRAMS.items() if not all(map(find_spec, modules))]
    for program in missing:
        print(f"{program} is not installed: left out")
    jobs = [
        Job(job, program, n, _sigma(n, gamma_is), pair, repeats=1 if quick else 3, patience=20 if quick else 300)
        for n in grids
        for job in JOBS
        for program in PROGRAMS
        if program not in missing
    ]
    sweep = Sweep(output, [settings_of(job) for job in jobs], COLUMNS)
    runner = Runner(COMMAND, row_limit, together=quick)
    compute: Callable[[list[Point]], Iterator[Outcome]] = partial(answers, runner=runner)
    if study.run(sweep, compute, shard, at_once=len(jobs) if quick else 1):
        with study.looks():
            study.save(peers_figure(sweep.rows()), output / "peers.png")
        study.conclude(output, claims(sweep.rows()))
        if docs is not None:
            files.write_text(docs, page(sweep.rows()))


def answers(points: list[Point], runner: Runner) -> Iterator[Outcome]:
    """What programs make of their jobs. That another program fails is an answer; that this one does is none."""
    for point, outcome in zip(points, measured(points, runner), strict=True):
        if outcome.failed and point["program"] != "morphot_jax":
            yield Outcome([{"maps": study.name_of(point["maps"]), "status": outcome.failed}])
        else:
            yield outcome


def _sigma(grid: str, gamma_is: study.GammaConvention) -> float:
    return 1.0 if side(grid) <= SMALL and grid.endswith("^3") else study.sigma_of(side(grid) / 60, gamma_is)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    return timed(work, repeats)[0]


def barycenter_by(program: str) -> Callable[..., Found]:
    """A function of job, maps, timer and limits."""
    by: dict[str, Callable[..., Found]] = {
        "morphot_jax": own_barycenter,
        "original": _original,
        "OTT-JAX, kernel": partial(_ott_barycenter, log_mode=False),
        "OTT-JAX, log": partial(_ott_barycenter, log_mode=True),
        "POT": _pot_barycenter,
    }
    return by[program]


def plan_by(program: str) -> Callable[..., Found]:
    """A function of job, maps, timer and limits."""
    by: dict[str, Callable[..., Found]] = {
        "morphot_jax": own_plan,
        "OTT-JAX, kernel": lambda job, maps, *rest: other_programs.ott_plan(
            *maps, job.sigma, *rest, log_mode=False
        ),
        "OTT-JAX, log": lambda job, maps, *rest: other_programs.ott_plan(*maps, job.sigma, *rest, log_mode=True),
        "POT": lambda job, maps, *rest: other_programs.pot_plan(*maps, job.sigma, *rest),
        "GeomLoss": lambda job, maps, *rest: other_programs.geomloss_plan(*maps, job.sigma, *rest),
    }
    return by[program]


def own_barycenter(job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits) -> Found:
    """The package: ``morph`` on boxes, as users have it; the solver itself on images."""
    if job.flat:
        return _solver_barycenter(job, maps, timer, limits)
    prepared = study.load(job.maps, side(job.grid))
    settings = Settings(
        method="barycenter", times=HALF[:1], sigma=job.sigma, tolerance=limits.tolerance, kernel="dense"
    )
    seconds = timer(lambda: morph(prepared, settings))
    found = morph(prepared, settings)
    (frame,) = found.frames
    value = found.densities[0] / found.densities[0].sum(dtype=np.float64)
    return Found(seconds, frame.iterations, frame.marginal_error or 0.0, str(frame.status), value)


def _solver_barycenter(job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits) -> Found:
    kernel = kernels.make("dense", maps.shape[1:], job.sigma, jnp.float64)
    options = {
        "tolerance": limits.tolerance,
        "max_iterations": limits.iterations,
        "relaxation": _relaxation(job, maps),
    }

    def work():
        return jax.block_until_ready(solve_barycenter(jnp.asarray(maps), jnp.array([HALF]), kernel, **options))

    seconds, found = timer(work), work()
    return _found(seconds, found, np.asarray(found.value[0]))


def own_plan(job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits) -> Found:
    """The two-map solver."""
    kernel = kernels.make("dense", maps.shape[1:], job.sigma, jnp.float64)
    options = {
        "tolerance": limits.tolerance,
        "max_iterations": limits.iterations,
        "relaxation": _relaxation(job, maps),
    }

    def work():
        return jax.block_until_ready(solve_sinkhorn(jnp.asarray(maps[0]), jnp.asarray(maps[1]), kernel, **options))

    seconds, found = timer(work), work()
    factor = kernel.x[0, 0] * kernel.y[0, 0] * kernel.z[0, 0]
    return _found(seconds, found, (found.log_u + jnp.log(factor), found.log_v))


def _relaxation(job: Job, maps: np.ndarray):
    return automatic(float(np.mean([spread(data, (job.sigma,) * 3) for data in maps])))


def _found(seconds: float, found: Any, value: Any) -> Found:
    iterations, error, status = (np.ravel(x)[0] for x in (found.iterations, found.marginal_error, found.status))
    return Found(seconds, int(iterations), float(error), str(Status(int(status))), value)


def _original(job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits) -> Found:
    seconds = timer(lambda: original_barycenter(maps, HALF, job.sigma))
    value, error = original_barycenter(maps, HALF, job.sigma)
    return Found(seconds, ORIGINAL_ITERATIONS, error, "fixed_iterations", value / value.sum())


def _ott_barycenter(
    job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits, *, log_mode: bool
) -> Found:
    """On the part of the box that this package would look at; the answer on the whole box."""
    inner = other_programs.window(maps, job.sigma)
    return other_programs.ott_barycenter(inner, HALF, job.sigma, timer, limits, log_mode=log_mode)


def _pot_barycenter(job: Job, maps: np.ndarray, timer: other_programs.Timer, limits: Limits) -> Found:
    return other_programs.pot_barycenter(maps, HALF, job.sigma, timer, limits, matrix=not job.flat)


def difference_of(job: Job, maps: np.ndarray, found: Found) -> float:
    """From this package's own answer at a much smaller error."""
    exact = Limits(REFERENCE_ERROR, job.most)
    if job.job == "plan":
        own = other_programs.plan_value(*own_plan(job, maps, _untimed, exact).value, *maps)
        return abs(other_programs.plan_value(*found.value, *maps) / own - 1)
    if found.value.shape != maps.shape[1:]:  # solved on the part of the box that matters
        maps = other_programs.window(maps, job.sigma)
    own = _solver_barycenter(job, maps, _untimed, exact).value
    return float(np.linalg.norm(found.value - own) / np.linalg.norm(own))


def _untimed(work: Callable[[], object]) -> float:
    return 0.0


def claims(rows: Sequence[Row]) -> list[Claim]:
    """That this package is the fastest of those that reach the error, and that all agree."""
    found = []
    for job, n in dict.fromkeys((row["job"], row["grid"]) for row in rows):
        done = {row["program"]: row for row in rows if (row["job"], row["grid"]) == (job, n)}
        converged = {name: row for name, row in done.items() if row["status"] == "converged"}
        if "morphot_jax" in converged:
            own = converged["morphot_jax"]["seconds"]
            ratios = {name: row["seconds"] / own for name, row in converged.items() if name != "morphot_jax"}
            others = [f"{name}: {row['status']}" for name, row in done.items() if row["status"] != "converged"]
            said = [f"{name} {ratio:.1f} times slower" for name, ratio in ratios.items()]
            found.append(
                Claim(
                    f"{job}, {n}: this package is the fastest to an error of {TOLERANCE:g}",
                    GOAL,
                    "no other program that reaches the error takes less time",
                    "; ".join(said + others),
                    all(ratio > 1 for ratio in ratios.values()),
                )
            )
        worst = {name: row["difference"] for name, row in converged.items() if row.get("difference") is not None}
        found.append(
            Claim(
                f"{job}, {n}: the programs that reach the error agree",
                GOAL,
                f"relative difference from this package's answer at {REFERENCE_ERROR:g} at most {AGREEING:g}",
                ", ".join(f"{name} {value:.1e}" for name, value in worst.items()),
                all(value <= AGREEING for value in worst.values()) if worst else None,
            )
        )
    return found


def peers_figure(rows: Sequence[Row]) -> Figure:
    """Seconds to the error, a panel for each job and grid; hatched where it was not reached."""
    cases = list(dict.fromkeys((row["job"], row["grid"]) for row in rows))
    programs = [name for name in PROGRAMS if any(row["program"] == name for row in rows)]
    figure, axes = study.panels(2, -(-len(cases) // 2), size=(3.2, 2.4))
    for panel in axes.flat[len(cases) :]:
        panel.set_axis_off()
    for panel, (job, n) in zip(axes.flat, cases, strict=False):
        for place, name in enumerate(programs):
            some = [row for row in rows if (row["job"], row["grid"], row["program"]) == (job, n, name)]
            if some and some[0].get("seconds"):
                row, reached = some[0], some[0]["status"] == "converged"
                colour = COLOURS[0] if name == "morphot_jax" else "0.6"
                panel.barh(place, row["seconds"], color=colour, hatch="" if reached else "////", edgecolor="white")
                label = f" {row['seconds']:.3g} s" + ("" if reached else f", error {row['marginal_error']:.0e}")
                panel.text(row["seconds"], place, label, va="center", fontsize=7)
            else:
                why = some[0]["status"].split(":")[0] if some else ""
                panel.text(0.02, place, why, va="center", fontsize=7, transform=panel.get_yaxis_transform())
        panel.set_yticks(range(len(programs)), programs)
        panel.set_ylim(len(programs) - 0.5, -0.5)
        panel.set_xscale("log")
        panel.margins(x=0.6)
        panel.set_xlabel("seconds")
        panel.set_title(f"{job}, ${n}$")
    return figure


def page(rows: Sequence[Row]) -> str:
    """The table as a page of the documentation."""
    lines = [HEAD]
    for job, n in dict.fromkeys((row["job"], row["grid"]) for row in rows):
        some = [row for row in rows if (row["job"], row["grid"]) == (job, n)]
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
    typer.run(main)

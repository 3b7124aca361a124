"""The paper's Figure 2: how many iterations does a barycenter need at each gamma?

    python -m experiments.studies.fig2_convergence -o OUT

The isobarycenter (t = 0.5) of two maps is solved on cubes of several sizes by two iterations,

- ``original``: kernel cut at 4 sigma, plain, from a cold start, divisors not below 1e-30;
- ``relaxed``: this package's, over-relaxed, by the full kernel, from the plan between the two maps;

until the barycenter changes by less than 1e-8 in L1 from one iteration to the next, or after 1500 iterations. One
run of each gives the iteration at which the L1 and the L2 norm of the change first fell to each threshold, and the
error of the plans at that iteration: a change below 1e-6 is not an error below 1e-6.

OUT holds ``results.csv`` (a row for each gamma, grid, iteration, norm and threshold), ``iterations.png``,
``errors.png``, ``maps.png`` (barycenters at several gammas), ``claims.json``.

All gammas of a grid share one compiled loop; ``--batch`` of them run at a time. About an hour in full on 2 cores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import COLOURS, MARKERS
from experiments.maps import about, load, unit_maps
from experiments.methods import from_plan, relaxation_for
from experiments.options import PairOptions, command
from experiments.stopping import first_below
from experiments.tables import curve, where
from morphot_jax import Preparation, kernels, prepare_maps, solve_barycenter
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.plan import ORIGINAL_GUARD
from morphot_jax.runs.sweep import Outcome, Row, Settings, Sweep
from morphot_jax.transport.barycenter import Solution
from morphot_jax.transport.relaxation import AUTOMATIC, PLAIN, Relaxation
from morphot_jax.transport.status import Status

THRESHOLDS = (1e-4, 1e-6, 1e-8)
NORMS = {"change_l2": "L2", "change_l1": "L1"}
MEASURES = ("marginal_error", "change_l1", "change_l2")
ITERATIONS = ("original", "relaxed")
COLUMNS = ("maps", "grid", "gamma", "sigma", "iteration", "norm", "threshold", "iterations", "marginal_error")
COLUMNS += ("start_iterations", "status")
REACHED = "reached"
HALF = np.array([[0.5, 0.5]])


class Scope(NamedTuple):
    """The computations: curves over ``gammas`` on ``grids``; maps of ``sharp`` and ``alike`` (grid and gammas)."""

    grids: tuple[int, ...] = (60, 90, 120)
    gammas: tuple[float, ...] = (*(k / 8 for k in range(4, 16)), *(k / 4 for k in range(8, 21)))
    most: int = 1500
    sharp: tuple[int, tuple[float, ...]] = (120, (0.5, 1.0, 2.0))
    alike: tuple[tuple[int, tuple[float, ...]], ...] = ((60, (1.0, 3.0, 10.0)), (240, (1.0, 3.0, 10.0)))


FULL = Scope()
QUICK = Scope(
    grids=(15, 20, 30),
    gammas=(0.5, 1.0, 2.0, 3.0),
    most=400,
    sharp=(30, (0.5, 1.0, 2.0)),
    alike=((15, (1.0, 3.0, 10.0)), (60, (1.0, 3.0, 10.0))),
)


@dataclass(frozen=True)
class Options(PairOptions):
    """The options of this study."""

    batch: Annotated[int, typer.Option(help="Gammas solved at once; on a CPU, 1 is the fastest.")] = 1

    @property
    def scope(self) -> Scope:
        """The computations, quick or in full."""
        return QUICK if self.quick else FULL


def main(options: Options) -> None:
    """Count the iterations that barycenters take at each gamma."""
    output, sweep = options.output, sweep_of(options)
    rows = points.run(
        sweep,
        partial(compute, options.pair),
        options.share,
        alike=lambda point: (point["grid"], point["iteration"], point["most"]),
        at_once=options.batch,
    )
    if rows:
        scope = options.scope
        with figures.style():
            figures.save(iterations_figure(rows, scope), output / "iterations.png")
            figures.save(errors_figure(rows), output / "errors.png")
            figures.save(maps_figure(sweep, options), output / "maps.png")
        conclude(output, claims(sweep, options))


def sweep_of(options: Options) -> Sweep:
    """The points: first the curves, in small boxes first, then the points that are only shown as maps."""
    scope = options.scope
    curves = [(n, gamma, kind) for n in scope.grids for kind in ITERATIONS for gamma in scope.gammas]
    shown = [(n, gamma, "relaxed") for n, gammas in (scope.sharp, *scope.alike) for gamma in gammas]

    def with_gamma(rows: list[Row]) -> list[Row]:
        return [row | {"gamma": options.gamma_of(float(row["sigma"]))} for row in rows]

    places = [point(options, *place) for place in (*curves, *shown)]
    return Sweep(options.output, places, COLUMNS, derive=with_gamma)


def point(options: Options, grid: int, gamma: float, iteration: str) -> Settings:
    """The settings of one solve."""
    key = {"study": "fig2_convergence", **about(options.pair), "grid": grid, "sigma": options.sigma_of(gamma)}
    return key | {"iteration": iteration, "most": options.scope.most}


def compute(pair: tuple[str, str], some: list[Settings]) -> Iterator[Outcome]:
    """Solve for several sigmas at once, and read off when each threshold was reached."""
    grid, kind, most = (some[0][name] for name in ("grid", "iteration", "most"))
    volumes, maps = load(pair, grid).volumes, unit_maps(pair, f"{grid}^3")
    sigmas = np.array([point["sigma"] for point in some])
    factors = [relaxation_for(maps, s).w for s in sigmas]
    with jax.enable_x64(True):
        results = solver(pair, grid, kind, most)(jnp.asarray(sigmas), jnp.asarray(factors))
        results = {name: np.asarray(array) for name, array in results.items()}
    for lane, start in enumerate(results["started"].tolist()):
        measured = {name: results[name][lane] for name in MEASURES}
        rows = [row | {"start_iterations": start} for row in crossings(measured)]
        if results["status"][lane] == Status.NONFINITE:
            rows = [row | {"status": str(Status.NONFINITE)} for row in rows]
        arrays = {"history": np.stack(list(measured.values())).astype(np.float32)}
        yield Outcome(rows, arrays | views(results["value"][lane], volumes[0]))


@cache
def solver(pair: tuple[str, str], grid: int, kind: str, most: int) -> Callable[[Array, Array], dict[str, Array]]:
    """A function of sigmas and relaxations, one lane for each pair; compiled once for a grid.

    For each lane it returns the barycenter, ``MEASURES`` of every iteration, the status, and the number of two-map
    iterations of the start. The maps are constants of the function, so that the solve knows where they have mass.
    """
    maps, half = jnp.asarray(unit_maps(pair, f"{grid}^3")), jnp.asarray(HALF)
    stop = {"criterion": "change_l1", "tolerance": THRESHOLDS[-1], "max_iterations": most}

    def read(found: Solution, started: Array) -> dict[str, Array]:
        history = {name: getattr(found.history, name)[0] for name in MEASURES}
        return history | {"value": found.value[0], "status": found.status[0], "started": started}

    def original(sigma, _) -> dict[str, Array]:
        kernel = kernels.truncated(maps.shape[1:], sigma, maps.dtype)
        found = solve_barycenter(maps, half, kernel, relaxation=PLAIN, guard=ORIGINAL_GUARD, **stop)
        return read(found, jnp.zeros((), int))

    def relaxed(sigma, factor) -> dict[str, Array]:
        kernel = kernels.dense(maps.shape[1:], sigma, maps.dtype)
        relaxation = Relaxation(factor, scale=AUTOMATIC.scale, warmup=AUTOMATIC.warmup)
        start, started = from_plan(maps, half, kernel, sigma, relaxation)
        return read(solve_barycenter(maps, half, kernel, relaxation=relaxation, start=start, **stop), started)

    return jax.jit(jax.vmap({"original": original, "relaxed": relaxed}[kind]))


def crossings(measured: dict[str, Float[np.ndarray, " iterations"]]) -> list[Row]:
    """For each norm and threshold, the first iteration with a change at or below it, and its error."""
    rows, errors = [], measured["marginal_error"]
    for norm, name in NORMS.items():
        changes = measured[norm]
        for threshold in THRESHOLDS:
            iterations = first_below(changes, threshold)
            row = {"norm": name, "threshold": threshold, "iterations": iterations, "status": "not reached"}
            if iterations is not None:
                row |= {"marginal_error": errors[iterations - 1], "status": REACHED}
            else:
                done = np.flatnonzero(np.isfinite(changes))
                row["marginal_error"] = errors[done[-1]] if len(done) else None
            rows.append(row)
    return rows


def views(density: Float[np.ndarray, "z y x"], template: Volume) -> dict[str, np.ndarray]:
    """A projection along y, and the density on coarser grids, so that grids can be compared."""
    volume = template.with_data(density.astype(np.float32))
    arrays = {"projection": density.sum(axis=1).astype(np.float32)}
    for scope in (FULL, QUICK):
        coarse = scope.alike[0][0]
        if density.shape[0] >= coarse:
            arrays[f"coarse_{coarse}"] = (
                prepare_maps([volume], Preparation(grid=coarse, level="none")).volumes[0].data
            )
    return arrays


def counts(rows: Sequence[Row], grid: int, iteration: str, norm: str, threshold: float) -> dict[float, float]:
    """Iterations by gamma; infinite if the threshold was not reached."""
    wanted = {"grid": grid, "iteration": iteration, "norm": norm, "threshold": threshold}
    return {
        float(row["gamma"]): float(row["iterations"]) if row["status"] == REACHED else np.inf
        for row in sorted(where(rows, wanted), key=lambda row: row["gamma"])
    }


def iterations_figure(rows: Sequence[Row], scope: Scope) -> Figure:
    """Iterations against gamma: a column for each grid, a row for each norm."""
    figure, grid_of = figures.panels(len(NORMS), len(scope.grids), sharex=True, sharey=True)
    for axes, norm in zip(grid_of, NORMS.values(), strict=True):
        for panel, grid in zip(axes, scope.grids, strict=True):
            for colour, threshold in zip(COLOURS, THRESHOLDS, strict=False):
                for iteration, line, marker in (("original", "-", "o"), ("relaxed", "--", "s")):
                    found = counts(rows, grid, iteration, norm, threshold)
                    found = {gamma: found[gamma] for gamma in found if gamma <= max(scope.gammas)}
                    _curve(panel, found, scope.most, colour, line, marker, f"{iteration}, {threshold:g}")
            panel.set_yscale("log")
            panel.set_title(f"${grid}^3$, {norm} norm of the change")
            panel.axhline(scope.most, color="0.8", linewidth=0.8, zorder=0)
    for panel in grid_of[-1]:
        panel.set_xlabel("gamma")
    for panel in grid_of[:, 0]:
        panel.set_ylabel("iterations")
    figures.letter(grid_of.flat)
    figures.legend_below(figure, grid_of[0, 0], ncols=3)
    figure.suptitle(
        f"Iterations until the change is below a threshold; crosses: not within {scope.most}", fontsize=9
    )
    return figure


def _curve(panel: Axes, found: dict[float, float], most: int, colour: str, line, marker: str, label: str) -> None:
    gammas, iterations = np.array(list(found)), np.array(list(found.values()))
    reached = np.isfinite(iterations)
    panel.plot(
        gammas[reached],
        iterations[reached],
        color=colour,
        linestyle=line,
        marker=marker,
        markersize=2.5,
        label=label,
    )
    missed = gammas[~reached]
    panel.plot(missed, np.full(len(missed), most), color=colour, marker="x", linestyle="none", markersize=5)


def errors_figure(rows: Sequence[Row]) -> Figure:
    """The error of the plans at the iteration where the L2 change fell below each threshold."""
    figure, axes = figures.panels(1, len(ITERATIONS), size=(4.0, 3.0), sharey=True)
    grid = max(int(row["grid"]) for row in rows if row["iteration"] == "original")
    for panel, iteration in zip(axes[0], ITERATIONS, strict=True):
        for colour, marker, threshold in zip(COLOURS, MARKERS, THRESHOLDS, strict=False):
            wanted = {"grid": grid, "iteration": iteration, "norm": "L2", "threshold": threshold}
            found = curve(rows, "gamma", "marginal_error", wanted | {"status": REACHED})
            label = f"change below {threshold:g}"
            panel.plot(list(found), list(found.values()), color=colour, marker=marker, label=label)
            panel.axhline(threshold, color=colour, linestyle=":", linewidth=0.8)
        panel.set_yscale("log")
        panel.set_xlabel("gamma")
        panel.set_title(f"{iteration}, ${grid}^3$")
    axes[0, 0].set_ylabel("marginal error at that iteration")
    axes[0, 0].legend()
    figures.letter(axes.flat)
    return figure


def solved(sweep: Sweep, options: Options, grid: int, gamma: float) -> dict[str, np.ndarray]:
    """The stored arrays of a barycenter by the relaxed iteration."""
    return sweep.arrays(point(options, grid, gamma, "relaxed"))


def maps_figure(sweep: Sweep, options: Options) -> Figure:
    """Projections of barycenters, a row for each grid."""
    scope = options.scope
    shown = (scope.sharp, *scope.alike)
    across = max(len(gammas) for _, gammas in shown)
    figure, axes = figures.panels(len(shown), across, size=(2.2, 2.2))
    for row, (grid, gammas) in zip(axes, shown, strict=True):
        for panel in row:
            panel.set_axis_off()
        for panel, gamma in zip(row, gammas, strict=False):
            image = solved(sweep, options, grid, gamma)["projection"]
            panel.imshow(image, origin="lower", cmap="gray_r", interpolation="nearest")
            panel.set_title(f"gamma {gamma:g}, ${grid}^3$")
    figures.letter(axes.flat)
    return figure


def claims(sweep: Sweep, options: Options) -> list[Claim | None]:
    """The paper's statements on its Figure 2."""
    rows, scope = sweep.rows(), options.scope
    return [
        _faster_than_exponential(rows, scope),
        _more_when_stricter(rows, scope),
        _more_on_larger_grids(rows, scope),
        _none_at_the_smallest(rows, scope),
        _sharper(sweep, options),
        _alike(sweep, options),
        _change_is_not_error(rows),
        _relaxed_is_faster(rows, scope),
    ]


def _faster_than_exponential(rows: Sequence[Row], scope: Scope) -> Claim:
    bends, fits = [], []
    for grid in scope.grids:
        for threshold in THRESHOLDS:
            found = {g: n for g, n in counts(rows, grid, "original", "L2", threshold).items() if np.isfinite(n)}
            if len(found) < 3:
                continue
            gammas, logs = np.array(list(found)), np.log(list(found.values()))
            bends.append(np.polyfit(gammas, logs, 2)[0])
            power = np.polyfit(np.log(gammas), logs, 1)[0]
            fits.append(f"{grid}^3 to {threshold:g}: like gamma^{power:.1f}, bend {bends[-1]:+.2f}")
    return Claim(
        "iterations fall faster than exponentially with gamma",
        PAPER,
        "the logarithm of the iterations bends downwards over gamma: a negative second coefficient",
        "; ".join(fits),
        all(bend < 0 for bend in bends) if bends else None,
    )


def _more_when_stricter(rows: Sequence[Row], scope: Scope) -> Claim:
    broken, compared = 0, 0
    for grid in scope.grids:
        curves = [counts(rows, grid, "original", "L2", threshold) for threshold in THRESHOLDS]
        for gamma in curves[0]:
            numbers = [curve[gamma] for curve in curves]
            compared += 1
            broken += any(b <= a < np.inf for a, b in pairwise(numbers))
    return Claim(
        "iterations grow with stricter thresholds",
        PAPER,
        "at every gamma and grid",
        f"{broken} exceptions among {compared}",
        broken == 0,
    )


def _more_on_larger_grids(rows: Sequence[Row], scope: Scope) -> Claim:
    exceptions, compared = [], 0
    for threshold in THRESHOLDS:
        curves = [counts(rows, grid, "original", "L2", threshold) for grid in scope.grids]
        for gamma in curves[0]:
            numbers = [curve[gamma] for curve in curves]
            compared += 1
            if any(b <= a < np.inf for a, b in pairwise(numbers)):
                shown = ", ".join(f"{number:g}" for number in numbers)
                exceptions.append(f"gamma {gamma:g} to {threshold:g}: {shown}")
    return Claim(
        "iterations grow with the grid at the same gamma in voxels",
        PAPER,
        f"at every gamma, on {', '.join(f'{grid}^3' for grid in scope.grids)}",
        f"{len(exceptions)} exceptions among {compared}" + "".join(f"; {some}" for some in exceptions[:4]),
        not exceptions,
    )


def _none_at_the_smallest(rows: Sequence[Row], scope: Scope) -> Claim:
    grid, gamma = max(scope.grids), 0.5
    found = {t: counts(rows, grid, "original", "L2", t).get(gamma, np.nan) for t in THRESHOLDS}
    own = {t: counts(rows, grid, "relaxed", "L2", t).get(gamma, np.nan) for t in THRESHOLDS}
    words = [f"{t:g}: {_count(found[t])} (relaxed: {_count(own[t])})" for t in THRESHOLDS]
    return Claim(
        f"at gamma {gamma:g} on {grid}^3 no threshold is reached within {scope.most} iterations",
        PAPER,
        "no threshold reached by the original's iteration, L2",
        "; ".join(words),
        all(np.isinf(number) for number in found.values()),
    )


def _count(number: float) -> str:
    return "not reached" if np.isinf(number) else f"{number:.0f}"


def _sharper(sweep: Sweep, options: Options) -> Claim:
    scope = options.scope
    (grid, gammas), coarse = scope.sharp, f"coarse_{scope.alike[0][0]}"
    images = [solved(sweep, options, grid, g)[coarse] for g in gammas]
    contrast = [float(np.sum(image.astype(float) ** 2) / np.sum(image, dtype=float) ** 2) for image in images]
    return Claim(
        "barycenters are sharper at smaller gamma",
        PAPER,
        f"on {grid}^3 the sum of the squared density at unit mass falls over gamma "
        + ", ".join(f"{gamma:g}" for gamma in gammas),
        ", ".join(f"{value:.3g}" for value in contrast),
        all(a > b for a, b in pairwise(contrast)),
    )


def _alike(sweep: Sweep, options: Options) -> Claim:
    scope = options.scope
    (small, small_gammas), (large, gammas) = scope.alike
    coarse = f"coarse_{small}"
    reference = solved(sweep, options, small, small_gammas[0])[coarse]
    distances = {gamma: _distance(solved(sweep, options, large, gamma)[coarse], reference) for gamma in gammas}
    nearest = min(distances, key=distances.__getitem__)
    return Claim(
        f"gamma {small_gammas[0]:g} on {small}^3 looks like gamma {gammas[1]:g} on {large}^3",
        PAPER,
        f"of gamma {', '.join(f'{g:g}' for g in gammas)} on {large}^3, {gammas[1]:g} is the nearest on {small}^3",
        ", ".join(f"gamma {gamma:g}: {distance:.3f}" for gamma, distance in distances.items()) + " (relative L2)",
        nearest == gammas[1],
    )


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """|| a - b ||_2 / || b ||_2 at unit mass."""
    a, b = (m.astype(np.float64) / m.sum(dtype=np.float64) for m in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _change_is_not_error(rows: Sequence[Row]) -> Claim:
    some = [row for row in rows if (row["norm"], row["iteration"], row["status"]) == ("L2", "original", REACHED)]
    ratios = [float(row["marginal_error"]) / float(row["threshold"]) for row in some]
    return Claim(
        "where the L2 change falls below a threshold, the error of the plans is far above it",
        GOAL,
        "at least ten times at every gamma, grid and threshold",
        f"from {min(ratios):.3g} to {max(ratios):.3g} times, median {np.median(ratios):.3g}" if ratios else "",
        min(ratios) >= 10 if ratios else None,
    )


def _relaxed_is_faster(rows: Sequence[Row], scope: Scope) -> Claim:
    ratios, rescued = [], 0
    for grid in scope.grids:
        for threshold in THRESHOLDS:
            old, new = (counts(rows, grid, kind, "L2", threshold) for kind in ITERATIONS)
            ratios += [old[g] / new[g] for g in old if np.isfinite(old[g]) and np.isfinite(new[g])]
            rescued += sum(np.isinf(old[g]) and np.isfinite(new[g]) for g in old)
    return Claim(
        "over-relaxed from the plan between the maps, the change falls below a threshold earlier",
        GOAL,
        "at every gamma, grid and threshold",
        f"{min(ratios):.2f} to {max(ratios):.1f} times earlier, median {np.median(ratios):.1f}; "
        f"{rescued} cases that the original's iteration does not reach"
        if ratios
        else "",
        min(ratios) >= 1 if ratios else None,
    )


if __name__ == "__main__":
    command(main)()

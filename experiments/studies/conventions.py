"""Conventions under which the paper's statements may hold that do not hold as the other studies test them.

    python -m experiments.studies.conventions -o OUT

The paper leaves some of its conventions open. Each statement is tested under several of them:

- The stop rule of Figure 2: maps of unit mass, of mass 1e4, of maximum 1, or as in their files; the L1 or the L2
  norm of the change. One run of the original's iteration (compiled, its kernel cut at 4 sigma) for each gamma and
  grid records the change at every iteration. All counts are read from these histories (``stopping``).
- Gamma as the kernel's standard deviation or as its variance.
- Sigma as in the published frames, 0.4 voxels, or the default of the original, the longest axis / 60.
- The level at which volumes are compared; the distance by which maps are ordered; the iterations of a frame of
  Table 1; the iterations of a schedule of gamma that count.

OUT holds ``results.csv``, ``counts.png`` (iterations against gamma, for each scale and norm), ``volumes.png``
(volume difference along t, for each level), ``claims.json`` (a claim for each statement and convention;
``expected`` names the convention). About twenty minutes in full on 2 cores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise, product
from time import process_time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments import figures, points, stopping
from experiments.cases import missing_files
from experiments.claims import CONVENTION, Claim, conclude
from experiments.figures import COLOURS, LINES, LOOKS, MARKERS
from experiments.maps import about, load, pair_of, unit_maps
from experiments.measures import THRESHOLDS as SHARES
from experiments.methods import ORIGINAL_ITERATIONS, frames_of, original_barycenter
from experiments.options import Maps, ShardOptions, command
from experiments.stopping import FILES, MASS, MAXIMUM, NORMS, SCALES, UNIT
from experiments.studies import annealing, fig1_accuracy, fig2_convergence, fig3_order, table1_speed
from experiments.tables import curve, where
from morphot_jax import Settings, kernels, metrics, morph, solve_barycenter
from morphot_jax.maps.samples import GRID
from morphot_jax.morphing.order import distances_between, refined
from morphot_jax.morphing.plan import ORIGINAL_GUARD
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.transport.kernels import TRUNCATION
from morphot_jax.transport.relaxation import PLAIN

AS_TESTED = "as tested"
SD, VARIANCE, PUBLISHED = AS_TESTED, "gamma as variance", "sigma 0.4"
THRESHOLDS = fig2_convergence.THRESHOLDS
SIGMAS = (0.5, 0.5**0.5, 1.0, 2.0, 3.0)  # voxels; gamma 0.5 is the first as a deviation, the second as a variance
GAMMA = 0.5  # of the statement that nothing converges
ERRORS = (1e-2, 1e-4, 1e-6)  # of plans, to which schedules of gamma are compared
ANNEALED_ERROR = 1e-8  # at which their solves end
CONTOURS = ("10", "20")  # %; at less, the open map has not as much volume as its atoms
APART = 1.5  # crosses of one threshold above those of another
REPEATS = 2  # of timed iterations
ENOUGH = 1.1  # times fewer iterations: a tenth fewer, as in the study of schedules
COLUMNS = ("part", "maps", "grid", "sigma", "width", "method", "iteration", "schedule", "reference", "time")
COLUMNS += ("level", "difference", "measure", "map", "expected", "place", "norm", "scale", "factor", "threshold")
COLUMNS += ("iterations", "in_stages", "marginal_error", "seconds")


class Scope(NamedTuple):
    """The sizes: grids and most iterations of the counts, of schedules, of frames, and of the timed iterations."""

    grids: tuple[int, ...] = (60, 90, 120)
    most: int = 1500
    annealing: tuple[int, tuple[float, ...]] = (60, (1.0, 1.5, 2.0, 3.0))
    frames: tuple[int, int] = (GRID, 21)
    order: tuple[int, int] = (GRID, 100)

    @property
    def timed(self) -> tuple[int, int]:
        """Table 1's grid, twice the largest of the counts, and the next one whose side is a power of two."""
        side = 2 * max(self.grids)
        return side, 2 ** int(np.ceil(np.log2(side)))


FULL = Scope()
QUICK = Scope((15, 20, 30), 400, (24, (1.5,)), (32, 5), (32, 11))


@dataclass(frozen=True)
class Options(ShardOptions):
    """The options of this study."""

    maps: Maps = None

    @property
    def scope(self) -> Scope:
        """The computations, quick or in full."""
        return QUICK if self.quick else FULL


def main(options: Options) -> None:
    """Test statements of the paper under other conventions."""
    pair, scope = pair_of(options.maps), options.scope
    shared = {"study": "conventions", **about(pair)}
    sweep = Sweep(options.output, [shared | point for point in all_points(scope)], COLUMNS)
    if rows := points.run(sweep, points.one_by_one(partial(measure, pair)), options.share):
        with figures.style():
            figures.save(counts_figure(rows, scope), options.output / "counts.png")
            figures.save(volumes_figure(rows), options.output / "volumes.png")
        conclude(options.output, claims(sweep, scope))


def widths(side: int) -> dict[str, float]:
    """The kernel's standard deviation by convention, in voxels, for the default gamma on a cube."""
    return {SD: side / 60, VARIANCE: (side / 60) ** 0.5, PUBLISHED: 0.4}


def all_points(scope: Scope) -> Iterator[Point]:
    """The points of every part, those of the counts from the fastest to the slowest."""
    for grid, sigma in product(scope.grids, SIGMAS[::-1]):
        yield {"part": "counts", "grid": grid, "sigma": sigma, "most": scope.most}
    side, sigmas = scope.annealing
    schedules = [name for name in annealing.SCHEDULES if name != "plan"]
    for iteration, schedule, sigma in product(annealing.ITERATIONS, schedules, sigmas):
        yield {"part": "annealing", "grid": side, "iteration": iteration, "schedule": schedule, "sigma": sigma}
    side, frames = scope.frames
    yield {"part": "volumes", "grid": side, "frames": frames, "method": "linear", "width": SD, "sigma": side / 60}
    for width, sigma in widths(side).items():
        point = {"part": "volumes", "grid": side, "frames": frames, "method": "original"}
        yield point | {"width": width, "sigma": sigma}
    side, frames = scope.order
    for width, sigma in widths(side).items():
        yield {"part": "order", "grid": side, "frames": frames, "width": width, "sigma": sigma}
    side, power = scope.timed
    for width, sigma in widths(side).items():
        yield {"part": "seconds", "grid": side, "width": width, "sigma": sigma}
    yield {"part": "seconds", "grid": power, "width": SD, "sigma": power / 60}


def measure(pair: tuple[str, str], point: Point) -> Outcome:
    """The rows of a point."""
    return PARTS[point["part"]](pair, point)


# Counts of iterations.


def counted(pair: tuple[str, str], point: Point) -> Outcome:
    """The original's iteration, until every threshold on every scale is reached, or ``most`` iterations."""
    scaled_by = factors(pair, point["grid"])
    history = history_of(unit_maps(pair, f"{point['grid']}^3"), point["sigma"], scaled_by, point["most"])
    return Outcome(stopping.counts(history, scaled_by, THRESHOLDS), {"history": np.stack([*history.values()])})


def history_of(
    both: Float[np.ndarray, "2 z y x"], sigma: float, scaled_by: Mapping[str, float], most: int
) -> dict[str, Float[np.ndarray, " iterations"]]:
    """The error of the plans and the changes of the isobarycenter at every iteration of the original."""
    reach = int(TRUNCATION * sigma + 0.5)
    stop = {
        "criterion": "change_l1",
        "tolerance": min(THRESHOLDS) / max(scaled_by.values()),
        "max_iterations": most,
    }
    with jax.enable_x64(True):
        densities = jnp.asarray(cropped(both, reach))
        kernel = kernels.truncated(densities.shape[1:], sigma, densities.dtype)
        half = jnp.asarray(fig2_convergence.HALF)
        found = solve_barycenter(densities, half, kernel, relaxation=PLAIN, guard=ORIGINAL_GUARD, **stop)
        return {name: np.asarray(getattr(found.history, name))[0] for name in fig2_convergence.MEASURES}


def cropped(both: Float[np.ndarray, "2 z y x"], margin: int) -> Float[np.ndarray, "2 z y x"]:
    """Cut away what lies farther from all mass than the margin, along each axis.

    If the margin is the reach of a cut kernel, every convolution that the iteration uses stays as it is: at the
    mass, and of the mass, whose reflections at the faces do not come back into the box.
    """
    present = both.any(axis=0)
    for axis in range(3):
        places = np.flatnonzero(present.any(axis=tuple({0, 1, 2} - {axis})))
        low, high = max(places[0] - margin, 0), places[-1] + margin + 1
        both = both.take(range(low, min(high, both.shape[axis + 1])), axis=axis + 1)
    return both


@cache
def factors(pair: tuple[str, str], side: int) -> dict[str, float]:
    """By how much the barycenter is larger on each scale than on unit mass."""
    return stopping.factors(volume.data for volume in load(pair, side).volumes)


def rules(unit_l2: str = AS_TESTED) -> Iterator[tuple[str, str, str]]:
    """The stop rules: name, norm and scale. ``unit_l2``: the name of that of the paper on maps of unit mass."""
    for scale, norm in product(SCALES, NORMS):
        yield unit_l2 if (scale, norm) == (UNIT, "L2") else f"{scale}, {norm}", norm, scale


def by_sigma(rows: Sequence[Row], grid: int, norm: str, scale: str, threshold: float) -> dict[float, float]:
    """Iterations by sigma; infinite where the threshold was not reached."""
    wanted = {"part": "counts", "grid": grid, "norm": norm, "scale": scale, "threshold": threshold}
    found = curve(rows, "sigma", "iterations", wanted)
    return {sigma: found.get(sigma, np.inf) for sigma in SIGMAS}


def _falls(rows: Sequence[Row], scope: Scope) -> Iterator[Claim]:
    """Iterations fall faster than exponentially: their logarithm bends downwards over gamma."""
    statement = "iterations fall faster than exponentially with gamma"
    for (gamma_is, power), (rule, norm, scale) in product({SD: 1, VARIANCE: 2}.items(), rules()):
        curves = _curves(rows, scope, norm, scale, power)
        bends = [np.polyfit(gammas, logs, 2)[0] for gammas, logs in curves]
        powers = [np.polyfit(np.log(gammas), logs, 1)[0] for gammas, logs in curves]
        words = f"bend {_span(bends, '+.2f')}, like gamma^{_span(powers, '.1f')}" if curves else "too few counts"
        holds = all(bend < 0 for bend in bends) if curves else None
        yield _claim(statement, _both(gamma_is, rule), words, holds)
    slopes = [-np.diff(logs) / np.diff(gammas) for gammas, logs in _curves(rows, scope, "L1", UNIT, 1)]
    first, last = ([float(slope[k]) for slope in slopes] for k in (0, -1))
    words = f"by e^{_span(first, '.1f')} a voxel at the smallest gammas, e^{_span(last, '.1f')} at the largest"
    holds = all(float(min(slope)) > 1 for slope in slopes)
    yield _claim(statement, f"{UNIT}, L1, by more than a factor of e a voxel", words, holds)


def _curves(
    rows: Sequence[Row], scope: Scope, norm: str, scale: str, power: int
) -> list[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    """Gamma = sigma^power and the logarithm of the iterations, of curves with at least four gammas."""
    curves = []
    for grid, threshold in product(scope.grids, THRESHOLDS):
        found = {s: n for s, n in by_sigma(rows, grid, norm, scale, threshold).items() if np.isfinite(n)}
        if len(found) >= 4:
            curves.append((np.array(list(found)) ** power, np.log(list(found.values()))))
    return curves


def _grows(rows: Sequence[Row], scope: Scope) -> Iterator[Claim]:
    """Iterations grow with the grid. Gamma as a variance is another name for the same sigmas."""
    statement = "iterations grow with the grid at the same gamma in voxels"
    for rule, norm, scale in rules():
        compared, exceptions = 0, []
        for threshold, sigma in product(THRESHOLDS, SIGMAS):
            numbers = [by_sigma(rows, grid, norm, scale, threshold)[sigma] for grid in scope.grids]
            compared += bool(np.isfinite(numbers).any())
            if not stopping.grows(numbers):
                exceptions.append(f"sigma {sigma:.3g} to {threshold:g}: {', '.join(map(_count, numbers))}")
        words = f"{len(exceptions)} exceptions among {compared}" + "".join(f"; {one}" for one in exceptions[:2])
        for convention in (rule, VARIANCE) if rule == AS_TESTED else (rule,):
            yield _claim(statement, convention, words, not exceptions if compared else None)


def _none_reached(rows: Sequence[Row], scope: Scope) -> Iterator[Claim]:
    grid = max(scope.grids)
    statement = f"at gamma {GAMMA:g} on {grid}^3 no threshold is reached within {scope.most} iterations"
    for (gamma_is, sigma), (rule, norm, scale) in product({SD: GAMMA, VARIANCE: GAMMA**0.5}.items(), rules()):
        numbers = [by_sigma(rows, grid, norm, scale, threshold)[sigma] for threshold in THRESHOLDS]
        words = ", ".join(f"{t:g}: {_count(n)}" for t, n in zip(THRESHOLDS, numbers, strict=True))
        yield _claim(statement, _both(gamma_is, rule), words, bool(np.isinf(numbers).all()))


def _count(number: float) -> str:
    return "not reached" if np.isinf(number) else f"{number:.0f}"


def _span(values: Sequence[float], form: str) -> str:
    """The least and the largest value."""
    low, high = (f"{extreme:{form}}" for extreme in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _both(*conventions: str) -> str:
    """The name of several conventions together."""
    return ", ".join(one for one in conventions if one != AS_TESTED) or AS_TESTED


def _claim(statement: str, convention: str, measured: str, holds: bool | None) -> Claim:
    return Claim(statement, CONVENTION, convention, measured, holds)


def counts_figure(rows: Sequence[Row], scope: Scope) -> Figure:
    """Iterations against gamma: a row for each norm, a column for each scale."""
    shown = (UNIT, MASS, MAXIMUM)
    figure, axes = figures.panels(len(NORMS), len(shown), size=(3.0, 2.5), sharex=True, sharey=True)
    for row, norm in zip(axes, NORMS, strict=True):
        for panel, scale in zip(row, shown, strict=True):
            for (k, threshold), (line, marker, grid) in product(
                enumerate(THRESHOLDS), zip(LINES, MARKERS, scope.grids, strict=False)
            ):
                found = by_sigma(rows, grid, norm, scale, threshold)
                reached = {sigma: number for sigma, number in found.items() if np.isfinite(number)}
                look = {"color": COLOURS[k], "linestyle": line, "marker": marker, "markersize": 3}
                label = f"{threshold:g}, ${grid}^3$"
                panel.plot(list(reached), list(reached.values()), label=label, **look)
                missed = [sigma for sigma in found if sigma not in reached]
                above = scope.most * APART ** (k + 1)
                panel.plot(missed, [above] * len(missed), "x", color=COLOURS[k], markersize=4)
            panel.axhline(scope.most, color="0.8", linewidth=0.8, zorder=0)
            panel.set_yscale("log")
            panel.set_title(f"{scale}, {norm}")
    for panel in axes[-1]:
        panel.set_xlabel("gamma (voxels)")
    for panel in axes[:, 0]:
        panel.set_ylabel("iterations")
    figures.letter(axes.flat)
    figures.legend_below(figure, axes[0, 0], ncols=3)
    crosses = f"crosses: not within {scope.most} on some grid"
    figure.suptitle(f"Iterations of the original until the change is below a threshold; {crosses}", fontsize=9)
    return figure


# The time of a frame.


def timed_iteration(pair: tuple[str, str], point: Point) -> Outcome:
    """Processor seconds of one iteration of the original's algorithm in SciPy, which runs on one core."""
    both = unit_maps(pair, f"{point['grid']}^3")

    def seconds(iterations: int) -> float:
        started = process_time()
        original_barycenter(both, (0.5, 0.5), point["sigma"], iterations)
        return process_time() - started

    one, three = (min(seconds(iterations) for _ in range(REPEATS)) for iterations in (1, 3))
    return Outcome([{"seconds": (three - one) / 2}])


def counts_on_twice(
    history: Mapping[str, Float[np.ndarray, " iterations"]], scaled_by: Mapping[str, float]
) -> list[Row]:
    """The counts on a grid of twice the voxels along each axis at the same sigma in Å, from a history on this one.

    Both grids hold one continuous problem. On the finer one the L1 norm of the change is the same, its L2 norm is
    smaller by sqrt(8), and maps of given densities add up to eight times the mass.
    """
    finer = dict(history) | {"change_l2": history["change_l2"] / np.sqrt(8.0)}
    grown = {scale: factor * (8.0 if scale in (MAXIMUM, FILES) else 1.0) for scale, factor in scaled_by.items()}
    return stopping.counts(finer, grown, THRESHOLDS)


def _takes(sweep: Sweep, scope: Scope) -> Iterator[Claim]:
    """The time of Table 1, with the iterations of a frame that each stop rule gives at the default sigma."""
    rows = sweep.rows()
    side, power = scope.timed
    frames, known = table1_speed.FRAMES, table1_speed.PAPER_SECONDS[240]["CPU"]
    statement = f"{frames} frames at 240^3 take {known:g} s on a CPU"
    seconds = {(row["grid"], row["width"]): float(row["seconds"]) for row in where(rows, {"part": "seconds"})}
    one = seconds[side, SD] * frames

    def near(total: float) -> bool:
        return bool(1 / 3 <= total / known <= 3)

    named = {AS_TESTED: (side, SD), f"lines of {power} voxels": (power, SD)}
    named |= {width: (side, width) for width in (VARIANCE, PUBLISHED)}
    for name, place in named.items():
        total = seconds[place] * frames * ORIGINAL_ITERATIONS
        words = f"{total:.0f} s with {ORIGINAL_ITERATIONS} iterations a frame"
        if name == AS_TESTED:
            words += f"; {known:g} s would be {known / one:.0f} iterations a frame"
        yield _claim(statement, name, words, near(total))
    (point,) = where(sweep.points.values(), {"part": "counts", "grid": side // 2, "sigma": side / 120})
    history: dict[str, np.ndarray] = dict(
        zip(fig2_convergence.MEASURES, sweep.arrays(point)["history"], strict=True)
    )
    found = counts_on_twice(history, curve(rows, "scale", "factor", {"part": "counts", "grid": side // 2}))
    for rule, norm, scale in rules(unit_l2=f"{UNIT}, L2"):
        numbers = curve(found, "threshold", "iterations", {"norm": norm, "scale": scale})
        totals = {threshold: number * one for threshold, number in numbers.items()}
        words = [f"{t:g}: {numbers[t]} iterations, {totals[t]:.0f} s" for t in THRESHOLDS if t in numbers]
        yield _claim(statement, rule, "; ".join(words) or "not reached", any(map(near, totals.values())))


# Schedules of gamma.


def scheduled(pair: tuple[str, str], point: Point) -> Outcome:
    """A solve on a schedule of gamma: iterations of its stages, and counts at the last gamma."""
    with jax.enable_x64(True):
        solution, in_stages = annealing.annealed(pair, point, ANNEALED_ERROR)
        history = {name: np.asarray(getattr(solution.history, name))[0] for name in fig2_convergence.MEASURES}
    rows = stopping.counts(history, factors(pair, point["grid"]), THRESHOLDS)
    rows += stopping.counts(history, {UNIT: 1.0}, ERRORS, {"error": "marginal_error"})
    return Outcome([row | {"in_stages": in_stages} for row in rows])


def _saves(rows: Sequence[Row]) -> Iterator[Claim]:
    """Whether some schedule takes a tenth fewer iterations in the median over sigma, at every threshold."""
    for iteration in annealing.ITERATIONS:
        lowered = "lowering gamma on a schedule takes fewer iterations than a fixed gamma to the same error"
        statement = f"{iteration}: {lowered}"
        tested = [
            (AS_TESTED, "error", UNIT, ERRORS[-1:], True),
            ("the last gamma alone", "error", UNIT, ERRORS[-1:], False),
        ]
        tested += [(f"to an error of {error:g}", "error", UNIT, (error,), True) for error in ERRORS[:-1]]
        tested += [(*rule, THRESHOLDS, True) for rule in rules(unit_l2=f"{UNIT}, L2")]
        for name, norm, scale, thresholds, stages in tested:
            wanted = {"iteration": iteration, "norm": norm, "scale": scale}
            best = {t: best_schedule(where(rows, wanted | {"threshold": t}), stages) for t in thresholds}
            known = {t: found for t, found in best.items() if found is not None}
            words = "; ".join(
                f"{t:g}: {ratio:.2f} times fewer ({schedule})" for t, (schedule, ratio) in known.items()
            )
            holds = all(ratio >= ENOUGH for _, ratio in known.values()) if known else None
            yield _claim(statement, name, words or "no threshold reached", holds)


def best_schedule(rows: Sequence[Row], stages: bool) -> tuple[str, float] | None:
    """The schedule that saves most against a fixed gamma: its name, and fixed / own iterations in the median.

    ``stages``: count the iterations at larger gammas too. None if no sigma has both counts.
    """

    def iterations(schedule: str) -> dict[float, float]:
        last, before = (curve(rows, "sigma", name, {"schedule": schedule}) for name in ("iterations", "in_stages"))
        return {sigma: last[sigma] + (before[sigma] if stages else 0) for sigma in last}

    fixed = iterations("fixed")
    ratios = {}
    for schedule in annealing.SCHEDULES:
        own = iterations(schedule)
        if schedule != "fixed" and (shared := own.keys() & fixed.keys()):
            ratios[schedule] = float(np.median([fixed[sigma] / own[sigma] for sigma in shared]))
    return max(ratios.items(), key=lambda item: item[1]) if ratios else None


# Volumes and order.


def frames(
    method: str, prepared: Prepared, times: tuple[float, ...], sigma: float
) -> Float[np.ndarray, "t z y x"]:
    """Frames at unit mass: the linear blend, or the original's, compiled."""
    if method == "linear":
        return frames_of(method, prepared, times, Settings(sigma=sigma)).densities
    settings = Settings(
        method="barycenter",
        kernel="truncated",
        relaxation=1.0,
        iterations=ORIGINAL_ITERATIONS,
        sigma=sigma,
        times=times,
    )
    return np.stack([unit_mass(data) for data in morph(prepared, settings).densities])


def compared(pair: tuple[str, str], point: Point) -> Outcome:
    """Volume differences of frames from both morphs of the atoms, at shares of the maximum and at contours.

    A contour is the density between those at which the two maps enclose the volume that their atoms have above the
    share: the two maps themselves then have the right volume, whatever they do not have in common with the atoms.
    """
    side, times = point["grid"], fig1_accuracy.times_of(point)
    prepared = load(pair, side)
    ends = [unit_mass(volume.data) for volume in prepared.volumes]
    densities = frames(point["method"], prepared, times, point["sigma"])
    rows = []
    for path, (percent, share) in product(fig1_accuracy.PATHS, SHARES.items()):
        moved = [unit_mass(fig1_accuracy.reference(pair, side, path, time)) for time in times]
        sizes = [int((density > share * density.max()).sum()) for density in moved]
        levels = [level_around(end, size) for end, size in zip(ends, (sizes[0], sizes[-1]), strict=True)]
        for time, frame, density, size in zip(times, densities, moved, sizes, strict=True):
            level = (1 - time) * levels[0] + time * levels[1]
            by_level = {
                f"{percent} %": float(metrics.volume_difference(frame, density, share)),
                f"contour {percent} %": abs(int((frame > level).sum()) - size) / size,
            }
            key = {"reference": path, "time": time}
            rows += [key | {"level": name, "difference": value} for name, value in by_level.items()]
    return Outcome(rows)


def level_around(density: Float[np.ndarray, "z y x"], voxels: int) -> float:
    """The level above which this number of voxels lies."""
    return float(np.sort(density, axis=None)[-voxels - 1])


def _volumes(rows: Sequence[Row]) -> Iterator[Claim]:
    levels = {AS_TESTED: "1 %", **{f"at {p} %": f"{p} %" for p in SHARES if p != "1"}}
    levels |= {f"at contours of {percent} %": f"contour {percent} %" for percent in CONTOURS}
    for path, words in fig1_accuracy.PATHS.items():
        statement = f"original is better than linear in volume difference in the second half, against {words}"
        for width, (name, level) in product((SD, PUBLISHED), levels.items()):
            yield _half(rows, statement, _both(width, name), path, width, level)
        yield _half(rows, statement, VARIANCE, path, VARIANCE, "1 %")
        for width in (SD, PUBLISHED):
            yield _half(rows, statement, _both(width, "time reversed"), path, width, "1 %", backwards=True)


def _half(
    rows: Sequence[Row],
    statement: str,
    convention: str,
    path: str,
    width: str,
    level: str,
    *,
    backwards: bool = False,
) -> Claim:
    """Compare the means over the second half; over the first if the series runs backwards."""
    means = []
    for method in ("original", "linear"):
        wanted = {"part": "volumes", "reference": path, "level": level, "method": method}
        found = curve(rows, "time", "difference", wanted | ({"width": width} if method == "original" else {}))
        half = [value for time, value in found.items() if (0 < time < 0.5 if backwards else 0.5 < time < 1)]
        means.append(float(np.mean(half)))
    return _claim(statement, convention, f"{means[0]:.3f} and {means[1]:.3f}", means[0] < means[1])


def volumes_figure(rows: Sequence[Row]) -> Figure:
    """Volume difference along t: a row for each morph of the atoms, a column for each level."""
    levels = ("1 %", "5 %", "10 %", "20 %", "contour 10 %", "contour 20 %")
    figure, axes = figures.panels(len(fig1_accuracy.PATHS), len(levels), size=(2.1, 2.2), sharex=True, sharey=True)
    shown = {
        "linear": ("linear", SD),
        "original": ("original", SD),
        "original, sigma 0.4": ("original", PUBLISHED),
    }
    looks = (LOOKS["linear"], LOOKS["original"], LOOKS["displacement"])
    for row, (path, words) in zip(axes, fig1_accuracy.PATHS.items(), strict=True):
        for panel, level in zip(row, levels, strict=True):
            for (label, (method, width)), (colour, line, _) in zip(shown.items(), looks, strict=True):
                wanted = {"part": "volumes", "reference": path, "level": level, "method": method, "width": width}
                found = curve(rows, "time", "difference", wanted)
                panel.plot(list(found), list(found.values()), line, color=colour, label=label)
            panel.set_title(level)
        row[0].set_ylabel(f"volume difference,\n{words}")
    axes[0, 0].set_ylim(bottom=0)
    for panel in axes[-1]:
        panel.set_xlabel("t (open to closed)")
    figures.letter(axes.flat)
    figures.legend_below(figure, axes[0, 0], ncols=3)
    return figure


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "L2 at unit mass": lambda frame, one: float(metrics.relative_rms(frame, one)),
    "L1 at unit mass": lambda frame, one: float(np.abs(frame - one).sum()),
    "voxels at 1 %": lambda frame, one: float(metrics.voxel_difference(frame, one, 0.01)),
    "voxels at 20 %": lambda frame, one: float(metrics.voxel_difference(frame, one, 0.2)),
}


def placed(pair: tuple[str, str], point: Point) -> Outcome:
    """The place of each map of the series among the original's frames, by several distances."""
    case = order_case()
    series, shuffle = fig3_order.series(case, point["grid"], "clean")
    times = tuple(np.linspace(0.0, 1.0, point["frames"]).tolist())
    ends = replace(series, volumes=series.volumes[:2], masses=series.masses[:2])
    densities = frames("original", ends, times, point["sigma"])
    inner = [unit_mass(volume.data) for volume in series.volumes[3:-1]]
    distances = {AS_TESTED: distances_between(np.stack(inner), densities)}
    for name, distance in DISTANCES.items():
        distances[name] = np.array([[distance(frame, one) for frame in densities] for one in inner])
    expected = [k / (len(shuffle) - 1) for k in shuffle[1:-1]]
    rows = []
    for name, found in distances.items():
        places = refined(found, np.array(times))
        for k, (share, place) in enumerate(zip(expected, places, strict=True)):
            rows.append({"measure": name, "map": k + 2, "expected": share, "place": place})
    return Outcome(rows)


def order_case() -> str:
    """The series of Figure 3."""
    return "mmcpn-sample" if missing_files("spliceosome") else "spliceosome"


def _ordered(rows: Sequence[Row]) -> Iterator[Claim]:
    statement = (
        f"original, clean: the maps between the ends are found in order, near 20, 40, 60 and 80 % ({order_case()})"
    )

    def places(width: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
        found = curve(rows, "expected", "place", {"part": "order", "width": width, "measure": measure})
        return np.array(list(found)), np.array(list(found.values()))

    for width, name in product(widths(GRID), (AS_TESTED, *DISTANCES)):
        expected, own = places(width, name)
        off = float(np.abs(own - expected).max())
        ordered = all(a < b for a, b in pairwise(own))
        words = ", ".join(f"{place:.3f}" for place in own) + f"; at most {off:.3f} off"
        yield _claim(statement, _both(width, name), words, ordered and off <= fig3_order.NEAR)
        if name == AS_TESTED:
            own_share = np.abs(own[:, None] - expected).argmin(axis=1) == np.arange(len(own))
            yield _claim(
                statement,
                _both(width, "nearest of the four shares"),
                words,
                bool(own_share.all()),
            )
            yield _claim(statement, _both(width, "in order alone"), words, ordered)


PARTS: dict[str, Callable[[tuple[str, str], Point], Outcome]] = {
    "counts": counted,
    "seconds": timed_iteration,
    "annealing": scheduled,
    "volumes": compared,
    "order": placed,
}


def claims(sweep: Sweep, scope: Scope) -> list[Claim]:
    """Every statement under every convention, in the order of the paper's figures."""
    rows = sweep.rows()
    return [
        *_volumes(rows),
        *_takes(sweep, scope),
        *_falls(rows, scope),
        *_grows(rows, scope),
        *_none_reached(rows, scope),
        *_saves(rows),
        *_ordered(rows),
    ]


if __name__ == "__main__":
    command(main)()

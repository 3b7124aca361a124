"""The paper's Figure 1: the chaperonin Mm-cpn closes, and how near each method comes to its atoms.

    python -m experiments.studies.fig1_accuracy -o OUT

21 frames from open to closed by every method, each held against two structural morphs: the atoms moved along
straight lines, and as rigid bodies (three for each of the sixteen subunits, found from how they move) along
screws. Measures as in ``benches.accuracy``. ``--maps``: two maps of Mm-cpn, open and closed, in the frame of the
models 3IYF and 3J03.

OUT holds ``results.csv``, ``frames.png`` (projections along t), ``accuracy.png`` (the paper's three curves),
``thresholds.png`` (at 5, 10 and 20 % too), ``claims.json``. About three minutes in full on 2 cores.
"""

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import typer
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments import study
from experiments.benches.accuracy import MEASURES, THRESHOLDS, measures
from experiments.cases import straight
from experiments.methods import METHODS, frames_of
from experiments.motions import find_bodies, screwing
from experiments.study import GOAL, LOOKS, PAPER, Claim
from morphot_jax import Settings
from morphot_jax.maps.atoms import simulate_density
from morphot_jax.maps.samples import GRID, WIDTHS, sample_atoms
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point

FRAMES, QUICK_FRAMES = 21, 5
QUICK_METHODS = ("linear", "original", "bridge", "displacement")
QUICK_GRID = 32
PATHS = {"straight": "atoms along straight lines", "bodies": "rigid bodies along screws"}
CHAINS, BODIES = 16, 3  # equatorial, intermediate and apical domain
GAMMA = 1.0 / 60.0  # of the longest axis, in voxels: the original's
SHOWN = ("linear", "original", "barycenter", "displacement")
SHOWN_TIMES = 5
VISIBLE = 0.02  # of the darkest projection
COLUMNS = ("maps", "grid", "sigma", "reference", "method", "time", *MEASURES, "status", "iterations")


def main(
    output: study.Output,
    maps: study.Maps = None,
    quick: study.Quick = False,
    gamma_is: study.GammaIs = "sd",
    shard: study.ShardOption = "1/1",
) -> None:
    """Hold every method against the morphs of the atoms."""
    pair, grid = study.pair_of(maps), QUICK_GRID if quick else GRID
    methods, frames = (QUICK_METHODS, QUICK_FRAMES) if quick else (METHODS, FRAMES)
    shared = {"study": "fig1_accuracy", **study.about(pair), "grid": grid, "frames": frames}
    sigma = study.sigma_of(GAMMA * grid, gamma_is)
    points = [shared | {"sigma": sigma, "method": method} for method in methods]
    sweep = Sweep(output, points, COLUMNS)
    if study.run(sweep, partial(compute, pair), shard):
        with study.looks():
            study.save(frames_figure(sweep, pair), output / "frames.png")
            study.save(curves_figure(sweep.rows(), "1"), output / "accuracy.png")
            study.save(thresholds_figure(sweep.rows()), output / "thresholds.png")
        study.conclude(output, claims(sweep.rows()))


def compute(pair: tuple[str, str], points: list[Point]) -> Iterator[Outcome]:
    for point in points:
        maps = study.load(pair, point["grid"])
        times = times_of(point)
        densities, status, iterations = frames_of(point["method"], maps, times, Settings(sigma=point["sigma"]))
        rows = []
        for name in PATHS:
            for time, density in zip(times, densities, strict=True):
                about = {"reference": name, "time": time, "status": status, "iterations": iterations}
                rows.append(about | measures(density, reference(pair, point["grid"], name, time)))
        yield Outcome(rows, {"projections": np.stack([projection(density) for density in densities])})


def times_of(point: Point) -> tuple[float, ...]:
    return tuple(k / (point["frames"] - 1) for k in range(point["frames"]))


def projection(density: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z x"]:
    """Along y: the two rings of the chaperonin above one another."""
    return unit_mass(density).sum(axis=1).astype(np.float32)


@cache
def reference(pair: tuple[str, str], grid: int, name: str, time: float) -> Float[np.ndarray, "z y x"]:
    """The density of the moved atoms on the grid of the maps."""
    opened, closed = sample_atoms("mmcpn-open"), sample_atoms("mmcpn-closed")
    if name == "straight":
        path = straight(opened, closed)
    else:
        chains = [atoms.positions.reshape(CHAINS, -1, 3) for atoms in (opened, closed)]
        bodies = find_bodies(*chains, BODIES)
        copies = np.arange(CHAINS)[:, None] * BODIES
        path = screwing(opened, closed, (copies + bodies).ravel())
    first = grid_of(pair, grid).volumes[0]
    box = {"shape": first.shape, "voxel_size": first.voxel_size, "origin": first.origin}
    return simulate_density(path(time), **box, width=WIDTHS["mmcpn"]).data


@cache
def grid_of(pair: tuple[str, str], grid: int) -> Prepared:
    return study.load(pair, grid)


def of(rows: list[Row], method: str, name: str, measure: str) -> dict[float, float]:
    """A measure by time."""
    some = [row for row in rows if (row["method"], row["reference"]) == (method, name)]
    return {row["time"]: row[measure] for row in sorted(some, key=lambda row: row["time"])}


def present(rows: list[Row]) -> list[str]:
    return [method for method in LOOKS if any(row["method"] == method for row in rows)]


def frames_figure(sweep: Sweep, pair: tuple[str, str]) -> Figure:
    """Panel (a): projections along t, a row for each of a few methods and for the atoms."""
    points = {point["method"]: point for point in sweep.points.values() if point["method"] in SHOWN}
    times = times_of(next(iter(points.values())))
    grid = next(iter(points.values()))["grid"]
    chosen = np.linspace(0, len(times) - 1, SHOWN_TIMES).round().astype(int)
    images = {method: sweep.arrays(point)["projections"][chosen] for method, point in points.items()}
    for name, words in PATHS.items():
        images[words] = np.stack([projection(reference(pair, grid, name, times[k])) for k in chosen])
    top = max(image.max() for image in images.values())
    seen = np.argwhere(sum(image.sum(axis=0) for image in images.values()) > VISIBLE * top)
    (low, left), (high, right) = seen.min(axis=0), seen.max(axis=0) + 1
    figure, axes = study.panels(len(images), len(chosen), size=(1.5, 1.6))
    for row, (name, stack) in zip(axes, images.items(), strict=True):
        for panel, image in zip(row, stack, strict=True):
            panel.imshow(image[low:high, left:right], origin="lower", cmap="gray_r", vmin=0, vmax=top)
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(False)
        row[0].set_ylabel(name.replace(" along", "\nalong"))
    for panel, k in zip(axes[0], chosen, strict=True):
        panel.set_title(f"t = {times[k]:g}")
    return figure


def curves_figure(rows: list[Row], percent: str) -> Figure:
    """Panel (b): RMSD, volume difference and voxel difference along t, a row for each structural morph."""
    shown = {
        "rmsd": "RMSD (density)",
        f"volume_difference_{percent}": f"volume difference, {percent} %",
        f"voxel_difference_{percent}": f"voxel difference, {percent} %",
    }
    figure, axes = study.panels(len(PATHS), len(shown), size=(3.1, 2.6), sharex=True)
    for row, (name, words) in zip(axes, PATHS.items(), strict=True):
        for panel, (measure, label) in zip(row, shown.items(), strict=True):
            for method in present(rows):
                _curve(panel, of(rows, method, name, measure), method)
            panel.set_ylabel(label)
            panel.set_ylim(bottom=0)
        row[1].set_title(f"against {words}")
    for panel in axes[-1]:
        panel.set_xlabel("t (open to closed)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def thresholds_figure(rows: list[Row]) -> Figure:
    """Volume and voxel difference at every threshold, against atoms along straight lines."""
    figure, axes = study.panels(2, len(THRESHOLDS), size=(2.6, 2.4), sharex=True)
    for row, word in zip(axes, ("volume", "voxel"), strict=True):
        for panel, percent in zip(row, THRESHOLDS, strict=True):
            for method in present(rows):
                _curve(panel, of(rows, method, "straight", f"{word}_difference_{percent}"), method)
            panel.set_title(f"{percent} % of the maximum")
            panel.set_ylim(bottom=0)
        row[0].set_ylabel(f"{word} difference")
    for panel in axes[-1]:
        panel.set_xlabel("t (open to closed)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _curve(panel, values: dict[float, float], method: str) -> None:
    colour, line, marker = LOOKS[method]
    style = {"color": colour, "linestyle": line, "marker": marker, "markevery": max(1, len(values) // 7)}
    panel.plot(list(values), list(values.values()), label=method, **style)


def claims(rows: list[Row]) -> list[Claim]:
    """What the paper says of its Figure 1, for its own method and for those of this package."""
    found = []
    for name, words in PATHS.items():
        for method in present(rows):
            if method != "linear":
                found += [_voxels(rows, method, name, words), _volumes(rows, method, name, words)]
    return found


def _source(method: str) -> str:
    """The paper speaks of its own method."""
    return PAPER if method == "original" else GOAL


def _inner(values: dict[float, float]) -> dict[float, float]:
    return {time: value for time, value in values.items() if 0 < time < 1}


def _voxels(rows: list[Row], method: str, name: str, words: str) -> Claim:
    own, linear = (_inner(of(rows, m, name, "voxel_difference_1")) for m in (method, "linear"))
    nearer = sum(own[time] < linear[time] for time in own)
    means = f"means {np.mean(list(own.values())):.3f} and {np.mean(list(linear.values())):.3f}"
    return Claim(
        f"{method} is nearer than linear in voxel difference at every frame, against {words}",
        _source(method),
        "voxel difference at 1 % below that of linear at every frame between the ends",
        f"at {nearer} of {len(own)} frames; {means}",
        nearer == len(own),
    )


def _volumes(rows: list[Row], method: str, name: str, words: str) -> Claim:
    means = {}
    for percent in THRESHOLDS:
        both = [_inner(of(rows, m, name, f"volume_difference_{percent}")) for m in (method, "linear")]
        means[percent] = [float(np.mean([values[time] for time in values if time > 0.5])) for values in both]
    return Claim(
        f"{method} is better than linear in volume difference in the second half, against {words}",
        _source(method),
        "mean volume difference at 1 % over t > 0.5 below that of linear",
        "means of both " + ", ".join(f"at {percent} %: {a:.3f} and {b:.3f}" for percent, (a, b) in means.items()),
        bool(means["1"][0] < means["1"][1]),
    )


if __name__ == "__main__":
    typer.run(main)

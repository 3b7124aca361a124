"""The paper's Figure 1: the chaperonin Mm-cpn closes, and how close each method comes to its atoms.

    python -m experiments.studies.fig1_accuracy -o OUT

Every method makes 21 frames from open to closed. Each frame is compared with two structural morphs: atoms moved
along straight lines, and rigid bodies (three for each of the sixteen subunits, found from their motions) moved
along screws. ``measures`` defines the measures. ``--maps``: two maps of Mm-cpn, open and closed, in the
coordinates of the models 3IYF and 3J03.

OUT holds ``results.csv``, ``frames.png`` (projections along t), ``accuracy.png`` (the paper's three curves),
``thresholds.png`` (at 5, 10 and 20 % too), ``claims.json``. About three minutes in full on 2 cores.
"""

from functools import cache, partial

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import methods_in
from experiments.maps import about, load
from experiments.measures import MEASURES, THRESHOLDS, measures
from experiments.methods import METHODS, frames_of
from experiments.motions import find_bodies, screwing, straight
from experiments.options import PairOptions, command
from experiments.tables import curve
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
GAMMA = 1.0 / 60.0  # of the longest axis in voxels, as in the original
SHOWN = ("linear", "original", "barycenter", "displacement")
SHOWN_TIMES = 5
VISIBLE = 0.02  # of the darkest projection
COLUMNS = ("maps", "grid", "sigma", "reference", "method", "time", *MEASURES, "status", "iterations")


def main(options: PairOptions) -> None:
    """Compare every method with the morphs of the atoms."""
    pair, output, grid = options.pair, options.output, QUICK_GRID if options.quick else GRID
    methods, frames = (QUICK_METHODS, QUICK_FRAMES) if options.quick else (METHODS, FRAMES)
    shared = {"study": "fig1_accuracy", **about(pair), "grid": grid, "frames": frames}
    sigma = options.sigma_of(GAMMA * grid)
    sweep = Sweep(output, [shared | {"sigma": sigma, "method": method} for method in methods], COLUMNS)
    if rows := points.run(sweep, points.one_by_one(partial(measure, pair)), options.share):
        with figures.style():
            figures.save(frames_figure(sweep, pair), output / "frames.png")
            figures.save(curves_figure(rows, "1"), output / "accuracy.png")
            figures.save(thresholds_figure(rows), output / "thresholds.png")
        conclude(output, claims(rows))


def measure(pair: tuple[str, str], point: Point) -> Outcome:
    """The frames of a method, each compared with both morphs of the atoms."""
    times = times_of(point)
    frames = frames_of(point["method"], load(pair, point["grid"]), times, Settings(sigma=point["sigma"]))
    rows = []
    for name in PATHS:
        for time, density in zip(times, frames.densities, strict=True):
            key = {"reference": name, "time": time, "status": frames.status, "iterations": frames.iterations}
            rows.append(key | measures(density, reference(pair, point["grid"], name, time)))
    return Outcome(rows, {"projections": np.stack([projection(density) for density in frames.densities])})


def times_of(point: Point) -> tuple[float, ...]:
    return tuple(k / (point["frames"] - 1) for k in range(point["frames"]))


def projection(density: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z x"]:
    """Project along y, so that the two rings of the chaperonin lie above one another."""
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
    return load(pair, grid)


def along(rows: list[Row], method: str, name: str, measure: str) -> dict[float, float]:
    """A measure by time."""
    return curve(rows, "time", measure, {"method": method, "reference": name})


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
    figure, axes = figures.panels(len(images), len(chosen), size=(1.5, 1.6))
    for row, (name, stack) in zip(axes, images.items(), strict=True):
        for panel, image in zip(row, stack, strict=True):
            panel.imshow(image[low:high, left:right], origin="lower", cmap="gray_r", vmin=0, vmax=top)
            figures.bare(panel)
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
    figure, axes = figures.panels(len(PATHS), len(shown), size=(3.1, 2.6), sharex=True)
    for row, (name, words) in zip(axes, PATHS.items(), strict=True):
        for panel, (measure, label) in zip(row, shown.items(), strict=True):
            _curves(panel, rows, name, measure)
            panel.set_ylabel(label)
        row[1].set_title(f"against {words}")
    return _along_time(figure, axes)


def thresholds_figure(rows: list[Row]) -> Figure:
    """Volume and voxel difference at every threshold, against atoms along straight lines."""
    figure, axes = figures.panels(2, len(THRESHOLDS), size=(2.6, 2.4), sharex=True)
    for row, word in zip(axes, ("volume", "voxel"), strict=True):
        for panel, percent in zip(row, THRESHOLDS, strict=True):
            _curves(panel, rows, "straight", f"{word}_difference_{percent}")
            panel.set_title(f"{percent} % of the maximum")
        row[0].set_ylabel(f"{word} difference")
    return _along_time(figure, axes)


def _curves(panel: Axes, rows: list[Row], name: str, measure: str) -> None:
    for method in methods_in(rows):
        figures.draw(panel, method, along(rows, method, name, measure), marks=7)
    panel.set_ylim(bottom=0)


def _along_time(figure: Figure, axes: np.ndarray) -> Figure:
    for panel in axes[-1]:
        panel.set_xlabel("t (open to closed)")
    figures.legend_below(figure, axes[0, 0], ncols=6)
    return figure


def claims(rows: list[Row]) -> list[Claim]:
    """The paper's statements on its Figure 1, for its own method and for those of this package."""
    tested = []
    for name, words in PATHS.items():
        for method in methods_in(rows):
            if method != "linear":
                tested += [_voxels(rows, method, name, words), _volumes(rows, method, name, words)]
    return tested


def _source(method: str) -> str:
    """The source of a claim: the paper makes statements only about its own method."""
    return PAPER if method == "original" else GOAL


def _inner(values: dict[float, float]) -> dict[float, float]:
    return {time: value for time, value in values.items() if 0 < time < 1}


def _voxels(rows: list[Row], method: str, name: str, words: str) -> Claim:
    own, linear = (_inner(along(rows, m, name, "voxel_difference_1")) for m in (method, "linear"))
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
        both = [_inner(along(rows, m, name, f"volume_difference_{percent}")) for m in (method, "linear")]
        means[percent] = [float(np.mean([values[time] for time in values if time > 0.5])) for values in both]
    return Claim(
        f"{method} is better than linear in volume difference in the second half, against {words}",
        _source(method),
        "mean volume difference at 1 % over t > 0.5 below that of linear",
        "means of both " + ", ".join(f"at {percent} %: {a:.3f} and {b:.3f}" for percent, (a, b) in means.items()),
        bool(means["1"][0] < means["1"][1]),
    )


if __name__ == "__main__":
    command(main)()

"""An open question of the paper: which gamma at which grid gives a barycenter that looks the same?

    python -m experiments.studies.gamma_and_grid -o OUT

The frames at t = 0.5 of two maps are computed on cubes of several sizes at many gammas, as barycenters and by
displacement, and resampled to one grid:

- For each gamma on the 60^3 grid, which gamma on another grid gives the most similar barycenter (least relative L2
  distance, interpolated by a parabola)? The exponent p of gamma ~ n^p is the growth of gamma with the grid.
- Which detail is lost? The resolution to which a frame agrees with that of the smallest sigma on the finest grid
  (by Fourier shell correlation, 0.5), in Å, is drawn against sigma in Å. If all grids share one curve, a rule in Å
  holds for all.

OUT holds ``results.csv``, ``gamma_and_grid.png``, ``claims.json``. About half an hour in full on 2 cores.
"""

from functools import partial

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from experiments import figures, points
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import COLOURS, LINES, MARKERS
from experiments.maps import about, load
from experiments.methods import frames_of
from experiments.options import GammaConvention, PairOptions, command
from experiments.tables import curve
from morphot_jax import Preparation, Settings, metrics, prepare_maps
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep
from morphot_jax.runs.sweep import Settings as Point

GRIDS, QUICK_GRIDS = (40, 60, 80, 120), (16, 24, 32)
# Sigma in voxels on a grid of 60 voxels along the longest axis; scaled for other grids.
SIGMAS = (0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.8, 3.4)
QUICK_SIGMAS = (0.7, 1.0, 1.4, 2.0, 2.8)
REFERENCE, QUICK_REFERENCE = 60, 24
LEAST = 0.5  # voxels: narrower kernels hardly join neighbours, and solves take thousands of iterations
METHODS = ("barycenter", "displacement")
COLUMNS = ("maps", "grid", "method", "gamma", "sigma", "sigma_angstrom", "like", "distance", "resolution")
COLUMNS += ("status",)
COMPARED = (1.0, 1.4, 2.0)  # sigmas on the reference grid with which other grids are compared


def main(options: PairOptions) -> None:
    """Find the gammas that give similar barycenters on different grids."""
    pair, quick, output = options.pair, options.quick, options.output
    grids, sigmas, middle = (QUICK_GRIDS, QUICK_SIGMAS, QUICK_REFERENCE) if quick else (GRIDS, SIGMAS, REFERENCE)
    shared = {"study": "gamma_and_grid", **about(pair), "common": max(grids)}
    places = [
        shared | {"grid": n, "method": method, "sigma": sigma * n / middle}
        for n in grids
        for method in METHODS
        for sigma in sigmas
        if sigma * n / middle >= LEAST
    ]
    sweep = Sweep(output, places, COLUMNS)
    sweep.derive = partial(with_comparisons, sweep, middle, options)
    if rows := points.run(sweep, points.one_by_one(partial(half_way, pair)), options.share):
        with figures.style():
            figures.save(both_figure(rows, middle), output / "gamma_and_grid.png")
        conclude(output, claims(rows, middle, options.gamma_is))


def half_way(pair: tuple[str, str], point: Point) -> Outcome:
    """The frame at t = 0.5, on the common grid."""
    maps = load(pair, point["grid"])
    settings = Settings(sigma=point["sigma"], max_iterations=2000)
    frames = frames_of(point["method"], maps, (0.5,), settings)
    volume = maps.volumes[0].with_data(frames.densities[0].astype(np.float32))
    (common,) = prepare_maps([volume], Preparation(grid=point["common"], level="none")).volumes
    row = {"sigma_angstrom": point["sigma"] * volume.voxel_size[0], "status": frames.status}
    return Outcome([row], {"frame": unit_mass(common.data).astype(np.float32)})


def with_comparisons(sweep: Sweep, middle: int, options: PairOptions, rows: list[Row]) -> list[Row]:
    """Add gamma, the most similar sigma on the reference grid with its distance, and the remaining resolution."""
    frames = {
        (point["grid"], point["method"], point["sigma"]): sweep.arrays(point).get("frame")
        for point in sweep.points.values()
    }
    found = []
    for row in rows:
        own = frames[row["grid"], row["method"], row["sigma"]]
        references = {
            s: f for (n, m, s), f in frames.items() if (n, m) == (middle, row["method"]) and f is not None
        }
        finest = max(n for n, *_ in frames)
        sharpest = min(s for n, _, s in frames if n == finest)
        target = frames[finest, row["method"], sharpest]
        extra: Row = {"gamma": options.gamma_of(row["sigma"])}
        if len(references) > 2:
            extra |= dict(zip(("like", "distance"), nearest(own, references), strict=True))
        if target is not None and (row["grid"], row["sigma"]) != (finest, sharpest):
            voxel = row["sigma_angstrom"] / row["sigma"] * row["grid"] / len(own)
            extra["resolution"] = max(
                2.0 * row["sigma_angstrom"] / row["sigma"], metrics.resolution(own, target) * voxel
            )
        found.append(row | extra)
    return found


def nearest(
    frame: Float[np.ndarray, "z y x"], others: dict[float, Float[np.ndarray, "z y x"]]
) -> tuple[float, float]:
    """The sigma of least distance, by a parabola over its logarithm, and the least distance of the given ones."""
    sigmas = np.array(sorted(others))
    distances = np.array([float(metrics.relative_rms(frame, others[s])) for s in sigmas])
    k = int(distances.argmin())
    if k in (0, len(sigmas) - 1):
        return float(sigmas[k]), float(distances[k])
    logs, squares = np.log(sigmas[k - 1 : k + 2]), distances[k - 1 : k + 2] ** 2
    second, first, _ = np.polyfit(logs - logs[1], squares, 2)
    return float(np.exp(logs[1] - first / (2 * second))), float(distances[k])


def of(rows: list[Row], grid: int, method: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of one grid and method."""
    found = curve(rows, x, y, {"grid": grid, "method": method})
    return np.array(list(found)), np.array(list(found.values()))


def equivalents(rows: list[Row], grid: int, method: str, middle: int) -> dict[float, float]:
    """The sigma on a grid whose frame is most similar to that of each compared sigma on the reference grid."""
    own, like = of(rows, grid, method, "sigma", "like")
    # At the ends of the range the most similar sigma may lie outside.
    inside = (like > like.min()) & (like < like.max())
    if inside.sum() < 2:
        return {}
    own, like = own[inside], like[inside]
    order = np.argsort(like)
    tried = [sigma for sigma in COMPARED if like.min() <= sigma <= like.max()]
    return {
        sigma: float(np.exp(np.interp(np.log(sigma), np.log(like[order]), np.log(own[order])))) for sigma in tried
    }


def exponent(rows: list[Row], method: str, middle: int, sigma: float) -> tuple[float, dict[int, float]]:
    """The p of sigma ~ n^p for frames like that of one sigma on the reference grid, and the sigmas by grid."""
    found = {}
    for grid in sorted({row["grid"] for row in rows}):
        same = equivalents(rows, grid, method, middle)
        if sigma in same:
            found[grid] = same[sigma]
    if len(found) < 2:
        return float("nan"), found
    return float(np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]), found


def both_figure(rows: list[Row], middle: int) -> Figure:
    """(a) equivalent sigmas by grid; (b, c) resolution against sigma in Å, for each method."""
    figure, axes = figures.panels(1, 3, size=(3.5, 3.2))
    grids = sorted({row["grid"] for row in rows})
    first = axes[0, 0]
    for sigma, colour, marker in zip(COMPARED, COLOURS, MARKERS, strict=False):
        p, found = exponent(rows, "barycenter", middle, sigma)
        if len(found) < 2:
            continue
        label = f"like {sigma:g} on ${middle}^3$, slope {p:.2f}"
        first.plot(list(found), list(found.values()), color=colour, marker=marker, label=label)
    figures.log_ticks(first, grids)
    first.set_yscale("log")
    first.yaxis.set_major_formatter(ScalarFormatter())
    first.yaxis.set_minor_formatter(ScalarFormatter())
    first.set_title("barycenter")
    first.set_xlabel("voxels along an axis")
    first.set_ylabel("sigma (voxels) of the most similar barycenter")
    first.legend(fontsize=7)
    for panel, method in zip(axes[0, 1:], METHODS, strict=True):
        for grid, colour, line, marker in zip(grids, COLOURS, LINES, MARKERS, strict=False):
            x, y = of(rows, grid, method, "sigma_angstrom", "resolution")
            panel.plot(x, y, color=colour, linestyle=line, marker=marker, label=f"${grid}^3$")
        panel.set_xlabel("sigma (Å)")
        panel.set_ylabel("remaining resolution (Å, FSC 0.5)")
        panel.set_title(method)
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=7)
    figures.letter(axes.flat)
    return figure


def claims(rows: list[Row], middle: int, gamma_is: GammaConvention) -> list[Claim]:
    """The growth of gamma with the grid, and the loss of detail."""
    slopes = {sigma: exponent(rows, "barycenter", middle, sigma) for sigma in COMPARED}
    known = {sigma: found for sigma, found in slopes.items() if np.isfinite(found[0])}
    power = 1 if gamma_is == "sd" else 2
    sigmas = [
        f"like sigma {sigma:g} on {middle}^3: "
        + ", ".join(f"{value:.2f} on {grid}^3" for grid, value in found.items())
        + f"; p = {p:.2f} for sigma, {2 * p:.2f} for sigma^2"
        for sigma, (p, found) in known.items()
    ]
    proportional = Claim(
        f"the gamma that looks the same goes like the grid to the power {power} (gamma is the {gamma_is})",
        f"{PAPER} (open question)",
        f"p of gamma ~ n^p within 0.15 of {power}: the same sigma in Å",
        "; ".join(sigmas),
        all(abs(p - 1) <= 0.15 for p, _ in known.values()) if known else None,
    )
    return [proportional, *(_one_curve(rows, method) for method in METHODS)]


def _one_curve(rows: list[Row], method: str) -> Claim:
    """Test whether the resolution is the same multiple of sigma in Å on all grids that can hold it."""
    some = [row for row in rows if row["method"] == method and row.get("resolution") is not None]
    ratios, medians = [], []
    for grid in sorted({row["grid"] for row in some}):
        own = [row for row in some if row["grid"] == grid]
        # Detail that the voxels cannot hold is not lost by the kernel.
        free = [row for row in own if row["resolution"] > 2.2 * row["sigma_angstrom"] / row["sigma"]]
        own_ratios = [row["resolution"] / row["sigma_angstrom"] for row in free]
        ratios += own_ratios
        median = f"{np.median(own_ratios):.2f}" if own_ratios else "finer than its voxels"
        medians.append(f"{grid}^3: {median}")
    middle = float(np.median(ratios)) if ratios else float("nan")
    apart = max((abs(ratio / middle - 1) for ratio in ratios), default=np.nan)
    return Claim(
        f"{method}: the resolution that is left is one multiple of sigma in Å on every grid",
        GOAL,
        "every ratio of resolution to sigma within 30 % of their median",
        f"median {middle:.2f} ({'; '.join(medians)}); at most {apart:.0%} off",
        bool(apart <= 0.3) if ratios else None,
    )


if __name__ == "__main__":
    command(main)()

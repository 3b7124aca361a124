"""The paper's Figure 3: maps between two others, put in order.

    python -m experiments.studies.fig3_order -o OUT [--maps A --maps B ...]

Two bodies of the spliceosome, in the bead model of 5NRL, swing by a known angle: six maps at even steps of the
angle. Every method makes one hundred frames between the first and the last map. Each map is compared with each
frame; its place is the time of the nearest frame (``morphing.order``). Two variants follow: ``noisy``, with white
noise in all maps, and ``shuffled``, where the order of the maps is recovered from their places. If the bead model
is missing, the chaperonin of the samples is used. ``--maps``, once for each map: other maps in their true order,
at even steps.

OUT holds ``results.csv`` (a row for each method, variant and map), ``order.png`` (the paper's matrix, a heat map
for each method with boxes at the nearest frames), ``places.png``, ``claims.json``. Two minutes in full on 2
cores.
"""

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import kendalltau

from experiments import figures, points
from experiments.cases import build_case, missing_files
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import methods_in
from experiments.maps import about, absolute, load, name_of
from experiments.methods import METHODS, frames_of
from experiments.options import GammaOptions, command
from experiments.tables import curve
from morphot_jax import Preparation, Settings, prepare_maps
from morphot_jax.maps.samples import GRID
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.order import distances_between, refined
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point

MAPS, FRAMES = 6, 100
FEWEST = 3  # maps of a series
QUICK_FRAMES, QUICK_GRID = 21, 32
QUICK_METHODS = ("linear", "original", "displacement")
VARIANTS = ("clean", "noisy", "shuffled")
NOISE = 0.05  # standard deviation, of the maximum of the first map
NOISE_LEVEL = 3.0  # standard deviations of the noise: density below is set to zero
SEED = 3
NEAR = 0.1  # from the expected time of a map: half of the step between two maps
COLUMNS = ("case", "grid", "sigma", "frames", "method", "variant", "map", "expected", "place", "nearest_frame")
COLUMNS += ("distance", "status")


@dataclass(frozen=True)
class Options(GammaOptions):
    """The options of this study."""

    maps: Annotated[list[str] | None, typer.Option(help="Maps in their true order, one for each --maps.")] = None


def main(options: Options) -> None:
    """Find the places of maps between two others."""
    output, quick = options.output, options.quick
    side, frames, methods = (QUICK_GRID, QUICK_FRAMES, QUICK_METHODS) if quick else (GRID, FRAMES, METHODS)
    given = tuple(absolute(name) for name in options.maps or ())
    if given and len(given) < FEWEST:
        raise typer.BadParameter(f"{len(given)} maps were given: give {FEWEST} or more", param_hint="--maps")
    case = name_of(given) or ("mmcpn-sample" if missing_files("spliceosome") else "spliceosome")
    sigma = options.sigma_of(side / 60)
    shared = {"study": ["fig3_order"], "case": [case], "grid": [side], "sigma": [sigma], "frames": [frames]}
    shared["contents"] = [about(given)["contents"]]
    sweep = Sweep(output, grid(**shared, variant=VARIANTS, method=methods), COLUMNS)
    if rows := points.run(sweep, points.one_by_one(partial(measure, given)), options.share):
        with figures.style():
            figures.save(matrices_figure(sweep), output / "order.png")
            figures.save(places_figure(rows), output / "places.png")
        conclude(output, claims(rows))


def measure(given: tuple[str, ...], point: Point) -> Outcome:
    """Find the place of each map of a variant among the frames of a method."""
    maps, shuffle = series(given or point["case"], point["grid"], point["variant"])
    times = tuple(np.linspace(0.0, 1.0, point["frames"]).tolist())
    ends = replace(maps, volumes=maps.volumes[:2], masses=maps.masses[:2])
    frames = frames_of(point["method"], ends, times, Settings(sigma=point["sigma"]))
    distances = distances_between(np.stack([volume.data for volume in maps.volumes[2:]]), frames.densities)
    rows = [
        {"map": row + 1, "expected": k / (len(shuffle) - 1), "place": place, "nearest_frame": own.argmin()}
        | {"distance": own.min(), "status": frames.status}
        for row, (k, place, own) in enumerate(
            zip(shuffle, refined(distances, np.array(times)), distances, strict=True)
        )
    ]
    return Outcome(rows, {"distances": distances.astype(np.float32)})


@cache
def series(given: tuple[str, ...] | str, side: int, variant: str) -> tuple[Prepared, tuple[int, ...]]:
    """Prepare the two ends followed by all maps of a variant; return also the step, from 0, of each map.

    ``given``: the maps, or the name of a case.
    """
    rng = np.random.default_rng(SEED)
    if isinstance(given, str):
        built = build_case(given)
        steps = [replace(built.first, data=built.reference(k / (MAPS - 1))) for k in range(MAPS)]
    else:
        steps = list(load(given, side).volumes)
    order = range(len(steps))
    shuffle = tuple(rng.permutation(order).tolist()) if variant == "shuffled" else tuple(order)
    level = 0.0
    if variant == "noisy":
        sd = NOISE * float(steps[0].data.max())
        steps = [_noisy(volume, sd, rng) for volume in steps]
        level = NOISE_LEVEL * sd
    volumes = [steps[0], steps[-1], *(steps[k] for k in shuffle)]
    same_grid = set(steps[0].shape) == {side}
    return prepare_maps(volumes, Preparation(level=level, grid=None if same_grid else side)), shuffle


def _noisy(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    return volume.with_data(volume.data + rng.normal(scale=sd, size=volume.data.shape))


def matrices_figure(sweep: Sweep) -> Figure:
    """Distances of every map from every frame: a column for each variant, a row for each method."""
    places = list(sweep.points.values())
    methods = methods_in(places)
    figure, axes = figures.panels(len(methods), len(VARIANTS), size=(3.4, 1.5), sharex=True)
    for row, method in zip(axes, methods, strict=True):
        for panel, variant in zip(row, VARIANTS, strict=True):
            (point,) = (p for p in places if (p["method"], p["variant"]) == (method, variant))
            distances = sweep.arrays(point)["distances"]
            frames = distances.shape[1]
            maps = len(distances)
            extent = (-0.5, frames - 0.5, maps + 0.5, 0.5)
            picture = panel.imshow(distances, cmap="cividis", extent=extent, aspect="auto", vmin=0)
            for k, nearest in enumerate(distances.argmin(axis=1)):
                box = Rectangle((nearest - 0.5, k + 0.55), 1, 0.9, fill=False, edgecolor="white", linewidth=1.2)
                panel.add_patch(box)
            panel.spines[:].set_visible(False)
            panel.set_yticks(range(1, maps + 1))
            figure.colorbar(picture, ax=panel, shrink=0.9)
        row[0].set_ylabel(f"{method}\nmap")
    for panel, variant in zip(axes[0], VARIANTS, strict=True):
        panel.set_title(variant)
    for panel in axes[-1]:
        panel.set_xlabel("frame")
    figure.suptitle("Relative L2 distance of maps from frames; boxes: the nearest frame of each map", fontsize=9)
    return figure


def places_figure(rows: list[Row]) -> Figure:
    """The place of each map against its true place, a panel for each variant."""
    figure, axes = figures.panels(1, len(VARIANTS), size=(3.0, 2.9), sharey=True)
    for panel, variant in zip(axes[0], VARIANTS, strict=True):
        panel.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        for method in methods_in(rows):
            figures.draw(panel, method, places(rows, method, variant))
        panel.set_title(variant)
        panel.set_xlabel("share of the swing")
    axes[0, 0].set_ylabel("t of the nearest frame")
    figures.legend_below(figure, axes[0, 0], ncols=6)
    return figure


def places(rows: list[Row], method: str, variant: str) -> dict[float, float]:
    """The places of the maps, by their true places."""
    return curve(rows, "expected", "place", {"method": method, "variant": variant})


def claims(rows: list[Row]) -> list[Claim]:
    """The paper's statement on its Figure 3, for every method and variant."""
    return [_in_order(rows, method, variant) for variant in VARIANTS for method in methods_in(rows)]


def _in_order(rows: list[Row], method: str, variant: str) -> Claim:
    case, found = rows[0]["case"], places(rows, method, variant)
    expected, own = np.array(list(found)), np.array(list(found.values()))
    inner = slice(1, -1)
    near = np.abs(own - expected)[inner].max()
    ordered = bool((np.diff(own) > 0).all())
    tau = float(kendalltau(expected, own).statistic)
    *most, last = (f"{100 * share:.0f}" for share in expected[inner])
    where = f"{', '.join(most)} and {last}" if most else last
    of_paper = variant == "clean" and method == "original"
    return Claim(
        f"{method}, {variant}: the maps between the ends are found in order, near {where} % ({case})",
        PAPER if of_paper else GOAL,
        f"places in the true order and each within {NEAR:g} of its share",
        ", ".join(f"{place:.3f}" for place in own[inner]) + f"; at most {near:.3f} off, Kendall's tau {tau:.2f}",
        ordered and bool(near <= NEAR),
    )


if __name__ == "__main__":
    command(main)()

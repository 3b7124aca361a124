"""The paper's Figure 3: maps on the way between two others, put in order.

    python -m experiments.fig3_order -o OUT [--quick] [--maps A --maps B ...] [--gamma-is ...] [--shard I/N]

Two bodies of the spliceosome swing by a known angle from the bead model of 5NRL: six maps at even steps of the
angle. One hundred frames between the first and the last by every method; each map is compared with each frame,
and its place is the time of the nearest one (``morphing.order``). Also with white noise (``noisy``), where
maps and ends are noisy, and with the maps shuffled (``shuffled``), whose order is to be recovered from their
places. Where the bead model is not at hand the chaperonin of the samples takes its place. ``--maps``, once for
each: maps of your own in their true order, at even steps.

OUT holds ``results.csv`` (a row for each method, variant and map), ``order.png`` (the paper's matrix, a heat map
for each method with boxes at the nearest frames), ``places.png``, ``claims.json``. Two minutes in full on 2
cores.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import kendalltau

from experiments import study
from experiments.cases import build_case, missing_files
from experiments.methods import METHODS, frames_of
from experiments.study import GOAL, LOOKS, PAPER, Claim
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
NOISE_LEVEL = 3.0  # standard deviations of the noise: density below is none
SEED = 3
NEAR = 0.1  # of the time at which a map is expected: half of what lies between two maps
COLUMNS = ("case", "grid", "sigma", "frames", "method", "variant", "map", "expected", "place", "nearest_frame")
COLUMNS += ("distance", "status")


def main(
    output: study.Output,
    maps: Annotated[list[str] | None, typer.Option(help="Maps in their true order, one for each --maps.")] = None,
    quick: study.Quick = False,
    gamma_is: study.GammaIs = "sd",
    shard: study.ShardOption = "1/1",
) -> None:
    """Find the places of maps on the way between two."""
    side, frames, methods = (QUICK_GRID, QUICK_FRAMES, QUICK_METHODS) if quick else (GRID, FRAMES, METHODS)
    given = tuple(study.absolute(name) for name in maps or ())
    if given and len(given) < FEWEST:
        raise typer.BadParameter(
            f"{len(given)} maps were given: a series has {FEWEST} or more", param_hint="--maps"
        )
    case = study.name_of(given) or ("mmcpn-sample" if missing_files("spliceosome") else "spliceosome")
    sigma = study.sigma_of(side / 60, gamma_is)
    shared = {"study": ["fig3_order"], "case": [case], "grid": [side], "sigma": [sigma], "frames": [frames]}
    shared["contents"] = [study.about(given)["contents"]]
    sweep = Sweep(output, grid(**shared, variant=VARIANTS, method=methods), COLUMNS)
    if study.run(sweep, partial(compute, given), shard):
        with study.looks():
            study.save(matrices_figure(sweep), output / "order.png")
            study.save(places_figure(sweep.rows()), output / "places.png")
        study.conclude(output, claims(sweep.rows()))


def compute(given: tuple[str, ...], points: list[Point]) -> Iterator[Outcome]:
    for point in points:
        maps, shuffle = series(given or point["case"], point["grid"], point["variant"])
        times = tuple(np.linspace(0.0, 1.0, point["frames"]).tolist())
        ends = replace(maps, volumes=maps.volumes[:2], masses=maps.masses[:2])
        found = frames_of(point["method"], ends, times, Settings(sigma=point["sigma"]))
        others = np.stack([volume.data for volume in maps.volumes[2:]])
        distances = distances_between(others, found.densities)
        places, nearest = refined(distances, np.array(times)), distances.argmin(axis=1)
        rows = []
        for row, k in enumerate(shuffle):
            about = {
                "map": row + 1,
                "expected": k / (len(shuffle) - 1),
                "place": places[row],
                "nearest_frame": nearest[row],
            }
            rows.append(about | {"distance": distances[row].min(), "status": found.status})
        yield Outcome(rows, {"distances": distances.astype(np.float32)})


@cache
def series(given: tuple[str, ...] | str, side: int, variant: str) -> tuple[Prepared, tuple[int, ...]]:
    """The two ends and then all maps of a variant, prepared; and the step, from 0, that each of these shows.

    ``given``: the maps, or the name of a case whose structure moves.
    """
    rng = np.random.default_rng(SEED)
    if isinstance(given, str):
        built = build_case(given)
        steps = [replace(built.first, data=built.reference(k / (MAPS - 1))) for k in range(MAPS)]
    else:
        steps = list(study.load(given, side).volumes)
    order = range(len(steps))
    shuffle = tuple(rng.permutation(order).tolist()) if variant == "shuffled" else tuple(order)
    level = None
    if variant == "noisy":
        sd = NOISE * float(steps[0].data.max())
        steps = [_noisy(volume, sd, rng) for volume in steps]
        level = NOISE_LEVEL * sd
    volumes = [steps[0], steps[-1], *(steps[k] for k in shuffle)]
    as_they_are = set(steps[0].shape) == {side}
    return prepare_maps(volumes, Preparation(level=level, grid=None if as_they_are else side)), shuffle


def _noisy(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    return volume.with_data(volume.data + rng.normal(scale=sd, size=volume.data.shape))


def matrices_figure(sweep: Sweep) -> Figure:
    """Distances of every map from every frame: a column for each variant, a row for each method."""
    points = list(sweep.points.values())
    methods = [name for name in LOOKS if any(point["method"] == name for point in points)]
    figure, axes = study.panels(len(methods), len(VARIANTS), size=(3.4, 1.5), sharex=True)
    for row, method in zip(axes, methods, strict=True):
        for panel, variant in zip(row, VARIANTS, strict=True):
            (point,) = (p for p in points if (p["method"], p["variant"]) == (method, variant))
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
    """Where each map was found against where it is, a panel for each variant."""
    figure, axes = study.panels(1, len(VARIANTS), size=(3.0, 2.9), sharey=True)
    for panel, variant in zip(axes[0], VARIANTS, strict=True):
        panel.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        for method in LOOKS:
            expected, found = places(rows, method, variant)
            if len(expected):
                colour, line, marker = LOOKS[method]
                panel.plot(expected, found, color=colour, linestyle=line, marker=marker, label=method)
        panel.set_title(variant)
        panel.set_xlabel("share of the swing")
    axes[0, 0].set_ylabel("t of the nearest frame")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def places(
    rows: list[Row], method: str, variant: str
) -> tuple[Float[np.ndarray, " maps"], Float[np.ndarray, " maps"]]:
    """Where the maps are and where they were found, in the true order."""
    some = [row for row in rows if (row["method"], row["variant"]) == (method, variant)]
    some.sort(key=lambda row: row["expected"])
    return np.array([row["expected"] for row in some]), np.array([row["place"] for row in some])


def claims(rows: list[Row]) -> list[Claim]:
    """The paper's statement on its Figure 3, and what it is to hold for beside."""
    case = rows[0]["case"]
    found = []
    for variant in VARIANTS:
        for method in LOOKS:
            expected, own = places(rows, method, variant)
            if len(expected):
                found.append(_in_order(case, method, variant, expected, own))
    return found


def _in_order(case: str, method: str, variant: str, expected: np.ndarray, own: np.ndarray) -> Claim:
    inner = slice(1, -1)
    near = np.abs(own - expected)[inner].max()
    ordered = bool((np.diff(own) > 0).all())
    tau = float(kendalltau(expected, own).statistic)
    *most, last = (f"{100 * share:.0f}" for share in expected[inner])
    where = f"{', '.join(most)} and {last}" if most else last
    theirs = variant == "clean" and method == "original"
    return Claim(
        f"{method}, {variant}: the maps between the ends are found in order, near {where} % ({case})",
        PAPER if theirs else GOAL,
        f"places in the true order and each within {NEAR:g} of its share",
        ", ".join(f"{place:.3f}" for place in own[inner]) + f"; at most {near:.3f} off, Kendall's tau {tau:.2f}",
        ordered and bool(near <= NEAR),
    )


if __name__ == "__main__":
    typer.run(main)

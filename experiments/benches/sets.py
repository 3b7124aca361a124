"""Many maps at once: do landscapes bring back their order, and do coordinates bring back their weights?

    python -m experiments.benches.sets -o OUT

- ``landscape``: maps at even steps of a known motion (two bodies of the spliceosome swing; the chaperonin of the
  samples where the beads are missing), shuffled, clean and with white noise. Kendall's tau compares the order that
  is found without given ends with the true one. 80 maps of 64^3 voxels are timed.
- ``coordinates``: barycenters of four maps of 32^3 voxels (Mm-cpn open, closed, and both turned) with random
  weights, as they are and debiased, and the weights that are found; sigma is one voxel. 10 and 100 maps are timed.

OUT holds ``results.csv`` (a row for each case and count: the tau and the agreement of an order, or the largest and
the mean error of weights; seconds, and those of compilation; the largest memory of the process so far) and
``claims.json``. About six minutes in full on 2 cores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import rotate
from scipy.stats import kendalltau

from experiments import points
from experiments.cases import build_case, missing_files
from experiments.claims import GOAL, Claim, conclude
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Preparation, Settings, Volume, landscape, morph, place_maps, prepare_maps
from morphot_jax.maps.samples import sample_volume
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.system import memory

LANDSCAPE, COORDINATES = "landscape", "coordinates"
CLEAN, NOISY, DEBIASED = "clean", "noisy", "debiased"
NOISE = 0.05  # standard deviation, of the maximum of the first map
FEW, MANY, LARGE = 20, 80, 100  # maps
TEN = 10
GRIDS = {LANDSCAPE: 64, COORDINATES: 32}
QUICK_GRID = 16
SIGMA = 1.0  # voxels, of the barycenters: the default of ``place_maps`` on these grids
SPREAD = 1.5  # of the Dirichlet distribution of the weights
TURNS = (25.0, (1, 2)), (20.0, (0, 1))  # degrees and axes of the third and the fourth map
TAU = {CLEAN: 0.95, NOISY: 0.9}
NEAR = 0.01  # error of weights
MOST_RATIO, MOST_MINUTES, MOST_BYTES = 5.0, 15.0, 2e9
COLUMNS = ("task", "variant", "maps", "grid", "tau", "agreement", "largest_error", "mean_error", "off_by")
COLUMNS += ("seconds", "compile_seconds", "peak_bytes")


@dataclass(frozen=True)
class Options(ShardOptions):
    """The options of this bench."""


def main(options: Options) -> None:
    """Make every landscape and place every set of maps."""
    if options.quick:
        shared = {"grid": [QUICK_GRID], "study": ["sets"]}
        wanted = grid(task=[LANDSCAPE], variant=[CLEAN], maps=[5], **shared)
        wanted += grid(task=[COORDINATES], variant=[CLEAN], maps=[3], **shared)
    else:
        large, small = ({"grid": [GRIDS[task]], "study": ["sets"]} for task in (LANDSCAPE, COORDINATES))
        wanted = grid(task=[LANDSCAPE], variant=[CLEAN, NOISY], maps=[FEW], **large)
        wanted += grid(task=[LANDSCAPE], variant=[CLEAN], maps=[MANY], **large)
        wanted += grid(task=[COORDINATES], variant=[CLEAN], maps=[TEN, LARGE], **small)
        wanted += grid(task=[COORDINATES], variant=[DEBIASED], maps=[TEN], **small)
    sweep = Sweep(options.output, wanted, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        conclude(options.output, claims(rows))


def measure(point: Point) -> Outcome:
    """Find an order or weights, and compare them with the true ones."""
    found = ordered(point) if point["task"] == LANDSCAPE else placed(point)
    return Outcome([found | {"peak_bytes": memory.peak()}])


def ordered(point: Point) -> dict[str, float]:
    """The landscape of a shuffled series."""
    maps, places = series(point)
    started = time.perf_counter()
    found = landscape(maps)
    seconds = time.perf_counter() - started
    tau = abs(kendalltau(places[found.order.indices], np.arange(len(places)))[0])
    return {
        "tau": tau,
        "agreement": found.order.agreement,
        "seconds": seconds,
        "compile_seconds": found.clock.compile,
    }


def series(point: Point) -> tuple[Prepared, np.ndarray]:
    """Maps at even steps of a motion in random order, and the step of each."""
    count, rng = point["maps"], np.random.default_rng(0)
    case = build_case("mmcpn-sample" if missing_files("spliceosome") else "spliceosome")
    places = rng.permutation(count)
    maps = [replace(case.first, data=case.reference(k / (count - 1))) for k in places]
    if point["variant"] == NOISY:
        sd = NOISE * float(maps[0].data.max())
        maps = [volume.with_data(volume.data + rng.normal(scale=sd, size=volume.shape)) for volume in maps]
    return prepare_maps(maps, Preparation(grid=_side(maps[0], point))), places


def placed(point: Point) -> dict[str, float]:
    """The weights of barycenters of four maps."""
    ends = [sample_volume(f"mmcpn-{state}") for state in ("open", "closed")]
    maps = [*ends, *(_turned(volume, *turn) for volume, turn in zip(ends, TURNS, strict=True))]
    references = prepare_maps(maps, Preparation(grid=_side(maps[0], point)))
    weights = np.random.default_rng(1).dirichlet(np.full(len(maps), SPREAD), point["maps"])
    made = list(morph(references, Settings(weights=weights, sigma=SIGMA, debias=point["variant"] == DEBIASED)))
    started = time.perf_counter()
    found = place_maps(made, references.volumes)
    seconds = time.perf_counter() - started
    error = np.abs(found.weights - weights)
    return {
        "largest_error": float(error.max()),
        "mean_error": float(error.mean()),
        "off_by": found.interpolation,
        "seconds": seconds,
        "compile_seconds": found.clock.compile,
    }


def _side(volume: Volume, point: Point) -> int | None:
    """The grid to resample to; None where the maps have it."""
    return None if set(volume.shape) == {point["grid"]} else point["grid"]


def _turned(volume: Volume, degrees: float, axes: tuple[int, int]) -> Volume:
    turned = rotate(volume.data, degrees, axes=axes, reshape=False, order=1)
    return volume.with_data(np.maximum(turned, 0.0))


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Orders and weights come back; many maps take little more time than few."""
    made = []
    for row in where(rows, {"task": LANDSCAPE}):
        tau, least = float(row["tau"]), TAU[row["variant"]]
        text = f"{row['maps']} {row['variant']} maps come back in order without given ends"
        made.append(Claim(text, GOAL, f"Kendall's tau of at least {least}", f"{tau:.3f}", tau >= least))
    for row in where(rows, {"task": COORDINATES, "variant": CLEAN}):
        error = float(row["largest_error"])
        text = f"weights of {row['maps']} barycenters of four maps come back"
        made.append(Claim(text, GOAL, f"within {NEAR}", f"{error:.4f}", error <= NEAR))
    few, many = (where(rows, {"task": COORDINATES, "variant": CLEAN, "maps": str(n)}) for n in (TEN, LARGE))
    if few and many:
        ratio = float(many[0]["seconds"]) / float(few[0]["seconds"])
        text = f"{LARGE} maps are placed in little more time than {TEN}"
        made.append(Claim(text, GOAL, f"{MOST_RATIO:g} times at most", f"{ratio:.2f} times", ratio <= MOST_RATIO))
    if large := where(rows, {"task": LANDSCAPE, "maps": str(MANY)}):
        minutes, held = float(large[0]["seconds"]) / 60.0, float(large[0]["peak_bytes"])
        text = f"a landscape of {MANY} maps of {GRIDS[LANDSCAPE]}^3 voxels"
        target = f"{MOST_MINUTES:g} min and {MOST_BYTES / 1e9:g} GB at most"
        held_to = minutes <= MOST_MINUTES and held <= MOST_BYTES
        made.append(Claim(text, GOAL, target, f"{minutes:.1f} min, {held / 1e9:.2f} GB", held_to))
    return made


if __name__ == "__main__":
    command(main)()

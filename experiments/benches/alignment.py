"""Does the alignment find known rigid motions again?

    python -m experiments.benches.alignment -o OUT

Maps of adenylate kinase, of the spike with one domain up and of Mm-cpn (real) are turned and shifted at random,
by up to 180 degrees and up to 10 voxels. They are then aligned to the original map, without noise, and with white
noise in both maps whose variance is that of the map (SNR 1). The criterion is the correlation of the maps without
noise at the motion found, relative to that at the true motion; for maps without symmetry also the error of the
motion.

Parts are laid into complexes too (``fit_part``), after random motions: a receptor-binding domain of the spike,
from atoms, into the spike with one domain up, where only that domain is right; a domain that is cut out of the
map of the closed spike, into the spike with one domain up, where any of its three is right; and a subunit of
Mm-cpn, from atoms, into the real map, where any of its sixteen is right. They start anywhere; or nearby,
without a search.

OUT holds ``results.csv`` (a row for each alignment), ``alignment.png``, ``claims.json``. Three quarters of
an hour in full on 2 cores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from experiments import figures, points
from experiments.cases import SPIKE_VOXEL, at_hand, box_around, build_case, equal_atoms, missing_files
from experiments.claims import GOAL, Claim, conclude
from experiments.figures import COLOURS, MARKERS
from experiments.maps import DATA
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Volume, fit_part, metrics
from morphot_jax.maps.atoms import WIDTH_PER_RESOLUTION, choose_box, simulate_density
from morphot_jax.maps.pose import IDENTITY, Pose
from morphot_jax.maps.resample import places_of, resample_onto
from morphot_jax.maps.samples import sample_atoms
from morphot_jax.prepare.align import align_maps
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point


class Map(NamedTuple):
    """One end of a case; ``symmetric``: the map has a symmetry, so that several motions are right."""

    title: str
    case: str
    last: bool
    symmetric: bool


MAPS = (
    Map("adenylate kinase", "adk-linear", False, False),
    Map("spike, one domain up", "spike", True, False),
    Map("Mm-cpn, real", "mmcpn-real", True, True),
)
QUICK_MAPS = (Map("adenylate kinase, sample", "adk-sample", False, False),)


class Part(NamedTuple):
    """A part to lay into a complex: the name of its case, whose files are needed, and what builds it."""

    title: str
    case: str
    build: Callable[[], "Placed"]


@dataclass(frozen=True, eq=False)
class Placed:
    """A complex, and a part of it in its place.

    - ``moved``: the map of the part after a motion. ``centre``: of the part, in Å along x, y, z.
    - ``right``: the motions that lay the part on itself and on its equals.
    """

    whole: Volume
    moved: Callable[[Pose], Volume]
    centre: np.ndarray
    right: tuple[Pose, ...]


MOTIONS, QUICK_MOTIONS = 20, 1
FURTHEST = 10.0  # voxels
SNR = (0.0, 1.0)  # ratio of variances; 0 stands for no noise
ENOUGH, DEGREES, VOXELS, SECONDS = 0.99, 1.0, 0.3, 60.0
LEAST = 19  # of 20
PART_DEGREES, PART_ANGSTROM = 2.0, 1.0
PART_RESOLUTION, PART_VOXEL, PART_FURTHEST = 10.0, 3.0, 60.0  # Å
SUBUNITS = 16  # of Mm-cpn
NEARBY = 30.0, 20.0  # degrees and Å
CUT = 6.0  # Å around its atoms: the density that is cut out as the part
COLUMNS = (
    "study",
    "map",
    "snr",
    "motion",
    "angle",
    "shift_voxels",
    "correlation",
    "share_of_optimum",
    "degrees_off",
)
COLUMNS += ("voxels_off", "angstrom_off", "runner_up", "seconds")


def main(options: ShardOptions) -> None:
    """Align maps after known motions."""
    maps, motions = (QUICK_MAPS, QUICK_MOTIONS) if options.quick else (MAPS, MOTIONS)
    cases = at_hand([entry.case for entry in maps])
    titles = [entry.title for entry in maps if entry.case in cases]
    parts = QUICK_PARTS if options.quick else PARTS
    points_of_maps = grid(study=["alignment"], map=titles, snr=SNR, motion=range(motions))
    named = [part.title for part in parts if not missing_files(part.case)]
    points_of_parts = grid(study=["part"], map=named, snr=SNR, motion=range(motions))
    points_nearby = grid(study=["part nearby"], map=named, snr=[0.0], motion=range(motions))
    sweep = Sweep(options.output, [*points_of_maps, *points_of_parts, *points_nearby], COLUMNS)
    if sweep.missing() and not options.quick:
        align_maps(volume_of(titles[0]), volume_of(titles[0]))  # compiled before anything is timed
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(alignment_figure(rows), options.output / "alignment.png")
        conclude(options.output, claims(rows))


def entry_of(title: str) -> Map:
    return next(entry for entry in (*MAPS, *QUICK_MAPS) if entry.title == title)


@cache
def volume_of(title: str) -> Volume:
    """The map before any motion."""
    entry = entry_of(title)
    case = build_case(entry.case)
    return case.last if entry.last else case.first


def measure(point: Point) -> Outcome:
    if point["study"] != "alignment":
        nearby = point["study"] == "part nearby"
        return Outcome([laid(placed(point["map"]), point["motion"], point["snr"], nearby=nearby)])
    return Outcome([aligned(volume_of(point["map"]), point["motion"], point["snr"])])


def aligned(volume: Volume, seed: int, snr: float) -> Row:
    """Move a map by a random motion, align it, and measure the errors."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    shift = direction / np.linalg.norm(direction) * rng.uniform(0.0, FURTHEST) * volume.voxel_size[0]
    centre = centre_of_mass(volume)
    turn = Rotation.random(random_state=seed).as_matrix()
    true = Pose(turn, centre + shift - turn @ centre)
    moved = resample_onto(volume, volume, true)
    started = time.perf_counter()
    alignment = align_maps(*(noisy(clean, snr, rng) for clean in (moved, volume)))
    seconds = time.perf_counter() - started
    optimum, reached = (
        float(metrics.correlation(resample_onto(moved, volume, pose).data, volume.data))
        for pose in (true.inverse(), alignment.pose)
    )
    error = alignment.pose.after(true)  # the identity if the motion was found
    return {
        "angle": true.degrees,
        "shift_voxels": float(np.linalg.norm(shift)) / volume.voxel_size[0],
        "correlation": reached,
        "share_of_optimum": reached / optimum,
        "degrees_off": error.degrees,
        "voxels_off": float(np.linalg.norm(error.carried(centre) - centre)) / volume.voxel_size[0],
        "seconds": seconds,
    }


@cache
def placed(title: str) -> Placed:
    return next(part for part in (*PARTS, *QUICK_PARTS) if part.title == title).build()


def laid(case: Placed, seed: int, snr: float, *, nearby: bool) -> Row:
    """Move a part by a random motion, lay it into its complex, and measure the errors.

    ``nearby``: by a small motion, and without a search.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    turn, shift = Rotation.random(random_state=seed).as_matrix(), direction * rng.uniform(0.0, PART_FURTHEST)
    if nearby:
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(NEARBY[0]) * axis / np.linalg.norm(axis)).as_matrix()
        shift = direction * NEARBY[1]
    true = Pose(turn, case.centre + shift - turn @ case.centre)
    part, whole = noisy(case.moved(true), snr, rng), noisy(case.whole, snr, rng)
    started = time.perf_counter()
    fit = fit_part(part, whole, local=nearby)
    seconds = time.perf_counter() - started
    total = fit.pose.after(true)
    end = total.carried(case.centre)
    off = [(np.linalg.norm(end - right.carried(case.centre)), right) for right in case.right]
    angstrom, nearest = min(off, key=lambda entry: entry[0])
    return {
        "angle": true.degrees,
        "correlation": fit.correlation,
        "degrees_off": total.after(nearest.inverse()).degrees,
        "angstrom_off": float(angstrom),
        "runner_up": fit.runner_up.correlation if fit.runner_up else None,
        "seconds": seconds,
    }


def from_atoms(whole: Volume, positions: np.ndarray, right: Sequence[Pose]) -> Placed:
    """A part that is simulated from its atoms in a box of its own, with other voxels than the complex."""

    def moved(pose: Pose) -> Volume:
        atoms = equal_atoms(pose.carried(positions))
        box = choose_box(atoms, resolution=PART_RESOLUTION, apix=PART_VOXEL)
        return simulate_density(atoms, **vars(box), resolution=PART_RESOLUTION)

    return Placed(whole, moved, positions.mean(axis=0), tuple(right))


def cut_out(source: Volume, whole: Volume, positions: np.ndarray, right: Sequence[Pose]) -> Placed:
    """A part that is cut out of a map, around its atoms, into a box of its own."""
    places = places_of(source, np.argwhere(np.ones(source.shape, bool)))
    near = cKDTree(positions).query(places, distance_upper_bound=CUT)[0] < CUT
    part = source.with_data(np.where(near.reshape(source.shape), source.data, 0.0).astype(np.float32))

    def moved(pose: Pose) -> Volume:
        box = choose_box(equal_atoms(pose.carried(positions)), resolution=PART_RESOLUTION, apix=PART_VOXEL)
        return resample_onto(part, box, pose)

    return Placed(whole, moved, positions.mean(axis=0), tuple(right))


def spike_models() -> tuple[dict[str, np.ndarray], dict[str, Volume]]:
    """Atoms and maps of the spike, closed and with one domain up, at the resolution of the parts."""
    with np.load(DATA / "spike_ca.npz") as file:
        atoms = {name: file[name] for name in ("closed", "open", "chain", "rbd")}
    models = {state: equal_atoms(atoms[state]) for state in ("closed", "open")}
    box = box_around(tuple(models.values()), PART_RESOLUTION * WIDTH_PER_RESOLUTION, SPIKE_VOXEL)
    maps = {
        state: simulate_density(model, **vars(box), resolution=PART_RESOLUTION) for state, model in models.items()
    }
    return atoms, maps


def domain_up() -> Placed:
    """The domain that is up, from atoms: no other domain of the map is in its state."""
    atoms, maps = spike_models()
    return from_atoms(maps["open"], atoms["open"][(atoms["chain"] == 1) & atoms["rbd"]], [IDENTITY])


def domain_cut() -> Placed:
    """A domain cut out of the closed spike, into the spike with one domain up: each of its domains is right."""
    atoms, maps = spike_models()
    closed, opened, chain, rbd = (atoms[name] for name in ("closed", "open", "chain", "rbd"))
    third = Pose.fitted(closed[chain == 0], closed[chain == 2])  # chain 1 lacks a loop
    part = closed[(chain == 1) & rbd]
    right = []
    for turn in (IDENTITY, third, third.inverse()):
        middles = [closed[(chain == k) & rbd].mean(axis=0) for k in range(3)]
        own = int(np.argmin([np.linalg.norm(turn.carried(part).mean(axis=0) - middle) for middle in middles]))
        inside = (chain == own) & rbd
        right.append(Pose.fitted(closed[inside], opened[inside]).after(turn))
    return cut_out(maps["closed"], maps["open"], part, right)


def subunit_real() -> Placed:
    """A subunit of open Mm-cpn into the real map, where all sixteen are equal."""
    with np.load(DATA / "mmcpn_ca.npz") as file:
        opened, chain = file["open"].astype(np.float64), file["chain"]
    return subunit_of(build_case("mmcpn-real").last, opened.reshape(int(chain.max()) + 1, -1, 3))


def subunit_sample() -> Placed:
    opened = sample_atoms("mmcpn-open").positions
    return subunit_of(build_case("mmcpn-sample").first, opened.reshape(SUBUNITS, -1, 3))


def subunit_of(whole: Volume, subunits: np.ndarray) -> Placed:
    """A subunit from atoms. Where a map prefers another place than its model does, the map's own one is right.

    It is the end of the climb from where the model lies: in the real map 2.1 degrees and 0.5 Å away.
    """
    copies = [Pose.fitted(subunits[0], one) for one in subunits]
    modelled = from_atoms(whole, subunits[0], copies)
    home = fit_part(modelled.moved(IDENTITY), whole, local=True).pose
    return replace(modelled, right=tuple(copy.after(home) for copy in copies))


PARTS = (
    Part("domain of the spike that is up, from atoms", "spike", domain_up),
    Part("domain cut from the closed spike, into the other", "spike", domain_cut),
    Part("subunit of Mm-cpn, from atoms, real map", "mmcpn-real", subunit_real),
)
QUICK_PARTS = (Part("subunit of Mm-cpn, sample", "mmcpn-sample", subunit_sample),)


def centre_of_mass(volume: Volume) -> np.ndarray:
    places = np.argwhere(volume.data > 0)
    return np.average(places_of(volume, places), axis=0, weights=volume.data[tuple(places.T)])


def noisy(volume: Volume, snr: float, rng: np.random.Generator) -> Volume:
    """Add white noise whose variance is that of the map over the box, divided by ``snr``."""
    if snr == 0:
        return volume
    noise = rng.normal(scale=volume.data.std() / np.sqrt(snr), size=volume.shape)
    return volume.with_data((volume.data + noise).astype(np.float32))


def claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each map and noise level, and one for the time."""
    tested = []
    for title in dict.fromkeys(row["map"] for row in where(rows, {"study": "alignment"})):
        for snr in SNR:
            own = where(rows, {"map": title, "snr": snr})
            tested.append(_claim(own, entry_of(title), snr))
    names = "study", "map", "snr"
    kinds = dict.fromkeys(tuple(row[name] for name in names) for row in rows if row["study"] != "alignment")
    tested += [_part_claim(where(rows, dict(zip(names, kind, strict=True)))) for kind in kinds]
    slowest = max(float(row["seconds"]) for row in rows)
    text = f"each alignment takes less than {SECONDS:g} s"
    tested.append(Claim(text, GOAL, f"< {SECONDS:g} s", f"{slowest:.1f} s at most", slowest < SECONDS))
    return tested


def _claim(rows: Sequence[Row], entry: Map, snr: float) -> Claim:
    good = [row for row in rows if recovered(row, entry)]
    least = -(-LEAST * len(rows) // 20)
    noise = "without noise" if snr == 0 else f"with noise, SNR {snr:g}"
    what = f"correlation at least {ENOUGH:g} of the optimum"
    if not entry.symmetric:
        what += f", within {DEGREES:g} degree and {VOXELS:g} voxel"
    worst = min(float(row["share_of_optimum"]) for row in rows)
    measured = f"{len(good)} of {len(rows)}; least share of the optimum {worst:.5f}"
    if not entry.symmetric:
        off = [max(float(row[name]) for row in rows) for name in ("degrees_off", "voxels_off")]
        measured += f", at most {off[0]:.2f} degrees and {off[1]:.2f} voxels off"
    text = f"{entry.title}, {noise}: motions are found again ({what})"
    return Claim(text, GOAL, f"{least} of {len(rows)} or more", measured, len(good) >= least)


def _part_claim(rows: Sequence[Row]) -> Claim:
    off = np.array([(float(row["degrees_off"]), float(row["angstrom_off"])) for row in rows])
    found = int(np.all(off <= (PART_DEGREES, PART_ANGSTROM), axis=1).sum())
    least = -(-LEAST * len(rows) // 20)
    degrees, angstrom = np.median(off, axis=0)
    measured = f"{found} of {len(rows)}; median {degrees:.2f} degrees and {angstrom:.2f} Å off"
    limits = f"within {PART_DEGREES:g} degrees and {PART_ANGSTROM:g} Å"
    title, study, snr = (rows[0][name] for name in ("map", "study", "snr"))
    noise = "without noise" if snr == 0 else f"with noise, SNR {snr:g}"
    how = noise if study == "part" else f"from {NEARBY[0]:g} degrees and {NEARBY[1]:g} Å away, without a search"
    text = f"{title}, {how}: the part is laid into the complex {limits}"
    return Claim(text, GOAL, f"{least} of {len(rows)} or more", measured, found >= least)


def recovered(row: Row, entry: Map) -> bool:
    near = float(row["degrees_off"]) <= DEGREES and float(row["voxels_off"]) <= VOXELS
    return float(row["share_of_optimum"]) >= ENOUGH and (entry.symmetric or near)


def alignment_figure(rows: Sequence[Row]) -> Figure:
    """Errors of the rotation and of the shift against the angle; only maps without symmetry have them."""
    figure, axes = figures.panels(1, 2, size=(3.6, 2.9))
    rows = where(rows, {"study": "alignment"})
    titles = [title for title in dict.fromkeys(row["map"] for row in rows) if not entry_of(title).symmetric]
    for panel, name, label, limit in zip(
        axes[0],
        ("degrees_off", "voxels_off"),
        ("error of the rotation (degrees)", "error of the shift (voxels)"),
        (DEGREES, VOXELS),
        strict=True,
    ):
        for k, title in enumerate(titles):
            for snr, face in zip(SNR, (COLOURS[k], "none"), strict=True):
                own = where(rows, {"map": title, "snr": snr})
                words = title if snr == 0 else f"{title}, SNR {snr:g}"
                x, y = ([float(row[key]) for row in own] for key in ("angle", name))
                panel.semilogy(x, y, MARKERS[k], color=COLOURS[k], markerfacecolor=face, label=words)
        panel.axhline(limit, color="black", linewidth=0.8, linestyle=":")
        panel.set_xlabel("angle of the motion (degrees)")
        panel.set_ylabel(label)
    figures.legend_below(figure, axes[0][0], ncols=4, fontsize=8, handlelength=1.0)
    figures.letter(axes[0])
    return figure


if __name__ == "__main__":
    command(main)()

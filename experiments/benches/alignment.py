"""Does the alignment find known rigid motions again?

    python -m experiments.benches.alignment -o OUT

Maps of adenylate kinase, of the spike with one domain up and of Mm-cpn (real) are turned and shifted at random,
by up to 180 degrees and up to 10 voxels. They are then aligned to the original map, without noise, and with white
noise in both maps whose variance is that of the map (SNR 1). The criterion is the correlation of the maps without
noise at the motion found, relative to that at the true motion; for maps without symmetry also the error of the
motion.

OUT holds ``results.csv`` (a row for each alignment), ``alignment.png``, ``claims.json``. Half an hour in full on 2
cores.
"""

import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from experiments import figures, points
from experiments.cases import at_hand, build_case
from experiments.claims import GOAL, Claim, conclude
from experiments.figures import COLOURS, MARKERS
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Volume, metrics
from morphot_jax.maps.pose import Pose
from morphot_jax.maps.resample import places_of, resample_onto
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
MOTIONS, QUICK_MOTIONS = 20, 1
FURTHEST = 10.0  # voxels
SNR = (0.0, 1.0)  # ratio of variances; 0 stands for no noise
ENOUGH, DEGREES, VOXELS, SECONDS = 0.99, 1.0, 0.3, 60.0
LEAST = 19  # of 20
COLUMNS = ("map", "snr", "motion", "angle", "shift_voxels", "correlation", "share_of_optimum", "degrees_off")
COLUMNS += ("voxels_off", "seconds")


def main(options: ShardOptions) -> None:
    """Align maps after known motions."""
    maps, motions = (QUICK_MAPS, QUICK_MOTIONS) if options.quick else (MAPS, MOTIONS)
    cases = at_hand([entry.case for entry in maps])
    titles = [entry.title for entry in maps if entry.case in cases]
    sweep = Sweep(options.output, grid(study=["alignment"], map=titles, snr=SNR, motion=range(motions)), COLUMNS)
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
    for title in dict.fromkeys(row["map"] for row in rows):
        for snr in SNR:
            own = where(rows, {"map": title, "snr": snr})
            tested.append(_claim(own, entry_of(title), snr))
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


def recovered(row: Row, entry: Map) -> bool:
    near = float(row["degrees_off"]) <= DEGREES and float(row["voxels_off"]) <= VOXELS
    return float(row["share_of_optimum"]) >= ENOUGH and (entry.symmetric or near)


def alignment_figure(rows: Sequence[Row]) -> Figure:
    """Errors of the rotation and of the shift against the angle; only maps without symmetry have them."""
    figure, axes = figures.panels(1, 2, size=(3.6, 2.9))
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

"""Does the mass go where the atoms go? Atoms carried by the method 'rigid', against where they truly are.

    python -m experiments.benches.ways -o OUT [--cases adk-screw,spike]

A frame may look right though its mass went a wrong way: mass slides along a body and fills the right places. So
the atoms of the first map are moved with the density around them (``carried_points``), without bodies and with
those that are found from the maps, and compared with the atoms of the structural morph. Their distances at the
end are also compared with how far the motions are doubted there (``Trajectory.doubts``).

OUT holds ``results.csv`` (a row for each case, with and without bodies: root mean square distances in Å half way
and at the end, also of the atoms of so much doubt; the rank correlation of doubt and distance; how far the atoms
move, the frames' differences, the turn and shift of each body that was found), ``ways.png``, ``half_way.png``
(surfaces and slices half way: the truth, the linear blend, displacement, rigid without and with bodies) and
``claims.json``. About 10 minutes in full on 2 cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments import figures, points
from experiments.cases import GRID, Case, at_hand, build_case
from experiments.claims import GOAL, Claim, conclude
from experiments.measures import measures
from experiments.methods import settings_for
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Settings, Volume, morph, prepare_maps
from morphot_jax.maps.resample import indices_of
from morphot_jax.maps.window import bounding_box
from morphot_jax.morphing.rigid import carried_points
from morphot_jax.prepare.levels import level_of_volume
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.show.render import VIEWS, Camera, surface_picture
from morphot_jax.show.scene import scene_of

CASES = ("adk-screw", "adk-hinge", "adk-linear", "adk-recorded", "spliceosome", "spike", "ring-twist", "adk-ring")
QUICK_CASES = ("adk-sample",)
BODIES = ("none", "auto")
FRAMES = 5  # compared in each case
DIFFERENCES = ("relative_rms", "voxel_difference_1")
DOUBTS = {
    "doubt_below_1": (0.0, 1.0),
    "doubt_1_to_2": (1.0, 2.0),
    "doubt_2_to_4": (2.0, 4.0),
    "doubt_above_4": (4.0, 1e9),
}
COLUMNS = ("case", "bodies", "half_way", "moved_half_way", "end", "moved", "doubt_rank", *DOUBTS, *DIFFERENCES)
COLUMNS += ("found", "seconds")
FEWEST = 10  # atoms, of which a root mean square is given
HALF = 0.5
SHOWN = ("adk-screw", "adk-hinge", "spliceosome", "adk-sample")  # cases in the picture, where they were computed
TRUTH, WITH_BODIES = "truth", "rigid, bodies auto"
BESIDE = ("linear", "displacement")  # methods in the picture beside rigid
EMPTY = 0.02  # of the truth's maximum: slices end where there is less
SURFACE = 0.15  # of the truth's maximum; other surfaces enclose the same volume
PIXELS = 300


@dataclass(frozen=True)
class WayOptions(ShardOptions):
    """Options of this bench."""

    cases: Annotated[str, typer.Option(help="The cases, separated by commas; all by default.")] = ",".join(CASES)


def main(options: WayOptions) -> None:
    """Carry the atoms of every case."""
    names = QUICK_CASES if options.quick else tuple(options.cases.split(","))
    sweep = Sweep(options.output, grid(study=["ways"], case=at_hand(names), bodies=BODIES), COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(ways_figure(rows), options.output / "ways.png")
            figures.save(half_way_figure(sweep), options.output / "half_way.png")
        conclude(options.output, claims(rows))


def measure(point: Point) -> Outcome:
    """Morph one case, and carry its atoms."""
    case = build_case(point["case"])
    assert case.path is not None  # every case of this bench is one of atoms
    maps = prepare_maps([case.first, case.last])
    times = case.times[1 :: max(1, len(case.times) // FRAMES)]
    settings = Settings(method="rigid", sigma=GRID / 60)
    shown = tuple(sorted({*times, HALF}))
    found = morph(maps, replace(settings, times=shown, bodies=point["bodies"]))
    frames = dict(zip(shown, found.densities, strict=True))
    start = case.path(0.0).positions
    ways = carried_points(start, found.motions[0], *maps.volumes, np.array([HALF, 1.0]), found.plan)
    true = [case.path(t).positions for t in (HALF, 1.0)]
    compared = [measures(unit_mass(frames[t]), case.reference(t)) for t in times]
    row: dict[str, Any] = {name: float(np.mean([one[name] for one in compared])) for name in DIFFERENCES}
    for name, places, right in zip(("half_way", "end"), ways, true, strict=True):
        row[name] = rms(places - right)
    row |= by_doubt(found.doubts[0][0], start, np.linalg.norm(ways[1] - true[1], axis=1))
    row |= {"moved_half_way": rms(start - true[0]), "moved": rms(start - true[1])}
    bodies = found.bodies[0] if found.bodies else ()
    row["found"] = " ".join(f"{body.pose.degrees:.1f}°/{body.shift:.1f}" for body in bodies)
    row["seconds"] = found.clock.solve + found.clock.compile
    if point["bodies"] != "none":
        return Outcome([row], {WITH_BODIES: frames[HALF]})
    return Outcome([row], {"rigid": frames[HALF]} | beside(case, maps, settings))


def beside(case: Case, maps: Prepared, settings: Settings) -> dict[str, np.ndarray]:
    """Densities half way of the truth and of other methods."""
    at = replace(settings, times=(HALF,))
    made = {name: morph(maps, settings_for(name, at)).densities[0] for name in BESIDE}
    return {TRUTH: case.reference(HALF).astype(np.float32)} | made


def by_doubt(doubts: Volume, start: np.ndarray, distances: np.ndarray) -> dict[str, float | str]:
    """Root mean square distances of atoms by the doubt where they start, and the rank correlation of the two."""
    nearest = np.rint(indices_of(doubts, start)).astype(int)
    doubt = doubts.data[tuple(np.clip(nearest, 0, np.array(doubts.shape) - 1).T)]
    row: dict[str, float | str] = {"doubt_rank": float(spearmanr(doubt, distances).statistic)}
    for name, (least, most) in DOUBTS.items():
        some = distances[(doubt >= least) & (doubt < most)]
        row[name] = float(np.sqrt((some**2).mean())) if len(some) >= FEWEST else ""
    return row


def rms(ways: np.ndarray) -> float:
    """Root mean square length."""
    return float(np.sqrt((ways**2).sum(axis=1).mean()))


def claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each case: the bodies that are found bring the atoms nearer to where they are."""
    made = []
    for case in dict.fromkeys(row["case"] for row in rows):
        values = {row["bodies"]: float(row["half_way"]) for row in where(rows, {"case": case})}
        measured = f"{values['auto']:.2f} Å with bodies, {values['none']:.2f} Å without, half way"
        text = f"{case}: bodies found from the maps bring atoms nearer to their true places"
        made.append(Claim(text, GOAL, "a smaller distance", measured, values["auto"] <= values["none"]))
    return made


def ways_figure(rows: Sequence[Row]) -> Figure:
    """For each case how far the atoms are from their true places half way, and how far they have moved."""
    names = list(dict.fromkeys(row["case"] for row in rows))
    figure, axes = figures.panels(1, 1, size=(7.0, 3.4))
    panel, places = axes[0, 0], np.arange(len(names))
    bars = (
        (-0.27, "moved_half_way", "none", "how far they move"),
        (0.0, "half_way", "none", "distance, rigid"),
        (0.27, "half_way", "auto", "distance, rigid with bodies"),
    )
    for shift, column, bodies, label in bars:
        heights = [float(where(rows, {"case": name, "bodies": bodies})[0][column]) for name in names]
        panel.bar(places + shift, heights, 0.25, label=label)
    panel.set_xticks(places, names, rotation=20, ha="right")
    panel.set_ylabel("Å at t = 0.5")
    panel.legend(frameon=False)
    return figure


def half_way_figure(sweep: Sweep) -> Figure:
    """Surfaces, and slices through the middle, half way: a pair of rows for each case."""
    cases = [name for name in SHOWN if any(point["case"] == name for point in sweep.points.values())]
    columns = (TRUTH, *BESIDE, "rigid", WITH_BODIES)
    figure, axes = figures.panels(2 * len(cases), len(columns), size=(1.6, 1.6))
    for number, name in enumerate(cases):
        points_of_case = [point for point in sweep.points.values() if point["case"] == name]
        densities = {key: data for point in points_of_case for key, data in sweep.arrays(point).items()}
        truth = densities[TRUTH]
        volume = int((truth > SURFACE * truth.max()).sum())
        stack = np.stack([unit_mass(densities[column]).astype(np.float32) for column in columns])
        levels = np.array([level_of_volume(density, volume) for density in stack])
        scene = scene_of(stack, np.full(len(stack), HALF), levels, build_case(name).first)
        camera = Camera.on(scene, VIEWS["tilted"], PIXELS)
        middle, top = int(np.argmax(stack[0].sum(axis=(1, 2)))), stack[0].max()
        _, rows, cut = bounding_box(truth > EMPTY * truth.max())
        for index, (above, below) in enumerate(zip(axes[2 * number], axes[2 * number + 1], strict=True)):
            above.imshow(surface_picture(scene, index, camera))
            below.imshow(stack[index, middle, rows, cut], origin="lower", cmap="gray_r", vmin=0, vmax=top)
        axes[2 * number, 0].set_ylabel(name)
    for panel, column in zip(axes[0], columns, strict=True):
        panel.set_title(column)
    for panel in axes.flat:
        figures.bare(panel)
    return figure


if __name__ == "__main__":
    command(main)()

"""What do the methods make of pairs whose answer is known exactly: a map and itself, and a map and its shift?

    python -m experiments.benches.nulls -o OUT

A body of 24 Gaussian beads in a box of 48^3 voxels is morphed into itself, into itself moved by 4 voxels, and into
itself moved by half the box. Half way the answer is the body, moved by half of the shift.

OUT holds ``results.csv`` (a row for each pair and method), ``nulls.png`` (a slice of each frame), ``claims.json``.
About a minute in full on 2 cores.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments import figures, points
from experiments.claims import GOAL, Claim, conclude
from experiments.methods import METHODS, frames_of
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Settings, Volume, metrics, prepare_maps
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point

EDGE, BEADS, RADIUS, WIDTH = 48, 24, 5.0, 1.5  # voxels
SHIFTS = {"the same map": 0.0, "moved by 4 voxels": 4.0, "moved by half the box": EDGE / 2}
QUADRATIC = "displacement, kernel dense"  # whose cost is |x - y|^2 / 2 at every distance
ALL_METHODS = (*METHODS, QUADRATIC)
QUICK_PAIRS = tuple(SHIFTS)[1:2]
QUICK_METHODS = ("linear", "displacement")
COLUMNS = ("pair", "method", "relative_rms", "maximum", "status", "iterations")
EXACT = 1e-4  # relative rms of an answer that is right but for the tolerance of a solve
HALF = 0.5


def main(options: ShardOptions) -> None:
    """Morph the pairs by every method."""
    pairs, methods = (QUICK_PAIRS, QUICK_METHODS) if options.quick else (tuple(SHIFTS), ALL_METHODS)
    sweep = Sweep(options.output, grid(study=["nulls"], pair=pairs, method=methods), COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(nulls_figure(pairs, methods), options.output / "nulls.png")
        conclude(options.output, claims(rows))


def body(shift: float) -> Float[np.ndarray, "z y x"]:
    """The beads, moved along x from where a morph over half the box begins; in closed form."""
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(BEADS, 3))
    lengths = RADIUS * rng.random(BEADS) ** (1 / 3)
    places = directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths[:, None]
    middle = (EDGE - 1) / 2
    z, y, x = np.meshgrid(*(np.arange(EDGE) - middle for _ in range(3)), indexing="ij")
    x = x + EDGE / 4 - shift
    return sum(np.exp(-((z - c) ** 2 + (y - b) ** 2 + (x - a) ** 2) / (2 * WIDTH**2)) for a, b, c in places)


@cache
def half_way(pair: str, method: str) -> tuple[Float[np.ndarray, "z y x"], str, int]:
    """The frame at t = 1/2 at unit mass, with the status and the iterations of its solve."""
    maps = prepare_maps([Volume(body(shift).astype(np.float32), (1.0,) * 3) for shift in (0.0, SHIFTS[pair])])
    name, _, kernel = method.partition(", kernel ")
    found = frames_of(name, maps, (HALF,), Settings(sigma=EDGE / 60, kernel=kernel or "auto"))
    return found.densities[0], found.status, found.iterations


def measure(point: Point) -> Outcome:
    """Compare the frame half way with the body there."""
    frame, status, iterations = half_way(point["pair"], point["method"])
    answer = unit_mass(body(HALF * SHIFTS[point["pair"]]))
    row = {
        "relative_rms": float(metrics.relative_rms(frame, answer)),
        "maximum": float(frame.max() / answer.max()),
        "status": status,
        "iterations": iterations,
    }
    return Outcome([row])


def claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each method: both null tests are passed exactly."""
    tested = []
    for method in dict.fromkeys(row["method"] for row in rows):
        values = {row["pair"]: float(row["relative_rms"]) for row in where(rows, {"method": method})}
        measured = ", ".join(f"{pair} {value:.1%}" for pair, value in values.items())
        text = f"{method}: equal maps stay, and a shift is a shift, half way"
        tested.append(Claim(text, GOAL, f"relative rms below {EXACT:g}", measured, max(values.values()) < EXACT))
    return tested


def nulls_figure(pairs: Sequence[str], methods: Sequence[str]) -> Figure:
    """Slices through the frames half way: a row for each pair, the answer first."""
    figure, axes = figures.panels(len(pairs), 1 + len(methods), size=(1.5, 1.6))
    for row, pair in zip(axes, pairs, strict=True):
        pictures = [unit_mass(body(HALF * SHIFTS[pair])), *(half_way(pair, method)[0] for method in methods)]
        for panel, picture in zip(row, pictures, strict=True):
            panel.imshow(picture[EDGE // 2], cmap="Greys", vmin=0, vmax=pictures[0].max(), origin="lower")
            figures.bare(panel, framed=True)
        row[0].set_ylabel(pair)
    for panel, name in zip(axes[0], ("answer", *methods), strict=True):
        panel.set_title(name.replace(", ", "\n"))
    return figure


if __name__ == "__main__":
    command(main)()

"""Time to a given marginal error, side by side in one run: this package and the original's algorithm in SciPy.

    python -m experiments.bench_solver -o OUT [--quick] [--maps A B] [--frames 25] [--repeats 3]

OUT gets ``results.csv`` (a row for each method and box), ``claims.json`` and a table on the terminal. Times are
medians of runs after compilation; every ratio is to the original at its default 20 iterations a frame, in the same
run, whose time for all frames is that of a few frames times their share. Errors are by the package's definition,
those of the original at its last iterate. About 6 minutes in full on 2 cores at 64^3 and 128^3, under 1 with
``--quick``.
"""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from experiments.cases import DATA, ORIGINAL_ITERATIONS, original_barycenter
from morphot_jax import Settings, morph, prepare_maps, read_volume
from morphot_jax.prepare import Prepared, unit_mass
from morphot_jax.samples import sample_volume

SAMPLED_FRAMES = 5  # frames of the original that are timed
SOURCE = "goal of this package, not of the paper"


@dataclass(frozen=True)
class Row:
    """One method on one box; ``ratio`` is the original's time over this one's."""

    method: str
    grid: int
    frames: int
    seconds: float
    ratio: float
    iterations: int
    marginal_error: float


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    maps: Annotated[
        tuple[str, str] | None, typer.Option(help="Two maps. [the real Mm-cpn pair, or the sample]")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of a trajectory.")] = 25,
    repeats: Annotated[int, typer.Option(help="Runs after compilation; their median counts.")] = 3,
    quick: Annotated[bool, typer.Option(help="64^3 only, one repeat, no barycenters.")] = False,
) -> None:
    """Run the bench and write its results."""
    rows: list[Row] = []
    for grid in (64,) if quick else (64, 128):
        pair = _pair(maps, grid)
        rows += bench(pair, grid, frames, 1 if quick else repeats, barycenters=not quick and grid == 64)
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "results.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (output / "claims.json").write_text(json.dumps(claims(rows), indent=2) + "\n", encoding="utf-8")
    _show(rows)


def bench(pair: Prepared, grid: int, frames: int, repeats: int, *, barycenters: bool) -> list[Row]:
    """Every method on one pair of maps."""
    sigma = grid / 60
    original, error = time_original(pair, sigma, frames, repeats)
    rows = [Row("original, 20 iterations", grid, frames, original, 1.0, ORIGINAL_ITERATIONS, error)]
    for method in ("bridge", "displacement", *(["barycenter"] if barycenters else [])):
        settings = Settings(method=method, frames=frames, sigma=sigma, tolerance=1e-6)
        found = morph(pair, settings)  # compiles
        once = 1 if method == "barycenter" else repeats
        seconds = median_seconds(lambda settings=settings: morph(pair, settings), once)
        solved = [frame for frame in found.frames if frame.marginal_error is not None]
        worst = max(frame.marginal_error or 0.0 for frame in solved)
        most = max(frame.iterations for frame in solved)
        rows.append(Row(method, grid, frames, seconds, original / seconds, most, worst))
    return rows


def time_original(pair: Prepared, sigma: float, frames: int, repeats: int) -> tuple[float, float]:
    """Seconds for all frames, and the worst marginal error of those that were timed."""
    maps = np.stack([unit_mass(volume.data) for volume in pair.volumes])
    times = np.linspace(0, 1, SAMPLED_FRAMES)
    errors = [original_barycenter(maps, (1 - t, t), sigma)[1] for t in times]
    seconds = median_seconds(lambda: [original_barycenter(maps, (1 - t, t), sigma) for t in times], repeats)
    return seconds * frames / SAMPLED_FRAMES, max(errors)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Wall time of the work, the median of several runs."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def claims(rows: list[Row]) -> list[dict]:
    """What the bench is to show at 64^3."""
    ratios = {row.method: row.ratio for row in rows if row.grid == 64}
    found = []
    for method, least in (("bridge", 40.0), ("displacement", 25.0), ("barycenter", 2.0)):
        if method in ratios:
            found.append(
                {
                    "claim": f"{method}, 25 frames at 1e-6: times faster than the original's 20 iterations",
                    "source": SOURCE,
                    "expected": f">= {least:g}",
                    "measured": round(ratios[method], 1),
                    "holds": ratios[method] >= least,
                }
            )
    return found


def _pair(maps: tuple[str, str] | None, grid: int) -> Prepared:
    real = [DATA / f"mmcpn_{state}_64.mrc" for state in ("closed", "open")]
    if maps is not None:
        volumes = [read_volume(name) for name in maps]
    elif real[0].is_file():
        volumes = [read_volume(path) for path in real]
    else:
        volumes = [sample_volume(f"mmcpn-{state}") for state in ("closed", "open")]
    return prepare_maps(volumes, grid=None if grid == volumes[0].shape[0] else grid)


def _show(rows: list[Row]) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("method", "grid", "seconds", "times faster", "iterations", "marginal error"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(
            row.method,
            f"{row.grid}^3",
            f"{row.seconds:.3g}",
            f"{row.ratio:.1f}",
            str(row.iterations),
            f"{row.marginal_error:.1e}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)

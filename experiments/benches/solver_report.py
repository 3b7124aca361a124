"""What the tables of the bench show: claims, a figure, and lines for the terminal."""

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments.benches.roofline import CONVOLUTION, FRAME, MATMUL, SOUND, TRIAD
from experiments.solves import PEERS
from experiments.study import GOAL, Claim
from morphot_jax.runs.sweep import Row

HEADLINE = "64^3"
FASTER = (("bridge", 40.0), ("displacement", 25.0), ("barycenter", 2.0))
FASTER_THAN_OTT = 5.0
AGREEING = 1e-6

PLAIN_WIDTH = 120  # of tables that are not shown on a terminal

LOOKS = {"bridge": ("#0072B2", "-", "o"), "barycenter": ("#D55E00", "--", "^")}  # Okabe and Ito's colours
SWEEPS = {"grid": "voxels along an axis", "frames": "frames", "sigma": "sigma (voxels)"}


def claims(results: list[Row], kernels: list[Row]) -> list[Claim]:
    """What the bench is to show at 64^3, for each pair of maps and number of frames, and how kernels agree."""
    found = []
    sound = [row for row in results if row["grid"] == HEADLINE]
    for maps, frames in dict.fromkeys((row["maps"], row["frames"]) for row in sound):
        rows = [row for row in sound if (row["maps"], row["frames"]) == (maps, frames)]
        case = f"{frames} frames at {HEADLINE} to 1e-6, {maps}"
        found += [_faster(rows, method, least, case) for method, least in FASTER]
        found.append(_faster_than_ott(rows, case))
    found.append(_agreement(kernels))
    return [claim for claim in found if claim is not None]


def _own(rows: list[Row], method: str) -> Row | None:
    """The package's fastest row in double precision, of all frames."""
    found = [
        row
        for row in rows
        if (row["implementation"], row["method"], row["precision"]) == ("morphot_jax", method, "double")
        and row["timed_frames"] == row["frames"]
    ]
    return min(found, key=lambda row: float(row["seconds"]), default=None)


def _faster(rows: list[Row], method: str, least: float, case: str) -> Claim | None:
    row = _own(rows, method)
    if row is None or not row["ratio"]:
        return None
    ratio = float(row["ratio"])
    return Claim(
        f"{method}, {case}: times faster than the original's 20 iterations a frame",
        GOAL,
        f">= {least:g}",
        f"{ratio:.1f}, {row['status']}",
        ratio >= least and row["status"] == "converged",
    )


def _faster_than_ott(rows: list[Row], case: str) -> Claim | None:
    own = _own(rows, "barycenter")
    others = [row for row in rows if (row["implementation"], row["kernel"]) == ("OTT-JAX", "dense")]
    if own is None or not others:
        return None
    ratio = float(others[0]["seconds"]) / float(own["seconds"])
    measured = f"{ratio:.1f}"
    if others[0]["status"] != "converged":
        measured = (
            f"> {measured}: OTT-JAX ended at {float(others[0]['marginal_error']):.1e}, {others[0]['status']}"
        )
    return Claim(
        f"barycenter, {case}: times faster than OTT-JAX in kernel mode to the same marginal error",
        GOAL,
        f">= {FASTER_THAN_OTT:g}",
        measured,
        ratio >= FASTER_THAN_OTT and own["status"] == "converged",
    )


def _agreement(kernels: list[Row]) -> Claim | None:
    frames = [row for row in kernels if row["what"].startswith(FRAME)]
    compared = [row for row in frames if row["status"] in SOUND and row["difference"] is not None]
    if not compared:
        return None
    worst = max(float(row["difference"]) for row in compared)
    unsound = [
        f"{row['kernel']} at {row['grid']} across {float(row['distance']):.1f} sigma {row['status']}"
        for row in frames
        if row not in compared
    ]
    return Claim(
        "barycenters by kernels of the same values agree: greatest relative L2 difference",
        GOAL,
        f"<= {AGREEING:g}",
        ", ".join([f"{worst:.1e}", *unsound]),
        worst <= AGREEING,
    )


def growth_figure(rows: list[Row]) -> Figure:
    """Seconds against each of what grows, on logarithmic axes; hollow where a solve did not converge."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(SWEEPS), sharey=True)
    for panel, (sweep, label) in zip(panels, SWEEPS.items(), strict=True):
        for method, (colour, dashes, marker) in LOOKS.items():
            values = curve(rows, sweep, method)
            if not values:
                continue
            x, seconds, converged = (np.array(column) for column in zip(*values, strict=True))
            name = method if len(x) < 2 else f"{method}, slope {slope(x, seconds):.1f}"
            panel.plot(x, seconds, color=colour, linestyle=dashes, label=name, linewidth=1.4)
            for chosen, face in ((converged, colour), (~converged, "white")):
                said = "not converged" if face == "white" and chosen.any() else None
                style = {"color": colour, "markerfacecolor": face, "markersize": 5, "label": said}
                panel.plot(x[chosen], seconds[chosen], marker, **style)
        panel.set_xscale("log")
        panel.set_yscale("log")
        _plain_ticks(panel, sorted({value for method in LOOKS for value, *_ in curve(rows, sweep, method)}))
        panel.set_xlabel(label)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("seconds for all frames")
    return figure


def curve(rows: list[Row], sweep: str, method: str) -> list[tuple[float, float, bool]]:
    """What grows, the seconds, and whether all converged, in order."""
    found = [row for row in rows if (row["sweep"], row["method"]) == (sweep, method) and row["seconds"]]
    return sorted(
        (float(row[sweep].partition("^")[0]), float(row["seconds"]), row["status"] == "converged") for row in found
    )


def slope(x: np.ndarray, seconds: np.ndarray) -> float:
    """The power of x that the seconds grow by."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def _plain_ticks(panel, values: list[float]) -> None:
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.set_xticks([], minor=True)


def show(tables: dict[str, list[Row]]) -> None:
    """Everything on the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    shown = {"results": _results, "kernels": _kernels, "roofline": _roofline}
    for name, render in shown.items():
        if tables.get(name):
            console.print(render(tables[name]))
    for sweep in SWEEPS if tables.get("growth") else ():
        for method in LOOKS:
            values = curve(tables["growth"], sweep, method)
            if len(values) > 1:
                x, seconds, _ = (np.array(column) for column in zip(*values, strict=True))
                print(f"{method}: seconds grow like {sweep}^{slope(x, seconds):.1f}")


def _table(rows: list[Row], columns: tuple[tuple[str, str, str], ...], words: tuple[str, ...]) -> Table:
    """Columns as (name in the file, title, format of the numbers)."""
    table = Table(box=None, header_style="bold")
    for name, title, _ in columns:
        table.add_column(title, justify="left" if name in words else "right", overflow="fold")
    for row in rows:
        values = [(row.get(name), form) for name, _, form in columns]
        table.add_row(*("" if value in (None, "") else f"{value:{form}}" for value, form in values))
    return table


def _results(rows: list[Row]) -> Table:
    columns = (
        ("method", "method", ""),
        ("implementation", "by", ""),
        ("kind", "kernel", ""),
        ("grid", "grid", ""),
        ("frames", "frames", ""),
        ("seconds", "seconds", ".3g"),
        ("ratio", "ratio", ".3g"),
        ("iterations", "iterations", ""),
        ("marginal_error", "error", ".1e"),
        ("gigabytes", "GB", ".2f"),
        ("status", "status", ""),
    )
    marked = []
    for row in rows:
        kind = row["kernel"] if row["precision"] == "double" else f"{row['kernel']}, {row['precision']}"
        marked.append(row | {"gigabytes": row["peak_memory_bytes"] / 1e9, "kind": kind})
        if row["implementation"] in PEERS and row["status"] != "converged" and row["seconds"]:
            marked[-1]["status"] += ", seconds are a lower bound"
    return _table(marked, columns, ("method", "implementation", "kind", "status"))


def _kernels(rows: list[Row]) -> Table:
    columns = (
        ("what", "what", ""),
        ("kernel", "kernel", ""),
        ("precision", "precision", ""),
        ("grid", "grid", ""),
        ("seconds", "seconds", ".3g"),
        ("iterations", "iterations", ""),
        ("distance", "sigma apart", ".1f"),
        ("difference", "difference", ".1e"),
        ("status", "status", ""),
    )
    ordered = sorted(rows, key=lambda row: row["what"] != CONVOLUTION)
    return _table(ordered, columns, ("what", "kernel", "precision", "status"))


def _roofline(rows: list[Row]) -> Table:
    columns = (
        ("what", "what", ""),
        ("precision", "precision", ""),
        ("grid", "grid", ""),
        ("gflops", "GFLOP/s", ".3g"),
        ("share_of_matmul", "of matmul", ".0%"),
        ("gbytes_per_second", "GB/s", ".3g"),
        ("share_of_bandwidth", "of memory", ".0%"),
        ("status", "status", ""),
    )
    machine = (MATMUL, TRIAD)
    ordered = sorted(rows, key=lambda row: row["what"] not in machine)
    return _table(ordered, columns, ("what", "precision", "status"))

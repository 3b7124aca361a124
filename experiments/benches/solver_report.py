"""The report on the tables of the solver bench: claims, a figure, and tables for the terminal."""

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments.benches.roofline import CONVOLUTION, FRAME, MATMUL, SOUND, TRIAD
from experiments.claims import GOAL, Claim
from experiments.figures import LOOKS, log_ticks
from experiments.solves import PEERS
from morphot_jax.runs.sweep import Row

HEADLINE = "64^3"
FASTER = (("bridge", 40.0), ("displacement", 25.0), ("barycenter", 2.0))
FASTER_THAN_OTT = 5.0
AGREEING = 1e-6

COLUMNS = {  # on the terminal: title and number format
    "method": ("method", ""),
    "implementation": ("by", ""),
    "kind": ("kernel", ""),
    "what": ("what", ""),
    "kernel": ("kernel", ""),
    "precision": ("precision", ""),
    "grid": ("grid", ""),
    "frames": ("frames", ""),
    "seconds": ("seconds", ".3g"),
    "ratio": ("ratio", ".3g"),
    "iterations": ("iterations", ""),
    "marginal_error": ("error", ".1e"),
    "gigabytes": ("GB", ".2f"),
    "distance": ("sigma apart", ".1f"),
    "difference": ("difference", ".1e"),
    "gflops": ("GFLOP/s", ".3g"),
    "share_of_matmul": ("of matmul", ".0%"),
    "gbytes_per_second": ("GB/s", ".3g"),
    "share_of_bandwidth": ("of memory", ".0%"),
    "status": ("status", ""),
}
SHOWN = {
    "results": "method implementation kind grid frames seconds ratio iterations marginal_error gigabytes status",
    "kernels": "what kernel precision grid seconds iterations distance difference status",
    "roofline": "what precision grid seconds gflops share_of_matmul gbytes_per_second share_of_bandwidth status",
}
WORDS = ("method", "implementation", "kind", "what", "kernel", "precision", "status")  # left-aligned

PLAIN_WIDTH = 120  # characters, of tables that are not printed to a terminal

METHODS = ("bridge", "barycenter")
SWEEPS = {"grid": "voxels along an axis", "frames": "frames", "sigma": "sigma (voxels)"}


def claims(results: list[Row], kernels: list[Row]) -> list[Claim]:
    """The goals at 64^3, for each pair of maps and number of frames, and the agreement of kernels."""
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
    """The package's fastest row in double precision with all frames timed."""
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
    """Seconds against each growing quantity, on logarithmic axes; hollow markers: not converged."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(SWEEPS), sharey=True)
    for panel, (sweep, label) in zip(panels, SWEEPS.items(), strict=True):
        for method in METHODS:
            colour, dashes, marker = LOOKS[method]
            values = curve(rows, sweep, method)
            if not values:
                continue
            x, seconds, converged = (np.array(column) for column in zip(*values, strict=True))
            name = method if len(x) < 2 else f"{method}, slope {slope(x, seconds):.1f}"
            panel.plot(x, seconds, color=colour, linestyle=dashes, label=name, linewidth=1.4)
            for chosen, face in ((converged, colour), (~converged, "white")):
                legend = "not converged" if face == "white" and chosen.any() else None
                style = {"color": colour, "markerfacecolor": face, "markersize": 5, "label": legend}
                panel.plot(x[chosen], seconds[chosen], marker, **style)
        log_ticks(panel, sorted({value for method in METHODS for value, *_ in curve(rows, sweep, method)}))
        panel.set_yscale("log")
        panel.set_xlabel(label)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("seconds for all frames")
    return figure


def curve(rows: list[Row], sweep: str, method: str) -> list[tuple[float, float, bool]]:
    """The growing quantity, the seconds, and whether all converged, in order."""
    found = [row for row in rows if (row["sweep"], row["method"]) == (sweep, method) and row["seconds"]]
    return sorted(
        (float(str(row[sweep]).partition("^")[0]), float(row["seconds"]), row["status"] == "converged")
        for row in found
    )


def slope(x: np.ndarray, seconds: np.ndarray) -> float:
    """The exponent p of seconds ~ x^p."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def show(tables: dict[str, list[Row]]) -> None:
    """Print the tables and the growth of the seconds."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    shown = {
        "results": [_marked(row) for row in tables.get("results", [])],
        "kernels": sorted(tables.get("kernels", []), key=lambda row: row["what"] != CONVOLUTION),
        "roofline": sorted(tables.get("roofline", []), key=lambda row: row["what"] not in (MATMUL, TRIAD)),
    }
    for name, rows in shown.items():
        if rows:
            console.print(_table(rows, SHOWN[name].split()))
    for sweep in SWEEPS if tables.get("growth") else ():
        for method in METHODS:
            values = curve(tables["growth"], sweep, method)
            if len(values) > 1:
                x, seconds, _ = (np.array(column) for column in zip(*values, strict=True))
                print(f"{method}: seconds grow like {sweep}^{slope(x, seconds):.1f}")


def _table(rows: list[Row], names: list[str]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in names:
        table.add_column(COLUMNS[name][0], justify="left" if name in WORDS else "right", overflow="fold")
    for row in rows:
        values = [(row.get(name), COLUMNS[name][1]) for name in names]
        table.add_row(*("" if value in (None, "") else f"{value:{form}}" for value, form in values))
    return table


def _marked(row: Row) -> Row:
    """Add to a row its kernel and precision in one text, its gigabytes, and whether its seconds are a bound."""
    kind = row["kernel"] if row["precision"] == "double" else f"{row['kernel']}, {row['precision']}"
    bound = row["implementation"] in PEERS and row["status"] != "converged" and row["seconds"]
    status = f"{row['status']}, seconds are a lower bound" if bound else row["status"]
    return row | {"gigabytes": row["peak_memory_bytes"] / 1e9, "kind": kind, "status": status}

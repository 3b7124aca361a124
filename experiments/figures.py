"""The style of figures: panels, colours, lines, legends and axes."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morphot_jax.runs.sweep import Row

# Okabe and Ito's colours, which also differ in lightness, with a different line and marker for each method.
LOOKS = {
    "atoms": ("#56B4E9", "-", "P"),
    "linear": ("#000000", ":", "x"),
    "original": ("#999999", "-.", "s"),
    "original-frame": ("#999999", "none", "*"),
    "barycenter": ("#CC79A7", "--", "^"),
    "bridge": ("#0072B2", "-", "o"),
    "displacement": ("#E69F00", "--", "D"),
    "rigid": ("#D55E00", "-", "X"),
    "debiased": ("#009E73", (0, (7, 2)), "v"),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
DPI = 130
LINE, MARKER, STAR = 1.4, 4.0, 9.0  # points; markers without a line are stars


def style() -> AbstractContextManager:
    """A context for drawing and saving figures."""
    return mpl.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.handlelength": 3.2,
            "lines.linewidth": LINE,
            "lines.markersize": MARKER,
            "figure.constrained_layout.use": True,
        }
    )


def panels(
    rows: int, columns: int, *, size: tuple[float, float] = (3.2, 2.8), **options
) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows`` x ``columns`` panels, each of this size in inches."""
    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def methods_in(rows: Iterable[Row]) -> list[str]:
    """The methods that occur in the rows, in the order of ``LOOKS``."""
    present = {row.get("method") for row in rows}
    return [method for method in LOOKS if method in present]


def draw(panel: Axes, method: str, values: Mapping[float, float], *, marks: int | None = None) -> None:
    """Draw the curve of a method in its style, with about ``marks`` markers, or one at every value if None."""
    colour, line, marker = LOOKS[method]
    panel.plot(
        list(values),
        list(values.values()),
        label=method,
        color=colour,
        linestyle=line,
        linewidth=LINE,
        marker=marker,
        markersize=STAR if line == "none" else MARKER,
        markevery=None if marks is None else max(1, len(values) // marks),
    )


def log_ticks(panel: Axes, values: Sequence[float], label: str = "{:g}") -> None:
    """Make the x axis logarithmic, with ticks at these values only."""
    panel.set_xscale("log")
    panel.set_xticks(values, [label.format(value) for value in values])
    panel.set_xticks([], minor=True)


def bare(panel: Axes, *, framed: bool = False) -> None:
    """A panel for a picture: without ticks, and without a frame unless it is wanted."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(framed)


def letter(axes: Iterable[Axes]) -> None:
    """Put (a), (b) ... before the titles."""
    for mark, panel in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
        panel.set_title(f"({mark}) {panel.get_title()}".rstrip(), loc="left")
        panel.set_title("", loc="center")


def legend_below(figure: Figure, panel: Axes, **options) -> None:
    """Put the legend of one panel below all panels."""
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", **options)


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI)

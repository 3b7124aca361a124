"""Figures of trajectories, orders and displacements, and how they become PNG and SVG files."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box
from morphot_jax.morphing.coordinates import Coordinates
from morphot_jax.morphing.fading import Fading
from morphot_jax.morphing.landscape import Landscape
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.rigid import RigidBody, both_ways
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.show.colours import APPEARS, DOUBT_PALETTE, FADES, GREY, INK, MARK, PARTS, rgb
from morphot_jax.show.render import VIEWS, Camera, Picture, surface_picture
from morphot_jax.show.scene import Scene
from morphot_jax.system.reporting import percent, printable
from morphot_jax.system.threads import side_by_side

Density = Float[np.ndarray, "z y x"]
Plane = Float[np.ndarray, "up across"]
Doubts = Mapping[int, tuple[Volume, Volume]]  # of two neighbouring maps, by the index of the first, in Å

FRAMES, SLICES, SURFACES, ALONG = "frames", "slices", "surfaces", "along"
CONVERGENCE, ORDER, DISPLACEMENT, BODIES = "convergence", "order", "displacement", "bodies"
DOUBT, FADING, COORDINATES = "doubt", "fading", "coordinates"
LANDSCAPE = "landscape"
OF_A_RUN = (FRAMES, SLICES, SURFACES, ALONG, CONVERGENCE, DOUBT, FADING)
COLUMNS = 7  # of frames in a figure
MOST_NAMES, MOST_NUMBERS = 30, 20  # of maps in the figure of a landscape
PANEL = 150  # pixels of a surface in the contact sheet
AXES = ((0, "x", "y"), (1, "x", "z"), (2, "y", "z"))  # array axis summed over, then across and up
VISIBLE = 0.02  # of a frame's maximum: density above it has to be in the picture
SMALLEST_BOX = 12  # voxels along an axis of a picture, at least
GAMMA = 0.6  # faint density stays visible beside the densest parts
SOLID = 2.0  # times that shade: coloured density is opaque from a third of the densest on


def frames_figure(trajectory: Trajectory) -> Figure:
    """Projections of frames along z, y and x, side by side, on one grey scale a row, with a scale bar."""
    return _panels(trajectory, _projection, "along {axis}")


def slices_figure(trajectory: Trajectory) -> Figure:
    """Slices of frames through the middle of the visible density, side by side as in ``frames_figure``."""
    return _panels(trajectory, _slice, "slice across {axis}")


def _panels(trajectory: Trajectory, picture_of: Callable[[Density, int], Plane], label: str) -> Figure:
    shown = spread(len(trajectory.frames), COLUMNS)
    window = _window(trajectory.densities[shown])
    figure = Figure(
        figsize=(1.75 * len(shown) + 0.35, 5.9), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02)
    )
    axes = figure.subplots(len(AXES), len(shown), squeeze=False)
    for row, (axis, across, up) in zip(axes, AXES, strict=True):
        pictures = [picture_of(trajectory.densities[i][window], axis) for i in shown]
        top = max(picture.max() for picture in pictures) or 1.0
        for panel, picture in zip(row, pictures, strict=True):
            extent = _extent(picture, trajectory.template.voxel_size, across, up)
            shade = (np.maximum(picture, 0.0) / top) ** GAMMA
            panel.imshow(shade, cmap="Greys", vmin=0, vmax=1, origin="lower", extent=extent)
            _bare(panel)
        row[0].set_ylabel(f"{label.format(axis='zyx'[axis])}   ({across} →, {up} ↑)", color=INK)
    _entitle(axes[0], trajectory, shown)
    scale_bar(axes[0][0])
    return figure


def surfaces_figure(trajectory: Trajectory, scene: Scene) -> Figure:
    """A contact sheet of the surfaces of frames, seen along z and along y, with a scale bar."""
    shown = spread(len(trajectory.frames), COLUMNS)
    cameras = [Camera.on(scene, view, PANEL) for view in (VIEWS["z"], VIEWS["y"])]
    wanted = [(index, camera) for camera in cameras for index in shown]
    pictures = iter(side_by_side(lambda pair: surface_picture(scene, *pair), wanted))
    figure = Figure(
        figsize=(1.75 * len(shown) + 0.35, 4.0), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02)
    )
    axes = figure.subplots(len(cameras), len(shown), squeeze=False)
    for row, camera, label in zip(axes, cameras, ("along z   (x →, y ↑)", "along y   (x →, z ↑)"), strict=True):
        for panel in row:
            panel.imshow(next(pictures), extent=(0.0, camera.width, 0.0, camera.width))
            _bare(panel)
        row[0].set_ylabel(label, color=INK)
    _entitle(axes[0], trajectory, shown)
    scale_bar(axes[0][0])
    return figure


def along_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Mass, enclosed volume, the power kept, and the change from each frame to the next, against t.

    ``rows``: from ``report.frame_rows``.
    """
    times = np.array([float(row["time"]) for row in rows])
    figure = Figure(figsize=(6.0, 8.2), layout="constrained")
    mass, volume, power, change = figure.subplots(4, 1, sharex=True)
    mass.plot(times, [float(row["mass"]) for row in rows], color=INK, marker="o", markersize=3)
    mass.set_ylabel("mass")
    volume.plot(times, [row["enclosed_volume"] / 1e3 for row in rows], color=INK, marker="o", markersize=3)
    volume.set_ylabel("enclosed volume (nm³)")
    for name, label, style in (
        ("power_kept_quarter", "1/4 of Nyquist", "-"),
        ("power_kept_half", "1/2", "--"),
        ("power_kept_three_quarters", "3/4", ":"),
    ):
        power.plot(times, [row[name] for row in rows], color=INK, linestyle=style, label=label)
    power.axhline(1.0, color=MARK, linewidth=0.8)
    power.set_ylabel("power kept")
    power.legend(frameon=False, ncols=3)
    middles = (times[1:] + times[:-1]) / 2
    for name, label, colour, marker in (
        ("relative_rms_to_previous", "relative rms", INK, "o"),
        ("voxel_difference_to_previous", "voxel difference at 1 %", MARK, "s"),
    ):
        change.plot(
            middles, [row[name] for row in rows[1:]], color=colour, marker=marker, markersize=3, label=label
        )
    change.set_ylabel("change between frames")
    change.set_ylim(bottom=0.0)
    change.set_xlabel("t")
    change.legend(frameon=False)
    for panel in (mass, volume, power):
        panel.set_ylim(0.0, 1.15 * max(panel.get_ylim()[1], 1e-300))
    for panel in (mass, volume, power, change):
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def movie_frame(surface: Picture, camera: Camera, label: str) -> UInt8[np.ndarray, "up across 3"]:
    """A picture of a surface with a label and a scale bar, in the pixels of the camera."""
    figure = Figure(figsize=(camera.pixels / 100, camera.pixels / 100), dpi=100)
    panel = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    panel.imshow(surface, extent=(0.0, camera.width, 0.0, camera.width), interpolation="none")
    panel.axis("off")
    panel.text(0.04, 0.95, label, transform=panel.transAxes, va="top", fontsize=14, color=INK)
    scale_bar(panel)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def convergence_figure(trajectory: Trajectory) -> Figure | None:
    """Marginal error against iteration, a line per solve, dark to light with t; None where nothing was solved.

    Of the method 'rigid': how far each round moved the fits, and how far the mass had yet to go, for both maps.
    """
    if trajectory.motions:
        return _rounds_figure(trajectory)
    solved = [frame for frame in trajectory.frames if len(frame.history)]
    if not solved:
        return None
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    panel = figure.subplots()
    colours = colormaps["cividis"]
    for frame in solved:
        error = frame.history[:, 0]
        iterations = np.arange(1, len(error) + 1)
        panel.semilogy(iterations[error > 0], error[error > 0], color=colours(frame.time), linewidth=1)
    if trajectory.settings.iterations is None and trajectory.settings.criterion == "marginal_error":
        tolerance = trajectory.settings.tolerance
        panel.axhline(tolerance, color="#888888", linestyle="--", linewidth=0.8)
        panel.set_ylim(bottom=0.1 * tolerance)
        panel.text(
            0.01, tolerance, "tolerance", va="bottom", color="#666666", transform=panel.get_yaxis_transform()
        )
    panel.set_xlabel("iteration")
    panel.set_ylabel("marginal error (unit mass)")
    panel.spines[["top", "right"]].set_visible(False)
    if len(solved) > 1 and trajectory.settings.weights is None:
        scale = ScalarMappable(Normalize(0, 1), colours)
        figure.colorbar(scale, ax=panel, label="t", pad=0.02)
    return figure


def _rounds_figure(trajectory: Trajectory) -> Figure:
    edge = min(trajectory.template.voxel_size)
    pairs = len(trajectory.motions)
    figure = Figure(figsize=(6.0, 2.6 * pairs + 0.8), layout="constrained")
    panels = figure.subplots(pairs, 1, squeeze=False)[:, 0]
    for panel, found in zip(panels, trajectory.motions, strict=True):
        for side, ends, colour in zip(found.sides, both_ways(found.before), (INK, MARK), strict=True):
            numbers, label = range(1, len(side.rounds) + 1), "map {} to map {}".format(*ends)
            panel.plot(numbers, [edge * made.left for made in side.rounds], color=colour, label=label)
            panel.plot(numbers, [edge * made.change for made in side.rounds], color=colour, linestyle=":")
        panel.plot([], [], color=GREY, label="has yet to go")
        panel.plot([], [], color=GREY, linestyle=":", label="moved by a round")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_ylabel("Å, root mean square")
        panel.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("round")
    return figure


def order_figure(ordering: Ordering, names: Sequence[str]) -> Figure:
    """The distance of each map from each frame, with the nearest frame in a box and the map's place."""
    figure = Figure(figsize=(7.2, 0.34 * len(names) + 1.3), layout="constrained")
    panel = figure.subplots()
    times = ordering.times
    step = (times[-1] - times[0]) / max(1, len(times) - 1) or 1.0
    extent = (times[0] - step / 2, times[-1] + step / 2, len(names) - 0.5, -0.5)
    picture = panel.imshow(
        ordering.distances, cmap="cividis", extent=extent, aspect="auto", interpolation="nearest"
    )
    for row, (place, nearest) in enumerate(zip(ordering.places, ordering.nearest, strict=True)):
        left = float(times[nearest] - step / 2)
        box = Rectangle((left, row - 0.45), step, 0.9, fill=False, edgecolor="white", linewidth=1.6)
        panel.add_patch(box)
        panel.text(1.01, row, f"{place:.3f}", transform=panel.get_yaxis_transform(), va="center", fontsize=8)
    panel.set_yticks(range(len(names)), [escaped(name) for name in names])
    panel.set_xlabel("t of the frame")
    panel.text(1.01, -0.7, "place", transform=panel.get_yaxis_transform(), va="bottom", fontsize=8)
    figure.colorbar(picture, ax=panel, label="relative L2 distance", pad=0.09)
    return figure


def coordinates_figure(found: Coordinates, names: Sequence[str], references: Sequence[str]) -> Figure:
    """The weights of each map as a bar in the colours of the references, with its residual beside."""
    figure = Figure(figsize=(7.2, 0.34 * len(names) + 1.5), layout="constrained")
    panel = figure.subplots()
    rows, left = np.arange(len(names)), np.zeros(len(names))
    for k, (reference, colour) in enumerate(zip(references, cycle(PARTS))):
        share, spread = found.weights[:, k], found.deviations[:, k]
        panel.barh(rows, share, left=left, height=0.72, color=colour, label=escaped(reference), edgecolor="white")
        left = left + share
        if k < len(references) - 1:
            panel.errorbar(left, rows, xerr=spread, fmt="none", ecolor="black", elinewidth=1.0, capsize=2.0)
    for row, (residual, far) in enumerate(zip(found.residuals, found.far, strict=True)):
        text = f"{residual:.3f}" + (" far" if far else "")
        panel.text(1.02, row, text, transform=panel.get_yaxis_transform(), va="center", fontsize=8)
    panel.text(1.02, -0.75, "residual", transform=panel.get_yaxis_transform(), va="bottom", fontsize=8)
    panel.set_yticks(rows, [escaped(name) for name in names])
    panel.set(
        xlim=(0.0, 1.0), ylim=(len(names) - 0.4, -0.6), xlabel="weight; the lines are one deviation each way"
    )
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(4, len(references)), frameon=False, fontsize=8)
    return figure


def landscape_figure(found: Landscape, names: Sequence[str]) -> Figure:
    """The maps in the plane of the first two axes, dark to light in their order, with the path; and all distances.

    Maps are numbered in their order; where they are few, their names stand beside the distances.
    """
    order, count = found.order.indices, len(names)
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    plane, matrix = figure.subplots(1, 2)
    way = found.coordinates[list(found.path)]
    plane.plot(way[:, 0], way[:, 1], color=MARK, linewidth=1.2, zorder=1)
    spots = found.coordinates[order]
    plane.scatter(spots[:, 0], spots[:, 1], c=np.arange(count), cmap="cividis", s=46, edgecolor="white", zorder=2)
    for rank in spread(count, MOST_NUMBERS):
        plane.annotate(f"{rank + 1}", spots[rank, :2], xytext=(5, 4), textcoords="offset points", fontsize=8)
    across, up = (
        f"axis {axis + 1} (Å): {percent(found.shares[axis])} of the squared distances" for axis in (0, 1)
    )
    plane.set(xlabel=across, ylabel=up)
    plane.set_aspect("equal", adjustable="datalim")
    plane.spines[["top", "right"]].set_visible(False)
    picture = matrix.imshow(found.distances[np.ix_(order, order)], cmap="cividis", interpolation="nearest")
    shown = range(count) if count <= MOST_NAMES else spread(count, MOST_NUMBERS)
    texts = [f"{escaped(names[int(order[k])])}  {k + 1}" if count <= MOST_NAMES else f"{k + 1}" for k in shown]
    matrix.set_yticks(list(shown), texts, fontsize=8)
    matrix.set_xticks(list(shown), [f"{k + 1}" for k in shown], fontsize=8)
    figure.colorbar(picture, ax=matrix, label="distance (Å)")
    return figure


def displacement_figure(lengths: Float[np.ndarray, " n"], mass: Float[np.ndarray, " n"]) -> Figure:
    """A histogram of displacements, weighted by mass, with their mean."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    panel = figure.subplots()
    panel.hist(lengths, bins=40, weights=mass / mass.sum(), color=INK, alpha=0.85)
    mean = float(np.average(lengths, weights=mass))
    panel.axvline(mean, color=MARK, linestyle="--", linewidth=1.2)
    panel.text(mean, 0.97, f" mean {mean:.3g} Å", transform=panel.get_xaxis_transform(), va="top", color=MARK)
    panel.set_xlabel("displacement (Å)")
    panel.set_ylabel("share of the mass")
    panel.yaxis.set_major_formatter(lambda share, _: percent(share))
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def bodies_figure(
    maps: Sequence[Density],
    voxel_size: tuple[float, float, float],
    bodies: Sequence[RigidBody],
    titles: Sequence[str],
) -> Figure:
    """Projections of two maps along z, y and x: each body in its colour, the rest in grey, and a scale bar."""
    window = _window(np.stack(maps))
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    colours = list(islice(cycle(PARTS), len(bodies)))
    inks = [1.0 - np.array(rgb(colour)) for colour in (*colours, GREY)]
    rows = figure.subplots(2, len(AXES))
    for k, (row, density, title) in enumerate(zip(rows, maps, titles, strict=True)):
        held = [body.masks[k] * density for body in bodies]
        parts = [part[window] for part in (*held, np.maximum(density - sum(held), 0.0))]
        for panel, (axis, across, up) in zip(row, AXES, strict=True):
            planes = np.stack([_projection(part, axis) for part in parts])
            shades = (planes / (planes.sum(axis=0).max() or 1.0)) ** GAMMA
            picture = 1.0 - np.tensordot(shades, np.stack(inks), axes=(0, 0))
            extent = _extent(planes[0], voxel_size, across, up)
            _put(panel, np.clip(picture, 0.0, 1.0), extent, across, up)
        row[0].set_title(escaped(title), loc="left", fontsize=9)
    scale_bar(rows[0][0])
    keys = [Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    names = [f"{escaped(body.name)}: {body.pose.degrees:.1f}°, {body.shift:.1f} Å" for body in bodies]
    figure.legend(keys, names, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def doubt_figure(maps: Sequence[Volume], doubts: Doubts) -> Figure | None:
    """Projections of maps along z, y and x, coloured by the mean doubt of their motions; None without any."""
    ends = [pair for before, both in doubts.items() for pair in zip(both_ways(before), both, strict=True)]
    if not ends:
        return None
    window = _window(np.stack([volume.data for volume in maps]))
    colours = LinearSegmentedColormap.from_list("doubt", list(DOUBT_PALETTE.items()))
    top = most_doubt(maps, doubts)
    figure = Figure(figsize=(7.2, 2.4 * len(ends) + 0.3), layout="constrained")
    rows = figure.subplots(len(ends), len(AXES), squeeze=False)
    for row, ((number, other), doubt) in zip(rows, ends, strict=True):
        density, values = maps[number - 1].data[window], doubt.data[window]
        for panel, (axis, across, up) in zip(row, AXES, strict=True):
            mass, doubted = _projection(density, axis), _projection(density * values, axis)
            mean = np.divide(doubted, mass, out=np.zeros_like(mass), where=mass > 0)
            shade = np.minimum(SOLID * (mass / (mass.max() or 1.0)) ** GAMMA, 1.0)
            picture = colours(np.clip(mean / top, 0.0, 1.0))
            picture[..., 3] = shade
            _put(panel, picture, _extent(mass, doubt.voxel_size, across, up), across, up)
        row[0].set_title(f"map {number}, on its way to map {other}", loc="left", fontsize=9)
    scale_bar(rows[0][0])
    scale = ScalarMappable(Normalize(0.0, top), colours)
    figure.colorbar(scale, ax=rows, label="doubt (Å): how far off a voxel ends, there and back", shrink=0.8)
    return figure


def fading_figure(faded: Sequence[Fading]) -> Figure | None:
    """Projections of maps along z, y and x with what fades of them or appears in its colour; None without any."""
    if not faded:
        return None
    window = _window(np.stack([volume.data for found in faded for volume in found.maps]))
    ends = [
        (f"{percent(share)} of map {found.before + 1 + k} {what}", whole, part, colour)
        for found in faded
        for k, (what, whole, part, share, colour) in enumerate(
            zip(("fades", "appears"), found.maps, found.parts, found.shares, (FADES, APPEARS), strict=True)
        )
    ]
    figure = Figure(figsize=(7.2, 2.4 * len(ends) + 0.2), layout="constrained")
    rows = figure.subplots(len(ends), len(AXES), squeeze=False)
    for row, (title, whole, part, colour) in zip(rows, ends, strict=True):
        inks = 1.0 - np.array([rgb(GREY), rgb(colour)])
        for panel, (axis, across, up) in zip(row, AXES, strict=True):
            changed = _projection(part.data[window], axis)
            planes = np.stack([np.maximum(_projection(whole.data[window], axis) - changed, 0.0), changed])
            shades = (planes / (planes.sum(axis=0).max() or 1.0)) ** GAMMA
            picture = np.clip(1.0 - np.tensordot(shades, inks, axes=(0, 0)), 0.0, 1.0)
            _put(panel, picture, _extent(changed, whole.voxel_size, across, up), across, up)
        row[0].set_title(title, loc="left", fontsize=9)
    scale_bar(rows[0][0])
    return figure


def most_doubt(maps: Sequence[Volume], doubts: Doubts) -> float:
    """The end of a scale of doubts, in Å: a voxel at least, and so much that 5 % of the mass has more."""
    largest = list(maps[0].voxel_size)
    for before, both in doubts.items():
        for volume, doubt in zip(maps[before : before + 2], both, strict=True):
            some = volume.data > 0
            largest.append(np.quantile(doubt.data[some], 0.95, weights=volume.data[some], method="inverted_cdf"))
    return float(max(largest))


def escaped(name: str) -> str:
    """A name for matplotlib, which reads text between two dollar signs as a formula."""
    return printable(name).replace("$", r"\$")


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG, with text as text; equal figures give equal bytes."""
    stream = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "morphot"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def file_names(name: str) -> tuple[str, str]:
    """The names of the two files of a figure."""
    return f"{name}.png", f"{name}.svg"


def both(name: str, figure: Figure) -> dict[str, bytes]:
    """The file name and content of a figure as PNG and as SVG."""
    screen = png(figure)
    figure.set_layout_engine("none")  # the PNG has fixed all places
    for image in [image for panel in figure.axes for image in panel.images]:
        image.set_interpolation("none")  # SVG then holds the pixels as they are
    return dict(zip(file_names(name), (screen, svg(figure)), strict=True))


def spread(count: int, most: int) -> list[int]:
    """Up to ``most`` indices out of ``count``, evenly spread, with the first and the last."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def _projection(density: Density, axis: int) -> Plane:
    return np.asarray(density.sum(axis=axis, dtype=np.float64))


def _extent(
    picture: Plane, voxel_size: tuple[float, float, float], across: str, up: str
) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a picture in Å."""
    voxel, (height, width) = dict(zip("xyz", voxel_size, strict=True)), picture.shape
    return 0.0, width * voxel[across], 0.0, height * voxel[up]


def _slice(density: Density, axis: int) -> Plane:
    return np.asarray(density.take(density.shape[axis] // 2, axis=axis), np.float64)


def _put(
    panel: Axes,
    picture: Float[np.ndarray, "up across channels"],
    extent: tuple[float, float, float, float],
    across: str,
    up: str,
) -> None:
    """A coloured picture on a panel, with the names of its axes."""
    panel.imshow(picture, origin="lower", extent=extent)
    panel.set(xlabel=across, ylabel=up)
    _bare(panel)


def _bare(panel: Axes) -> None:
    """Remove the ticks of a picture."""
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_color("#c8c8c8")


def _entitle(row: Iterable[Axes], trajectory: Trajectory, shown: Sequence[int]) -> None:
    for panel, index in zip(row, shown, strict=True):
        panel.set_title(trajectory.labels[index], color=INK, fontsize=10)


def _window(densities: Float[np.ndarray, "t z y x"]) -> Window:
    """The part of the box with the visible density of all frames, never narrower than ``SMALLEST_BOX``."""
    visible = np.max([density / (density.max() or 1.0) for density in densities], axis=0) > VISIBLE
    box = bounding_box(visible)
    slices = []
    for part, n in zip(box, visible.shape, strict=True):
        spare = max(2, (SMALLEST_BOX - (part.stop - part.start)) // 2 + 1)
        slices.append(slice(max(0, part.start - spare), min(n, part.stop + spare)))
    return slices[0], slices[1], slices[2]


def scale_bar(panel: Axes) -> None:
    """Draw a scale bar of a round length, about a quarter of the panel, at the lower left."""
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    wish = (right - left) / 4
    power = 10.0 ** np.floor(np.log10(wish))
    length = power * max(step for step in (1, 2, 5) if step * power <= wish)
    x, y = left + 0.06 * (right - left), bottom + 0.06 * (top - bottom)
    panel.plot([x, x + length], [y, y], color="black", linewidth=2.5, solid_capstyle="butt")
    panel.text(x, y + 0.02 * (top - bottom), f"{length:g} Å", fontsize=8, va="bottom")


def all_figures(
    trajectory: Trajectory,
    scene: Scene,
    rows: Sequence[Mapping[str, Any]],
    maps: Sequence[Volume],
    doubts: Doubts,
) -> dict[str, Callable[[], Figure | None]]:
    """The figures of a run: name, and a function that draws it; None where there is nothing to draw."""
    return {
        FRAMES: lambda: frames_figure(trajectory),
        SLICES: lambda: slices_figure(trajectory),
        SURFACES: lambda: surfaces_figure(trajectory, scene),
        ALONG: lambda: along_figure(rows) if trajectory.settings.weights is None else None,
        CONVERGENCE: lambda: convergence_figure(trajectory),
        DOUBT: lambda: doubt_figure(maps, doubts),
        FADING: lambda: fading_figure(trajectory.faded),
    }

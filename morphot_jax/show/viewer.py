"""viewer.html: one file that plays a trajectory in a browser, without a network.

K3D draws the surfaces; its JavaScript comes with its Python wheel and goes into the file. The page around the
picture is in ``page/``. The file holds the densities of the frames, so that it can show surfaces at any level.
"""

import html
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.field import Displacement
from morphot_jax.morphing.landscape import Landscape
from morphot_jax.morphing.sharpness import FREQUENCIES
from morphot_jax.morphing.times import labels_of
from morphot_jax.morphing.trajectory import ENDED_WELL
from morphot_jax.show.colours import BLUE, FADING_PALETTE, INK, PALETTE, packed, rgb
from morphot_jax.show.scene import FACTORS, Scene
from morphot_jax.system.reporting import percent, printable

VIEWER = "viewer.html"
FOV = 30.0  # degrees
HEAD, SHAFT = 8.0, 0.3  # sizes of an arrow where voxels are of 1 Å
SEEN_THROUGH, LAYERS = 0.6, 6  # of a surface with arrows: its opacity, and the layers that K3D sorts by depth
FINEST = 0xFFFC  # the bits of a half-precision density that the file keeps, which is exact to 0.2 %
COMPRESSION = 6  # of zlib, from 0 to 9
# The page may load nothing from a network, whatever a map is called or a library tries.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src 'self' file: data:; worker-src blob:; connect-src data: blob:"
)


@dataclass(frozen=True)
class Details:
    """The text of the panel: a title, facts as names and values, notes, and a row for each frame.

    - A row holds t, level, resolution, power kept, error and status, as text.
    - ``labels``: of the frames; their times, where there are none. ``cyclic``: after the last comes the first.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    rows: Sequence[tuple[str, ...]] = ()
    labels: Sequence[str] = ()
    cyclic: bool = False


@dataclass(frozen=True)
class Coloured:
    """Values on the voxels of a scene, from 0 to 1, to colour its surfaces by.

    - ``name``: in the menu of colours. ``legend``: text at 0, at 1, and beside them. ``palette``: the colours.
    """

    values: Float[np.ndarray, "t z y x"] = field(repr=False)
    name: str
    legend: tuple[str, str, str]
    palette: Mapping[float, str]

    @classmethod
    def by_length(cls, lengths: Float[np.ndarray, "t z y x"], longest: float) -> "Coloured":
        """By how far the mass goes, in Å."""
        return cls(
            lengths / (longest or 1.0), "displacement", ("0", f"{longest:#.3g}", "displacement (Å)"), PALETTE
        )

    @classmethod
    def by_fading(cls, values: Float[np.ndarray, "t z y x"]) -> "Coloured":
        """By which mass fades (0), stays (1/2) and appears (1)."""
        return cls(values, "fading", ("fades", "appears", "share of the mass"), FADING_PALETTE)


@dataclass(frozen=True)
class Arrows:
    """Arrows from ``starts`` along ``ways``: Å along x, y, z."""

    starts: Float[np.ndarray, "n 3"] = field(repr=False)
    ways: Float[np.ndarray, "n 3"] = field(repr=False)


def page(scene: Scene, details: Details, coloured: Coloured | None = None, arrows: Arrows | None = None) -> str:
    """The text of viewer.html. The page shows text in ``details`` literally, never as HTML."""
    import k3d  # noqa: PLC0415 - importing it takes half a second
    from k3d.factory.plot import plot as new_plot  # noqa: PLC0415

    palette = PALETTE if coloured is None else coloured.palette
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # K3D's widgets warn outside a notebook
        plot = new_plot(
            camera_auto_fit=False, grid_visible=False, menu_visibility=False, background_color=0xFFFFFF
        )
        plot.colorbar_object_id = 0  # no colour bar: the page has its own
        plot.camera_fov, plot.axes_helper, plot.time_interpolation = FOV, 1.0, False
        items: list[Any] = [
            k3d.marching_cubes(
                -scene.densities[0].astype(np.float32),  # K3D's surfaces face where values are high
                level=-1.0,
                color=packed(BLUE),
                color_map=np.array([[at, *rgb(colour)] for at, colour in palette.items()], np.float32),
                flat_shading=False,
                opacity=1.0 if arrows is None else SEEN_THROUGH,
                model_matrix=_placing(scene),
                custom_data=_content(scene, details, coloured),
            )
        ]
        if arrows is not None and len(arrows.starts):
            edge, plot.depth_peels = max(scene.voxel_size), LAYERS
            starts, ways = arrows.starts.astype(np.float32), arrows.ways.astype(np.float32)
            items.append(
                k3d.vectors(starts, ways, color=packed(INK), head_size=HEAD * edge, line_width=SHAFT * edge)
            )
        for number, item in enumerate(items, start=1):
            item.id = number  # K3D takes a memory address, and equal pages would be different files
            plot += item
        text = plot.get_snapshot(compression_level=COMPRESSION, additional_js_code=_part("viewer.js"))
        for widget in (*items, plot):
            widget.close()  # else ipywidgets keeps them and their arrays in memory
    return _with_page(text, printable(details.title))


def run_details(content: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], scene: Scene) -> Details:
    """The details of a run: warnings come first among the notes.

    ``content``: of its report.json; ``measured``: the rows of its metrics.csv, in which sharpness may be missing.
    """
    settings = content["settings"]
    resolved = settings.get("resolved") or {}
    x, y, z = content["inputs"][0]["voxel_size"]
    facts = [(f"map {number}", str(item["path"])) for number, item in enumerate(content["inputs"], start=1)]
    facts += [("method", str(settings["method"]))]
    if settings.get("unbalanced"):
        facts += [("reach", f"{settings['unbalanced']:g} Å: farther off, mass fades and appears")]
    facts += [("voxel", f"{x:.4g} x {y:.4g} x {z:.4g} Å")]
    if resolved:
        widths = dict.fromkeys(f"{value:.4g}" for value in resolved["sigma_voxels_zyx"])
        facts += [("sigma", f"{' x '.join(widths)} voxels"), ("kernel", f"{resolved['kernel']}")]
        facts += [("precision", str(content["precision"]))]
    facts += [("device", str(content["device"])), ("morphot_jax", str(content["version"]))]
    notes = [str(note) for note in (*content["warnings"], *content.get("actions", ()))]
    if scene.coarsened > 1:
        notes.append(f"shown coarser than the files: each voxel is the mean of {scene.coarsened}^3 voxels")
    weights = settings.get("weights")
    labels = labels_of([frame["time"] for frame in content["frames"]], weights)
    rows = [
        (
            label.removeprefix("t = "),
            f"{float(row['level']):.3g}",
            *_sharpness(row),
            _short(frame["marginal_error"]),
            str(frame["status"]),
        )
        for label, frame, row in zip(labels, content["frames"], measured, strict=True)
    ]
    names = [_last_part(str(item["path"])) for item in content["inputs"]]
    cyclic = bool(settings.get("loop"))
    joint = " → " if weights is None else ", "
    own = () if weights is None else labels
    return Details(joint.join(names + names[:cyclic]), facts, notes, rows, own, cyclic)


def field_details(names: Sequence[str], displacement: Displacement) -> Details:
    """The details of a displacement: how the whole map and each domain move."""
    facts = [(f"map {number}", name) for number, name in enumerate(names, start=1)]
    for domain in displacement.domains:
        pose = domain.pose
        moved = f"{domain.length:.2f} Å on average, turns by {pose.degrees:.1f}°, slides {pose.slide:.2f} Å"
        facts.append((_last_part(domain.name), moved))
    title = "Displacement: " + " → ".join(map(_last_part, names))
    return Details(title, facts, list(displacement.warnings))


def landscape_details(found: Landscape, names: Sequence[str]) -> Details:
    """The details of a landscape: the maps in their order."""
    facts = [
        ("maps", str(len(names))),
        ("apart", f"up to {found.distances.max():.3g} Å"),
        ("order", f"{percent(found.order.agreement)} of the triples agree"),
        ("path", f"through {len(found.path)} maps"),
    ]
    labels = [_last_part(names[int(k)]) for k in found.order.indices]
    return Details("Landscape", facts, list(found.warnings), labels=labels)


def _last_part(name: str) -> str:
    """The last part of a path with slashes or backslashes."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _sharpness(row: Mapping[str, Any]) -> tuple[str, str]:
    """The resolution of a frame in Å, and the power that it keeps at each of ``FREQUENCIES``, in percent."""
    if "resolution" not in row:
        return "-", "-"
    kept = " ".join(f"{100 * float(row[f'power_kept_{name}']):.0f}" for name in FREQUENCIES)
    return f"{float(row['resolution']):.3g}", kept


def _short(error: float | None) -> str:
    return "-" if error is None else f"{error:.0e}"


def _content(scene: Scene, details: Details, coloured: Coloured | None) -> dict[str, Any]:
    """The data for ``viewer.js``; densities as the bits of half-precision numbers."""
    densities = np.where(scene.densities > 0.5 * scene.contours.min(), scene.densities, 0.0)
    halves = np.minimum(densities, np.finfo(np.float16).max).astype(np.float16).view(np.uint16)
    content = {
        "title": printable(details.title),
        "facts": [[printable(part) for part in fact] for fact in details.facts],
        "notes": [printable(note) for note in details.notes],
        "rows": [list(row) for row in details.rows],
        "good": [str(status) for status in ENDED_WELL],
        "labels": [printable(label) for label in details.labels] or [f"t = {time:.3f}" for time in scene.times],
        "naming": "weights" if details.labels else "t",
        "cyclic": details.cyclic,
        "levels": scene.levels.tolist(),
        "contours": scene.contours.tolist(),
        "factors": FACTORS.tolist(),
        "densities": halves & np.uint16(FINEST),
        "centre": scene.centre.tolist(),
        "radius": scene.radius,
        "values": None,
    }
    if coloured is not None:
        content |= {
            "values": np.round(255.0 * np.clip(coloured.values, 0.0, 1.0)).astype(np.uint8),
            "colouring": coloured.name,
            "legend": list(coloured.legend),
            "palette": list(coloured.palette.values()),
        }
    return content


def _placing(scene: Scene) -> Float[np.ndarray, "4 4"]:
    """The map from K3D's cube, -1/2 to 1/2 from the first voxel to the last, to positions in Å."""
    z, y, x = scene.densities.shape[1:]
    matrix = np.diag([*(np.array([x - 1, y - 1, z - 1]) * scene.voxel_size), 1.0])
    matrix[:3, 3] = scene.centre
    return matrix.astype(np.float32)


def _with_page(text: str, title: str) -> str:
    """K3D's HTML with the page of ``page/`` around its picture."""
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
    )
    head += f"<title>{html.escape(title)}</title>"
    text = re.sub(r"<title>.*?</title>", lambda _: head, text, count=1, flags=re.DOTALL)
    text = text.replace("</head>", f"<style>{_part('viewer.css')}</style></head>", 1)
    return text.replace("<body>", f"<body>{_part('viewer.html')}", 1)


def _part(name: str) -> str:
    return (files("morphot_jax.show") / "page" / name).read_text(encoding="utf-8")

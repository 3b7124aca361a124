"""One file that plays a trajectory in a browser, without a network: viewer.html.

The scene and the surfaces are K3D's, whose JavaScript comes inside its Python wheel and goes into the file; the
page around it is in ``page/``. Frames are kept as densities, so that surfaces can be drawn at any level.
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
from morphot_jax.morphing.trajectory import ENDED_WELL
from morphot_jax.show.colours import BLUE, INK, PALETTE, packed, rgb
from morphot_jax.show.scene import FACTORS, Scene

VIEWER = "viewer.html"
FOV = 30.0  # degrees
HEAD, SHAFT = 8.0, 0.3  # of arrows, for a voxel of 1 Å
SEEN_THROUGH, LAYERS = 0.6, 6  # opacity of a surface with arrows, and how many layers of it are put in order
FINEST = 0xFFFC  # bits of a half-precision density that are kept: 0.2 % of it
COMPRESSION = 6
# Nothing may be loaded from anywhere, whatever a name or a library says.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src 'self' file: data:; worker-src blob:; connect-src data: blob:"
)


@dataclass(frozen=True)
class Details:
    """What the page tells beside the picture: a title, names and values, notes, and a row for each frame.

    A row holds t, level, error and status, as text.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    rows: Sequence[tuple[str, str, str, str]] = ()


@dataclass(frozen=True)
class Coloured:
    """Values on the voxels of a scene, from 0 to ``longest``, that its surfaces can be coloured by."""

    values: Float[np.ndarray, "t z y x"] = field(repr=False)
    longest: float


@dataclass(frozen=True)
class Arrows:
    """Arrows from ``starts`` along ``ways``: Å along x, y, z."""

    starts: Float[np.ndarray, "n 3"] = field(repr=False)
    ways: Float[np.ndarray, "n 3"] = field(repr=False)


def page(scene: Scene, details: Details, coloured: Coloured | None = None, arrows: Arrows | None = None) -> str:
    """The whole file. Text in ``details`` is shown as text, whatever it holds."""
    import k3d  # noqa: PLC0415 - half a second that other commands need not wait
    from k3d.factory.plot import plot as new_plot  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of widgets, without a notebook
        plot = new_plot(
            camera_auto_fit=False, grid_visible=False, menu_visibility=False, background_color=0xFFFFFF
        )
        plot.colorbar_object_id = 0  # none: the page has its own
        plot.camera_fov, plot.axes_helper, plot.time_interpolation = FOV, 1.0, False
        items: list[Any] = [
            k3d.marching_cubes(
                -scene.densities[0].astype(np.float32),  # K3D's surfaces face where values are high
                level=-1.0,
                color=packed(BLUE),
                color_map=np.array([[at, *rgb(colour)] for at, colour in PALETTE.items()], np.float32),
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
            item.id = number  # in place of an address in memory, so that equal pages are equal files
            plot += item
        text = plot.get_snapshot(compression_level=COMPRESSION, additional_js_code=_part("viewer.js"))
        for widget in (*items, plot):
            widget.close()  # else they would be kept, and their arrays, for a notebook that there is not
    return _furnished(text, details.title)


def run_details(content: Mapping[str, Any], levels: Float[np.ndarray, " t"], scene: Scene) -> Details:
    """What there is to tell of a run: ``content`` is its report."""
    settings = content["settings"]
    resolved = settings.get("resolved") or {}
    x, y, z = content["inputs"][0]["voxel_size"]
    facts = [(f"map {number}", str(item["path"])) for number, item in enumerate(content["inputs"], start=1)]
    facts += [("method", str(settings["method"])), ("voxel", f"{x:.4g} x {y:.4g} x {z:.4g} Å")]
    if resolved:
        widths = dict.fromkeys(f"{value:.4g}" for value in resolved["sigma_voxels_zyx"])
        facts += [("sigma", f"{' x '.join(widths)} voxels"), ("kernel", f"{resolved['kernel']}")]
        facts += [("precision", str(content["precision"]))]
    facts += [("device", str(content["device"])), ("morphot_jax", str(content["version"]))]
    notes = [str(note) for note in (*content.get("actions", ()), *content["warnings"])]
    if scene.coarsened > 1:
        notes.append(
            f"shown here coarser than the files are: each voxel is the mean of {scene.coarsened}^3 of theirs"
        )
    rows = [
        (f"{frame['time']:.3g}", f"{level:.3g}", _short(frame["marginal_error"]), str(frame["status"]))
        for frame, level in zip(content["frames"], levels, strict=True)
    ]
    names = [_last_part(str(item["path"])) for item in content["inputs"]]
    return Details(" → ".join(names), facts, notes, rows)


def field_details(names: Sequence[str], found: Displacement) -> Details:
    """What there is to tell of a displacement: how the whole map and each of its parts move."""
    facts = [(f"map {number}", name) for number, name in enumerate(names, start=1)]
    for domain in found.domains:
        pose = domain.pose
        moved = f"{domain.length:.2f} Å on average, turns by {pose.degrees:.1f}°, slides {pose.slide:.2f} Å"
        facts.append((_last_part(domain.name), moved))
    title = "Displacement: " + " → ".join(map(_last_part, names))
    return Details(title, facts, list(found.warnings))


def _last_part(name: str) -> str:
    """Of a path, whichever way its slashes lean."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _short(error: float | None) -> str:
    return "-" if error is None else f"{error:.0e}"


def _content(scene: Scene, details: Details, coloured: Coloured | None) -> dict[str, Any]:
    """What ``viewer.js`` draws from; densities as the bits of half-precision numbers."""
    densities = np.where(scene.densities > 0.5 * scene.contours.min(), scene.densities, 0.0)
    halves = np.minimum(densities, np.finfo(np.float16).max).astype(np.float16).view(np.uint16)
    found = {
        "title": details.title,
        "facts": [list(fact) for fact in details.facts],
        "notes": list(details.notes),
        "rows": [list(row) for row in details.rows],
        "good": [str(status) for status in ENDED_WELL],
        "times": scene.times.tolist(),
        "levels": scene.levels.tolist(),
        "contours": scene.contours.tolist(),
        "factors": FACTORS.tolist(),
        "densities": halves & np.uint16(FINEST),
        "centre": scene.centre.tolist(),
        "radius": scene.radius,
        "palette": list(PALETTE.values()),
        "lengths": None,
    }
    if coloured is not None:
        share = np.clip(coloured.values / (coloured.longest or 1.0), 0.0, 1.0)
        found |= {"lengths": np.round(255.0 * share).astype(np.uint8), "longest": coloured.longest}
    return found


def _placing(scene: Scene) -> Float[np.ndarray, "4 4"]:
    """K3D's cube from -1/2 to 1/2, the first and the last voxel at its sides, to where they are in Å."""
    z, y, x = scene.densities.shape[1:]
    matrix = np.diag([*(np.array([x - 1, y - 1, z - 1]) * scene.voxel_size), 1.0])
    matrix[:3, 3] = scene.centre
    return matrix.astype(np.float32)


def _furnished(text: str, title: str) -> str:
    """K3D's page with ours around its picture."""
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

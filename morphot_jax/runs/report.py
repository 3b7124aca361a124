"""The reports and tables of runs: report.json and its kin, and CSV files."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from morphot_jax import __version__
from morphot_jax.maps import metrics
from morphot_jax.maps.load import Input
from morphot_jax.maps.resample import voxel_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import bounding_box
from morphot_jax.morphing.coordinates import Coordinates
from morphot_jax.morphing.fading import Fading
from morphot_jax.morphing.field import Displacement, Domain
from morphot_jax.morphing.landscape import Landscape
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.rigid import RigidBody, RigidMorph, both_ways
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.sharpness import Sharpness
from morphot_jax.morphing.trajectory import Frame, Trajectory
from morphot_jax.morphing.walls import Walls
from morphot_jax.prepare.align import Alignment
from morphot_jax.prepare.levels import enclosed
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.prepare.symmetric import Symmetry
from morphot_jax.runs.request import Request
from morphot_jax.show import chimerax
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.tables import to_csv
from morphot_jax.system.threads import side_by_side
from morphot_jax.transport.certificate import Certificate

REPORT, PREPARED, ALIGNED = "report.json", "prepare.json", "align.json"
METRICS = "metrics.csv"
CERTIFICATE = "certificate"  # the key of report.json
CONVERGENCE, ROUNDS, FADING = "convergence.csv", "rounds.csv", "fading.csv"
ORDER, DISTANCES = "order.csv", "distances.csv"
LANDSCAPE, LANDSCAPE_TABLE = "landscape.json", "landscape.csv"
COORDINATES, PLACED = "coordinates.csv", "place.json"
FIELD, DOMAINS = "field.json", "domains.csv"
MODEL = "model.cif"  # the atoms along the trajectory
BODIES, BODIES_TABLE = "bodies.json", "bodies.csv"
DOMAIN_COLUMNS = ("domain", "share_of_mass", "mean_x", "mean_y", "mean_z", "mean_length", "degrees")
DOMAIN_COLUMNS += ("axis_x", "axis_y", "axis_z", "pivot_x", "pivot_y", "pivot_z", "slide", "rest")
DOMAIN_COLUMNS += ("rounds", "last_change", "settled")


@dataclass
class Run:
    """The content of a report beside the trajectory."""

    command: str
    inputs: list[Input]
    device: str
    seconds: dict[str, float] = field(default_factory=dict)
    preparation: dict[str, Any] = field(default_factory=dict)
    signals: list[dict[str, Any] | None] = field(default_factory=list)
    region: dict[str, Any] | None = None


def earlier(folder: Path) -> dict[str, Any]:
    """The report of an earlier run in a folder; empty where none can be read."""
    try:
        content = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def frame_name(index: int) -> str:
    """The file name of a frame."""
    return f"vol_{index:03d}.mrc"


def doubt_names(before: int) -> tuple[str, str]:
    """The file names of the doubts of the motions from the map of that index to the next, and back."""
    one, other = (f"doubt_{start}_to_{end}.mrc" for start, end in both_ways(before))
    return one, other


def fading_names(before: int) -> tuple[str, str, str]:
    """The file names of what fades of the map of that index, appears in the next, and is carried to it."""
    start, end = both_ways(before)[0]
    fades, appears, carried = (f"{name}_{start}_to_{end}.mrc" for name in ("fades", "appears", "carried"))
    return fades, appears, carried


def compose(
    run: Run, trajectory: Trajectory, peak_memory_bytes: int | None, *, written: bool = True
) -> dict[str, Any]:
    """The content of report.json; ``written``: whether the frames are files."""
    plan = trajectory.plan
    resolved = {}
    if plan:
        resolved = {
            "sigma_voxels_zyx": list(plan.sigma),
            "gap_sigma": _number(plan.distance),
            "kernel": plan.kernel,
            "precision": plan.precision,
            "batch": plan.batch,
            "relaxation": plan.relaxation
            and {name: _number(value) for name, value in asdict(plan.relaxation).items()},
            "stride": plan.stride,
            "max_iterations": plan.iterations,
            "reach_sigma": plan.reach,
            "steps": plan.steps,
            "reasons": plan.reasons,
        }
    return _heading(run.command, run.inputs) | {
        "settings": {**asdict(trajectory.settings), "preparation": run.preparation, "resolved": resolved},
        "device": run.device,
        "precision": plan.precision if plan else "single",
        "signal": run.signals,
        "region": run.region,
        "actions": list(trajectory.actions),
        "warnings": list(trajectory.warnings),
        "frames": [_frame_entry(frame, written) for frame in trajectory.frames],
        "doubt": [
            _doubt_entry(found, min(trajectory.template.voxel_size), written=written)
            for found in trajectory.motions
        ],
        "fading": [_fading_entry(found, written=written) for found in trajectory.faded],
        "bodies": [[body_entry(body) for body in found] for found in trajectory.bodies],
        "symmetry": [
            [_symmetry_entry(one) for one in found.symmetry] for found in trajectory.motions if found.symmetry
        ],
        "seconds": run.seconds,
        "peak_memory_bytes": peak_memory_bytes,
    }


def _doubt_entry(found: RigidMorph, edge: float, *, written: bool) -> list[dict[str, Any]]:
    """How far to doubt the motions between two maps, in Å, for either map: of so much of its mass at most."""
    quantiles = [[edge * doubt for doubt in found.doubt_of(share)] for share in (0.5, 0.95)]
    return [
        {"file": name if written else None, "median": median, "quantile_95": high}
        for name, median, high in zip(doubt_names(found.before), *quantiles, strict=True)
    ]


def _fading_entry(found: Fading, *, written: bool) -> dict[str, Any]:
    """How much fades of a map, appears in the next, and is carried, and the files of these densities."""
    fades, appears, carried = fading_names(found.before)
    rows = zip(("fades", "appears"), (fades, appears), found.parts, found.shares, strict=True)
    entry: dict[str, Any] = {
        name: {"file": file if written else None, "mass": part.mass, "share": share}
        for name, file, part, share in rows
    }
    return entry | {"carried": {"file": carried if written else None, "mass": found.carried.mass}}


def regions_table(faded: Sequence[Fading]) -> str:
    """One line for each connected region that fades or appears: its mass, volume (Å^3), centre (Å) and peak."""
    rows = [
        [found.before + 1 + k, what, number, region.mass, region.share, region.volume, *region.centre, region.peak]
        for found in faded
        for k, (what, regions) in enumerate(zip(("fades", "appears"), found.regions(), strict=True))
        for number, region in enumerate(regions, 1)
    ]
    return to_csv(["map", "what", "region", "mass", "share_of_map", "volume", "x", "y", "z", "peak"], rows)


def _symmetry_entry(found: Symmetry) -> dict[str, Any]:
    """The symmetry of one map as an entry of report.json: its axis (x, y, z), centre (Å) and self-overlap."""
    return {
        "group": found.group,
        "axis": found.axis.tolist(),
        "centre": found.centre.tolist(),
        "overlap": found.overlap,
    }


def certificate_entry(found: Certificate, volume: Volume, seconds: float) -> dict[str, Any]:
    """Bounds of W_2^2 / 2, given in Å^2, as an entry of report.json: in voxel^2 (of the shortest edge) too."""
    voxel = min(volume.voxel_size) ** 2
    return {
        "lower": found.lower / voxel,
        "upper": found.upper / voxel,
        "lower_angstrom2": found.lower,
        "upper_angstrom2": found.upper,
        "gap": found.gap,
        "sigma": found.sigma,
        "iterations": found.iterations,
        "seconds": seconds,
    }


def region_entry(request: Request, walls: Walls | None) -> dict[str, Any] | None:
    """The entry of report.json about the region that mass must not leave; None without one."""
    return walls and {
        "within": request.within,
        "avoid": request.avoid,
        "voxels": int(np.count_nonzero(walls.inside)),
        "longest_way": walls.longest,
    }


def compose_prepared(
    request: Request, inputs: Sequence[Input], prepared: Prepared, names: Sequence[str]
) -> dict[str, Any]:
    """The content of prepare.json: inputs, options, actions, warnings, and the prepared maps."""
    maps = [
        {
            "file": name,
            "shape": list(volume.shape),
            "voxel_size": list(volume.voxel_size),
            "origin": list(volume.origin),
            "mass": mass,
            "background": own,
            "mass_kept": _kept(volume, item.volume, own),
        }
        for name, volume, mass, own, item in zip(
            names, prepared.volumes, prepared.masses, prepared.backgrounds, inputs, strict=True
        )
    ]
    return _heading(request.command, inputs) | {
        "settings": preparation_entry(request),
        "actions": list(prepared.actions),
        "warnings": list(prepared.warnings),
        "maps": maps,
    }


def _kept(prepared: Volume, given: Volume, background: float) -> float | None:
    """The share of a map's density above its background that is left, per volume; None where it had none."""
    above = float(np.maximum(given.data - background, 0.0).sum(dtype=np.float64))
    if above <= 0:
        return None
    return prepared.mass * voxel_volume(prepared) / (above * voxel_volume(given))


def compose_alignment(
    command: str,
    inputs: Sequence[Input],
    chosen: dict[str, Any],
    alignment: Alignment,
    warnings: Sequence[str],
    file: str,
) -> dict[str, Any]:
    """The content of align.json: the motion of the first input onto the second, and how well it fits.

    ``chosen``: the options of the alignment.
    """
    pose, other = alignment.pose, alignment.runner_up
    return _heading(command, inputs) | {
        **chosen,
        "file": file,
        "matrix": pose.matrix.tolist(),
        "chimerax": None if pose.mirrored else chimerax.placing(1, pose),
        "mirrored": pose.mirrored,
        "rotation_degrees": pose.degrees,
        "rotation_axis_xyz": pose.axis.tolist(),
        "shift_xyz": pose.shift.tolist(),
        "correlation": alignment.correlation,
        "correlation_before": alignment.before,
        "correlation_other_hand": alignment.other_hand,
        "equal_poses": alignment.equal_poses,
        "runner_up": other
        and {
            "matrix": other.pose.matrix.tolist(),
            "correlation": other.correlation,
            "degrees": other.degrees,
            "distance": other.distance,
        },
        "warnings": list(warnings),
    }


def compose_field(
    request: Request, inputs: Sequence[Input], prepared: Prepared, settings: Settings, displacement: Displacement
) -> dict[str, Any]:
    """The content of field.json: inputs, settings, and how each domain moves."""
    return _solved(request, inputs, prepared, settings, displacement.warnings) | {
        "domains": [dict(zip(DOMAIN_COLUMNS, _domain_row(one), strict=True)) for one in displacement.domains],
    }


def compose_placed(
    request: Request, inputs: Sequence[Input], prepared: Prepared, found: Coordinates
) -> dict[str, Any]:
    """The content of place.json: inputs, settings, and the solve of the barycenter nearest to each map."""
    entries = [
        {
            "map": item.name,
            "weights": weights.tolist(),
            "deviations": spread.tolist(),
            "residual": float(residual),
            "marginal_error": _number(lane.marginal_error),
            "iterations": lane.iterations,
            "status": str(lane.status),
            "limit": str(lane.stop.limit),
            "reason": lane.stop.reason,
        }
        for item, weights, spread, residual, lane in zip(
            inputs[found.references :], found.weights, found.deviations, found.residuals, found.lanes, strict=True
        )
    ]
    return _solved(request, inputs, prepared, found.settings, found.warnings[len(prepared.warnings) :]) | {
        "references": [item.name for item in inputs[: found.references]],
        "nodes": len(found.settings.weights or ()),
        "span": found.span,
        "interpolation": found.interpolation,
        "maps": entries,
        "seconds": {"compile": found.clock.compile, "solve": found.clock.solve},
    }


def compose_landscape(
    request: Request,
    inputs: Sequence[Input],
    prepared: Prepared,
    found: Landscape,
    seconds: dict[str, float],
    peak_memory_bytes: int | None,
) -> dict[str, Any]:
    """The content of landscape.json: inputs, settings, the order, the path, and how the plans were solved."""
    pairs = found.pairs.values()
    names = [item.name for item in inputs]
    return _solved(request, inputs, prepared, found.settings, found.warnings[len(prepared.warnings) :]) | {
        "kernel": found.plan.kernel,
        "sigma_voxels_zyx": list(found.plan.sigma),
        "order": [names[k] for k in found.order.indices],
        "agreement": found.order.agreement,
        "path": [names[k] for k in found.path],
        "shares": found.shares.tolist(),
        "plans": len(pairs),
        "iterations": max(pair.iterations for pair in pairs),
        "marginal_error": _number(max(pair.marginal_error for pair in pairs)),
        "statuses": {str(status): n for status, n in Counter(pair.status for pair in pairs).items()},
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes,
    }


def landscape_tables(found: Landscape, names: Sequence[str]) -> dict[str, str]:
    """File names and texts: the maps in their order, with their coordinates; the distances between all."""
    rows, before = [], None
    for rank, k in enumerate(found.order.indices.tolist(), start=1):
        step = "" if before is None else float(found.distances[before, k])
        rows.append([rank, names[k], *found.coordinates[k].tolist(), step, k in found.path])
        before = k
    matrix = [[name, *row.tolist()] for name, row in zip(names, found.distances, strict=True)]
    return {
        LANDSCAPE_TABLE: to_csv(["rank", "map", "axis_1", "axis_2", "axis_3", "from_previous", "on_path"], rows),
        DISTANCES: to_csv(["map", *names], matrix),
    }


def coordinates_table(found: Coordinates, names: Sequence[str]) -> str:
    """One line for each map: its weights among the references, and how near their barycenter is."""
    k = found.references
    columns = ["map", *(f"weight_{j}" for j in range(1, k + 1)), *(f"deviation_{j}" for j in range(1, k + 1))]
    rows = [
        [name, *weights.tolist(), *spread.tolist(), float(residual), bool(far), float(blur), str(lane.status)]
        for name, weights, spread, residual, far, blur, lane in zip(
            names,
            found.weights,
            found.deviations,
            found.residuals,
            found.far,
            found.blurs,
            found.lanes,
            strict=True,
        )
    ]
    return to_csv([*columns, "residual", "far", "blur_sigma", "status"], rows)


def compose_bodies(
    request: Request,
    inputs: Sequence[Input],
    prepared: Prepared,
    settings: Settings,
    bodies: Sequence[RigidBody],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of bodies.json: inputs, settings, and how each body moves."""
    return _solved(request, inputs, prepared, settings, warnings) | {
        "bodies": [body_entry(body) for body in bodies],
    }


def domains_table(domains: Sequence[Domain]) -> str:
    """One line for each domain: displacement, nearest rigid motion, and how it was found; in Å and degrees."""
    return to_csv(list(DOMAIN_COLUMNS), [_domain_row(domain) for domain in domains])


def _domain_row(domain: Domain) -> list[Any]:
    pose = domain.pose
    vectors = (*domain.mean, domain.length, pose.degrees, *pose.axis, *pose.pivot, pose.slide, domain.rest)
    numbers = [float(value) for value in vectors]
    return [domain.name, domain.share, *numbers, domain.rounds, domain.change, domain.settled]


def body_entry(body: RigidBody) -> dict[str, Any]:
    """How a body moves from the first map to the second; lengths in Å along x, y, z."""
    pose = body.pose
    return {
        "body": body.name,
        "share_of_first": body.mass[0],
        "share_of_last": body.mass[1],
        "shift": body.shift,
        "degrees": pose.degrees,
        **{f"axis_{name}": float(value) for name, value in zip("xyz", pose.axis, strict=True)},
        **{f"pivot_{name}": float(value) for name, value in zip("xyz", pose.pivot, strict=True)},
        "slide": pose.slide,
        "misfit": body.misfit,
        "clear": _number(body.clear),
    }


def bodies_table(bodies: Sequence[RigidBody]) -> str:
    """One line for each body."""
    rows = [body_entry(body) for body in bodies]
    return to_csv(list(rows[0]), [list(row.values()) for row in rows])


def preparation_entry(request: Request) -> dict[str, Any]:
    """The options that say how to prepare the maps, by their names."""
    preparation = request.preparation
    if not isinstance(preparation.mask, str | None):
        preparation = replace(preparation, mask="a map without a name")
    return {"voxel_size": request.voxel_size, **asdict(preparation)}


def signal_entries(request: Request, prepared: Prepared) -> list[dict[str, Any] | None]:
    """How much of each map is signal, as entries of report.json: in shells of frequency (cycles per Å)."""
    halves = request.halves or [None] * len(request.maps)
    return [
        known
        and {
            "source": known.source,
            "half_maps": names,
            "resolution": known.resolution,
            "frequency": known.frequency.tolist(),
            "share": known.share.tolist(),
        }
        for known, names in zip(prepared.signals[: len(halves)], halves, strict=True)
    ]


def to_json(content: dict[str, Any]) -> str:
    """The content as text; ValueError for a value that JSON cannot hold."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def frame_rows(
    trajectory: Trajectory,
    maps: Sequence[Volume],
    levels: Float[np.ndarray, " t"],
    report: Report = silent,
) -> list[dict[str, Any]]:
    """The rows of metrics.csv: for each frame its solve, its level, the volume that this encloses (Å^3), how sharp
    it is, and measures against the first and the last map and the frame before.

    - ``maps``: all that the trajectory leads through.
    - ``report``: called with the number of frames measured so far and of all.
    """
    first, last = maps[0], maps[-1]
    # All densities are zero outside this window.
    window = bounding_box((trajectory.densities.max(axis=0) > 0) | (first.data > 0) | (last.data > 0))
    ends = {"first": first.data[window], "last": last.data[window]}
    sharpness, weights = Sharpness(maps, window), trajectory.weights(len(maps))

    def row_of(frame: Frame) -> dict[str, Any]:
        density = trajectory.densities[frame.index][window]
        row: dict[str, Any] = {
            "frame": frame.index,
            "time": repr(frame.time),
            "mass": repr(frame.mass),
            "marginal_error": _number(frame.marginal_error),
            "iterations": frame.iterations,
            "status": str(frame.status),
            "maximum": float(density.max()),
            "level": float(levels[frame.index]),
            "enclosed_volume": enclosed(density, levels[frame.index]) * voxel_volume(trajectory.template),
        }
        if trajectory.settings.weights is not None:
            row |= {f"weight_{k}": float(weight) for k, weight in enumerate(weights[frame.index], 1)}
        row |= sharpness.measured(weights[frame.index], density)
        for end, reference in ends.items():
            row[f"relative_rms_to_{end}"] = float(metrics.relative_rms(density, reference))
            row[f"voxel_difference_to_{end}"] = float(metrics.voxel_difference(density, reference))
            row[f"correlation_to_{end}"] = float(metrics.correlation(density, reference))
        if frame.index > 0:
            before = trajectory.densities[frame.index - 1][window]
            row["relative_rms_to_previous"] = float(metrics.relative_rms(density, before))
            row["voxel_difference_to_previous"] = float(metrics.voxel_difference(density, before))
        return row

    return side_by_side(row_of, trajectory.frames, report)


def order_tables(ordering: Ordering, names: Sequence[str]) -> dict[str, str]:
    """File names and texts: the maps in their order; the distance of each from every frame, as they were named."""
    columns = (ordering.places, ordering.nearest, ordering.least, ordering.off_path)
    places, nearest, least, off_path = (column.tolist() for column in columns)
    ranked = [
        [rank, names[i], places[i], nearest[i], least[i], off_path[i]]
        for rank, i in enumerate(ordering.order, start=1)
    ]
    rows = [[name, *row.tolist()] for name, row in zip(names, ordering.distances, strict=True)]
    return {
        ORDER: to_csv(["rank", "map", "time", "nearest_frame", "distance", "off_path"], ranked),
        DISTANCES: to_csv(["map", *(f"t={time:.6g}" for time in ordering.times)], rows),
    }


def convergence_table(trajectory: Trajectory) -> str:
    """One line for each frame and iteration: the marginal error, and the changes of the barycenter."""
    rows = []
    for frame in trajectory.frames:
        for iteration, values in enumerate(frame.history, start=1):
            known = [f"{value:.6e}" for value in values]
            rows.append([frame.index, repr(frame.time), iteration, *known, *[""] * (3 - len(known))])
    return to_csv(["frame", "time", "iteration", "marginal_error", "change_l1", "change_l2"], rows)


def rounds_table(trajectory: Trajectory) -> str:
    """One line for each round by which the method 'rigid' found the motions of a map to its neighbour; in Å."""
    rows, edge = [], min(trajectory.template.voxel_size)
    for found in trajectory.motions:
        for ends, side in zip(both_ways(found.before), found.sides, strict=True):
            for number, made in enumerate(side.rounds, 1):
                lengths = (edge * length for length in (made.radius, made.change, made.left))
                rows.append([*ends, number, *lengths, made.error, made.iterations])
    names = ["map", "to_map", "round", "radius", "change", "left", "marginal_error", "iterations"]
    return to_csv(names, rows)


def tables(trajectory: Trajectory, rows: Sequence[dict[str, Any]], model: str | None = None) -> dict[str, str]:
    """The file name and text of every table and script of a run.

    ``rows``: from ``frame_rows``. ``model``: the file of the atoms that were carried along.
    """
    names = [frame_name(frame.index) for frame in trajectory.frames]
    levels = [row["level"] for row in rows]
    parts = [name for found in trajectory.faded for name in fading_names(found.before)[:2]]
    texts = {
        METRICS: to_csv(list(rows[-1]), [[row.get(name) for name in rows[-1]] for row in rows]),
        chimerax.SERIES: chimerax.series_script(names, levels, model, parts),
    }
    if trajectory.faded:
        texts[FADING] = regions_table(trajectory.faded)
    if any(len(frame.history) for frame in trajectory.frames):
        texts[CONVERGENCE] = convergence_table(trajectory)
    if trajectory.motions:
        texts[ROUNDS] = rounds_table(trajectory)
    return texts


def _heading(command: str, inputs: Sequence[Input]) -> dict[str, Any]:
    """The keys that every report begins with."""
    return {"version": __version__, "command": command, "inputs": [_input_entry(item) for item in inputs]}


def _solved(
    request: Request, inputs: Sequence[Input], prepared: Prepared, settings: Settings, warnings: Sequence[str]
) -> dict[str, Any]:
    """The keys of reports without frames; ``warnings``: those about the solve."""
    return _heading(request.command, inputs) | {
        "settings": {**asdict(settings), "preparation": preparation_entry(request)},
        "actions": list(prepared.actions),
        "warnings": [*prepared.warnings, *warnings],
    }


def _input_entry(item: Input) -> dict[str, Any]:
    return {
        "path": item.name,
        "sha256": item.sha256,
        "shape": list(item.volume.shape),
        "voxel_size": list(item.volume.voxel_size),
        "origin": list(item.volume.origin),
        "mass": item.volume.mass,
        "warnings": list(item.warnings),
    }


def _frame_entry(frame: Frame, written: bool) -> dict[str, Any]:
    return {
        "index": frame.index,
        "time": frame.time,
        "file": frame_name(frame.index) if written else None,
        "mass": frame.mass,
        "marginal_error": _number(frame.marginal_error),
        "iterations": frame.iterations,
        "status": str(frame.status),
        "limit": frame.limit,
        "reason": frame.reason,
        "change_l1": _number(frame.change_l1),
        "change_l2": _number(frame.change_l2),
        "unreached": _number(frame.unreached),
        "bias": _number(frame.bias),
        "loose": _number(frame.loose),
        "aligned": _number(frame.aligned),
    }


def _number(value: Any) -> float | None:
    """The value as a float for JSON; None where it is missing or not finite."""
    return float(value) if value is not None and math.isfinite(value) else None

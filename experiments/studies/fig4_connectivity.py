"""The paper's Figure 4: does a moving domain stay in one piece?

    python -m experiments.studies.fig4_connectivity -o OUT

One receptor-binding domain of the SARS-CoV-2 spike rises (6VXX to 6VYB). If the spike is missing, the lid of
adenylate kinase from the samples is used. For every method and for small to large sigma the study counts the
pieces of the frames at several contour levels, and the share of the mass above the level that is outside the
largest piece. Pieces of fewer than 8 voxels are not counted. The moved atoms are measured in the same way.

The plan between the two maps gives the share of the domain's mass that goes to places outside the domain. The
share s(x) = domain / all of the mass at x belongs to the domain, so that

    leaving = 1 - sum_xy s_0(x) P(x, y) s_1(y) / sum_x s_0(x) a(x) ,

compared with the same number for the plan of the first map to itself, which is the blur of the plan alone. For
``--maps`` no atoms are known: the frames are measured, and the plan is left out.

OUT holds ``results.csv``, ``connectivity.png``, ``sigma.png``, ``frames.png``, ``claims.json``. About four minutes
in full on 2 cores.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from experiments import figures, maps, points
from experiments.cases import SPIKE_VOXEL, SPIKE_WIDTH, box_around, centred_box
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.figures import COLOURS, methods_in
from experiments.maps import DATA
from experiments.methods import METHODS, frames_of
from experiments.motions import straight
from experiments.options import PairOptions, command
from experiments.tables import curve
from morphot_jax import Settings, kernels, prepare_maps, solve_sinkhorn
from morphot_jax.maps.atoms import Atoms, simulate_density
from morphot_jax.maps.metrics import fragments
from morphot_jax.maps.samples import GRID, VOXEL_SIZES, WIDTHS, sample_atoms
from morphot_jax.maps.volume import Grid
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.transport.status import Status

FRAMES, QUICK_FRAMES = 25, 5
QUICK_GRID = 32
GAMMAS, QUICK_GAMMAS = (0.5, 0.7, 1.0, 1.5, 2.0, 4.0), (0.7, 1.5)  # of boxes of 64^3
USUAL = 1.0
LEAST = {"barycenter": 0.7, "debiased": 1.0}  # smaller sigmas take hours on distant maps
QUICK_METHODS = ("linear", "original", "bridge", "displacement")
LEVELS = (0.1, 0.2, 0.3, 0.4)  # of the maximum of the first map
SHOWN_LEVEL = 0.4
WIDTH = 2.0  # Å, of the atoms of the spike: with wider ones everything is one piece
SMALLEST = 8  # voxels in boxes of 64^3
DETACHED = 1e-3  # share of the mass: more than this counts as a fragment
MOVED = 8.0  # Å: farther than any residue of the static domains moves
PLANS = {"leaving": "to the other map", "leaving_at_rest": "to itself"}
MEASURES = {"pieces": "pieces", "detached": "mass outside the largest"}
LID = range(122, 160)  # residues of adenylate kinase
ATOMS = "atoms"
COLUMNS = ("case", "grid", "what", "method", "sigma", "time", "level", "pieces", "detached")
COLUMNS += ("leaving", "leaving_at_rest", "status")


class Subject(NamedTuple):
    """Atoms of two states, a mask of the moving domain, their grid, and the width of an atom (Å)."""

    first: Atoms
    last: Atoms
    moving: Bool[np.ndarray, " n"]
    box: Grid
    width: float


def main(options: PairOptions) -> None:
    """Count the pieces of frames."""
    output, quick = options.output, options.quick
    side, frames, methods = (QUICK_GRID, QUICK_FRAMES, QUICK_METHODS) if quick else (GRID, FRAMES, METHODS)
    given = None if options.maps is None else options.pair
    case = "spike" if (DATA / "spike_ca.npz").is_file() else "adk-sample"
    about = {"maps": case, "contents": ""} if given is None else maps.about(given)
    sigmas = [options.sigma_of(gamma) * side / GRID for gamma in (QUICK_GAMMAS if quick else GAMMAS)]
    shared = {"study": ["fig4_connectivity"], "grid": [side], "frames": [frames]}
    shared |= {
        "case": [about["maps"]],
        "contents": [about["contents"]],
        "width": [WIDTH],
        "levels": [list(LEVELS)],
    }
    unmoved = [ATOMS, "linear"] if given is None else ["linear"]
    places = grid(**shared, what=["frames"], method=unmoved, sigma=[0.0])
    places += [
        point
        for point in grid(**shared, what=["frames"], sigma=sigmas, method=[m for m in methods if m != "linear"])
        if point["sigma"] * GRID / side >= LEAST.get(str(point["method"]), 0.0)
    ]
    if given is None:
        places += grid(**shared, what=["plan"], sigma=sigmas)
    sweep = Sweep(output, places, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(partial(measure, given)), options.share):
        usual = min(sigmas, key=lambda sigma: abs(sigma * GRID / side - USUAL))
        with figures.style():
            figures.save(connectivity_figure(rows, usual), output / "connectivity.png")
            figures.save(sigma_figure(rows, usual), output / "sigma.png")
            figures.save(frames_figure(sweep, usual), output / "frames.png")
        conclude(output, claims(rows, usual))


def measure(given: tuple[str, str] | None, point: Point) -> Outcome:
    """Measure the frames or the plan of a point, of the given maps or of the simulated ones."""
    if point["what"] == "plan":
        return plan_of(point)
    side = point["grid"]
    return frames(point, maps_of(point["case"], side) if given is None else maps.load(given, side))


def frames(point: Point, pair: Prepared) -> Outcome:
    """Pieces and detached mass of every frame at every level."""
    times = tuple(np.linspace(0.0, 1.0, point["frames"]).tolist())
    if point["method"] == ATOMS:
        densities = [unit_mass(density_of(point["case"], point["grid"], t)) for t in times]
        status = "given"
    else:
        settings = Settings(sigma=point["sigma"] or USUAL, max_iterations=1000)
        densities, status, _ = frames_of(point["method"], pair, times, settings)
    top = float(unit_mass(pair.volumes[0].data).max())
    smallest = max(1, round(SMALLEST * (point["grid"] / GRID) ** 3))
    rows = []
    for time, density in zip(times, densities, strict=True):
        for level in LEVELS:
            pieces, detached = fragments(density, level * top, smallest=smallest)
            rows.append({"time": time, "level": level, "pieces": pieces, "detached": detached, "status": status})
    return Outcome(rows, {"half_way": densities[len(times) // 2].sum(axis=1).astype(np.float32)})


def plan_of(point: Point) -> Outcome:
    """The share of the domain's mass that leaves it."""
    pair = maps_of(point["case"], point["grid"])
    shares = [domain_share(point["case"], point["grid"], t) for t in (0.0, 1.0)]
    first, last = (unit_mass(volume.data).astype(np.float64) for volume in pair.volumes)
    leaving_shares, statuses = {}, set()
    for name, target, share in (("leaving", last, shares[1]), ("leaving_at_rest", first, shares[0])):
        leaving_shares[name], status = leaving(first, target, shares[0], share, point["sigma"])
        statuses.add(status)
    return Outcome([leaving_shares | {"status": " ".join(sorted(statuses))}])


def leaving(
    first: Float[np.ndarray, "z y x"],
    last: Float[np.ndarray, "z y x"],
    before: Float[np.ndarray, "z y x"],
    after: Float[np.ndarray, "z y x"],
    sigma: float,
) -> tuple[float, str]:
    """The share of the mass ``before`` * first that the plan does not take to ``after`` * last, and the status."""
    with jax.enable_x64(True):
        kernel = kernels.make("heat", first.shape, sigma, jnp.float64)
        plan = solve_sinkhorn(jnp.asarray(first), jnp.asarray(last), kernel, max_iterations=1000)
        arrived = kernel.log_apply(plan.potentials[1] + jnp.log(jnp.asarray(after)))
        stays = jnp.sum(jnp.asarray(before) * jnp.exp(plan.potentials[0] + arrived))
        return 1.0 - float(stays) / float((before * first).sum()), str(Status(int(plan.status)))


@cache
def subject(case: str) -> Subject:
    if case == "spike":
        with np.load(DATA / "spike_ca.npz") as file:
            states = [file[name].astype(np.float64) for name in ("closed", "open")]
            moving = file["rbd"] & (np.linalg.norm(states[1] - states[0], axis=1) > MOVED)
        first, last = (Atoms(positions, np.ones(len(positions))) for positions in states)
        return Subject(first, last, moving, box_around((first, last), SPIKE_WIDTH, SPIKE_VOXEL), WIDTH)
    first, last = sample_atoms("adk-open"), sample_atoms("adk-closed")
    moving = np.isin(first.residues, LID)
    return Subject(first, last, moving, centred_box(VOXEL_SIZES["adk"]), float(WIDTHS["adk"]))


@cache
def density_of(case: str, side: int, t: float, *, domain: bool = False) -> Float[np.ndarray, "z y x"]:
    """The density of the moved atoms, or of the moving domain alone, on the grid of the maps."""
    given = subject(case)
    atoms = straight(given.first, given.last)(t)
    if domain:
        atoms = Atoms(atoms.positions[given.moving], atoms.weights[given.moving])
    coarse = GRID // side
    shape = tuple(n // coarse for n in given.box.shape)
    step = tuple(edge * coarse for edge in given.box.voxel_size)
    origin = given.box.origin
    return simulate_density(atoms, shape=shape, voxel_size=step, origin=origin, width=given.width).data


@cache
def maps_of(case: str, side: int) -> Prepared:
    given = subject(case)
    volume = simulate_density(given.first, **vars(given.box), width=given.width)
    coarse = GRID // side
    step = tuple(edge * coarse for edge in volume.voxel_size)
    ends = [type(volume)(density_of(case, side, t), step, volume.origin) for t in (0.0, 1.0)]
    return prepare_maps(ends)


def domain_share(case: str, side: int, t: float) -> Float[np.ndarray, "z y x"]:
    """The moving domain's share of the density; 0 where the density is 0."""
    whole, part = density_of(case, side, t), density_of(case, side, t, domain=True)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def along(rows: list[Row], method: str, sigma: float, level: float, measure: str) -> dict[float, float]:
    """A measure by time; methods without a sigma are stored with sigma 0."""
    sigma = 0.0 if method in (ATOMS, "linear") else sigma
    return curve(rows, "time", measure, {"what": "frames", "method": method, "sigma": sigma, "level": level})


def connectivity_figure(rows: list[Row], sigma: float) -> Figure:
    """Pieces and detached mass along t, a column for each level."""
    figure, axes = figures.panels(2, len(LEVELS), size=(2.6, 2.3), sharex=True, sharey="row")
    for row, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for panel, level in zip(row, LEVELS, strict=True):
            for method in methods_in(rows):
                figures.draw(panel, method, along(rows, method, sigma, level, measure), marks=6)
        row[0].set_ylabel(label)
    for panel, level in zip(axes[0], LEVELS, strict=True):
        panel.set_title(f"level {level:.0%} of the maximum")
    for panel in axes[-1]:
        panel.set_xlabel("t (closed to open)")
    figures.legend_below(figure, axes[0, 0], ncols=7)
    figure.suptitle(f"Pieces of the frames at sigma {sigma:.3g} voxels", fontsize=9)
    return figure


def sigma_figure(rows: list[Row], usual: float) -> Figure:
    """The largest detached mass of any frame, and the mass that leaves the domain, against sigma."""
    figure, axes = figures.panels(1, 2, size=(3.8, 3.0))
    left, right = axes[0]
    sigmas = sorted({row["sigma"] for row in rows if row["sigma"] > 0})
    for method in methods_in(rows):
        shares = {sigma: along(rows, method, sigma, SHOWN_LEVEL, "detached").values() for sigma in sigmas}
        figures.draw(left, method, {sigma: max(found, default=np.nan) for sigma, found in shares.items()})
    left.set_ylabel(f"largest detached mass at level {SHOWN_LEVEL:.0%}")
    left.legend(fontsize=7)
    for (name, label), form, colour in zip(PLANS.items(), ("-o", "--s"), COLOURS, strict=False):
        found = curve(rows, "sigma", name, {"what": "plan"})
        right.set_visible(bool(found))
        right.plot(list(found), list(found.values()), form, color=colour, label=label)
    right.set_ylabel("share of the domain's mass that leaves it")
    right.set_ylim(bottom=0)
    right.legend(title="plan from the first map")
    for panel in (left, right):
        figures.log_ticks(panel, sigmas, "{:.3g}")
        panel.set_xlabel("sigma (voxels)")
    figures.letter(axes.flat)
    return figure


def frames_figure(sweep: Sweep, sigma: float) -> Figure:
    """The frames at t = 0.5 of every method, projected along y."""
    shown = [p for p in sweep.points.values() if p["what"] == "frames" and p["sigma"] in (0.0, sigma)]
    points_of = {point["method"]: point for point in shown}
    images = {name: sweep.arrays(points_of[name])["half_way"] for name in methods_in(shown)}
    top = max(image.max() for image in images.values())
    figure, axes = figures.panels(1, len(images), size=(1.7, 2.0))
    for panel, (name, image) in zip(axes[0], images.items(), strict=True):
        panel.imshow((image / top) ** 0.5, origin="lower", cmap="gray_r", vmin=0, vmax=1)
        panel.set_title(name)
        panel.set_axis_off()
    figure.suptitle(f"t = 0.5, sigma {sigma:.3g} voxels; grey: square root of the projected density", fontsize=9)
    return figure


def claims(rows: list[Row], usual: float) -> list[Claim]:
    """The paper's statements: the moving domain fragments, tested for each method, and mass leaves it."""
    case = rows[0]["case"]
    tested = [_fragments(rows, method, usual, case) for method in methods_in(rows)]
    to_other, at_rest = (curve(rows, "sigma", name, {"what": "plan"}) for name in PLANS)
    if not to_other:
        return tested
    tested.append(
        Claim(
            f"mass leaves the path of the moving domain ({case})",
            PAPER,
            f"at sigma {usual:.3g} the plan takes more of the domain's mass elsewhere than its own blur does",
            "; ".join(
                f"sigma {sigma:.3g}: {share:.1%}, at rest {at_rest[sigma]:.1%}"
                for sigma, share in to_other.items()
            ),
            to_other[usual] > at_rest[usual],
        )
    )
    return tested


def _fragments(rows: list[Row], method: str, sigma: float, case: str) -> Claim:
    fragments_at, broken = [], False
    for level in LEVELS:
        first, *_, last = along(rows, "linear", sigma, level, "detached").values()
        detached = along(rows, method, sigma, level, "detached")
        own = {time: share - max(first, last) for time, share in detached.items()}  # maps may be in pieces too
        apart = [time for time, share in own.items() if share > DETACHED]
        if apart:
            broken = True
            fragments_at.append(
                f"level {level:.0%}: t {min(apart):.2f} to {max(apart):.2f}, up to {max(own.values()):.1%}"
            )
    paper = method == "original"
    return Claim(
        f"{method}: the moving domain {'fragments on the way' if paper else 'stays in one piece'} ({case})",
        PAPER if paper else GOAL,
        f"{'some' if paper else 'no'} frame has {DETACHED:.1%} more of its mass detached than the two maps",
        "; ".join(fragments_at) or "in one piece at every level and time",
        broken if paper else not broken,
    )


if __name__ == "__main__":
    command(main)()

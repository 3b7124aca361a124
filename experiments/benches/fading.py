"""Does mass that appears appear, rather than flow in from elsewhere? Balanced and unbalanced transport.

    python -m experiments.benches.fading -o OUT

Cases in which one map has mass that the other lacks, with known frames between them: the spike without one of its
receptor-binding domains and with it, closed and open; adenylate kinase without its lid and with it; and a ring of
Mm-cpn that closes while a cap fades in above it. Frames are made without and with ``Settings.unbalanced``; the
linear blend stands beside them.

OUT holds ``results.csv`` (a row for each case, method and reach: relative rms and voxel difference at 1 %, means
over the frames; the share of the new mass that is reported within two voxels of where it is, and its share in all
that is reported to fade or appear; how far what does not change moves, in voxels, mean over its mass),
``fading.png`` (slices half way) and ``claims.json``. About two minutes in full on 2 cores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation

from experiments import figures, points
from experiments.cases import DATA, SPIKE_VOXEL, SPIKE_WIDTH, box_around, centred_box, equal_atoms
from experiments.claims import GOAL, Claim, conclude
from experiments.measures import measures
from experiments.motions import straight
from experiments.options import ShardOptions, command
from experiments.tables import where
from morphot_jax import Settings, Volume, morph, prepare_maps
from morphot_jax.maps.atoms import Atoms, Grid, simulate_density
from morphot_jax.maps.samples import GRID, VOXEL_SIZES, WIDTHS, sample_atoms
from morphot_jax.morphing.pair import averaged_displacement, solve_pair
from morphot_jax.morphing.plan import plan_for
from morphot_jax.morphing.progress import Clock
from morphot_jax.morphing.trajectory import Trajectory
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.runs.sweep import Outcome, Row, Sweep, grid
from morphot_jax.runs.sweep import Settings as Point
from morphot_jax.system.reporting import silent

LINEAR, BALANCED = "linear", 0.0  # the reach of a balanced morph
METHODS = ("bridge", "displacement", "rigid")
REACHES = (BALANCED, 5.0, 10.0, 20.0, 40.0)  # Å
ADVISED = 10.0  # Å: the reach of the claims
TIMES = (0.25, 0.5, 0.75)
HALF = 0.5
NEAR = 2  # voxels
SOME = 0.01  # of its maximum: density of the new mass that counts as it
LID = 118, 162  # residues
CAP_ATOMS, CAP_RADIUS, CAP_FROM, CAP_TO = 600, 45.0, 80.0, 100.0  # Å: a disc above the ring
ENOUGH, AT_REST = 0.95, 0.05  # of the new mass; voxels
COLUMNS = (
    "case",
    "method",
    "reach",
    "relative_rms",
    "voxel_difference_1",
    "reported",
    "near",
    "moved",
    "iterations",
)


@dataclass(frozen=True, eq=False)
class Growing:
    """Two maps of which the second has mass that the first lacks.

    ``reference``: the density at time t. ``new``: the density that only the second has.
    """

    first: Volume
    last: Volume
    reference: Callable[[float], Float[np.ndarray, "z y x"]]
    new: Float[np.ndarray, "z y x"]

    @property
    def near(self) -> Bool[np.ndarray, "z y x"]:
        """Where the new mass is, and ``NEAR`` voxels around it."""
        return binary_dilation(self.new > SOME * self.new.max(), iterations=NEAR)


def growing(rest: Callable[[float], Atoms], new: Atoms, box: Grid, width: float) -> Growing:
    """Atoms that move, and others that fade in where they are."""
    appears = simulate_density(new, **vars(box), width=width)

    def density(t: float) -> Float[np.ndarray, "z y x"]:
        return simulate_density(rest(t), **vars(box), width=width).data + np.float32(t) * appears.data

    return Growing(*(appears.with_data(density(t)) for t in (0.0, 1.0)), density, appears.data)


def spike(state: str) -> Growing:
    """The spike without the receptor-binding domain of its second chain, and with it."""
    with np.load(DATA / "spike_ca.npz") as file:
        states = {name: file[name] for name in ("closed", "open")}
        domain = file["rbd"] & (file["chain"] == 1)
    box = box_around([equal_atoms(positions) for positions in states.values()], SPIKE_WIDTH, SPIKE_VOXEL)
    rest, new = (equal_atoms(states[state][some]) for some in (~domain, domain))
    return growing(lambda t: rest, new, box, SPIKE_WIDTH)


def adk_with_lid() -> Growing:
    """Adenylate kinase without its lid, and with it."""
    atoms = sample_atoms("adk-open")
    number = np.arange(1, len(atoms.positions) + 1)
    lid = (number >= LID[0]) & (number <= LID[1])
    rest, new = (
        replace(atoms, positions=atoms.positions[some], weights=atoms.weights[some]) for some in (~lid, lid)
    )
    return growing(lambda t: rest, new, centred_box(VOXEL_SIZES["adk"]), WIDTHS["adk"])


def ring_with_cap() -> Growing:
    """One ring of Mm-cpn closes, and a cap fades in above it."""
    with np.load(DATA / "mmcpn_ca.npz") as file:
        above = file["open"][:, 2] > 0
        ends = [equal_atoms(file[state][above]) for state in ("open", "closed")]
    rng = np.random.default_rng(0)
    radius, angle = CAP_RADIUS * np.sqrt(rng.uniform(size=CAP_ATOMS)), rng.uniform(0.0, 2.0 * np.pi, CAP_ATOMS)
    heights = rng.uniform(CAP_FROM, CAP_TO, CAP_ATOMS)
    cap = equal_atoms(np.stack([radius * np.cos(angle), radius * np.sin(angle), heights], axis=1))
    return growing(straight(*ends), cap, centred_box(VOXEL_SIZES["mmcpn"]), WIDTHS["mmcpn"])


CASES: dict[str, Callable[[], Growing]] = {
    "adk-lid": adk_with_lid,
    "spike-closed": lambda: spike("closed"),
    "spike-open": lambda: spike("open"),
    "ring-cap": ring_with_cap,
}
NEEDED = {"spike-closed": "spike_ca.npz", "spike-open": "spike_ca.npz", "ring-cap": "mmcpn_ca.npz"}
MOVING = ("ring-cap",)  # cases whose rest moves; that of the others stays
QUICK_CASES = ("adk-lid",)


@dataclass(frozen=True)
class Options(ShardOptions):
    """The options of this bench."""


def main(options: Options) -> None:
    """Morph every case by every method."""
    cases = QUICK_CASES if options.quick else CASES
    cases = [name for name in cases if name not in NEEDED or (DATA / NEEDED[name]).is_file()]
    reaches = (BALANCED, ADVISED) if options.quick else REACHES
    methods = ("displacement",) if options.quick else METHODS
    wanted = grid(study=["fading"], case=cases, method=methods, reach=reaches)
    wanted += grid(study=["fading"], case=cases, method=[LINEAR], reach=[BALANCED])
    sweep = Sweep(options.output, wanted, COLUMNS)
    if rows := points.run(sweep, points.one_by_one(measure), options.share):
        with figures.style():
            figures.save(fading_figure(sweep), options.output / "fading.png")
        conclude(options.output, claims(rows))


def measure(point: Point) -> Outcome:
    """Morph one case, and compare its frames and what it says of the new mass."""
    case = CASES[point["case"]]()
    maps = prepare_maps([case.first, case.last])
    settings = Settings(method=point["method"], sigma=GRID / 60, times=TIMES, unbalanced=point["reach"] or None)
    found = morph(maps, settings)
    compared = [measures(frame, case.reference(t)) for frame, t in zip(found.densities, TIMES, strict=True)]
    row = {
        name: float(np.mean([one[name] for one in compared])) for name in ("relative_rms", "voxel_difference_1")
    }
    if found.faded:
        row |= told(case, found)
    if point["case"] not in MOVING and point["method"] in ("displacement", "rigid"):
        row["moved"] = moved(case, maps, settings, found)
    row["iterations"] = max(frame.iterations for frame in found.frames)
    shown = {"frame": found.densities[TIMES.index(HALF)], "truth": case.reference(HALF).astype(np.float32)}
    return Outcome([row], shown)


def told(case: Growing, found: Trajectory) -> dict[str, float]:
    """What a morph says of the new mass: how much of it appears where it is, and its share in all that changes."""
    fades, appears = (volume.data.astype(np.float64) for volume in found.faded[0].parts)
    there, everything = float(appears[case.near].sum()), float(appears.sum() + fades.sum())
    return {"reported": there / float(case.new.sum()), "near": there / everything}


def moved(case: Growing, maps: Prepared, settings: Settings, found: Trajectory) -> float:
    """How far what does not change moves, in voxels, mean over its mass in the first map."""
    first, still = maps.volumes[0].data, ~case.near
    if found.motions:
        motion = found.motions[0].motions[0]
        mass, start = np.asarray(motion.mass), np.asarray(motion.start)
        edges, corner = found.motions[0].edges, found.motions[0].corner
        part = still[found.motions[0].window]
        voxels = np.rint(start / edges[:, None] - 0.5 - corner[:, None]).astype(int)
        weight = np.where(mass > 0, mass * part[tuple(np.clip(voxels, 0, np.array(part.shape)[:, None] - 1))], 0.0)
        way = np.linalg.norm(np.asarray(motion.image) - start, axis=0)
        return float(np.average(way, weights=weight))
    plan = plan_for(maps.volumes, settings)
    assert plan is not None  # displacement has one
    pair = np.stack([volume.data for volume in maps.volumes])
    transport = solve_pair(pair, plan, settings, clock=Clock(), report=silent)
    way = np.linalg.norm(averaged_displacement(transport, plan), axis=0)
    weight = np.where(still, first, 0.0)[transport.window]
    some = np.isfinite(way) & (weight > 0)
    return float(np.average(way[some], weights=weight[some]))


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims for each case and method: frames are nearer, and the new mass is found."""
    made = []
    for case in dict.fromkeys(row["case"] for row in rows):
        (linear,) = where(rows, {"case": case, "method": LINEAR})
        for method in dict.fromkeys(row["method"] for row in rows if row["method"] != LINEAR):
            balanced, fading = (
                where(rows, {"case": case, "method": method, "reach": reach})[0] for reach in (BALANCED, ADVISED)
            )
            pairs = [[float(row[name]) for name in COLUMNS[3:5]] for row in (fading, balanced, linear)]
            text = f"{case}, {method}: with a reach of {ADVISED:g} Å frames are nearer to the truth than without"
            told_of = zip(("", "without ", "linear "), pairs, strict=True)
            measured = ", ".join(f"{name}{one:.3f}/{other:.3f}" for name, (one, other) in told_of)
            nearer = all(one < other for one, other in zip(pairs[0], pairs[1], strict=True))
            made.append(Claim(text, GOAL, "smaller rms and voxel difference", measured, nearer))
            if case in MOVING:
                continue
            share = float(fading["reported"])
            text = f"{case}, {method}: the new mass is reported where it appears"
            made.append(Claim(text, GOAL, f"at least {ENOUGH:.0%}", f"{share:.1%}", share >= ENOUGH))
            if fading.get("moved"):
                way = float(fading["moved"])
                text = f"{case}, {method}: what does not change stays"
                made.append(Claim(text, GOAL, f"{AT_REST} voxels at most", f"{way:.4f}", way <= AT_REST))
    return made


def fading_figure(sweep: Sweep) -> Figure:
    """Slices half way: for each case the truth, the linear blend, and methods without and with fading."""
    given = list(sweep.points.values())
    cases = list(dict.fromkeys(point["case"] for point in given))
    methods = [name for name in dict.fromkeys(point["method"] for point in given) if name != LINEAR]
    columns = [("truth", BALANCED), (LINEAR, BALANCED)]
    columns += [(method, reach) for method in methods for reach in (BALANCED, ADVISED)]
    figure, axes = figures.panels(len(cases), len(columns), size=(1.6, 1.7))
    for line, case in zip(axes, cases, strict=True):
        for panel, (name, reach) in zip(line, columns, strict=True):
            method = LINEAR if name == "truth" else name
            (point,) = [p for p in given if (p["case"], p["method"], p["reach"]) == (case, method, reach)]
            arrays = sweep.arrays(point)
            truth = unit_mass(arrays["truth"])
            picture = truth if name == "truth" else unit_mass(arrays["frame"])
            middle = truth.shape[1] // 2
            panel.imshow(picture[:, middle], origin="lower", cmap="gray_r", vmin=0, vmax=truth[:, middle].max())
        line[0].set_ylabel(case)
    for panel, (name, reach) in zip(axes[0], columns, strict=True):
        panel.set_title(f"{name}\nreach {reach:g} Å" if reach else name)
    for panel in axes.flat:
        figures.bare(panel)
    return figure


if __name__ == "__main__":
    command(main)()

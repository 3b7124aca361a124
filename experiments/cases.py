"""Pairs of maps whose structural morph is known: the references for the frames of each method.

Positions in Å along x, y, z; densities ``z y x`` on 64^3 voxels. A *width* is the standard deviation of an atom's
Gaussian; each is integrated over the voxels, which widens it to sqrt(width^2 + voxel^2 / 12).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import typer
from jaxtyping import Float

from experiments.maps import DATA
from experiments.motions import find_bodies, hinging, ringed, screwing, straight, swinging, twisting
from morphot_jax import Volume, read_volume
from morphot_jax.maps.atoms import WIDTH_PER_RESOLUTION, Atoms, choose_box, simulate_density
from morphot_jax.maps.samples import GRID, VOXEL_SIZES, WIDTHS, sample_atoms
from morphot_jax.maps.volume import Grid
from morphot_jax.prepare.clean import low_pass

QUARTERS = (0.25, 0.5, 0.75)
TENTHS = tuple(k / 10 for k in range(1, 10))
OF_25_FRAMES = tuple(k / 24 for k in range(1, 24))

# Integrated over voxels of 1.5 Å, a width of 1.95 Å acts as 2.0 Å. With this width the linear blend of the maps is
# as far from the linear atom morph (.257 / .188) as when the bounds of the claims were measured (.258 / .188).
ADK_WIDTH, ADK_VOXEL = 1.95, 1.5
SNR, NOISE_PASS = 3.0, 4.3  # variance of signal over that of noise; Å
SPIKE_WIDTH, SPIKE_VOXEL = 4.0, 3.2
RING_COPIES, RING_RADIUS, RING_WIDTH, RING_VOXEL = 4, 43.0, 3.0, 2.8
SPLICEOSOME_WIDTH, SPLICEOSOME_VOXEL = 7.0, 7.0


@dataclass(frozen=True, eq=False)
class Case:
    """Two maps and the densities of a structural morph between them.

    - ``first``, ``last``: the maps at t = 0 and t = 1.
    - ``times``: the times at which frames are compared. ``reference``: the density of the structure at time t.
    - ``given``: frames of the original program, by time. ``path``: the structure itself at time t.
    """

    title: str
    first: Volume
    last: Volume
    times: tuple[float, ...]
    reference: Callable[[float], Float[np.ndarray, "z y x"]]
    given: dict[float, Float[np.ndarray, "z y x"]] = field(default_factory=dict)
    path: Callable[[float], Atoms] | None = None


def missing_files(name: str) -> list[str]:
    """The missing files of a case."""
    return [file for file in NEEDED.get(name, ()) if not (DATA / file).is_file()]


def at_hand(names: Sequence[str]) -> list[str]:
    """Return the cases whose files are present; print the others, and exit if there are none."""
    for name in names:
        if missing := missing_files(name):
            print(f"{name}: skipped, {', '.join(missing)} not found")
    complete = [name for name in names if not missing_files(name)]
    if not complete:
        print("no case could be run: their files are missing")
        raise typer.Exit(2)
    return complete


def build_case(name: str) -> Case:
    """Build the case of this name, one of ``CASE_NAMES``; its files must be present."""
    return BUILDERS[name]()


def structural_case(
    title: str, path: Callable[[float], Atoms], box: Grid, width: float, times: tuple[float, ...]
) -> Case:
    """Simulate maps and references from the atoms of a path, all on one grid."""

    @cache  # every method is compared with the same densities
    def density(t: float) -> Volume:
        return simulate_density(path(t), **vars(box), width=width)

    return Case(title, density(0.0), density(1.0), times, lambda t: density(t).data, path=path)


def mmcpn_real() -> Case:
    """The EM maps EMD-5138 -> EMD-5140 against the atoms 3J03 -> 3IYF, and the original's frame between them."""
    with np.load(DATA / "mmcpn_ca.npz") as file:
        closed, opened = (equal_atoms(file[state]) for state in ("closed", "open"))
    path = straight(closed, opened)
    case = structural_case("Mm-cpn, real maps", path, centred_box(VOXEL_SIZES["mmcpn"]), WIDTHS["mmcpn"], QUARTERS)
    first, last = (read_volume(DATA / f"mmcpn_{state}_64.mrc") for state in ("closed", "open"))
    frame = read_volume(DATA / "mmcpn_morphot_t050.mrc").data
    return replace(case, first=first, last=last, given={0.5: frame})


def mmcpn_sample() -> Case:
    return _sample_case("Mm-cpn, sample", "mmcpn")


def adk_sample() -> Case:
    return _sample_case("adenylate kinase, sample", "adk")


def adk_linear() -> Case:
    """The ends of a recorded transition of adenylate kinase, joined by straight lines of all heavy atoms."""
    models = _adk_models()
    path = straight(models[0], models[-1])
    return structural_case("adenylate kinase, linear", path, _adk_box(models), ADK_WIDTH, OF_25_FRAMES)


def adk_recorded() -> Case:
    """The ends of ``adk_linear`` and the recorded frames between them: frame k of n at t = k / (n - 1)."""
    models = _adk_models()
    last = len(models) - 1
    times = tuple(k / last for k in range(1, last))
    return structural_case(
        "adenylate kinase, recorded", lambda t: models[round(t * last)], _adk_box(models), ADK_WIDTH, times
    )


def adk_noisy() -> Case:
    """``adk_linear`` with noise in both maps, as of a low-passed reconstruction; references without it."""
    case = adk_linear()
    first, last = (with_noise(volume, seed) for seed, volume in enumerate((case.first, case.last)))
    return replace(case, title="adenylate kinase, noisy", first=first, last=last)


def with_noise(volume: Volume, seed: int) -> Volume:
    """A map with normal noise up to ``NOISE_PASS``; the density of the molecule has ``SNR`` times its variance."""
    molecule = volume.data > 0.01 * volume.data.max()
    noise = np.random.default_rng(seed).normal(size=volume.shape)
    noise = low_pass(noise, volume.voxel_size, NOISE_PASS)
    noise *= np.sqrt(volume.data[molecule].var() / SNR) / noise.std()
    return volume.with_data((volume.data + noise).astype(np.float32))


def adk_screw() -> Case:
    """The ends of ``adk_linear`` with its three domains on screws."""
    models = _adk_models()
    first, last = models[0], models[-1]
    domains = find_bodies(first.positions[None], last.positions[None], 3)
    path = screwing(first, last, domains)
    return structural_case("adenylate kinase, screws", path, _adk_box(models), ADK_WIDTH, OF_25_FRAMES)


def adk_hinge() -> Case:
    """Half of open adenylate kinase turns by 51° about a hinge."""
    path = hinging(_adk_models()[-1], 51.0)
    models = [path(t) for t in (0.0, 0.5, 1.0)]
    return structural_case("adenylate kinase, hinge", path, _adk_box(models), ADK_WIDTH, OF_25_FRAMES)


def adk_ring() -> Case:
    """Four copies of open adenylate kinase in a ring, not touching; each turns by 50° about its own middle."""
    path = ringed(_adk_models()[-1], RING_COPIES, RING_RADIUS, 50.0)
    return structural_case("ring of four, turning", path, centred_box(RING_VOXEL), RING_WIDTH, OF_25_FRAMES)


def ring_twist() -> Case:
    """One ring of open Mm-cpn whose outer part turns by 15° about its axis."""
    with np.load(DATA / "mmcpn_ca.npz") as file:
        opened = equal_atoms(file["open"])
    ring = Atoms(opened.positions[opened.positions[:, 2] > 0], opened.weights[opened.positions[:, 2] > 0])
    path = twisting(ring, 15.0)
    return structural_case("ring, twisted", path, centred_box(VOXEL_SIZES["mmcpn"]), WIDTHS["mmcpn"], OF_25_FRAMES)


def spike() -> Case:
    """One receptor-binding domain of the SARS-CoV-2 spike rises: 6VXX -> 6VYB."""
    with np.load(DATA / "spike_ca.npz") as file:
        closed, opened = (equal_atoms(file[state]) for state in ("closed", "open"))
    box = box_around((closed, opened), SPIKE_WIDTH, SPIKE_VOXEL)
    return structural_case("spike", straight(closed, opened), box, SPIKE_WIDTH, TENTHS)


def spliceosome() -> Case:
    """Two bodies of the spliceosome 5NRL swing: they rotate, and do not follow straight lines."""
    with np.load(DATA / "spliceosome_beads.npz") as file:
        beads = Atoms(file["beads"].astype(np.float64), file["mass"].astype(np.float64))
        path = swinging(beads, file["body"])
    box = box_around([path(t) for t in (0.0, *TENTHS, 1.0)], SPLICEOSOME_WIDTH, SPLICEOSOME_VOXEL)
    return structural_case("spliceosome", path, box, SPLICEOSOME_WIDTH, TENTHS)


def _sample_case(title: str, protein: str) -> Case:
    path = straight(sample_atoms(f"{protein}-open"), sample_atoms(f"{protein}-closed"))
    return structural_case(title, path, centred_box(VOXEL_SIZES[protein]), WIDTHS[protein], TENTHS)


def _adk_models() -> list[Atoms]:
    with np.load(DATA / "adk_dims.npz") as file:
        frames, mass = file["frames"].astype(np.float64), file["mass"].astype(np.float64)
    return [Atoms(frame, mass) for frame in frames]


def _adk_box(models: list[Atoms]) -> Grid:
    return box_around(models, ADK_WIDTH, ADK_VOXEL)


def equal_atoms(positions: np.ndarray) -> Atoms:
    """Atoms of one weight."""
    return Atoms(positions.astype(np.float64), np.ones(len(positions)))


def box_around(models: Sequence[Atoms], width: float, voxel: float) -> Grid:
    """A box of 64^3 voxels around the atoms of all models."""
    return choose_box(*models, resolution=width / WIDTH_PER_RESOLUTION, grid=GRID, apix=voxel)


def centred_box(voxel: float) -> Grid:
    """Coordinate 0 at the middle index of each axis."""
    corner = -(GRID // 2) * voxel
    return Grid((GRID, GRID, GRID), (voxel, voxel, voxel), (corner, corner, corner))


BUILDERS: dict[str, Callable[[], Case]] = {
    "mmcpn-real": mmcpn_real,
    "mmcpn-sample": mmcpn_sample,
    "adk-linear": adk_linear,
    "adk-recorded": adk_recorded,
    "adk-noisy": adk_noisy,
    "adk-sample": adk_sample,
    "spike": spike,
    "spliceosome": spliceosome,
}
CASE_NAMES = tuple(BUILDERS)
# Cases of ``benches.ways`` alone.
BUILDERS |= {"adk-screw": adk_screw, "adk-hinge": adk_hinge, "adk-ring": adk_ring, "ring-twist": ring_twist}
NEEDED = {
    "mmcpn-real": ("mmcpn_closed_64.mrc", "mmcpn_open_64.mrc", "mmcpn_morphot_t050.mrc", "mmcpn_ca.npz"),
    "adk-linear": ("adk_dims.npz",),
    "adk-recorded": ("adk_dims.npz",),
    "adk-noisy": ("adk_dims.npz",),
    "adk-screw": ("adk_dims.npz",),
    "adk-hinge": ("adk_dims.npz",),
    "adk-ring": ("adk_dims.npz",),
    "ring-twist": ("mmcpn_ca.npz",),
    "spike": ("spike_ca.npz",),
    "spliceosome": ("spliceosome_beads.npz",),
}

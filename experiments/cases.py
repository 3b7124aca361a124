"""Pairs of maps whose structural morph is known, and the original algorithm: what a method is held against.

Positions in Å along x, y, z; densities ``z y x`` on 64^3 voxels. A *width* is the standard deviation of an atom's
Gaussian; each is integrated over the voxels, which widens it to sqrt(width^2 + voxel^2 / 12).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from experiments.study import DATA
from morphot_jax import Volume, read_volume
from morphot_jax.maps.atoms import (
    WIDTH_PER_RESOLUTION,
    Atoms,
    Box,
    choose_box,
    interpolate_linearly,
    simulate_density,
)
from morphot_jax.maps.samples import GRID, VOXEL_SIZES, WIDTHS, sample_atoms

QUARTERS = (0.25, 0.5, 0.75)
TENTHS = tuple(k / 10 for k in range(1, 10))
OF_25_FRAMES = tuple(k / 24 for k in range(1, 24))

# Integrated over voxels of 1.5 Å, 1.95 Å act as 2.0 Å. With this width the linear blend of the maps is as far from
# the linear atom morph (.257 / .188) as where the bounds of the claims were measured (.258 / .188).
ADK_WIDTH, ADK_VOXEL = 1.95, 1.5
SPIKE_WIDTH, SPIKE_VOXEL = 4.0, 3.2
SPLICEOSOME_WIDTH, SPLICEOSOME_VOXEL = 7.0, 7.0
SWING = 40.0  # degrees
GUARD = 1e-30  # the original's smallest divisor
ORIGINAL_ITERATIONS = 20
CONTACT = 8.0  # Å between a bead of a moving body and the nearest one of the static part


@dataclass(frozen=True, eq=False)
class Case:
    """Two maps and the densities that a structural morph passes through between them.

    - ``first``, ``last``: the maps at t = 0 and t = 1.
    - ``times``: when frames are compared. ``reference``: the density of the structure at time t.
    - ``given``: frames of the original program, by their time.
    """

    title: str
    first: Volume
    last: Volume
    times: tuple[float, ...]
    reference: Callable[[float], Float[np.ndarray, "z y x"]]
    given: dict[float, Float[np.ndarray, "z y x"]] = field(default_factory=dict)


def missing_files(name: str) -> list[str]:
    """The files that a case needs and that are not there."""
    return [file for file in NEEDED.get(name, ()) if not (DATA / file).is_file()]


def build_case(name: str) -> Case:
    """The case of this name, one of ``CASE_NAMES``; its files must be there."""
    return BUILDERS[name]()


def structural_case(
    title: str, path: Callable[[float], Atoms], box: Box, width: float, times: tuple[float, ...]
) -> Case:
    """Maps and references simulated from the atoms of a path, all on one grid."""

    @cache  # every method is held against the same densities
    def density(t: float) -> Volume:
        return simulate_density(path(t), **box._asdict(), width=width)

    return Case(title, density(0.0), density(1.0), times, lambda t: density(t).data)


def straight(first: Atoms, last: Atoms) -> Callable[[float], Atoms]:
    """Every atom moves along a straight line."""
    return lambda t: interpolate_linearly(first, last, t)


def original_barycenter(
    maps: Float[np.ndarray, "k z y x"],
    weights: Sequence[float],
    sigma: float,
    iterations: int = ORIGINAL_ITERATIONS,
) -> tuple[Float[np.ndarray, "z y x"], float]:
    """The barycenter as the original computes it, and the marginal error of its plans at the last iteration.

    u_k = a_k / K v_k, q = prod (v_k K u_k)^w_k, v_k = q / K u_k. K is scipy's Gaussian filter, cut at 4 sigma and
    reflected at the faces of the box; no divisor and no factor is below 1e-30. The maps have unit mass; that of
    the barycenter is less, and left so. Source: the paper, Eq 2.4.
    """

    def smooth(field: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
        return gaussian_filter(field, sigma)

    v = second = kv = [np.ones_like(a) for a in maps]
    q = v[0]
    for _ in range(iterations):
        kv = [smooth(vk) for vk in v]
        smoothed = [smooth(a / np.maximum(GUARD, s)) for a, s in zip(maps, kv, strict=True)]
        second = [vk * ku for vk, ku in zip(v, smoothed, strict=True)]
        q = np.exp(sum(w * np.log(np.maximum(GUARD, m)) for w, m in zip(weights, second, strict=True)))
        v = [q / np.maximum(GUARD, ku) for ku in smoothed]
    lost = [(a * (1.0 - s / np.maximum(GUARD, s))).sum() for a, s in zip(maps, kv, strict=True)]
    errors = [np.abs(m - q).sum() + gone for m, gone in zip(second, lost, strict=True)]
    return q, float(np.dot(weights, errors))


def mmcpn_real() -> Case:
    """The EM maps EMD-5138 -> EMD-5140 against the atoms 3J03 -> 3IYF, and the original's frame between them."""
    with np.load(DATA / "mmcpn_ca.npz") as file:
        closed, opened = (_equal_atoms(file[state]) for state in ("closed", "open"))
    path = straight(closed, opened)
    case = structural_case("Mm-cpn, real maps", path, _centred(VOXEL_SIZES["mmcpn"]), WIDTHS["mmcpn"], QUARTERS)
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
    """The same ends, and the recorded frames between them: frame k of n at t = k / (n - 1)."""
    models = _adk_models()
    last = len(models) - 1
    times = tuple(k / last for k in range(1, last))
    return structural_case(
        "adenylate kinase, recorded", lambda t: models[round(t * last)], _adk_box(models), ADK_WIDTH, times
    )


def spike() -> Case:
    """One receptor-binding domain of the SARS-CoV-2 spike rises: 6VXX -> 6VYB."""
    with np.load(DATA / "spike_ca.npz") as file:
        closed, opened = (_equal_atoms(file[state]) for state in ("closed", "open"))
    box = _box((closed, opened), SPIKE_WIDTH, SPIKE_VOXEL)
    return structural_case("spike", straight(closed, opened), box, SPIKE_WIDTH, TENTHS)


def spliceosome() -> Case:
    """Two bodies of the spliceosome 5NRL swing by ``SWING`` degrees: a rotation, not straight lines."""
    with np.load(DATA / "spliceosome_beads.npz") as file:
        beads = Atoms(file["beads"].astype(np.float64), file["mass"].astype(np.float64))
        path = swinging(beads, file["body"])
    box = _box([path(t) for t in (0.0, *TENTHS, 1.0)], SPLICEOSOME_WIDTH, SPLICEOSOME_VOXEL)
    return structural_case("spliceosome", path, box, SPLICEOSOME_WIDTH, TENTHS)


def swinging(beads: Atoms, body: np.ndarray, angle: float = SWING) -> Callable[[float], Atoms]:
    """Each body but 0 turns about its contact with body 0, by t * angle degrees.

    The axis runs through the middle of the body's beads in contact, along the axis of the body's largest moment of
    inertia about that point (so that most of it moves), in the sense that takes it away from body 0.
    """
    hinges = [(body == k, *_hinge(beads, body, k)) for k in np.unique(body) if k != 0]

    def path(t: float) -> Atoms:
        positions = beads.positions.copy()
        for member, pivot, axis in hinges:
            turn = Rotation.from_rotvec(np.radians(t * angle) * axis)
            positions[member] = turn.apply(positions[member] - pivot) + pivot
        return replace(beads, positions=positions)

    return path


def _hinge(beads: Atoms, body: np.ndarray, moving: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Pivot and unit axis of a swing of one body."""
    static, own = beads.positions[body == 0], beads.positions[body == moving]
    distance, _ = cKDTree(static).query(own)
    pivot = own[distance < CONTACT].mean(axis=0)
    arms, weights = own - pivot, beads.weights[body == moving]
    # Inertia is trace(C) - C with C the second moments: its largest axis is the one of the smallest second moment.
    _, axes = np.linalg.eigh((arms * weights[:, None]).T @ arms)
    outward = pivot - np.average(static, axis=0, weights=beads.weights[body == 0])
    velocity = np.cross(axes[:, 0], np.average(arms, axis=0, weights=weights))
    return pivot, axes[:, 0] * (1.0 if velocity @ outward >= 0 else -1.0)


def _sample_case(title: str, protein: str) -> Case:
    path = straight(sample_atoms(f"{protein}-open"), sample_atoms(f"{protein}-closed"))
    return structural_case(title, path, _centred(VOXEL_SIZES[protein]), WIDTHS[protein], TENTHS)


def _adk_models() -> list[Atoms]:
    with np.load(DATA / "adk_dims.npz") as file:
        frames, mass = file["frames"].astype(np.float64), file["mass"].astype(np.float64)
    return [Atoms(frame, mass) for frame in frames]


def _adk_box(models: list[Atoms]) -> Box:
    return _box(models, ADK_WIDTH, ADK_VOXEL)


def _equal_atoms(positions: np.ndarray) -> Atoms:
    return Atoms(positions.astype(np.float64), np.ones(len(positions)))


def _box(models, width: float, voxel: float) -> Box:
    return choose_box(*models, resolution=width / WIDTH_PER_RESOLUTION, grid=GRID, apix=voxel)


def _centred(voxel: float) -> Box:
    """Coordinate 0 at the middle index of each axis."""
    corner = -(GRID // 2) * voxel
    return Box((GRID, GRID, GRID), (voxel, voxel, voxel), (corner, corner, corner))


BUILDERS: dict[str, Callable[[], Case]] = {
    "mmcpn-real": mmcpn_real,
    "mmcpn-sample": mmcpn_sample,
    "adk-linear": adk_linear,
    "adk-recorded": adk_recorded,
    "adk-sample": adk_sample,
    "spike": spike,
    "spliceosome": spliceosome,
}
CASE_NAMES = tuple(BUILDERS)
NEEDED = {
    "mmcpn-real": ("mmcpn_closed_64.mrc", "mmcpn_open_64.mrc", "mmcpn_morphot_t050.mrc", "mmcpn_ca.npz"),
    "adk-linear": ("adk_dims.npz",),
    "adk-recorded": ("adk_dims.npz",),
    "spike": ("spike_ca.npz",),
    "spliceosome": ("spliceosome_beads.npz",),
}

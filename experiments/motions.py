"""Motions of atoms between two structures: along straight lines, as rigid bodies along screws, or swinging.

Positions in Å along x, y, z.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import uniform_filter1d
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from morphot_jax.maps.atoms import Atoms, interpolate_linearly
from morphot_jax.maps.pose import Pose

WINDOW = 31  # residues over which the misfit is averaged, because bodies consist of long stretches
ROUNDS = 60
SWING = 40.0  # degrees
ARM, SEAM = 12.0, 6.0  # Å: of a hinge, from the middle, and across
CONTACT = 8.0  # Å between a bead of a moving body and the nearest one of the static part


def straight(first: Atoms, last: Atoms) -> Callable[[float], Atoms]:
    """Move every atom along a straight line."""
    return lambda t: interpolate_linearly(first, last, t)


def find_bodies(
    first: Float[np.ndarray, "c n 3"], last: Float[np.ndarray, "c n 3"], count: int
) -> Int[np.ndarray, " n"]:
    """Assign each residue of a chain to one of ``count`` rigid bodies, the same in every copy of the chain.

    Two steps alternate until nothing changes. First, a motion is fitted to each body of each copy. Then each
    residue goes to the body of least squared misfit, averaged over the copies and over the ``WINDOW`` residues
    around it. The start is stretches of equal length.
    """
    residues = first.shape[1]
    labels = np.arange(residues) * count // residues
    for _ in range(ROUNDS):
        misfits = np.zeros((count, residues))
        for body in range(count):
            for one, other in zip(first, last, strict=True):
                motion = Pose.fitted(one[labels == body], other[labels == body])
                misfits[body] += ((motion.carried(one) - other) ** 2).sum(axis=1)
        assigned = uniform_filter1d(misfits, WINDOW, axis=1, mode="nearest").argmin(axis=0)
        if np.array_equal(assigned, labels):
            break
        if len(np.unique(assigned)) < count:
            raise ValueError(f"of {count} bodies {len(np.unique(assigned))} are left: ask for fewer")
        labels = assigned
    return labels


def screwing(first: Atoms, last: Atoms, bodies: Int[np.ndarray, " n"]) -> Callable[[float], Atoms]:
    """Move each body along its screw, and add its internal change evenly, in the frame of the body.

    x(t) = T(t) (x_0 + t (T(1)^-1 x_1 - x_0)) with T(t) = exp(t log T(1)).
    """
    members = [bodies == body for body in np.unique(bodies)]
    motions = [Pose.fitted(first.positions[some], last.positions[some]) for some in members]

    def path(t: float) -> Atoms:
        positions = np.empty_like(first.positions)
        for some, motion in zip(members, motions, strict=True):
            start = first.positions[some]
            changed = start + t * (motion.inverse().carried(last.positions[some]) - start)
            positions[some] = motion.part(t).carried(changed)
        return replace(first, positions=positions)

    return path


def hinging(atoms: Atoms, angle: float) -> Callable[[float], Atoms]:
    """Turn one half of the atoms, along their longest axis, about a hinge ``ARM`` beside the seam of both halves.

    The turn grows from none to t * angle degrees over ``SEAM`` across the seam.
    """
    centred = atoms.positions - np.average(atoms.positions, axis=0, weights=atoms.weights)
    long, side, across = np.linalg.svd(centred, full_matrices=False)[2]
    share = np.clip(centred @ long / SEAM + 0.5, 0.0, 1.0)
    pivot = -ARM * side

    def path(t: float) -> Atoms:
        turn = Rotation.from_rotvec(np.radians(t * angle) * np.outer(share, across))
        return replace(atoms, positions=turn.apply(centred - pivot) + pivot)

    return path


def ringed(atoms: Atoms, copies: int, radius: float, angle: float) -> Callable[[float], Atoms]:
    """Copies of the atoms in a ring about z; each turns by t * angle degrees about z through its own middle."""
    centred = atoms.positions - np.average(atoms.positions, axis=0, weights=atoms.weights)
    ring = Rotation.from_rotvec(np.outer(2.0 * np.pi * np.arange(copies) / copies, [0.0, 0.0, 1.0]))

    def path(t: float) -> Atoms:
        one = Rotation.from_euler("z", t * angle, degrees=True).apply(centred) + np.array([radius, 0.0, 0.0])
        return Atoms(np.concatenate([turn.apply(one) for turn in ring]), np.tile(atoms.weights, copies))

    return path


def twisting(atoms: Atoms, angle: float) -> Callable[[float], Atoms]:
    """Turn atoms about the z axis, from none at 25 Å above the origin to t * angle degrees at 55 Å."""
    share = np.clip((atoms.positions[:, 2] - 25.0) / 30.0, 0.0, 1.0)

    def path(t: float) -> Atoms:
        turn = Rotation.from_rotvec(np.radians(t * angle) * np.outer(share, (0.0, 0.0, 1.0)))
        return replace(atoms, positions=turn.apply(atoms.positions))

    return path


def swinging(beads: Atoms, body: np.ndarray, angle: float = SWING) -> Callable[[float], Atoms]:
    """Turn each body except 0 about its contact with body 0, by t * angle degrees.

    The axis runs through the middle of the body's beads in contact, along the axis of the body's largest moment of
    inertia about that point (so that most of the body moves). The body turns away from body 0.
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
    """The pivot and the unit axis of the swing of one body."""
    static, own = beads.positions[body == 0], beads.positions[body == moving]
    distance, _ = cKDTree(static).query(own)
    pivot = own[distance < CONTACT].mean(axis=0)
    arms, weights = own - pivot, beads.weights[body == moving]
    # Inertia is trace(C) - C with C the second moments: its largest axis has the smallest second moment.
    _, axes = np.linalg.eigh((arms * weights[:, None]).T @ arms)
    outward = pivot - np.average(static, axis=0, weights=beads.weights[body == 0])
    velocity = np.cross(axes[:, 0], np.average(arms, axis=0, weights=weights))
    return pivot, axes[:, 0] * (1.0 if velocity @ outward >= 0 else -1.0)

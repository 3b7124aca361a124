"""Structures whose parts move as rigid bodies: which parts, and along which screws.

Positions in Å along x, y, z.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import expm, logm
from scipy.ndimage import uniform_filter1d
from scipy.spatial.transform import Rotation

from morphot_jax.atoms import Atoms

WINDOW = 31  # residues over which the misfit is averaged: a body is made of long stretches
ROUNDS = 60

Points = Float[np.ndarray, "n 3"]


class Motion(NamedTuple):
    """x -> rotation x + shift."""

    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    def move(self, points: Points) -> Points:
        return points @ self.rotation.T + self.shift

    def back(self, points: Points) -> Points:
        return (points - self.shift) @ self.rotation

    def part(self, t: float) -> "Motion":
        """The share t of the screw motion that this is: exp(t log T)."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.shift
        partial = np.real(expm(t * logm(matrix)))
        return Motion(partial[:3, :3], partial[:3, 3])

    @property
    def angle(self) -> float:
        """Degrees that it turns by."""
        return float(np.degrees(Rotation.from_matrix(self.rotation).magnitude()))


def fit_motion(first: Points, last: Points) -> Motion:
    """The rigid motion that takes points nearest to others in the least squares sense (Kabsch 1976)."""
    centres = first.mean(axis=0), last.mean(axis=0)
    rotation = Rotation.align_vectors(last - centres[1], first - centres[0])[0].as_matrix()
    return Motion(rotation, centres[1] - rotation @ centres[0])


def find_bodies(
    first: Float[np.ndarray, "c n 3"], last: Float[np.ndarray, "c n 3"], count: int
) -> Int[np.ndarray, " n"]:
    """Which of ``count`` rigid bodies each residue of a chain belongs to, the same in every copy of the chain.

    Alternates two steps until nothing changes: fit a motion to each body of each copy; give each residue to the
    body whose motions take it nearest to where it goes, the squared misfit averaged over copies and over the
    ``WINDOW`` residues around it. Starts from stretches of equal length.
    """
    residues = first.shape[1]
    labels = np.arange(residues) * count // residues
    for _ in range(ROUNDS):
        misfits = np.zeros((count, residues))
        for body in range(count):
            for one, other in zip(first, last, strict=True):
                motion = fit_motion(one[labels == body], other[labels == body])
                misfits[body] += ((motion.move(one) - other) ** 2).sum(axis=1)
        found = uniform_filter1d(misfits, WINDOW, axis=1, mode="nearest").argmin(axis=0)
        if np.array_equal(found, labels):
            break
        if len(np.unique(found)) < count:
            raise ValueError(f"{count} bodies were asked for and {len(np.unique(found))} are left: ask for fewer")
        labels = found
    return labels


def screwing(first: Atoms, last: Atoms, bodies: Int[np.ndarray, " n"]) -> Callable[[float], Atoms]:
    """Each body along its screw, and what it changes in itself added evenly, in the frame of the body.

    x(t) = T(t) (x_0 + t (T(1)^-1 x_1 - x_0)) with T(t) = exp(t log T(1)).
    """
    members = [bodies == body for body in np.unique(bodies)]
    motions = [fit_motion(first.positions[some], last.positions[some]) for some in members]

    def path(t: float) -> Atoms:
        positions = np.empty_like(first.positions)
        for some, motion in zip(members, motions, strict=True):
            start = first.positions[some]
            changed = start + t * (motion.back(last.positions[some]) - start)
            positions[some] = motion.part(t).move(changed)
        return replace(first, positions=positions)

    return path

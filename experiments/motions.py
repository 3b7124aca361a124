"""Structures whose parts move as rigid bodies: which parts, and along which screws.

Positions in Å along x, y, z.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import uniform_filter1d

from morphot_jax.maps.atoms import Atoms
from morphot_jax.maps.pose import Pose

WINDOW = 31  # residues over which the misfit is averaged: a body is made of long stretches
ROUNDS = 60


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
                motion = Pose.fitted(one[labels == body], other[labels == body])
                misfits[body] += ((motion.carried(one) - other) ** 2).sum(axis=1)
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
    motions = [Pose.fitted(first.positions[some], last.positions[some]) for some in members]

    def path(t: float) -> Atoms:
        positions = np.empty_like(first.positions)
        for some, motion in zip(members, motions, strict=True):
            start = first.positions[some]
            changed = start + t * (motion.inverse().carried(last.positions[some]) - start)
            positions[some] = motion.part(t).carried(changed)
        return replace(first, positions=positions)

    return path

"""Every way to make frames between two maps, this package's and the original's, behind one function."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.cases import ORIGINAL_ITERATIONS, original_barycenter
from morphot_jax import Settings, morph
from morphot_jax.prepare import Prepared, unit_mass

TRANSPORT = ("barycenter", "debiased", "bridge", "displacement")
METHODS = ("linear", "original", *TRANSPORT)
DEBIASED_ERROR = 1e-5  # at which debiased barycenters count as converged


class Frames(NamedTuple):
    """Densities at unit mass, the worst status among them, and the most iterations of any."""

    densities: Float[np.ndarray, "t z y x"]
    status: str
    iterations: int


def frames_of(method: str, maps: Prepared, times: tuple[float, ...], settings: Settings) -> Frames:
    """The frames of one of ``METHODS`` at these times; ``settings`` with an explicit sigma in voxels."""
    assert settings.sigma is not None
    if method == "original":
        pair = np.stack([unit_mass(volume.data) for volume in maps.volumes])
        found = [original_barycenter(pair, (1 - t, t), settings.sigma)[0] for t in times]
        return Frames(np.stack([unit_mass(frame) for frame in found]), "fixed_iterations", ORIGINAL_ITERATIONS)
    settings = replace(settings, method=method, times=times)
    if method == "debiased":
        settings = replace(settings, method="barycenter", debias=True, tolerance=DEBIASED_ERROR)
    trajectory = morph(maps, settings)
    statuses = sorted({frame.status.word for frame in trajectory.frames} - {"converged"}) or ["converged"]
    iterations = max(frame.iterations for frame in trajectory.frames)
    return Frames(np.stack([unit_mass(data) for data in trajectory.densities]), " ".join(statuses), iterations)

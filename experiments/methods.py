"""Every way to make frames between two maps, this package's and the original's, behind one function."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from experiments.cases import ORIGINAL_ITERATIONS, original_barycenter
from morphot_jax import Settings, morph, solve_sinkhorn
from morphot_jax.morphing.batches import START_ERROR, START_ITERATIONS
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.transport.barycenter import start_between
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.relaxation import Relaxation

TRANSPORT = ("barycenter", "debiased", "bridge", "displacement")
METHODS = ("linear", "original", *TRANSPORT)
DEBIASED_ERROR = 1e-5  # at which debiased barycenters count as converged


class Frames(NamedTuple):
    """Densities at unit mass, the worst status among them, and the most iterations of any."""

    densities: Float[np.ndarray, "t z y x"]
    status: str
    iterations: int


def from_plan(
    maps: Float[Array, "2 z y x"],
    weights: Float[Array, "t 2"],
    kernel: Kernel,
    sigma: float | Array,
    relaxation: Relaxation,
) -> tuple[Float[Array, "t 2 z y x"], Int[Array, ""]]:
    """Where barycenters of two maps are started: from the plan between them, and the iterations that it took."""
    limits = {"tolerance": START_ERROR, "max_iterations": START_ITERATIONS}
    plan = solve_sinkhorn(maps[0], maps[1], kernel, relaxation=relaxation, **limits)
    return start_between(plan.log_u, plan.log_v, weights, sigma), plan.iterations


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
    statuses = sorted({str(frame.status) for frame in trajectory.frames} - {"converged"}) or ["converged"]
    iterations = max(frame.iterations for frame in trajectory.frames)
    return Frames(np.stack([unit_mass(data) for data in trajectory.densities]), " ".join(statuses), iterations)

"""All methods that make frames between two maps, of this package and of the original, behind one function."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.ndimage import gaussian_filter

from morphot_jax import Settings, morph, solve_sinkhorn
from morphot_jax.morphing.batches import START_ERROR, START_ITERATIONS
from morphot_jax.morphing.plan import spread
from morphot_jax.prepare.prepared import Prepared, unit_mass
from morphot_jax.transport.barycenter import start_between
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.relaxation import Relaxation, automatic

TRANSPORT = ("barycenter", "debiased", "bridge", "displacement", "rigid")
METHODS = ("linear", "original", *TRANSPORT)
DEBIASED_ERROR = 1e-5  # tolerance of debiased barycenters
ORIGINAL_ITERATIONS = 20
GUARD = 1e-30  # the original's smallest divisor


class Frames(NamedTuple):
    """Densities at unit mass, the statuses that are not 'converged', and the largest number of iterations."""

    densities: Float[np.ndarray, "t z y x"]
    status: str
    iterations: int


def frames_of(method: str, maps: Prepared, times: tuple[float, ...], settings: Settings) -> Frames:
    """Compute the frames of one of ``METHODS`` at these times; ``settings`` needs an explicit sigma in voxels."""
    assert settings.sigma is not None
    if method == "original":
        pair = np.stack([unit_mass(volume.data) for volume in maps.volumes])
        frames = [original_barycenter(pair, (1 - t, t), settings.sigma)[0] for t in times]
        return Frames(np.stack([unit_mass(frame) for frame in frames]), "fixed_iterations", ORIGINAL_ITERATIONS)
    trajectory = morph(maps, settings_for(method, replace(settings, times=times)))
    status = worst(str(frame.status) for frame in trajectory.frames)
    iterations = max(frame.iterations for frame in trajectory.frames)
    return Frames(np.stack([unit_mass(data) for data in trajectory.densities]), status, iterations)


def settings_for(method: str, settings: Settings) -> Settings:
    """Add a method to the settings; in this package 'debiased' is an option of barycenters."""
    if method == "debiased":
        return replace(settings, method="barycenter", debias=True, tolerance=DEBIASED_ERROR)
    return replace(settings, method=method)


def worst(statuses: Iterable[str]) -> str:
    """'converged' if all are; else the other statuses."""
    return " ".join(sorted(set(statuses) - {"converged"})) or "converged"


def original_barycenter(
    maps: Float[np.ndarray, "k z y x"],
    weights: Sequence[float],
    sigma: float,
    iterations: int = ORIGINAL_ITERATIONS,
) -> tuple[Float[np.ndarray, "z y x"], float]:
    """The barycenter as the original computes it, and the marginal error of its plans at the last iteration.

    u_k = a_k / K v_k, q = prod (v_k K u_k)^w_k, v_k = q / K u_k. K is scipy's Gaussian filter, cut at 4 sigma and
    reflected at the faces of the box; no divisor and no factor is below 1e-30. The maps have unit mass; the
    barycenter has less and is not rescaled. Source: the paper, Eq 2.4.
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


def from_plan(
    maps: Float[Array, "2 z y x"],
    weights: Float[Array, "t 2"],
    kernel: Kernel,
    sigma: float | Array,
    relaxation: Relaxation,
) -> tuple[Float[Array, "t 2 z y x"], Int[Array, ""]]:
    """The start of barycenters of two maps from the plan between them, and the iterations of that plan."""
    limits = {"tolerance": START_ERROR, "max_iterations": START_ITERATIONS}
    plan = solve_sinkhorn(maps[0], maps[1], kernel, relaxation=relaxation, **limits)
    return start_between(*plan.potentials, weights, sigma), plan.iterations


def relaxation_for(maps: Float[np.ndarray, "k z y x"], sigma: float) -> Relaxation:
    """The relaxation that this package chooses for a solve in double precision."""
    return automatic(float(np.mean([spread(data, (sigma, sigma, sigma)) for data in maps])))

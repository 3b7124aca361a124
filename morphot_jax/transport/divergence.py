"""The debiased distance between two maps, from three plans."""

from jaxtyping import Array, Float

from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.loop import Solution
from morphot_jax.transport.relaxation import Relaxation
from morphot_jax.transport.sinkhorn import solve_sinkhorn


def sinkhorn_divergence(
    source: Float[Array, "*grid"],
    target: Float[Array, "*grid"],
    kernel: Kernel,
    *,
    tolerance: float | Float[Array, ""] = 1e-6,
    max_iterations: int = 500,
    relaxation: Relaxation | None = None,
) -> tuple[Float[Array, ""], tuple[Solution, Solution, Solution]]:
    """S(a, b) = KL(P_ab | K) - KL(P_aa | K) / 2 - KL(P_bb | K) / 2, in units of sigma^2, and its three plans.

    The debiased Sinkhorn divergence (Genevay, Peyre, Cuturi 2018; Feydy et al. 2019) measures how far apart two
    maps are: it is never negative, zero for equal maps, and |D|^2 / (2 sigma^2) for a map and its shift by D.

    The plans go from a to b, a to a and b to b; trust the value where each ``status`` is converged. Arguments and
    errors are those of ``solve_sinkhorn``.
    """
    options = {"tolerance": tolerance, "max_iterations": max_iterations, "relaxation": relaxation}
    pairs = (source, target), (source, source), (target, target)
    between, first, second = (solve_sinkhorn(a, b, kernel, **options) for a, b in pairs)
    return between.value - (first.value + second.value) / 2.0, (between, first, second)

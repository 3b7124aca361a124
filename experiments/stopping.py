"""Stop rules on the change of a barycenter: every threshold, norm and scale of the maps, from one recorded run.

If map k is multiplied by s_k, every barycenter of the iteration is multiplied by prod_k s_k^alpha_k, and so is its
change (as long as no divisor is guarded). To stop at a threshold then means to stop, on unit mass, at the
threshold divided by that factor.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product

import numpy as np
from jaxtyping import Float

from morphot_jax.runs.sweep import Row

UNIT, MASS, MAXIMUM, FILES = "unit mass", "mass 1e4", "maximum 1", "densities as in the files"
SCALES = (UNIT, MASS, MAXIMUM, FILES)
MANY = 1e4  # mass
NORMS = {"L2": "change_l2", "L1": "change_l1"}


def factors(maps: Iterable[Float[np.ndarray, "z y x"]]) -> dict[str, float]:
    """By how much the isobarycenter of the maps is larger on each scale than on unit mass."""
    extent = [(float(data.sum(dtype=np.float64)), float(data.max())) for data in maps]
    masses, tops = np.array(extent).T
    mean = float(np.exp(np.mean(np.log(masses))))
    return {UNIT: 1.0, MASS: MANY, MAXIMUM: mean / float(np.exp(np.mean(np.log(tops)))), FILES: mean}


def first_below(changes: Float[np.ndarray, " iterations"], threshold: float) -> int | None:
    """The first iteration, counted from 1, with a change at or below the threshold; None if there is none."""
    met = np.flatnonzero(changes <= threshold)  # NaN after the last iteration
    return int(met[0]) + 1 if len(met) else None


def counts(
    history: Mapping[str, Float[np.ndarray, " iterations"]],
    scaled_by: Mapping[str, float],
    thresholds: Sequence[float],
    norms: Mapping[str, str] = NORMS,
) -> list[Row]:
    """A row for each norm, scale and threshold: when it was reached, and the error of the plans then.

    ``history``: of a run on unit mass, as the error is. ``scaled_by``: the factor of each scale (``factors``).
    """
    rows: list[Row] = []
    for (norm, measure), (scale, factor), threshold in product(norms.items(), scaled_by.items(), thresholds):
        iterations = first_below(history[measure], threshold / factor)
        error = None if iterations is None else float(history["marginal_error"][iterations - 1])
        row: Row = {"norm": norm, "scale": scale, "factor": factor, "threshold": threshold}
        rows.append(row | {"iterations": iterations, "marginal_error": error})
    return rows


def grows(numbers: Sequence[float]) -> bool:
    """Whether the numbers grow strictly; infinity, not reached, may follow infinity."""
    return all(a < b or a == b == np.inf for a, b in pairwise(numbers))

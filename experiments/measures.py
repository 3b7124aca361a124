"""The difference of a frame from the density of the moved atoms: rms, volume and voxel difference."""

import numpy as np
from jaxtyping import Float

from morphot_jax import metrics
from morphot_jax.prepare.prepared import unit_mass

THRESHOLDS = {
    "1": 0.01,
    "5": 0.05,
    "10": 0.1,
    "20": 0.2,
}  # share of each map's own maximum, by its name in columns
MEASURES = (
    "rmsd",
    "relative_rms",
    *(f"volume_difference_{percent}" for percent in THRESHOLDS),
    *(f"voxel_difference_{percent}" for percent in THRESHOLDS),
)


def measures(frame: Float[np.ndarray, "z y x"], reference: Float[np.ndarray, "z y x"]) -> dict[str, float]:
    """Compute ``MEASURES`` of a frame against a reference, both at unit mass.

    rmsd and relative rms: ||frame - reference||_2, per voxel and over ||reference||_2 (the paper, Eq 3.1). Volume
    and voxel difference: at shares of each map's own maximum (after the paper, Eq 3.2 and 3.3).
    """
    a, b = unit_mass(frame), unit_mass(reference)
    values = {"rmsd": float(metrics.rmsd(a, b)), "relative_rms": float(metrics.relative_rms(a, b))}
    for name, measure in (
        ("volume_difference", metrics.volume_difference),
        ("voxel_difference", metrics.voxel_difference),
    ):
        values |= {f"{name}_{percent}": float(measure(a, b, share)) for percent, share in THRESHOLDS.items()}
    return values

"""How far a frame is from the density of the moved atoms: rms, and volumes and voxels that differ."""

import numpy as np
from jaxtyping import Float

from morphot_jax import metrics
from morphot_jax.prepare.prepared import unit_mass

THRESHOLDS = {"1": 0.01, "5": 0.05, "10": 0.1, "20": 0.2}  # share of either maximum, by its name in columns
MEASURES = (
    "rmsd",
    "relative_rms",
    *(f"volume_difference_{percent}" for percent in THRESHOLDS),
    *(f"voxel_difference_{percent}" for percent in THRESHOLDS),
)


def measures(frame: Float[np.ndarray, "z y x"], reference: Float[np.ndarray, "z y x"]) -> dict[str, float]:
    """``MEASURES`` of a frame against a reference, both brought to unit mass.

    rmsd, relative rms: ||frame - reference||_2, per voxel and over ||reference||_2 (the paper, Eq 3.1); volume and
    voxel difference at shares of either maximum (after the paper, Eq 3.2 and 3.3).
    """
    a, b = unit_mass(frame), unit_mass(reference)
    found = {"rmsd": float(metrics.rmsd(a, b)), "relative_rms": float(metrics.relative_rms(a, b))}
    for name, measure in (
        ("volume_difference", metrics.volume_difference),
        ("voxel_difference", metrics.voxel_difference),
    ):
        found |= {f"{name}_{percent}": float(measure(a, b, share)) for percent, share in THRESHOLDS.items()}
    return found

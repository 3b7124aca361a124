"""How sharp the frames of a trajectory are: the power that each keeps of that of the maps around it.

A frame in which the maps have the weights w_k (1 - s and s for the two around it) should have the power

    P = sum_k w_k P_k

in each shell of frequency; with less it is blurred there. All is measured on a part of the box that holds all
density.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from morphot_jax.maps import spectrum
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window

FREQUENCIES = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75}  # of the Nyquist frequency
RESOLVED = 0.5  # share of power: a frame resolves the shells before the first with less


class Sharpness:
    """Measures frames between ``maps``, on a window of their grid."""

    def __init__(self, maps: Sequence[Volume], window: Window):
        self.shape, self.voxel_size = maps[0].data[window].shape, maps[0].voxel_size
        self.shell = spectrum.shells(self.shape, self.voxel_size)
        self.powers = np.stack([self._power(volume.data[window]) for volume in maps])

    def measured(self, weights: Float[np.ndarray, " k"], density: Float[np.ndarray, "z y x"]) -> dict[str, float]:
        """The share of power kept at three frequencies, and the resolution in Å, of a frame on the window."""
        wanted = weights @ self.powers
        last = spectrum.last_shell(self.shape, self.voxel_size)
        kept = np.divide(self._power(density), wanted, out=np.zeros_like(wanted), where=wanted > 0)[1 : last + 1]
        row = {f"power_kept_{name}": _at(kept, part) for name, part in FREQUENCIES.items()}
        resolved = max(spectrum.first_below(kept, RESOLVED) or len(kept), 1.0)
        return row | {"resolution": spectrum.wavelength(resolved, self.shape, self.voxel_size)}

    def _power(self, density: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, " shells"]:
        """In single precision, like the frames: a quarter of the time."""
        return spectrum.power(np.fft.rfftn(density.astype(np.float32)), self.shell, self.shape[2])


def _at(kept: Float[np.ndarray, " shells"], part: float) -> float:
    """The mean of three shells about a part of the Nyquist frequency."""
    middle = round(part * len(kept)) - 1
    return float(kept[max(middle - 1, 0) : middle + 2].mean()) if len(kept) else 1.0

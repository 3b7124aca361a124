r"""How much of a map is signal at each resolution: n(s), its share of the power in a shell of frequency.

The half maps of a reconstruction have the same signal and noise of their own. With c(s), their correlation (FSC)
within a soft mask around the structure, the share in the map that is their mean is

    n(s) = 2 c / (1 + c)          (Rosenthal and Henderson 2003: the square of their C_ref).

Without half maps, the solvent of a map shows its noise. With P the power per voxel within the soft mask w, and N
that within 1 - w,

    n(s) = 1 - N / P ,   P = |F(w (f - m))|^2 / sum w^2 ,   N = |F((1 - w) (f - m))|^2 / sum (1 - w)^2 ,

where m is the middle of the solvent's densities. Shares are averaged over ``SMOOTH`` shells, and never rise with
the frequency.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, gaussian_filter

from morphot_jax.maps import spectrum
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.background import LEAST_VOXELS, LEVEL_SDS, Noise, noise_of
from morphot_jax.prepare.clean import without_noise
from morphot_jax.system.errors import InputError

GROWN = 2  # voxels around the structure that belong to it
EDGE = 1.5  # voxels: standard deviation of the soft edge of its mask
SMOOTH = 3  # shells
LEAST_POWER = 0.5  # of the solvent's power, that a structure with the same noise has in every shell
LOUD = 0.3  # of the mean power of the solvent's noise: shells with less, as beyond a low-pass, do not count
HALF = 0.5  # share of signal where detail begins to be mostly noise

Source = Literal["half maps", "solvent"]
Shares = Float[np.ndarray, " shells"]


@dataclass(frozen=True, eq=False)
class Signal:
    """The share of signal in the power of a map.

    - ``frequency``: of each shell, in cycles per Å. ``share``: n there. ``source``: what showed the noise.
    """

    source: Source
    frequency: Shares = field(repr=False)
    share: Shares = field(repr=False)

    def at(self, frequency: Shares) -> Shares:
        """The share at other frequencies, by straight lines; zero beyond the last shell."""
        return np.interp(frequency, self.frequency, self.share, right=0.0)

    @property
    def resolution(self) -> float | None:
        """In Å: finer detail is mostly noise; None where all detail is mostly signal."""
        shell = spectrum.first_below(self.share[1:], HALF)
        return None if shell is None else float(1.0 / np.interp(shell, np.arange(len(self.share)), self.frequency))


def signal_of_halves(first: Volume, second: Volume, label: str) -> Signal:
    """The signal of the mean of two half maps.

    Raises InputError for halves on different grids, and for the same map twice.
    """
    if first.shape != second.shape or not np.allclose(first.voxel_size, second.voxel_size):
        raise InputError(
            f"{label}: its half maps have {first.shape} and {second.shape} voxels of {first.voxel_size} and "
            f"{second.voxel_size} Å (x, y, z): give two halves of one reconstruction"
        )
    one, other = (volume.data.astype(np.float64) for volume in (first, second))
    if np.array_equal(one, other):
        raise InputError(f"{label}: its half maps are the same map: give two halves of one reconstruction")
    mean = (one + other) / 2.0
    noise = noise_of(mean)
    weight = np.ones_like(mean) if noise is None else _soft(without_noise(mean, noise)[0] > 0)
    spectra = np.fft.rfftn(weight * one), np.fft.rfftn(weight * other)
    shell = spectrum.shells(first.shape, first.voxel_size)
    correlation = np.clip(spectrum.correlation(*spectra, shell, first.shape[2]), 0.0, 1.0)
    return _signal("half maps", 2.0 * correlation / (1.0 + correlation), first)


def signal_of_solvent(volume: Volume, noise: Noise, body: Bool[np.ndarray, "z y x"]) -> Signal | None:
    """The signal of a map with noise in its solvent. ``body``: the voxels of the structure.

    Densities that stand out of the solvent's noise, such as dust, do not count. None where there is too little
    solvent, or where the structure has less power in some shells than their noise: then it has other noise.
    """
    density, weight = volume.data - noise.middle, _soft(body)
    solvent = np.where(np.abs(density) <= LEVEL_SDS * noise.sd, (1.0 - weight) * density, 0.0)
    if np.sum((1.0 - weight) ** 2) < LEAST_VOXELS:
        return None
    shell, columns = spectrum.shells(volume.shape, volume.voxel_size), volume.shape[2]
    within, around = (
        spectrum.power(np.fft.rfftn(part), shell, columns) / np.sum(size**2)
        for part, size in ((weight * density, weight), (solvent, 1.0 - weight))
    )
    nyquist = spectrum.last_shell(volume.shape, volume.voxel_size)
    own, noisy = _smooth(within[: nyquist + 1]), _smooth(around[: nyquist + 1])
    if (own < LEAST_POWER * noisy)[noisy > LOUD * noisy.mean()].any():
        return None
    share = 1.0 - np.divide(around, within, out=np.ones_like(within), where=within > 0)
    return _signal("solvent", np.clip(share, 0.0, 1.0), volume)


def _soft(body: Bool[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """A mask with a soft edge around a structure."""
    return gaussian_filter(binary_dilation(body, iterations=GROWN).astype(np.float64), EDGE)


def _smooth(values: Shares) -> Shares:
    """Means of ``SMOOTH`` neighbouring shells."""
    return np.convolve(np.pad(values, SMOOTH // 2, mode="edge"), np.full(SMOOTH, 1.0 / SMOOTH), mode="valid")


def _signal(source: Source, share: Shares, volume: Volume) -> Signal:
    """From the shares of all shells: those up to the Nyquist frequency, smooth and falling."""
    shells = np.arange(spectrum.last_shell(volume.shape, volume.voxel_size) + 1)
    smooth = _smooth(share[: len(shells)])
    smooth[0] = 1.0  # its mean is signal
    frequency = shells / spectrum.wavelength(1, volume.shape, volume.voxel_size)
    return Signal(source, frequency, np.minimum.accumulate(smooth))

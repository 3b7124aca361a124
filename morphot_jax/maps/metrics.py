"""Differences between two maps: the measures of the paper (AIMS Math. 7(1):986-999, 2022) and correlations.

Pure functions of arrays over the last three axes (z y x); leading axes are batches and broadcast, so a
trajectory ``t z y x`` is compared with one reference ``z y x`` in one call. JAX arrays in, JAX arrays out (inside
jit, vmap and grad too, in the dtype given); NumPy arrays in, NumPy numbers out, computed in double precision.

``a`` is the map under test and ``b`` the reference: relative measures are relative to ``b``. Maps are compared as
they are: scale them to the same mass first if only their shapes should count.
"""

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.ndimage import label

from morphot_jax.maps import spectrum
from morphot_jax.system.errors import InputError

Maps = Float[Array | np.ndarray, "*#batch z y x"]
PerMap = Float[Array | np.ndarray, "..."] | np.floating
Threshold = float | Float[Array | np.ndarray, "..."]

_GRID_AXES = (-3, -2, -1)


def rmsd(a: Maps, b: Maps) -> PerMap:
    """Root mean square deviation, sqrt(mean_i (a_i - b_i)^2) (Eq 3.1 of the paper).

    The mean is over the voxels of the grid; the unit is that of the densities. Not differentiable at a = b.
    """
    xp, a, b = _on_one_backend(a, b)
    return xp.sqrt(xp.mean((a - b) ** 2, axis=_GRID_AXES))


def relative_rms(a: Maps, b: Maps) -> PerMap:
    """Relative deviation, ||a - b||_2 / ||b||_2.

    Zero if both maps are zero, infinite if only the reference is zero.
    """
    xp, a, b = _on_one_backend(a, b)
    return _ratio(xp, _norm(xp, a - b), _norm(xp, b))


def volume_difference(a: Maps, b: Maps, threshold: Threshold = 0.01) -> PerMap:
    """Difference in volume, |N_a - N_b| / N_b with N = #{i: m_i > threshold * max(m)} (after Eq 3.2 of the paper).

    ``threshold`` is a fraction of EACH map's own maximum, so that the scale of either map does not matter; the
    comparison is strict. The measure is dimensionless and unsigned, and does not depend on where the volume is. It
    is zero if neither map has a voxel above its threshold, and infinite if only the reference has none.
    """
    xp, a, b = _on_one_backend(a, b)
    volume_a, volume_b = (_count(xp, _above(m, threshold), a.dtype) for m in (a, b))
    return _ratio(xp, abs(volume_a - volume_b), volume_b)


def voxel_difference(a: Maps, b: Maps, threshold: Threshold = 0.01) -> PerMap:
    """Voxel difference, |A xor B| / |B| with A = {i: a_i > threshold * max(a)}, B alike (after Eq 3.3).

    The number of voxels that belong to exactly one of the two thresholded maps, divided by the volume of the
    reference. It is at least ``volume_difference``, 0 for equal sets, and 2 for disjoint sets of equal volume.
    Threshold, unit and empty sets are as in ``volume_difference``.
    """
    xp, a, b = _on_one_backend(a, b)
    inside_a, inside_b = _above(a, threshold), _above(b, threshold)
    return _ratio(xp, _count(xp, inside_a ^ inside_b, a.dtype), _count(xp, inside_b, a.dtype))


def correlation(a: Maps, b: Maps, *, mean_subtracted: bool = False) -> PerMap:
    """Normalised correlation, <a, b> / (||a||_2 ||b||_2), a number in [-1, 1].

    With ``mean_subtracted``, each map's mean over the whole grid is subtracted first, which gives Pearson's
    coefficient. Zero if a map is zero everywhere, or constant when means are subtracted.
    """
    xp, a, b = _on_one_backend(a, b)
    if mean_subtracted:
        a, b = (m - xp.mean(m, axis=_GRID_AXES, keepdims=True) for m in (a, b))
    norms = _norm(xp, a) * _norm(xp, b)
    inner = xp.sum(a * b, axis=_GRID_AXES)
    return xp.where(norms > 0, inner / xp.where(norms > 0, norms, 1), 0)[()]


def fragments(density: Float[np.ndarray, "z y x"], level: float, *, smallest: int = 1) -> tuple[int, float]:
    """Count the pieces of {density > level}, and give the share of the mass outside the heaviest piece.

    Voxels that share a face belong to one piece. Pieces of fewer than ``smallest`` voxels count neither as pieces
    nor as mass. (0, 0.0) if no voxel is above the level.
    """
    piece = np.zeros(density.shape, np.int32)  # 0: no piece
    label(density > level, output=piece)
    sizes = np.bincount(piece.ravel())[1:]
    masses = np.bincount(piece.ravel(), weights=density.ravel().astype(np.float64))[1:]
    masses = masses[sizes >= smallest]
    if not len(masses):
        return 0, 0.0
    return len(masses), float(1.0 - masses.max() / masses.sum())


def fourier_shell_correlation(
    a: Float[np.ndarray, "z y x"], b: Float[np.ndarray, "z y x"]
) -> tuple[Float[np.ndarray, " shells"], Float[np.ndarray, " shells"]]:
    """Frequency (cycles per voxel) of each shell, and Re sum F_a F_b* / sqrt(sum |F_a|^2 sum |F_b|^2) in it.

    Shells are 1 / (the longest axis) thick and go up to the Nyquist frequency, 0.5. The mean (frequency zero) is
    left out. The correlation is 0 in a shell where one of the maps is zero.

    Source: Harauz & van Heel, Optik 73:146-156 (1986).
    """
    first, second = (np.fft.rfftn(m.astype(np.float64)) for m in (a, b))
    longest = max(a.shape)
    count = longest // 2
    in_shells = spectrum.correlation(first, second, spectrum.shells(a.shape), a.shape[2])
    return np.arange(1, count + 1) / longest, in_shells[1 : count + 1]


def resolution(a: Float[np.ndarray, "z y x"], b: Float[np.ndarray, "z y x"], least: float = 0.5) -> float:
    """The finest detail in which two maps agree, in voxels.

    1 / frequency where their Fourier shell correlation first falls below ``least``, interpolated linearly between
    shells; 2 if it never does.
    """
    _, correlation = fourier_shell_correlation(a, b)
    shell = spectrum.first_below(correlation, least)
    return 2.0 if shell is None else spectrum.wavelength(shell, a.shape)


def compare_maps(
    a: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."], threshold: float = 0.01
) -> dict[str, float]:
    """Every measure of this module for one pair of maps on one grid (z y x), in double precision.

    Keys: ``rmsd, relative_rms, volume_difference, voxel_difference, correlation, correlation_about_mean``.
    Raises ``InputError`` when the shapes differ or are not three-dimensional, or the threshold is not in [0, 1).
    """
    if a.shape != b.shape or a.ndim != 3:
        raise InputError(
            f"maps of shapes {a.shape} and {b.shape} cannot be compared: put both on one 3D grid first"
        )
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold:g} is not a fraction of the maximum: give a number in [0, 1)")
    return {
        "rmsd": float(rmsd(a, b)),
        "relative_rms": float(relative_rms(a, b)),
        "volume_difference": float(volume_difference(a, b, threshold)),
        "voxel_difference": float(voxel_difference(a, b, threshold)),
        "correlation": float(correlation(a, b)),
        "correlation_about_mean": float(correlation(a, b, mean_subtracted=True)),
    }


def _on_one_backend(a, b) -> tuple[ModuleType, Maps, Maps]:
    """Return the array module to compute with, and both maps as its arrays."""
    if isinstance(a, jax.Array) or isinstance(b, jax.Array):
        a, b = jnp.asarray(a), jnp.asarray(b)
        dtype = jnp.result_type(a, b)
        return jnp, a.astype(dtype), b.astype(dtype)
    # jax.numpy would silently round NumPy's doubles to single unless the caller had switched x64 on.
    return np, np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)


def _above(maps: Maps, threshold: Threshold):
    return maps > threshold * maps.max(axis=_GRID_AXES, keepdims=True)


def _count(xp: ModuleType, inside, dtype) -> PerMap:
    # Counted in integers: a sum of ones in single precision stalls at 2^24, about 256^3.
    return xp.sum(inside, axis=_GRID_AXES).astype(dtype)


def _norm(xp: ModuleType, maps: Maps) -> PerMap:
    return xp.sqrt(xp.sum(maps**2, axis=_GRID_AXES))


def _ratio(xp: ModuleType, numerator: PerMap, denominator: PerMap) -> PerMap:
    positive = denominator > 0
    without_reference = xp.where(numerator > 0, xp.inf, 0)
    return xp.where(positive, numerator / xp.where(positive, denominator, 1), without_reference)[()]

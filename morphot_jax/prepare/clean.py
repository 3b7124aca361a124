"""Cleaning of a map: removal of noise, dust, and detail beyond its resolution; and the scale of its densities.

Pure functions of arrays, axes z y x; inputs are not modified.

**The body.** A level of m + 3 sd leaves one solvent voxel in 740, in pieces of one to three voxels if the noise
is white. As a cut, however, it also removes the faint rim of the structure. ``without_noise`` keeps the pieces
above that level that are not small compared with the largest, and one voxel around them, where any value above m
is density. On maps of Mm-cpn with noise of 5 % of the maximum in the solvent, frames then differ by 4 % (relative
L2) from those of clean maps, against 13 to 19 % with the level as a cut.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, label

from morphot_jax.maps.spectrum import power, radii, shells
from morphot_jax.prepare.background import Noise

SMALL_PIECE = 0.01  # of the largest piece's voxels: smaller pieces are dust in a map with noise
GROWN = 1  # voxels around the body that belong to it
DENSE = 0.3  # of its maximum: where a map is dense


def without_noise(
    density: Float[np.ndarray, "z y x"], noise: Noise, smallest: int | None = None
) -> tuple[Float[np.ndarray, "z y x"], int]:
    """max(density - m, 0) in the body, 0 elsewhere; and the number of voxels that a piece of the body needs.

    ``smallest``: that number; if None, a hundredth (``SMALL_PIECE``) of the largest piece.
    """
    piece, sizes = _pieces(density > noise.level)
    if smallest is None:
        smallest = int(np.ceil(SMALL_PIECE * sizes[1:].max()))
    kept = np.concatenate([[False], sizes[1:] >= smallest])[piece]
    body = binary_dilation(kept, iterations=GROWN)
    return np.where(body, np.maximum(density - density.dtype.type(noise.middle), 0), 0).astype(
        density.dtype
    ), smallest


def without_dust(
    density: Float[np.ndarray, "z y x"], level: float, smallest: int
) -> tuple[Float[np.ndarray, "z y x"], int]:
    """Remove pieces of {density > level} of fewer than ``smallest`` voxels; return the map and their number.

    Voxels that share a face belong to one piece. Voxels at or below the level do not change.
    """
    piece, sizes = _pieces(density > level)
    small = np.concatenate([[False], (sizes[1:] < smallest)])
    return np.where(small[piece], density.dtype.type(0), density), int(small.sum())


def largest_piece(density: Float[np.ndarray, "z y x"], level: float) -> int:
    """Count the voxels of the largest piece of {density > level}; 0 if there is none."""
    _, sizes = _pieces(density > level)
    return int(sizes[1:].max(initial=0))


def low_pass(
    density: Float[np.ndarray, "z y x"],
    voxel_size: tuple[float, float, float],
    resolution: float,
    edge: float = 0.25,
) -> Float[np.ndarray, "z y x"]:
    """Remove detail finer than ``resolution`` (Å): a raised cosine about f = 1 / resolution.

    The transform is unchanged up to (1 - edge / 2) f, zero from (1 + edge / 2) f on, and falls in between like
    (1 + cos) / 2, so that the map does not ring as it would after a sharp cut. ``voxel_size``: Å along x, y, z.
    The mass does not change. Double precision.
    """
    along = np.clip((radii(density.shape, voxel_size) * resolution - (1.0 - edge / 2.0)) / edge, 0.0, 1.0)
    weight = 0.5 * (1.0 + np.cos(np.pi * along))
    return np.fft.irfftn(np.fft.rfftn(density.astype(np.float64)) * weight, s=density.shape, axes=(0, 1, 2))


def with_spectrum_of(
    density: Float[np.ndarray, "z y x"],
    reference: Float[np.ndarray, "z y x"],
    voxel_size: tuple[float, float, float],
) -> Float[np.ndarray, "z y x"]:
    """Give the map the amplitudes of another map on the same grid: F(k) A_ref(|k|) / A(|k|).

    A(|k|) is the root mean square of |F| over a shell of frequencies, which is 1 / (the box's longest edge) wide.
    Sharpening, blurring and scaling of a map change A. Phases do not change. ``voxel_size``: Å along x, y, z.
    """
    shell = shells(density.shape, voxel_size)
    spectra = [np.fft.rfftn(data.astype(np.float64)) for data in (density, reference)]
    own, wanted = (power(spectrum, shell, density.shape[2]) for spectrum in spectra)
    factor = np.sqrt(np.divide(wanted, own, out=np.zeros_like(own), where=own > 0))
    matched = np.fft.irfftn(spectra[0] * factor[shell], s=density.shape, axes=(0, 1, 2))
    return matched.astype(np.result_type(density, np.float32))


def _pieces(inside: Bool[np.ndarray, "z y x"]) -> tuple[np.ndarray, np.ndarray]:
    """Number the pieces: the number of each voxel's piece, 0 for none, and the size of each piece in voxels."""
    piece = np.zeros(inside.shape, np.int32)
    label(inside, output=piece)
    return piece, np.bincount(piece.ravel())


def density_ratio(first: Float[np.ndarray, "z y x"], last: Float[np.ndarray, "z y x"]) -> float:
    """The median of last / first where both maps are dense; one where they are nowhere.

    Parts that only one of the two has, and parts that moved, hardly change it.
    """
    dense = (first > DENSE * first.max()) & (last > DENSE * last.max())
    return float(np.median(last[dense] / first[dense])) if dense.any() else 1.0

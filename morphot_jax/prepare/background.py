"""What lies around the structure of a map: its background, the noise of the solvent, and the sign of the contrast.

Pure functions of arrays, axes z y x.

**The middle.** Most voxels of a box lie around the structure, so the background is the most common density m. The
half-sample mode finds it and needs no bins.

**The spread.** Structure only adds density, so the values below m are background alone. Their spread s is the
distance from m within which 68 % of them lie: one standard deviation if they are normally distributed. Unlike a
root mean square it does not see the few deep troughs that a low-pass filter leaves beside sharp edges.

**Noise or ripples.** Noise is as strong far from the structure as near it, and its tails are like those of a
normal distribution. The ripples of a low-pass filter fade with the distance. On maps of Mm-cpn that were filtered
to 8 to 60 Å, s is 2.5 to 31 times as large in the nearer half of these voxels as in the farther half; with noise
of 2 to 10 % of the maximum, 1 to 1.4 times.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt

from morphot_jax.maps.limits import FLOOR

LEVEL_SDS = 3.0  # standard deviations of the noise by which structure stands out
LEAST_SHARE = 0.02  # share of the voxels that must lie below the middle to count as noise
LEAST_VOXELS = 500  # number of voxels that must lie there for an estimate
LEAST_KURTOSIS = 2.4  # of these voxels: 3 is normal, 1.8 uniform
SOLVENT = 0.01  # of the maximum: noise of a smaller standard deviation is left in the map
FADING = 1.6  # spread near the structure over that far away: more is no noise
ONE_SD = 0.6827  # share of a normal distribution within one standard deviation
COARSE = 64  # voxels along an axis at most when distances from the structure are measured
SAMPLED = 160  # voxels along an axis at most when values are sorted
FAR = 6.0  # median distances from the most common value: beyond that lies structure
PLATEAU = 1e-3  # of the range above the middle: half of the voxels so close to it are a flat background
BOTH_SIDES = 0.2  # share of the voxels below a background that is not flat
NARROW = 0.1  # of that range: a background with voxels on both sides has at most this spread
TOLD_APART = 0.5  # spreads: a background closer to zero than that is zero


class Noise(NamedTuple):
    """The middle and the standard deviation of the solvent's density."""

    middle: float
    sd: float

    @property
    def level(self) -> float:
        """The level above which density is structure rather than noise."""
        return self.middle + LEVEL_SDS * self.sd


def background_of(density: Float[np.ndarray, "z y x"]) -> float:
    """The density of the background; 0 where it cannot be told from zero, or from the structure.

    It is told from the structure if half of the voxels have about one density, the least of all apart from small
    ripples; or if voxels lie on both sides of the most common density, and those below are close to it.
    """
    values, middle = _about_its_mode(density)
    height = values[-1] - middle
    below = middle - values[: np.searchsorted(values, middle)]
    spread = _spread(below)
    near = np.searchsorted(values, [middle - PLATEAU * height, middle + PLATEAU * height])
    flat = 2 * (near[1] - near[0]) >= len(values)
    between = len(below) >= max(LEAST_VOXELS, BOTH_SIDES * len(values)) and spread <= NARROW * height
    if height <= 0 or not (flat or between):
        return 0.0
    return middle if abs(middle) > max(FLOOR * height, TOLD_APART * spread) else 0.0


def noise_of(density: Float[np.ndarray, "z y x"], *, alike: bool = False) -> Noise | None:
    """Measure the noise of the solvent; None if the map has no such noise.

    ``alike``: the map belongs to maps that have noise. Then its own may be faint, and of any distribution, as long
    as enough voxels lie below the most common density and something stands out.
    """
    if _flat(density):
        return None
    values, middle = _about_its_mode(density)
    below = middle - values[: np.searchsorted(values, middle)]
    if len(below) < max(LEAST_VOXELS, LEAST_SHARE * len(values)):
        return None
    noise, top = Noise(middle, _spread(below)), values[-1]
    if noise.level >= top:  # nothing stands out
        return None
    if alike:
        return noise
    tails = np.mean(below**4) >= LEAST_KURTOSIS * np.mean(below**2) ** 2
    matters = SOLVENT * (top - middle) < noise.sd
    return noise if tails and matters and _fading(density, noise) < FADING else None


def noises_of(densities: list[Float[np.ndarray, "z y x"]]) -> list[Noise | None]:
    """The noise of maps that belong together: either all that could have noise have it, or none has.

    They have it if at least half of those do that are not flat around their structure.
    """
    found = [noise_of(density) for density in densities]
    noisy, rough = sum(one is not None for one in found), sum(not _flat(density) for density in densities)
    if noisy in (0, rough):
        return found
    if 2 * noisy < rough:
        return [None] * len(found)
    return [one or noise_of(density, alike=True) for one, density in zip(found, densities, strict=True)]


def inverted(density: Float[np.ndarray, "z y x"]) -> bool:
    """Whether structure appears dark: more density lies far below the most common value than far above it.

    Far is more than ``FAR`` times the median distance from that value. Voxels count by the cube of their distance.
    """
    if _flat(density):
        return False
    values, middle = _about_its_mode(density)
    offsets = values - middle
    far = offsets[np.abs(offsets) > FAR * np.median(np.abs(offsets))]
    return bool(-(far[far < 0] ** 3).sum() > 2.0 * (far[far > 0] ** 3).sum())


def _fading(density: Float[np.ndarray, "z y x"], noise: Noise) -> float:
    """The spread of the background near the structure over that far away."""
    step = -(-max(density.shape) // COARSE)
    coarse = density[::step, ::step, ::step]
    body = coarse > max(noise.level, noise.middle + NARROW * (float(density.max()) - noise.middle))
    if not body.any():
        return 1.0
    below = coarse < noise.middle
    distances = np.asarray(distance_transform_edt(~body))[below]
    depths = noise.middle - coarse[below].astype(np.float64)
    nearer = distances <= np.median(distances)
    far = _spread(depths[~nearer])
    return _spread(depths[nearer]) / far if far > 0 else np.inf


def _spread(distances: Float[np.ndarray, " n"]) -> float:
    """The distance within which 68 % lie; 0 if there are none."""
    return float(np.quantile(distances, ONE_SD)) if len(distances) else 0.0


def _flat(density: Float[np.ndarray, "z y x"]) -> bool:
    """Whether half of the voxels have the minimum density: then it is the most common, with nothing below it."""
    return bool(2 * np.count_nonzero(density == density.min()) >= density.size)


def _about_its_mode(density: Float[np.ndarray, "z y x"]) -> tuple[Float[np.ndarray, " n"], float]:
    """Sort the values, and find the most common one; of a map with longer axes, of every second voxel or fewer."""
    step = -(-max(density.shape) // SAMPLED)
    values = np.sort(density[::step, ::step, ::step], axis=None).astype(np.float64)
    return values, _half_sample_mode(values)


def _half_sample_mode(values: Float[np.ndarray, " n"]) -> float:
    """The most common of sorted values: the narrowest half of the narrowest half, and so on.

    Source: Bickel & Fruehwirth, Comput. Stat. Data Anal. 50:3500-3530 (2006).
    """
    while len(values) > 3:
        half = (len(values) + 1) // 2
        widths = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(widths.argmin())
        if widths[start] == 0:
            return float(values[start])
        values = values[start : start + half]
    return float(values.mean())

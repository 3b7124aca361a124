r"""Detail along the way: what both maps hold keeps its power, what one of them holds alone fades.

Where two moved maps do not coincide to a fraction of a voxel, their blend is weaker in fine detail than either, so
that a film would sharpen at its ends. And the noise of a map is carried along as if it were structure. Both show
in shells of frequency s, half way between the maps:

- c(s), the correlation of the two moved maps (FSC), is high where they show the same structure in the same place;
- n(s), the geometric mean of the shares of signal in the power P of both maps. Half maps show them
  (``prepare.signal``). Else the solvent or the fall-off does, whichever shows more noise: n = 1 - N / P(s), with N
  from the fit of

      ln P(s) ~ ln( S exp(-B s^2) + N )     over the shells beyond ``FROM`` of the Nyquist frequency,

  which is one where there is no plateau of noise.

What is noise by both measures, e = sqrt((1 - n)(1 - c)), fades on the way: the amplitude of a shell is times
1 - e h(t), with h = 1 - (2 t - 1)^4. What is structure, 1 - e, gets back the power that blending took, up to the
power (1 - t) Q_0 + t Q_1 of the moved maps that are blended, but at most to ``MOST_POWER`` times that of the maps
themselves, (1 - t) P_0 + t P_1: mass that draws together has grains that neither map shows. Detail is changed
only where the frame has density, so that no ripples appear around it. At t = 0 and 1 nothing changes; between
equal maps nothing does at any time.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from scipy.optimize import least_squares

from morphot_jax.maps.spectrum import VoxelSize, last_shell, shells, stands_for, summed, wavelength
from morphot_jax.prepare.signal import Signal
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree
from morphot_jax.transport.sharing import summed_by

FROM = 0.2  # of the Nyquist frequency: below it the spectrum shows the shape of the molecule
FEWEST = 8  # shells for the fit
MOST_GAIN = 2.0  # of an amplitude
MOST_POWER = 1.5  # of the maps' own: the true frames of the benchmarks have 0.6 to 1.7 times of it
DENSE = 0.05  # of a frame's maximum: above that density detail is added in full
REPEATS = 2  # of adding detail, since where there is no density it is left out

Pair = tuple[Float[Array, "z y x"], Float[Array, "z y x"]]
Signals = tuple[Signal | None, Signal | None]  # of two maps, where they are known
UNKNOWN: Signals = (None, None)


@pytree
@dataclass(frozen=True, repr=False)
class Detail:
    """Shells of frequency on a box, and which part of the power in each is noise.

    - ``shell``: the number of the shell of each frequency of a real transform. ``weight``: how many frequencies of
      the whole transform each column stands for.
    - ``power``: P of both maps. ``noise``: e. ``columns``: voxels of the box along x.
    """

    shell: Int[Array, "z y half"]
    weight: Float[Array, " half"]
    power: Float[Array, "2 shells"]
    noise: Float[Array, " shells"]
    columns: int = field(metadata={"static": True})

    __repr__ = one_line


def detail_of(
    maps: Float[np.ndarray, "2 z y x"], moved: Pair, voxel_size: VoxelSize, signals: Signals = UNKNOWN
) -> Detail:
    """The detail of two maps from the two moved half way. ``voxel_size``: in Å along x, y, z."""
    _, z, y, x = maps.shape
    shell = shells((z, y, x), voxel_size)
    unknown = jnp.zeros((2, shell.max() + 1), maps.dtype)
    bare = Detail(jnp.asarray(shell), jnp.asarray(stands_for(x), maps.dtype), unknown, unknown[0], x)
    power, common = (np.asarray(values) for values in _spectra(bare, maps, moved))
    counts = summed(np.ones(shell.shape), shell, x)
    nyquist = last_shell((z, y, x), voxel_size)
    unit = 1.0 / wavelength(1, (z, y, x), voxel_size)
    shares = [
        _share(row / counts, nyquist, known, unit * np.arange(len(row)))
        for row, known in zip(power, signals, strict=True)
    ]
    signal = np.sqrt(np.prod(shares, axis=0))
    noise = np.sqrt((1.0 - signal) * (1.0 - np.clip(common, 0.0, 1.0)))
    return replace(bare, power=jnp.asarray(power, maps.dtype), noise=jnp.asarray(noise, maps.dtype))


def _share(
    power: Float[np.ndarray, " shells"],
    nyquist: int,
    known: Signal | None,
    frequency: Float[np.ndarray, " shells"],
) -> Float[np.ndarray, " shells"]:
    """n(s): by half maps alone, else by the fall-off and, where the solvent shows more noise, by the solvent."""
    if known is not None and known.source == "half maps":
        return known.at(frequency)
    fall_off = signal_share(power, nyquist)
    return fall_off if known is None else np.minimum(fall_off, known.at(frequency))


def signal_share(power: Float[np.ndarray, " shells"], nyquist: int) -> Float[np.ndarray, " shells"]:
    """n(s), the share of signal in the mean power of each shell, by the fall-off.

    ``nyquist``: the last shell that is whole. One in all shells where there are too few for a fit.
    """
    first = max(1, int(FROM * nyquist))
    some = np.arange(first, nyquist + 1)
    if len(some) < FEWEST or not (power[some] > 0).all():
        return np.ones_like(power)
    square, logs = (some / nyquist) ** 2, np.log(power[some])

    def misfit(parameters: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n"]:
        top, fall, floor = parameters
        return np.logaddexp(top - np.exp(fall) * square, floor) - logs

    fits = [least_squares(misfit, (logs[0], fall, logs[-1]), loss="soft_l1") for fall in (0.0, 1.0, 2.0, 3.0)]
    floor = np.exp(min(fits, key=lambda fit: fit.cost).x[2])
    share = np.clip(1.0 - floor / np.where(power > 0, power, np.inf), 0.0, 1.0)
    share[:first] = 1.0
    return share


@jax.jit
def with_detail(
    moved: Pair, t: Float[Array, ""], detail: Detail, masses: Float[Array, "2"]
) -> Float[Array, "z y x"]:
    """Two moved maps, blended (1 - t) m_0 : t m_1, with the power of their structure and their noise faded.

    The maps and the blend have unit mass. ``masses``: m, one each where the mass of a map does not count.
    """
    shares = jnp.stack([1.0 - t, t]) * masses
    shares = shares / jnp.sum(shares)
    own = jnp.stack([_power(detail, jnp.fft.rfftn(density)) for density in moved])
    wanted = jnp.minimum(shares @ own, MOST_POWER * (shares @ detail.power))
    frame = sharp = jnp.maximum(shares[0] * moved[0] + shares[1] * moved[1], 0.0)
    dense = jnp.clip(frame / (DENSE * jnp.max(frame)), 0.0, 1.0)
    for _ in range(REPEATS):
        spectrum = jnp.fft.rfftn(sharp)
        power = _power(detail, spectrum)
        gain = jnp.sqrt(jnp.where(power > 0, wanted / jnp.where(power > 0, power, 1.0), 1.0))
        gain = jnp.minimum(gain, MOST_GAIN) ** (1.0 - detail.noise)
        sharp = jnp.maximum(sharp + dense * (_filtered(detail, spectrum, gain) - sharp), 0.0)
    fade = 1.0 - detail.noise * (1.0 - (2.0 * t - 1.0) ** 4)
    calm = jnp.maximum(_filtered(detail, jnp.fft.rfftn(sharp), fade), 0.0)
    return calm / jnp.sum(calm)


@jax.jit
def _spectra(
    detail: Detail, maps: Float[Array | np.ndarray, "2 z y x"], moved: Pair
) -> tuple[Float[Array, "2 shells"], Float[Array, " shells"]]:
    """The power of both maps in each shell, and the correlation of the moved ones."""
    total = jnp.sum(maps, axis=(1, 2, 3), keepdims=True)
    power = jnp.stack([_power(detail, jnp.fft.rfftn(one)) for one in maps / total])
    one, other = (jnp.fft.rfftn(part) for part in moved)
    both = _in_shells(detail, jnp.real(one * jnp.conj(other)))
    own = _power(detail, one) * _power(detail, other)
    return power, both / jnp.sqrt(jnp.where(own > 0, own, 1.0))


def _filtered(
    detail: Detail, spectrum: Complex[Array, "z y half"], gain: Float[Array, " shells"]
) -> Float[Array, "z y x"]:
    """The density of a spectrum with the amplitude of each shell multiplied by its gain."""
    z, y, _ = spectrum.shape
    return jnp.fft.irfftn(spectrum * gain[detail.shell], s=(z, y, detail.columns))


def _power(detail: Detail, spectrum: Complex[Array, "z y half"]) -> Float[Array, " shells"]:
    return _in_shells(detail, jnp.abs(spectrum) ** 2)


def _in_shells(detail: Detail, values: Float[Array, "z y half"]) -> Float[Array, " shells"]:
    """Sums over the shells of the whole transform."""
    return summed_by((values * detail.weight).ravel(), detail.shell.ravel(), detail.noise.shape[0])

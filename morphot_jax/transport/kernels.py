r"""Gaussian kernels on a grid: the convolutions that replace the paper's cost matrix.

With cost |x - y|^2 / 2 and entropic regularisation epsilon = sigma^2, the Gibbs kernel exp(-cost / epsilon) is a
Gaussian of standard deviation sigma (paper, section 2.2; Solomon et al. 2015). It is the product of one matrix
per axis,

    (K f)[k, j, i] = sum over k', j', i' of Z[k, k'] Y[j, j'] X[i, i'] f[k', j', i'] ,

and solvers use every kernel through the same methods (``Kernel``): ``apply``, f -> K f, and ``log_apply``,
log f -> log K f with -inf for zero mass, both on the last three axes. A kernel may offer more (``ActsBetween``,
``Halving``). It is a pytree whose leaves are computed from sigma, so sigma may be traced and batched.

| made by     | values                                               | far field                      |
|-------------|------------------------------------------------------|--------------------------------|
| `dense`     | exp(-d^2 / 2 sigma^2), full support, free edges      | zero where the dtype underflows|
| `fft`       | the same, by zero-padded Fourier transforms          | zero below round-off           |
| `log`       | the same, by log-sum-exp                             | exact                          |
| `heat`      | exp(-s) I_d(s), s = sigma^2: a semigroup             | about 130 voxels in double     |
| `truncated` | the original's: cut at 4 sigma, unit sum, reflecting | zero past 4 sigma              |

``reach`` computes the distances of the last column. A shape of one or two axes gives the kernel of curves or
images (``fewer_axes``), for the public functions of this package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import signature
from typing import Any, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Num
from scipy.fft import next_fast_len

from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_word
from morphot_jax.system.words import KernelKind
from morphot_jax.transport import fewer_axes
from morphot_jax.transport.fewer_axes import BOX
from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

Shape = tuple[int, int, int]  # of a box
Grid = tuple[int, ...]  # of one, two or three axes
Part = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # of a box: start and stop along z, y, x
Sigma = (
    float
    | Float[Array, ""]
    | Float[np.ndarray, ""]
    | Float[Array, " axes"]
    | Float[np.ndarray, " axes"]
    | tuple[float, ...]
)

KINDS: tuple[str, ...] = get_args(KernelKind)
# The largest safe distance between maps, as a share of the reach: the range of the potentials uses up the rest.
# Barycenters by fft are off by 5e-13 at half of it, by 5e-8 at 0.65, and fail at 0.85 (real Mm-cpn, sigma 1.07).
SAFE = {"dense": 0.5, "fft": 0.6}
TRUNCATION = 4.0  # standard deviations; scipy.ndimage.gaussian_filter's default, hence the original's


@runtime_checkable
class Kernel(Protocol):
    """What every solver needs of a kernel."""

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""
        ...

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """K f, for f >= 0."""
        ...

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """Log of K exp(log_field); -inf stands for zero."""
        ...


@runtime_checkable
class ActsBetween(Protocol):
    """A kernel that convolves from a list of voxels to another faster than from box to box."""

    def log_apply_between(
        self, log_values: Float[Array, "..."], source: "Places | None", target: "Places | None"
    ) -> Float[Array, "..."]:
        """As the function ``log_apply_between``."""
        ...


@runtime_checkable
class TurnsBack(Protocol):
    """A kernel that convolves, divides and convolves again faster than by two convolutions of logs."""

    def turn_back(
        self,
        log_values: Float[Array, "..."],
        log_mass: Float[Array, "*lanes n"],
        middle: "Places",
        outer: "Places | None",
    ) -> "Turn":
        """As the function ``turn_back``."""
        ...


@runtime_checkable
class KnowsItsWidth(Protocol):
    """A kernel whose mean squared step does not say how far mass goes: one with a floor, or with walls."""

    @property
    def variances(self) -> Float[Array, "3"]:
        """Of the steps along z, y, x, in voxel^2."""
        ...


@runtime_checkable
class Halving(Kernel, Protocol):
    """A kernel that can be restricted to every second voxel, with the same cost between voxels."""

    def halved(self) -> Kernel:
        """K_c[i, j] = K[2 i, 2 j] along each axis."""
        ...


class Scaling(Kernel, Protocol):
    """Convolutions between lists of voxels, for a kernel that acts on values and not on their logs.

    A kernel defines ``apply_between`` and inherits the rest. In double precision, where one maximum for all values
    leaves enough range; in single precision through whole boxes.
    """

    def apply_between(
        self, values: Float[Array, "..."], source: "Places | None", target: "Places | None"
    ) -> Float[Array, "..."]:
        """K f at the voxels ``target``, for f at the voxels ``source``; None for the whole box."""
        raise NotImplementedError

    def log_apply_between(
        self, log_values: Float[Array, "..."], source: "Places | None", target: "Places | None"
    ) -> Float[Array, "..."]:
        """As the function ``log_apply_between``, with exp and log of the listed voxels only."""
        if log_values.dtype != jnp.float64:
            return through_boxes(self, log_values, source, target)
        axes_in, axes_out = _field_axes(source), _field_axes(target)
        top = finite_maximum(log_values, axis=axes_in)
        smoothed = self.apply_between(jnp.exp(log_values - top), source, target)
        return safe_log(smoothed) + jnp.expand_dims(jnp.squeeze(top, axes_in), axes_out)

    def turn_back(
        self,
        log_values: Float[Array, "..."],
        log_mass: Float[Array, "*lanes n"],
        middle: "Places",
        outer: "Places | None",
    ) -> "Turn":
        """As the function ``turn_back``, without the logs between the convolutions."""
        if log_values.dtype != jnp.float64:
            return through_logs(self, log_values, log_mass, middle, outer)
        axes = _field_axes(outer)
        top = finite_maximum(log_values, axis=axes)
        values = jnp.exp(log_values - top)
        smoothed = self.apply_between(values, outer, middle)
        mass, reached = jnp.exp(log_mass), smoothed > 0
        quotient = jnp.where(reached, mass / jnp.where(reached, smoothed, 1.0), 0.0)
        most = jax.lax.stop_gradient(jnp.max(quotient, axis=-1, keepdims=True))
        most = jnp.where(most > 0, most, 1.0)
        returned = self.apply_between(quotient / most, middle, outer)
        scale = jnp.expand_dims(jnp.squeeze(jnp.log(most), -1), axes)
        half = jnp.exp(scale / 2.0)  # in two parts: each factor ranges over hundreds of e-folds
        return Turn(
            safe_log(returned) + (scale - top),
            (values * half) * (returned * half),
            jnp.sum(jnp.where(reached, 0.0, mass), axis=-1),
        )


@pytree
@dataclass(frozen=True, repr=False)
class SeparableKernel(Scaling):
    """One matrix per axis, applied by matrix products in the scaling domain."""

    z: Float[Array, "z z"]
    y: Float[Array, "y y"]
    x: Float[Array, "x x"]

    __repr__ = one_line

    @property
    def shape(self) -> Shape:
        return self.z.shape[-1], self.y.shape[-1], self.x.shape[-1]

    def apply(
        self, values: Float[Array, "*batch a b c"], source: "Part | None" = None, target: "Part | None" = None
    ) -> Float[Array, "*batch z y x"]:
        """K f, for f >= 0 (exact zeros stay where the kernel does not reach).

        ``source``: the part of the box that holds the values. ``target``: the part to compute.
        """
        rows, columns = (part or whole(self.shape) for part in (target, source))
        z, y, x = (
            m[r, c] for m, r, c in zip((self.z, self.y, self.x), slices(rows), slices(columns), strict=True)
        )
        return separable(values, z, y, x)

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        """Log K exp(log_field), with the maximum taken out first.

        In double precision one maximum for the whole box leaves a range of exp(-700); in single precision the
        range is exp(-87), too little for real maps, so each line takes out its own maximum before its product.
        """
        if log_field.dtype == jnp.float64:
            top = finite_maximum(log_field, axis=(-3, -2, -1))
            return safe_log(self.apply(jnp.exp(log_field - top))) + top
        for axis, matrix in ((-1, self.x), (-2, self.y), (-3, self.z)):
            lines = jnp.moveaxis(log_field, axis, -1)
            top = finite_maximum(lines, axis=-1)
            lines = safe_log(product(jnp.exp(lines - top), matrix)) + top
            log_field = jnp.moveaxis(lines, -1, axis)
        return log_field

    def apply_between(
        self, values: Float[Array, "..."], source: "Places | None", target: "Places | None"
    ) -> Float[Array, "..."]:
        """K f at the voxels ``target``, for f at the voxels ``source``; None for the whole box."""
        smoothed = self.apply(
            values if source is None else source.spread(values, 0.0),
            None if source is None else source.part,
            None if target is None else target.part,
        )
        return smoothed if target is None else target.pick(smoothed, 0.0)

    def halved(self) -> "SeparableKernel":
        """K_c[i, j] = K[2 i, 2 j] along each axis."""
        return SeparableKernel(*(matrix[::2, ::2] for matrix in (self.z, self.y, self.x)))


@pytree
@dataclass(frozen=True, repr=False)
class LogKernel:
    """Logs of one matrix per axis, applied by log-sum-exp: exact at any sigma, and slow."""

    log_z: Float[Array, "z z"]
    log_y: Float[Array, "y y"]
    log_x: Float[Array, "x x"]

    __repr__ = one_line

    @property
    def shape(self) -> Shape:
        return self.log_z.shape[-1], self.log_y.shape[-1], self.log_x.shape[-1]

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        for axis, log_matrix in ((-1, self.log_x), (-2, self.log_y), (-3, self.log_z)):
            lines = jnp.moveaxis(log_field, axis, -1)
            # One output index at a time: the n^4 terms of a pass never exist together.
            rows = jax.lax.map(lambda row, lines=lines: _log_sum(lines + row), log_matrix)
            log_field = jnp.moveaxis(rows, 0, axis)
        return log_field

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        return jnp.exp(self.log_apply(safe_log(values)))

    def halved(self) -> "LogKernel":
        """K_c[i, j] = K[2 i, 2 j] along each axis."""
        return LogKernel(*(matrix[::2, ::2] for matrix in (self.log_z, self.log_y, self.log_x)))


@pytree
@dataclass(frozen=True, repr=False)
class FourierKernel:
    """The transfer function of the kernel on a zero-padded box.

    Round-off is absolute: what lies below ``floor`` times the largest value of K f is noise and becomes zero.
    """

    transfer: Float[Array, "pz py px"]
    shape: Shape = field(metadata={"static": True})
    padded: Shape = field(metadata={"static": True})

    __repr__ = one_line

    def apply(self, values: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        axes = (-3, -2, -1)
        spectrum = jnp.fft.rfftn(values, s=self.padded, axes=axes)
        smoothed = jnp.fft.irfftn(spectrum * self.transfer, s=self.padded, axes=axes)
        nz, ny, nx = self.shape
        smoothed = smoothed[..., :nz, :ny, :nx]
        noise = fft_floor(values.dtype) * jnp.max(smoothed, axis=axes, keepdims=True)
        return jnp.where(smoothed > noise, smoothed, 0.0)

    def log_apply(self, log_field: Float[Array, "*batch z y x"]) -> Float[Array, "*batch z y x"]:
        top = finite_maximum(log_field, axis=(-3, -2, -1))
        return safe_log(self.apply(jnp.exp(log_field - top))) + top


def compiled(maker: Callable[..., Kernel]) -> Callable[..., Any]:
    """The maker of a kernel, compiled once for each shape; shape and sigma are checked before.

    A shape of one or two axes gives the kernel of its box, as one of ``FewerAxes``.
    """
    static = [name for name in ("shape", "dtype", "padding") if name in signature(maker).parameters]
    made = jax.jit(maker, static_argnames=static)

    @wraps(maker)
    def make_checked(shape, sigma, dtype=None, **options):
        check_shape(shape)
        check_sigma(maker.__name__, shape, sigma)
        axes, empty = len(shape), 0.0 if maker.__name__ == "heat" else 1.0
        width = fewer_axes.width_in_box(sigma, axes, empty, dtype)
        kernel = made(fewer_axes.shape_in_box(tuple(shape)), width, dtype, **options)
        return fewer_axes.on_grid(kernel, axes)

    return make_checked


@compiled
def dense(shape: Shape, sigma: Sigma, dtype=None) -> SeparableKernel:
    """exp(-d^2 / 2 sigma^2) / c along each axis, full support; c normalises the sum over the infinite line to one.

    - ``shape``: voxels along z, y, x; or y, x; or x. ``sigma``: standard deviation in voxels, one number or one
      for each axis.
    - ``dtype``: of the matrices; JAX's default float when not given.
    """
    return SeparableKernel(*(jnp.exp(m) for m in _log_matrices(shape, sigma, dtype)))


@compiled
def log(shape: Shape, sigma: Sigma, dtype=None) -> LogKernel:
    """The values of ``dense``, stored as logs: exact where exp(-d^2 / 2 sigma^2) underflows."""
    return LogKernel(*_log_matrices(shape, sigma, dtype))


@compiled
def fft(shape: Shape, sigma: Sigma, dtype=None, *, padding: int | None = None) -> FourierKernel:
    """The values of ``dense``, applied by fast Fourier transforms on a box zero-padded by ``padding`` voxels.

    Without ``padding`` the box doubles, so that nothing wraps around at any sigma. ``fft_padding`` gives the
    smallest safe padding for a known sigma.
    """
    transfers: list[Array] = []
    for n, axis_sigma in zip(shape, per_axis(sigma, dtype), strict=True):
        zeros = n - 1 if padding is None else min(padding, n - 1)
        length = int(np.asarray(next_fast_len(n + zeros, real=True)))
        index = jnp.arange(length)
        distance = jnp.minimum(index, length - index)
        values = jnp.where(distance < n, jnp.exp(_log_line(distance, n, axis_sigma)), 0.0)
        transfers.append(jnp.fft.fft(values).real.astype(axis_sigma.dtype))
    z, y, x = transfers
    transfer = z[:, None, None] * y[:, None] * x[: len(x) // 2 + 1]
    return FourierKernel(transfer, shape=shape, padded=(len(z), len(y), len(x)))


@compiled
def heat(shape: Shape, sigma: Sigma, dtype=None) -> SeparableKernel:
    """The heat kernel of the lattice at time s = sigma^2: H_s[i, j] = exp(-s) I_|i-j|(s) along each axis.

    The law of a random walk after time s: variance sigma^2, unit sum, and a semigroup at every s >= 0,
    H_s H_t = H_(s+t); a sampled Gaussian is not a semigroup below sigma 0.4. H_0 is the identity. The tails fall
    like 1 / d!, so the kernel reaches across boxes of 128 voxels in double precision at sigma 1. The Bessel ratios
    I_d / I_(d-1) = s / (2 d + s I_(d+1) / I_d) are computed by downward recurrence, which keeps every digit of the
    tails.
    """
    return SeparableKernel(*(_heat_matrix(n, s**2) for n, s in zip(shape, per_axis(sigma, dtype), strict=True)))


@compiled
def truncated(shape: Shape, sigma: Sigma, dtype=None) -> SeparableKernel:
    """The original's filter: a Gaussian cut at radius floor(4 sigma + 1/2), unit sum, half-sample reflection.

    Equals ``scipy.ndimage.gaussian_filter`` with its defaults. InputError for a sigma longer than the box.
    """
    offsets = np.arange(int(TRUNCATION * max(shape) + 0.5) + 1)
    matrices = []
    for n, axis_sigma in zip(shape, per_axis(sigma, dtype), strict=True):
        inside = offsets <= jnp.floor(TRUNCATION * axis_sigma + 0.5)
        half = jnp.where(inside, jnp.exp(-0.5 * (offsets / axis_sigma) ** 2), 0.0)
        weights = half / (2.0 * jnp.sum(half) - half[0])
        i, j = np.arange(n)[:, None], np.arange(n)
        boxes = len(offsets) // (2 * n) + 1  # reflected boxes within the radius on either side
        shifts = [2 * n * m for m in range(-boxes, boxes + 1)]
        seen = [np.abs(i - j + shift) for shift in shifts] + [np.abs(i + j + 1 + shift) for shift in shifts]
        matrices.append(sum(_look_up(weights, distances) for distances in seen))
    return SeparableKernel(*matrices)


def make(kind: str, shape: Grid, sigma: Sigma, dtype=None) -> Kernel:
    """The kernel of a kind in ``KINDS``, compiled once for each box; InputError for any other name."""
    check_word("kernel", kind, KINDS)
    check_shape(shape)
    check_sigma(kind, shape, sigma)
    return _make(kind, shape, jnp.asarray(sigma, dtype or jnp.result_type(float)))


@partial(jax.jit, static_argnames=("kind", "shape"))
def _make(kind: str, shape: Grid, sigma: Float[Array, "..."]) -> Kernel:
    makers = {"dense": dense, "fft": fft, "log": log, "heat": heat, "truncated": truncated}
    return makers[kind](shape, sigma, sigma.dtype)


@pytree
@dataclass(frozen=True, repr=False)
class Places:
    """A list of voxels of a box, or one for each of several fields, as raveled indices into a part of the box.

    Indices beyond the part are padding, not voxels: ``spread`` ignores them, ``pick`` fills them. All differ.
    ``every``: they are all voxels of the part in order, and nothing has to be moved.
    """

    index: Int[Array, "*fields n"]
    part: Part = field(metadata={"static": True})
    every: bool = field(default=False, metadata={"static": True})

    __repr__ = one_line

    def spread(self, values: Num[Array, "*batch n"], fill: float | int) -> Num[Array, "*batch a b c"]:
        """Values at their voxels in the part, ``fill`` elsewhere."""
        shape = tuple(stop - start for start, stop in self.part)
        if self.every:
            fields = self._for_all_fields(values, 1)
            return fields.reshape(*fields.shape[:-1], *shape)

        def put(values, index):
            box = jnp.full((int(np.prod(shape)),), fill, values.dtype)
            return box.at[index].set(values, mode="drop", unique_indices=True).reshape(shape)

        return jnp.vectorize(put, signature="(n),(n)->(a,b,c)")(values, self.index)

    def pick(self, values: Num[Array, "*batch a b c"], fill: float | int) -> Num[Array, "*batch n"]:
        """The values of the part at the voxels; ``fill`` at the padding."""
        if self.every:
            fields = self._for_all_fields(values, 3)
            return fields.reshape(*fields.shape[:-3], -1)

        def take(box, index):
            return box.ravel().at[index].get(mode="fill", fill_value=fill)

        return jnp.vectorize(take, signature="(a,b,c),(n)->(n)")(values, self.index)

    def _for_all_fields(self, values: Num[Array, "..."], own: int) -> Num[Array, "..."]:
        """Values whose last ``own`` axes are a field's, repeated where several lists share one field."""
        batch = jnp.broadcast_shapes(values.shape[:-own], self.index.shape[:-1])
        return jnp.broadcast_to(values, (*batch, *values.shape[-own:]))

    def pick_from(self, box: Num[Array, "*batch z y x"], fill: float | int) -> Num[Array, "*batch n"]:
        """The values of a whole box at the voxels."""
        return self.pick(box[(..., *slices(self.part))], fill)

    def spread_in(self, shape: Shape, values: Num[Array, "*batch n"], fill: float) -> Num[Array, "*batch z y x"]:
        """Values at their voxels in a whole box."""
        pads = [(start, n - stop) for (start, stop), n in zip(self.part, shape, strict=True)]
        box = self.spread(values, fill)
        return jnp.pad(box, [(0, 0)] * (box.ndim - 3) + pads, constant_values=fill)


def product(a: Float[Array, "... m n"], b: Float[Array, "... n p"]) -> Float[Array, "... m p"]:
    """The matrix product in the full precision of its factors: GPUs round single ones to 10 bits if not asked."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def separable(
    values: Float[Array, "*batch a b c"],
    z: Float[Array | np.ndarray, "z a"],
    y: Float[Array | np.ndarray, "y b"],
    x: Float[Array | np.ndarray, "x c"],
) -> Float[Array, "*batch z y x"]:
    """One matrix along each axis, x first.

    Each product takes the last axis and makes a new first one, so that all three are one large matrix times
    another and the axes come back in order. A product along a middle axis would be many small ones, at half the
    rate on a CPU.
    """
    *batch, _, _, _ = values.shape
    lanes = int(np.prod(batch))
    for matrix in (x, y, z):
        *_, first, second, last = values.shape
        matrices = jnp.broadcast_to(matrix, (lanes, *matrix.shape)) if batch else jnp.asarray(matrix)
        columns = jnp.swapaxes(values.reshape(*((lanes,) if batch else ()), first * second, last), -1, -2)
        values = product(matrices, columns).reshape(*batch, len(matrix), first, second)
    return values


def log_apply_between(
    kernel: Kernel, log_values: Float[Array, "..."], source: Places | None, target: Places | None
) -> Float[Array, "..."]:
    """Log of K f at the voxels ``target`` for an f with mass at the voxels ``source``; None for the whole box.

    Takes ``* n`` or ``* z y x``, returns ``* m`` or ``* z y x``: the same numbers as ``log_apply`` on boxes.
    """
    if isinstance(kernel, ActsBetween):
        return kernel.log_apply_between(log_values, source, target)
    return through_boxes(kernel, log_values, source, target)


def through_boxes(
    kernel: Kernel, log_values: Float[Array, "..."], source: Places | None, target: Places | None
) -> Float[Array, "..."]:
    """``log_apply_between`` for any kernel, by ``log_apply`` on whole boxes."""
    box = log_values if source is None else source.spread_in(kernel.shape, log_values, -jnp.inf)
    smoothed = kernel.log_apply(box)
    return smoothed if target is None else target.pick_from(smoothed, -jnp.inf)


class Turn(NamedTuple):
    """What ``turn_back`` returns.

    - ``log_returned``: log of K (a / K f). ``marginal``: f K (a / K f).
    - ``missed``: the mass of ``a`` that lies where K f vanishes.
    """

    log_returned: Float[Array, "..."]
    marginal: Float[Array, "..."]
    missed: Float[Array, "*lanes"]


def turn_back(
    kernel: Kernel,
    log_values: Float[Array, "..."],
    log_mass: Float[Array, "*lanes n"],
    middle: Places,
    outer: Places | None,
) -> Turn:
    """From f at the voxels ``outer`` to a mass ``a`` at the voxels ``middle`` and back: K (a / K f).

    With f = v that is K u for the u that makes the first marginal a, and f K u is the second marginal. ``outer``:
    None for the whole box.
    """
    if isinstance(kernel, TurnsBack):
        return kernel.turn_back(log_values, log_mass, middle, outer)
    return through_logs(kernel, log_values, log_mass, middle, outer)


def through_logs(
    kernel: Kernel,
    log_values: Float[Array, "..."],
    log_mass: Float[Array, "*lanes n"],
    middle: Places,
    outer: Places | None,
) -> Turn:
    """``turn_back`` for any kernel, by two convolutions of logs."""
    log_quotient, missed = divided(log_mass, log_apply_between(kernel, log_values, outer, middle))
    log_returned = log_apply_between(kernel, log_quotient, middle, outer)
    return Turn(log_returned, jnp.exp(log_values + log_returned), missed)


def divided(
    log_mass: Float[Array, "*maps n"], log_smoothed: Float[Array, "*lanes n"]
) -> tuple[Float[Array, "*lanes n"], Float[Array, "*lanes"]]:
    """Log of a / K f, -inf where K f vanishes, and the mass of ``a`` there."""
    missed = jnp.isneginf(log_smoothed)
    mass = jnp.sum(jnp.where(missed, jnp.exp(log_mass), 0.0), axis=-1)
    return jnp.where(missed, -jnp.inf, log_mass - log_smoothed), mass


def whole(shape: tuple[int, ...]) -> Part:
    """All of a box."""
    z, y, x = shape
    return (0, z), (0, y), (0, x)


def slices(part: Part) -> tuple[slice, slice, slice]:
    """The part as an index of an array."""
    z, y, x = (slice(*ends) for ends in part)
    return z, y, x


def reach(kind: KernelKind, dtype) -> float:
    """Distance, in standard deviations, past which a kernel applied in ``dtype`` gives zero (heat: at least)."""
    if kind == "log":
        return float("inf")
    if kind == "truncated":
        return TRUNCATION
    smallest = fft_floor(dtype) if kind == "fft" else float(jnp.finfo(dtype).tiny)
    return float(np.sqrt(-2.0 * np.log(smallest)))


def safe_range(kind: KernelKind, dtype) -> float:
    """The largest safe distance of one map's mass from the other map, in standard deviations; inf if unknown."""
    return SAFE[kind] * reach(kind, dtype) if kind in SAFE else float("inf")


def choose(distance: float, dtype) -> tuple[KernelKind, str]:
    """The fastest kernel that is safe for maps whose mass lies up to ``distance`` sigma apart, and why."""
    limit = safe_range("dense", dtype)
    if distance <= limit:
        return "dense", f"the maps lie within {distance:.1f} sigma of each other; dense is safe to {limit:.1f}"
    return "log", f"the maps lie up to {distance:.1f} sigma apart; dense is safe only to {limit:.1f}"


def fft_floor(dtype) -> float:
    """Smallest value of K f, relative to its largest, that Fourier transforms in ``dtype`` resolve."""
    return 4.0 * float(jnp.finfo(dtype).eps)


def fft_padding(sigma: float, dtype) -> int:
    """Voxels of zero padding that keep wrap-around below round-off."""
    return int(np.ceil(reach("fft", dtype) * sigma)) + 1


def check_shape(shape: Any) -> None:
    """Raise InputError for what is not the shape of a grid."""
    listed = isinstance(shape, tuple | list) and 1 <= len(shape) <= BOX
    if not (listed and all(isinstance(n, int | np.integer) and n > 0 for n in shape)):
        raise InputError(f"shape is {shape!r}: give the number of voxels along z, y, x; or y, x; or x")


def is_traced(value: Any) -> bool:
    """Whether a value, or a part of it, is traced, and has no numbers to check."""
    return any(isinstance(part, Tracer) for part in jax.tree.leaves(value))


def check_sigma(kind: str, shape: Any, sigma: Any) -> None:
    """Raise InputError for a sigma that no kernel of this kind can have on this shape. Traced ones pass."""
    if is_traced(sigma):
        return
    try:
        widths = np.asarray("" if isinstance(sigma, str) else sigma, np.float64)
    except (TypeError, ValueError):
        widths = np.full(2, np.nan)
    least = 0.0 if kind == "heat" else np.finfo(np.float64).tiny  # the heat kernel at time 0 is the identity
    if widths.shape not in ((), (len(shape),)) or not np.all(np.isfinite(widths)) or widths.min() < least:
        raise InputError(f"sigma is {sigma!r}: give a number of voxels above 0, or one for each axis of the grid")
    if kind == "truncated" and widths.max() > max(shape):
        raise InputError(
            f"sigma is {widths.max():g} voxels in a box of {max(shape)}: give the truncated kernel a smaller one"
        )


def per_axis(sigma: Sigma, dtype) -> Float[Array, "3"]:
    """Sigma along z, y, x."""
    return jnp.broadcast_to(jnp.asarray(sigma, dtype=dtype or jnp.result_type(float)), (3,))


def _log_line(distance, n: int, sigma):
    """Log of the Gaussian at integer distances, normalised over the infinite line."""
    line = jnp.arange(1, n)
    total = 1.0 + 2.0 * jnp.sum(jnp.exp(-0.5 * (line / sigma) ** 2))
    return -0.5 * (distance / sigma) ** 2 - jnp.log(total)


def _log_matrices(shape: Shape, sigma: Sigma, dtype) -> list[Float[Array, "n n"]]:
    return [
        _log_line(jnp.abs(jnp.arange(n)[:, None] - jnp.arange(n)), n, axis_sigma)
        for n, axis_sigma in zip(shape, per_axis(sigma, dtype), strict=True)
    ]


def _heat_matrix(n: int, time: Float[Array, ""]) -> Float[Array, "n n"]:
    """H_s on one axis; the recurrence starts so far out that its start has no effect."""
    orders = jnp.arange(4 * n + 128, 0, -1)

    def ratio_below(ratio, order):
        ratio = time / (2.0 * order + time * ratio)
        return ratio, ratio

    _, ratios = jax.lax.scan(ratio_below, jnp.zeros_like(time), orders.astype(time.dtype))
    line = jnp.concatenate([jnp.ones((1,), time.dtype), jnp.cumprod(ratios[::-1])])
    line = line / (2.0 * jnp.sum(line) - line[0])
    return line[np.abs(np.arange(n)[:, None] - np.arange(n))]


def _look_up(weights: Float[Array, " radius"], distances: np.ndarray) -> Float[Array, "n n"]:
    inside = distances < weights.shape[0]
    return jnp.where(inside, weights[np.where(inside, distances, 0)], 0.0)


def safe_log(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """The log; -inf for zero, with a derivative of zero instead of NaN. NaN for what has no log."""
    empty = values == 0
    return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1.0, values)))


def _log_sum(terms: Float[Array, "... n"]) -> Float[Array, "..."]:
    """Log of the sum of exp(terms) along the last axis; its derivative is zero where all terms are -inf."""
    some = jnp.any(jnp.isfinite(terms), axis=-1)
    return jnp.where(some, logsumexp(jnp.where(some[..., None], terms, 0.0), axis=-1), -jnp.inf)


def _field_axes(places: Places | None) -> tuple[int, ...]:
    """The axes of one field: of a list of voxels, or of a box."""
    return (-3, -2, -1) if places is None else (-1,)


def finite_maximum(log_field: Float[Array, "..."], axis) -> Float[Array, "..."]:
    """The maximum along ``axis``; 0 where all values are -inf, so that subtracting it gives no NaN."""
    top = jax.lax.stop_gradient(jnp.max(log_field, axis=axis, keepdims=True))
    return jnp.where(jnp.isfinite(top), top, 0.0)

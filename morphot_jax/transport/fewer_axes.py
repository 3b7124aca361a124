"""Grids of one or two axes, such as curves and images: boxes with one voxel along the other axes.

Solvers work on boxes, z y x. A kernel of fewer axes (``kernels.dense((64, 64), sigma)``) holds that of the box.
The public functions bring arrays into the box, and results out of it; nothing below them knows of other grids.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from morphot_jax.transport.printing import one_line
from morphot_jax.transport.pytree import pytree

BOX = 3  # axes
NAMES = "zyx"


@pytree
@dataclass(frozen=True, repr=False)
class FewerAxes:
    """A kernel on the last one or two axes: that of a box with one voxel along the others."""

    boxed: Any
    axes: int = field(metadata={"static": True})

    __repr__ = one_line

    @property
    def shape(self) -> tuple[int, ...]:
        return self.boxed.shape[BOX - self.axes :]

    def apply(self, values: Float[Array, "*batch_and_grid"]) -> Float[Array, "*batch_and_grid"]:
        """K f, for f >= 0."""
        return out_of_box(self.boxed.apply(in_box(values, self.axes)), self.axes)

    def log_apply(self, log_field: Float[Array, "*batch_and_grid"]) -> Float[Array, "*batch_and_grid"]:
        """Log of K exp(log_field); -inf stands for zero."""
        return out_of_box(self.boxed.log_apply(in_box(log_field, self.axes)), self.axes)

    def halved(self) -> "FewerAxes":
        """K_c[i, j] = K[2 i, 2 j] along each axis."""
        return FewerAxes(self.boxed.halved(), self.axes)


def on_grid(kernel: Any, axes: int) -> Any:
    """The kernel of a grid of so many axes, from that of its box."""
    return kernel if axes == BOX else FewerAxes(kernel, axes)


def axes_of(kernel: Any) -> int:
    """The number of axes of a kernel's grid."""
    return kernel.axes if isinstance(kernel, FewerAxes) else BOX


def boxed(kernel: Any) -> Any:
    """The kernel of the box."""
    return kernel.boxed if isinstance(kernel, FewerAxes) else kernel


def shape_in_box(shape: tuple[int, ...], *, fill: int = 1) -> tuple[int, int, int]:
    """The shape of a grid's box; or a step on the grid as one in its box, with a ``fill`` of 0."""
    z, y, x = (*(fill,) * (BOX - len(shape)), *shape)
    return z, y, x


def in_box(values: Any, axes: int) -> Any:
    """An array on a grid of ``axes`` axes, its last ones, as an array on a box."""
    split = values.ndim - axes
    return values.reshape(*values.shape[:split], *shape_in_box(values.shape[split:]))


def out_of_box(values: Any, axes: int) -> Any:
    """The inverse of ``in_box``."""
    return values.reshape(*values.shape[: values.ndim - BOX], *values.shape[values.ndim - axes :])


def width_in_box(sigma: Any, axes: int, empty: float, dtype: Any = None) -> Any:
    """A width for each axis of the box, ``empty`` for axes of one voxel."""
    if axes == BOX:
        return sigma
    dtype = dtype or jnp.result_type(float)
    own = jnp.broadcast_to(jnp.asarray(sigma, dtype), (axes,))
    return jnp.concatenate([jnp.full((BOX - axes,), empty, dtype), own])


def solution_out_of_box(solution: Any, axes: int) -> Any:
    """A solution whose fields are on the grid; numbers stay as they are."""
    if axes == BOX:
        return solution
    value = solution.value if solution.value.ndim < BOX else out_of_box(solution.value, axes)
    potentials = tuple(out_of_box(each, axes) for each in solution.potentials)
    if solution.carried is not None:
        solution = replace(solution, carried=tuple(out_of_box(each, axes) for each in solution.carried))
    return replace(solution, value=value, potentials=potentials)

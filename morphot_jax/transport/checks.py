"""Checks of a solver's arguments: arrays of the right type, shape and values."""

from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from morphot_jax.system.errors import InputError, quoted
from morphot_jax.transport.fewer_axes import NAMES, axes_of
from morphot_jax.transport.kernels import Kernel
from morphot_jax.transport.relaxation import Relaxation

SMALLEST = 0.05  # sigma of a certificate, in voxels: at this width the weight of the next voxel is exp(-200)


def check_densities(name: str, values: Any, *, axes: str) -> None:
    """Raise InputError unless ``values`` is a floating-point array of densities with these axes.

    ``axes``: one letter for each axis, such as 'zyx'. The values must be finite and non-negative, with a positive
    sum over the axes z, y, x, or over the last axis where there are none of these. Traced values are not checked.
    """
    shape = f"({', '.join(axes)})"
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array: give .filled(0.0), or the densities that you mean")
    if not isinstance(values, np.ndarray | jax.Array):
        raise InputError(f"{name} is {_described(values)}: give an array of densities with axes {shape}")
    if values.dtype not in (jnp.float32, jnp.float64):
        raise InputError(
            f"{name} is an array of {values.dtype}: give float32 or float64, for instance with .astype('float32')"
        )
    if values.ndim != len(axes):
        raise InputError(f"{name} has the shape {values.shape}: give an array with axes {shape}")
    if isinstance(values, Tracer):
        return
    array = np.asarray(values)
    if array.size == 0:
        raise InputError(f"{name} has the shape {array.shape} and no values: give at least one")
    summed = tuple(-1 - i for i, axis in enumerate(reversed(axes)) if axis in "zyx") or (-1,)
    with np.errstate(over="ignore"):
        sums = array.sum(axis=summed)
    if not np.all(np.isfinite(array)) or array.min() < 0 or not np.all((sums > 0) & np.isfinite(sums)):
        raise InputError(
            f"the values of {name} go from {array.min():g} to {array.max():g}: "
            "give finite, non-negative ones with a positive, finite sum"
        )


def grid_axes(kernel: Kernel) -> str:
    """The letters of the axes of a kernel's grid, the last ones of 'zyx'; InputError for what is no kernel."""
    if not isinstance(kernel, Kernel):
        raise InputError(f"kernel is {_described(kernel)}: make one, for instance kernels.dense(shape, sigma)")
    return NAMES[-axes_of(kernel) :]


def check_grid(kernel: Kernel, **maps: Any) -> None:
    """Raise InputError where the maps and the kernel differ in shape or precision."""
    axes = grid_axes(kernel)
    if any(values.shape[-len(axes) :] != tuple(kernel.shape) for values in maps.values()):
        given = ", ".join(f"{name} {values.shape[-len(axes) :]}" for name, values in maps.items())
        raise InputError(
            f"{given} and the kernel's grid {tuple(kernel.shape)} differ: give all the same shape "
            f"({', '.join(axes)})"
        )
    precisions = {name: values.dtype for name, values in maps.items()}
    leaves = [leaf for leaf in jax.tree.leaves(kernel) if hasattr(leaf, "dtype")]
    if leaves:
        precisions["the kernel"] = leaves[0].dtype
    if len(set(precisions.values())) > 1:
        given = ", ".join(f"{name} {dtype}" for name, dtype in precisions.items())
        raise InputError(f"{given} differ in precision: give all float64, inside `with jax.enable_x64(True):`")


def check_solve(
    tolerance: Any, max_iterations: Any, relaxation: Any, *, fixed_iterations: Any = False, guard: Any = None
) -> None:
    """Raise InputError for options of a solve that are of another kind, or out of range. Traced ones pass."""
    if not _is_number(tolerance):
        raise InputError(f"tolerance is {_described(tolerance)}: give one number of at least 0")
    if not isinstance(max_iterations, Tracer) and (not _whole(max_iterations) or max_iterations < 1):
        raise InputError(f"max_iterations is {_described(max_iterations)}: give a whole number, 1 or more")
    if not isinstance(relaxation, Relaxation | None):
        raise InputError(f"relaxation is {_described(relaxation)}: give Relaxation(w), or leave it out")
    check_flag("fixed_iterations", fixed_iterations)
    if guard is not None and not (_is_number(guard) and guard > 0):
        raise InputError(f"guard is {_described(guard)}: give one number above 0, or None")


def check_reach(reach: Any) -> None:
    """Raise InputError for a reach that is no number above 0. A traced one passes."""
    if not (_is_number(reach) and (isinstance(reach, Tracer) or reach > 0)):
        raise InputError(f"reach is {_described(reach)}: give one number above 0, in sigma of the kernel")


def check_flag(name: str, value: Any) -> None:
    """Raise InputError for what is neither True nor False, nor traced."""
    if not isinstance(value, bool | Tracer) and getattr(value, "dtype", None) != np.dtype(bool):
        raise InputError(f"{name} is {_described(value)}: give True or False")


def check_certify(
    source: Any, target: Any, tolerance: Any, sigma: Any, iterations: Any, spacing: Any, start: Any
) -> None:
    """Raise InputError for maps or options that ``certify`` cannot use."""
    axes = NAMES[-np.ndim(source) :] if 1 <= np.ndim(source) <= len(NAMES) else NAMES
    for name, values in (("source", source), ("target", target)):
        if isinstance(values, Tracer):
            raise InputError(f"{name} is traced: certify needs its values, so call it outside of jax.jit and vmap")
        check_densities(name, values, axes=axes)
    if source.shape != target.shape:
        raise InputError(f"source {source.shape} and target {target.shape} differ: give maps on the same grid")
    if not (_is_number(tolerance) and tolerance > 0):
        raise InputError(f"tolerance is {_described(tolerance)}: give one number above 0, such as 0.01 for 1 %")
    if not (_is_number(sigma) and SMALLEST <= sigma <= 1):
        raise InputError(f"sigma is {_described(sigma)}: give a number of voxels from {SMALLEST:g} to 1")
    if not (_whole(iterations) and iterations >= 1):
        raise InputError(f"iterations is {_described(iterations)}: give a whole number, 1 or more")
    try:
        edges = np.asarray("" if isinstance(spacing, str) else spacing, np.float64)
    except (TypeError, ValueError):
        edges = np.full(4, np.nan)
    if edges.shape not in ((), (len(axes),)) or not np.all(np.isfinite(edges)) or edges.min() <= 0:
        raise InputError(
            f"spacing is {_described(spacing)}: give a length above 0, or one for each axis of the grid"
        )
    if start is not None:
        _check_plan(start, source.shape)


def _check_plan(start: Any, shape: tuple[int, ...]) -> None:
    """Raise InputError unless ``start`` is a plan on the grid and the sigma of its kernel."""
    plan, sigma = start if isinstance(start, tuple) and len(start) == 2 else (start, -1.0)
    potentials = getattr(plan, "potentials", None)
    if potentials is None or not (_is_number(sigma) and sigma > 0):
        raise InputError(f"start is {_described(start)}: give (solution of solve_sinkhorn, sigma of its kernel)")
    if np.shape(potentials[0]) != shape:
        raise InputError(
            f"start is a plan on the grid {np.shape(potentials[0])}: give one on that of the maps, {shape}"
        )


def check_start(start: Any, lanes: int, maps: Any) -> None:
    """Raise InputError for a start that is not log v on the grid, for every lane and map."""
    wanted = (lanes, *maps.shape)
    if not isinstance(start, np.ndarray | jax.Array) or start.shape != wanted:
        raise InputError(f"start is {_described(start)}: give an array of the shape {wanted}")


def _is_number(value: Any) -> bool:
    """Whether a value is a real scalar of at least 0, or a traced one."""
    if hasattr(value, "dtype"):
        real = np.issubdtype(value.dtype, np.integer) or np.issubdtype(value.dtype, np.floating)
        return np.ndim(value) == 0 and real and (isinstance(value, Tracer) or bool(value >= 0))
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _whole(value: Any) -> bool:
    """Whether a value is an integer, also one of an array library."""
    if hasattr(value, "dtype"):
        return np.ndim(value) == 0 and bool(np.issubdtype(value.dtype, np.integer))
    return isinstance(value, Integral) and not isinstance(value, bool)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"an array of the shape {value.shape}"
    return f"{quoted(value)} ({type(value).__name__})"

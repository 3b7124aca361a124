"""Checks of a solver's arguments: arrays of the right type, shape and values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from morphot_jax.system.errors import InputError, quoted
from morphot_jax.transport.kernels import Kernel


def check_densities(name: str, values: Any, *, axes: str) -> None:
    """Raise InputError unless ``values`` is a floating-point array of densities with these axes.

    ``axes``: one letter for each axis, such as 'zyx'. The values must be finite and non-negative, with a positive
    sum over the axes z, y, x, or over the last axis where there are none of these. Traced values are not checked.
    """
    shape = f"({', '.join(axes)})"
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


def check_grid(kernel: Kernel, **maps: Any) -> None:
    """Raise InputError for what is no kernel, and where the maps and the kernel differ in shape or precision."""
    if not isinstance(kernel, Kernel):
        raise InputError(f"kernel is {_described(kernel)}: make one, for instance kernels.dense(shape, sigma)")
    if any(values.shape[-3:] != tuple(kernel.shape) for values in maps.values()):
        given = ", ".join(f"{name} {values.shape[-3:]}" for name, values in maps.items())
        raise InputError(
            f"{given} and the kernel's box {tuple(kernel.shape)} differ: give all the same shape (z, y, x)"
        )
    precisions = {name: values.dtype for name, values in maps.items()}
    leaves = [leaf for leaf in jax.tree.leaves(kernel) if hasattr(leaf, "dtype")]
    if leaves:
        precisions["the kernel"] = leaves[0].dtype
    if len(set(precisions.values())) > 1:
        given = ", ".join(f"{name} {dtype}" for name, dtype in precisions.items())
        raise InputError(f"{given} differ in precision: give all float64, inside `with jax.enable_x64(True):`")


def _described(value: Any) -> str:
    return f"{quoted(value)} ({type(value).__name__})"

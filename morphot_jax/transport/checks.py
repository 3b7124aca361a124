"""Checks of a solver's arguments: arrays of the right type, shape and values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from morphot_jax.system.errors import InputError
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
    if not np.all(np.isfinite(array)) or array.min() < 0 or not np.all(array.sum(axis=summed) > 0):
        raise InputError(
            f"the values of {name} go from {array.min():g} to {array.max():g}: "
            "give finite, non-negative ones with a positive sum"
        )


def check_grid(kernel: Kernel, **maps: Any) -> None:
    """Raise InputError where the maps and the kernel differ in shape."""
    if any(values.shape[-3:] != tuple(kernel.shape) for values in maps.values()):
        given = ", ".join(f"{name} {values.shape[-3:]}" for name, values in maps.items())
        raise InputError(
            f"{given} and the kernel's box {tuple(kernel.shape)} differ: give all the same shape (z, y, x)"
        )


def _described(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"

"""How values that hold arrays print: on one line, each array by its type and shape."""

from dataclasses import fields
from typing import Any

import jax
import numpy as np


def one_line(self: Any) -> str:
    """The ``repr`` of a dataclass, such as ``Side(places=..., log_mass=float64[1200])``."""
    parts = (f"{each.name}={_short(getattr(self, each.name))}" for each in fields(self))
    return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim > 0:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    return repr(value)

"""Masks: maps of values from 0 to 1, however they are stored."""

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.resample import resample_onto
from morphot_jax.maps.volume import Volume
from morphot_jax.system.errors import InputError

ROUNDING = 0.01  # how far a filter or a resampling may leave the values of a mask outside of 0 to 1
CODES = {  # the smallest and the largest value of masks that are stored as bytes
    (0.0, 255.0): "bytes from 0 to 255",
    (-128.0, 127.0): "signed bytes from -128 to 127",
    (-128.0, -127.0): "signed bytes -128 and -127",
}


def as_mask(given: Volume, label: str) -> tuple[Volume, str | None]:
    """A mask with values from 0 to 1; and what was done to it, in a sentence, if anything was.

    Masks that are stored as bytes are recognised: whole numbers that fill 0 to 255 or -128 to 127, or are -128 and
    -127 alone. Raises InputError for a map with other values, which is not a mask.
    """
    low, high = float(given.data.min()), float(given.data.max())
    if low >= -ROUNDING and high <= 1.0 + ROUNDING:
        if low >= 0.0 and high <= 1.0:
            return given, None
        return given.with_data(np.clip(given.data, 0.0, 1.0)), f"{label}: values beyond 0 and 1 set to these"
    code = CODES.get((low, high))
    if code is None or np.any(given.data != np.rint(given.data)):
        raise InputError(
            f"{label} has values from {low:g} to {high:g}: a mask goes from 0 to 1 (or, stored as bytes, from 0 "
            "to 255); scale it, or cut it at a level first"
        )
    return given.with_data((given.data - low) / (high - low)), f"{label}: its {code} were taken as 0 to 1"


def mask_on(mask: Volume, like: Volume) -> Float[np.ndarray, "z y x"]:
    """The values of a mask on the grid of a map, from 0 to 1."""
    return np.clip((mask if mask.same_grid(like) else resample_onto(mask, like)).data, 0.0, 1.0)

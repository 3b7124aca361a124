"""The times of the frames of a trajectory, and how much each map counts in them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.settings import Settings
from morphot_jax.system.errors import InputError

Times = Sequence[float] | Float[np.ndarray, " t"]


def frame_times(settings: Settings) -> Float[np.ndarray, " t"]:
    """The time t of every frame: the explicit times, or evenly spaced steps s at the chosen rate.

    t is, by rate: linear s; sinusoidal (1 - cos pi s) / 2; ramp-up 1 - cos(pi s / 2); ramp-down sin(pi s / 2).
    A loop stops one step before t = 1, where it begins again. Barycenters with given weights are evenly spaced.
    """
    if settings.times is not None:
        return np.array(settings.times, np.float64)
    if settings.weights is not None:
        return np.linspace(0.0, 1.0, len(settings.weights))
    steps = np.linspace(0.0, 1.0, settings.frames, endpoint=not settings.loop)
    times = {
        "linear": steps,
        "sinusoidal": (1.0 - np.cos(np.pi * steps)) / 2.0,
        "ramp-up": 1.0 - np.sin(np.pi * (1.0 - steps) / 2.0),  # 1 - cos(pi s / 2), and exactly 1 at s = 1
        "ramp-down": np.sin(np.pi * steps / 2.0),
    }
    return times[settings.rate]


def locate(time: float, anchors: int) -> tuple[int, float]:
    """Between which evenly spaced anchors a time lies: index of the one before, fraction s to the next.

    Time 0 is the start of the first interval; time 1 is the end of the last, s = 1.
    """
    position = time * (anchors - 1)
    before = min(int(position), anchors - 2)
    return before, position - before


def map_weights(settings: Settings, times: Times, maps: int) -> Float[np.ndarray, "t k"]:
    """How much each of so many maps counts in the frames at these times: weights of unit sum.

    1 - s and s for the two maps around a frame, s being the share of the way between them; or the given weights.
    InputError where these are of another number of maps.
    """
    if settings.weights is not None:
        rows = np.array(settings.weights)
        if rows.shape[1] != maps:
            raise InputError(
                f"weights has rows of {rows.shape[1]} and {maps} maps were given: give one weight for each map"
            )
        return rows / rows.sum(axis=1, keepdims=True)
    weights = np.zeros((len(times), maps))
    for row, time in zip(weights, times, strict=True):
        before, share = locate(float(time), maps)
        row[before : before + 2] = 1.0 - share, share
    return weights


def labels_of(times: Times, weights: Sequence[Sequence[float]] | None) -> list[str]:
    """What tells frames apart: 't = 0.25', or the weights of a barycenter, as in '0.2 : 0.5 : 0.3'."""
    if weights is None:
        return [f"t = {time:.3g}" for time in times]
    return [" : ".join(f"{weight / sum(row):.2g}" for weight in row) for row in weights]

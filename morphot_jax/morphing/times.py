"""The times of the frames of a trajectory."""

import numpy as np
from jaxtyping import Float

from morphot_jax.morphing.settings import Settings


def frame_times(settings: Settings) -> Float[np.ndarray, " t"]:
    """The time t of every frame: the explicit times, or evenly spaced steps s at the chosen rate.

    t is, by rate: linear s; sinusoidal (1 - cos pi s) / 2; ramp-up 1 - cos(pi s / 2); ramp-down sin(pi s / 2).
    """
    if settings.times is not None:
        return np.array(settings.times, np.float64)
    steps = np.linspace(0.0, 1.0, settings.frames)
    times = {
        "linear": steps,
        "sinusoidal": (1.0 - np.cos(np.pi * steps)) / 2.0,
        "ramp-up": 1.0 - np.sin(np.pi * (1.0 - steps) / 2.0),  # 1 - cos(pi s / 2), and exactly 1 at s = 1
        "ramp-down": np.sin(np.pi * steps / 2.0),
    }
    return times[settings.rate]

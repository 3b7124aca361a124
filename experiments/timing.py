"""The time that work takes, and the peak memory of the process."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

PATIENCE = 60.0  # seconds after which no further run is started


def timed(work: Callable[[], Any], repeats: int, *, compiles: bool = True) -> tuple[float, Any]:
    """Median seconds of the work, and the result of its last run."""
    runs: list[float] = []
    while len(runs) < repeats + compiles and sum(runs) < PATIENCE:
        started = time.perf_counter()
        result = work()
        runs.append(time.perf_counter() - started)
    return float(np.median(runs[1:] if compiles and len(runs) > 1 else runs)), result


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds of the work, once it is compiled."""
    return timed(work, repeats)[0]

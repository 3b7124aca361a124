"""The time that work takes, and the peak memory of the process."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from morphot_jax.system import memory

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


def own_peak_memory() -> int | None:
    """The peak memory of this process in bytes, without the memory of its parent."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            values = dict(line.split(":", 1) for line in lines)
        return int(values["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return memory.peak()

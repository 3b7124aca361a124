"""A few threads, for work that releases the interpreter: NumPy, JAX and the disk."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from morphot_jax.system.reporting import Report, silent

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = min(4, os.cpu_count() or 1)  # more would hold too many copies of large maps


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    report: Report = silent,
) -> list[Result]:
    """Apply the work to each item in parallel; the results are in order.

    JAX's contexts, such as x64, do not apply in the threads. ``report`` gets the number of finished items and the
    number of all.
    """
    items, results = list(items), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(work, items):
            results.append(result)
            report(len(results), len(items))
    return results

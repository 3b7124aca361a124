"""A few things at once, for work that leaves the interpreter: NumPy's, JAX's, the disk's."""

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
    """What the work makes of each item, in order. Contexts of JAX, such as x64, do not reach into the threads.

    ``report``: told how many are done, and of how many.
    """
    items, results = list(items), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(work, items):
            results.append(result)
            report(len(results), len(items))
    return results

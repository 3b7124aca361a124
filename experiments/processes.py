"""Tasks measured in separate processes, each with its own compilation and peak memory."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from morphot_jax.runs.sweep import Outcome, Settings

ROOT = Path(__file__).resolve().parents[1]


class Task(Protocol):
    """A task that makes rows: a dataclass of numbers, strings and tuples, which JSON can represent."""

    def rows(self) -> list[dict[str, Any]]:
        """Measure, and return the rows."""
        ...


@dataclass(frozen=True)
class Runner:
    """Settings of the processes.

    - ``kinds``: the classes of the tasks, from modules that a process can import.
    - ``limit``: time limit of a process, in seconds. ``together``: run all tasks in one process.
    """

    kinds: tuple[type, ...]
    limit: float
    together: bool = False


def measured(points: Sequence[Settings], runner: Runner) -> Iterator[Outcome]:
    """Run tasks, given as by ``point_of``, in separate processes or in one; yield their outcomes."""
    size = len(points) if runner.together else 1
    for first in range(0, len(points), size):
        for answer in in_own_process(points[first : first + size], runner):
            yield Outcome(failed=answer) if isinstance(answer, str) else Outcome(answer)


def in_own_process(points: Sequence[Settings], runner: Runner) -> list[list[dict[str, Any]] | str]:
    """Run tasks in one process; return the rows of each, or the reason of its failure."""
    modules = {kind.__name__: kind.__module__ for kind in runner.kinds}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps({"modules": modules, "tasks": list(points)}),
            cwd=ROOT,
            timeout=runner.limit,
            check=False,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        answers, reason = [], f"stopped after {runner.limit:g} s"
    else:
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        reason = (done.stderr.strip().splitlines() or [""])[-1] or f"exit code {done.returncode}"
    return answers + [f"failed: {reason}"] * (len(points) - len(answers))


def measure_and_print(tasks: Sequence[Task]) -> None:
    """Print a line of JSON for each task: its rows, or the error."""
    for task in tasks:
        try:
            with redirect_stdout(sys.stderr):
                answer = task.rows()
        except Exception as error:
            answer = f"failed: {type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


def point_of(task: Any) -> dict[str, Any]:
    """Convert a task to a point of a sweep."""
    return json.loads(json.dumps({"task": type(task).__name__} | asdict(task)))


def tasks_from(points: Sequence[Settings], kinds: Sequence[type]) -> list[Any]:
    """Convert points of a sweep back to tasks of these kinds."""
    named = {kind.__name__: kind for kind in kinds}
    return [
        named[point["task"]](
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in point.items()
                if name != "task"
            }
        )
        for point in points
    ]


def main() -> None:
    """Run as the process of ``in_own_process``: read tasks and their modules as JSON from standard input."""
    given = json.load(sys.stdin)
    kinds = [getattr(import_module(module), name) for name, module in given["modules"].items()]
    measure_and_print(tasks_from(given["tasks"], kinds))


if __name__ == "__main__":
    main()

"""Tasks measured in processes of their own, which have a compilation and a peak of memory of their own."""

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
    """What makes rows: a dataclass of numbers, strings and tuples of them, so that it survives JSON."""

    def rows(self) -> list[dict[str, Any]]:
        """Measure."""
        ...


@dataclass(frozen=True)
class Runner:
    """How tasks are run.

    - ``kinds``: the classes of the tasks, of modules that a process can import.
    - ``limit``: seconds that a process may take. ``together``: one process for all tasks.
    """

    kinds: tuple[type, ...]
    limit: float
    together: bool = False


def measured(points: Sequence[Settings], runner: Runner) -> Iterator[Outcome]:
    """What processes of their own, or one for all, say of tasks as ``point_of`` gives them."""
    size = len(points) if runner.together else 1
    for first in range(0, len(points), size):
        for answer in in_own_process(points[first : first + size], runner):
            yield Outcome(failed=answer) if isinstance(answer, str) else Outcome(answer)


def in_own_process(points: Sequence[Settings], runner: Runner) -> list[list[dict[str, Any]] | str]:
    """The rows of each task; where one fails or takes too long, why."""
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
        answers, why = [], f"stopped after {runner.limit:g} s"
    else:
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        why = (done.stderr.strip().splitlines() or [""])[-1] or f"exit code {done.returncode}"
    return answers + [f"failed: {why}"] * (len(points) - len(answers))


def measure_and_print(tasks: Sequence[Task]) -> None:
    """A line of JSON for each task: its rows, or what went wrong."""
    for task in tasks:
        try:
            with redirect_stdout(sys.stderr):
                answer = task.rows()
        except Exception as error:
            answer = f"failed: {type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


def point_of(task: Any) -> dict[str, Any]:
    """A task as a point of a sweep."""
    return json.loads(json.dumps({"task": type(task).__name__} | asdict(task)))


def tasks_from(points: Sequence[Settings], kinds: Sequence[type]) -> list[Any]:
    """The tasks that are points of a sweep, all of these kinds."""
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
    """The process of ``in_own_process``: tasks and their modules come as JSON on standard input."""
    given = json.load(sys.stdin)
    kinds = [getattr(import_module(module), name) for name, module in given["modules"].items()]
    measure_and_print(tasks_from(given["tasks"], kinds))


if __name__ == "__main__":
    main()

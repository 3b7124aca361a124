"""Tasks measured in processes of their own, which have a compilation and a peak of memory of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
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

    - ``command``: starts a process that measures the tasks which it is given as JSON (``measure_and_print``).
    - ``limit``: seconds that a process may take. ``together``: one process for all tasks.
    """

    command: tuple[str, ...]
    limit: float
    together: bool = False


def measured(points: Sequence[Settings], runner: Runner) -> Iterator[Outcome]:
    """What processes of their own, or one for all, say of tasks as ``settings_of`` gives them."""
    size = len(points) if runner.together else 1
    for first in range(0, len(points), size):
        for answer in in_own_process(points[first : first + size], runner):
            yield Outcome(failed=answer) if isinstance(answer, str) else Outcome(answer)


def in_own_process(points: Sequence[Settings], runner: Runner) -> list[list[dict[str, Any]] | str]:
    """The rows of each task; where one fails or takes too long, why."""
    try:
        done = subprocess.run(
            [sys.executable, *runner.command, json.dumps(list(points))],
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
    """The other side of ``in_own_process``: a line of JSON for each task, its rows or what went wrong."""
    for task in tasks:
        try:
            with redirect_stdout(sys.stderr):
                answer = task.rows()
        except Exception as error:
            answer = f"failed: {type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


def settings_of(task: Any) -> dict[str, Any]:
    """A task as a point of a sweep."""
    return json.loads(json.dumps({"task": type(task).__name__} | asdict(task)))


def tasks_from(given: str, kinds: Sequence[type]) -> list[Any]:
    """The tasks that a process was given as JSON, all of these kinds."""
    named = {kind.__name__: kind for kind in kinds}
    found = []
    for settings in json.loads(given):
        kind = named[settings.pop("task")]
        found.append(kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}))
    return found

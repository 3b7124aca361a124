"""Tables that grow row by row, and the tasks that fill them, in processes of their own.

A process of its own gives a row a compilation and a peak of memory that are its own.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import typer

Row = dict[str, str]

ROOT = Path(__file__).resolve().parents[1]
FAILED = "failed"  # statuses that begin so are tried again by the next run


class Task(Protocol):
    """What makes rows: a dataclass of numbers, strings and tuples of them, so that it survives JSON."""

    def about(self) -> list[dict[str, Any]]:
        """What tells its rows from all others, one dictionary for each row."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Measure."""
        ...


class Table:
    """A CSV file of rows, each known by the columns of ``key``.

    Whole lines that an earlier run has left are kept, except those that failed. BadParameter for a file with other
    columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]):
        self.path, self.columns, self.key = path, list(columns), list(key)
        self.rows = [row for row in self._left() if not row["status"].startswith(FAILED)]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def has(self, key: dict[str, Any]) -> bool:
        return any(all(row[name] == text(key[name]) for name in self.key) for row in self.rows)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write those rows that are not there yet; columns they do not know stay empty."""
        new = [{name: text(row.get(name)) for name in self.columns} for row in rows if not self.has(row)]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerows(new)
        self.rows += new

    def _left(self) -> list[Row]:
        if not self.path.is_file():
            return []
        content = self.path.read_text(encoding="utf-8")
        lines = content[: content.rfind("\n") + 1].splitlines()
        found = csv.DictReader(lines)
        if lines and found.fieldnames != self.columns:
            raise typer.BadParameter(f"{self.path} has other columns than this run writes: choose another folder")
        return list(found)


def text(value: object) -> str:
    """A value as tables hold it."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


@dataclass(frozen=True)
class Runner:
    """How tasks are run.

    - ``command``: starts a process that measures the tasks which it is given as JSON (``measure_and_print``).
    - ``limit``: seconds that a process may take. ``together``: all tasks of a table in one process.
    """

    command: tuple[str, ...]
    limit: float
    together: bool = False


def fill(
    table: Table,
    tasks: Sequence[Task],
    runner: Runner,
    completed: Callable[[list[dict]], list[dict]] = lambda rows: rows,
) -> None:
    """Run every task whose rows are not all in the table, and add them.

    ``completed``: what is to be done to rows before they are added.
    """
    todo = [task for task in tasks if not all(table.has(about) for about in task.about())]
    size = max(1, len(todo)) if runner.together else 1
    for first in range(0, len(todo), size):
        some = todo[first : first + size]
        for task in some:
            shown = (text(value) for name, value in task.about()[0].items() if name in table.key)
            print(f"{table.path.stem}: {', '.join(word for word in shown if word)}", flush=True)
        table.add(completed(in_own_process(some, runner)))


def in_own_process(tasks: Sequence[Task], runner: Runner) -> list[dict[str, Any]]:
    """The rows of tasks; where one fails or they take too long, rows whose status says so."""
    try:
        done = subprocess.run(
            [sys.executable, *runner.command, to_json(tasks)],
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
    answers += [why] * (len(tasks) - len(answers))
    return [row for task, answer in zip(tasks, answers, strict=True) for row in _rows_of(task, answer)]


def _rows_of(task: Task, answer: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(answer, str):
        return [about | {"status": f"{FAILED}: {answer}"} for about in task.about()]
    return answer


def measure_and_print(tasks: Sequence[Task]) -> None:
    """The other side of ``in_own_process``: a line of JSON for each task, its rows or what went wrong."""
    for task in tasks:
        try:
            with redirect_stdout(sys.stderr):
                answer = task.rows()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


def to_json(tasks: Sequence[Any]) -> str:
    return json.dumps([{"task": type(task).__name__} | asdict(task) for task in tasks])


def from_json(given: str, kinds: Sequence[type]) -> list[Any]:
    """The tasks that ``to_json`` was given, all of these kinds."""
    named = {kind.__name__: kind for kind in kinds}
    found = []
    for values in json.loads(given):
        kind = named[values.pop("task")]
        found.append(kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}))
    return found

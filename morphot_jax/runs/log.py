"""run.log: what a run said, line by line, each with its time and how much it matters."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

LOG = "run.log"
DEBUG, INFO, WARNING, ERROR = "DEBUG", "INFO", "WARNING", "ERROR"


class Journal:
    """Lines for a log: held until the run has a folder of its own, from then on written as they come.

    A line is in the file before the run goes on, so that one that is killed leaves all that it said. A log that
    cannot be written ends no run: ``complain`` is told of it once, and nothing more is kept.
    """

    def __init__(self, complain: Callable[[str], None]):
        self.complain = complain
        self.path: Path | None = None
        self.begun = False
        self.started = _now()
        self.held: list[str] = []

    def add(self, level: str, text: str) -> None:
        """Keep a text, which may be of several lines."""
        now = _now()
        self.held += [_line(now, level, line) for line in text.splitlines()]
        self._write("a")

    def begin(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write into a file from now on: the heading, then what was held. Only the first call counts.

        ``append``: behind what the file holds, not in its place.
        """
        if self.begun:
            return
        self.begun, self.path = True, path
        self.held[:0] = [_line(self.started, INFO, text) for text in heading]
        self._write("a" if append else "w")

    def _write(self, mode: str) -> None:
        if self.path is None:
            return
        lines, self.held = self.held, []
        try:
            with open(self.path, mode, encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines(lines)
        except OSError as error:
            path, self.path = self.path, None
            self.complain(f"cannot write '{path}': {error.strerror}; what is said from here on is not kept")


def _line(time: str, level: str, text: str) -> str:
    return f"{time} {level:7s} {text}".rstrip() + "\n"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")

"""run.log: every message of a run on a line of its own, with its time and its level."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

LOG = "run.log"
DEBUG, INFO, WARNING, ERROR = "DEBUG", "INFO", "WARNING", "ERROR"


class Log:
    """The lines of a log: held in memory until the run has a folder, then written as they come.

    Each line is in the file before the run goes on, so that a run that is killed leaves all its messages. A log
    that cannot be written does not end the run: ``complain`` gets one message, and later lines are dropped.
    """

    def __init__(self, complain: Callable[[str], None]):
        self.complain = complain
        self.path: Path | None = None
        self.begun = False
        self.started = _now()
        self.held: list[str] = []

    def add(self, level: str, text: str) -> None:
        """Add a message of one or more lines."""
        now = _now()
        self.held += [_line(now, level, line) for line in text.splitlines()]
        self._write("a")

    def begin(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write to a file from now on: first the heading, then the held lines. Later calls do nothing.

        ``append``: keep what the file holds, and write after it.
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
            self.complain(f"cannot write '{path}': {error.strerror}; the run goes on without a log")


def _line(time: str, level: str, text: str) -> str:
    return f"{time} {level:7s} {text}".rstrip() + "\n"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")

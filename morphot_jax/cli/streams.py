"""Standard streams that end no run: of any encoding, closed, on a full disk, or with a reader that has gone."""

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import Any, TextIO, cast


class Outlet:
    """A stream that takes text until it fails; what is written after that is dropped.

    ``error``: why it failed; None where it did not, or where only its reader went away, as ``head`` does.
    """

    def __init__(self, stream: Any):
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Pass on what is held back, or drop it."""
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _drop(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:
            self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Make standard output and standard error take any text, whatever happens to them."""
    _open_what_is_closed()
    codecs.register_error("morphot", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="morphot")
    sys.stdout, sys.stderr = cast(TextIO, Outlet(sys.stdout)), cast(TextIO, Outlet(sys.stderr))


def failure() -> str | None:
    """Why the standard output could not be written, in one line; None where nothing was lost."""
    out: Any = sys.stdout
    out.flush()
    return f"cannot write to the standard output: {out.error.strerror}; check where it goes" if out.error else None


def _open_what_is_closed() -> None:
    """Lead closed streams nowhere: else the next file that is opened takes their place, and their text."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The nearest text where an encoding lacks a letter: without its marks (Å becomes A)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = unicodedata.normalize("NFKD", error.object[error.start : error.end])
    return "".join(letter for letter in letters.replace("°", " deg") if letter.isascii()) or "?", error.end

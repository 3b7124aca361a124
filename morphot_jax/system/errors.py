"""The error that bad input raises, the suggestions in its message, and the exit codes of the command line."""

from collections.abc import Iterable
from difflib import get_close_matches

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
LONGEST_QUOTE = 80  # characters


class InputError(ValueError):
    """An input cannot be used.

    The message is one line: it quotes what was received, says why it cannot be used and what to do instead.
    The command line prints it and exits with 2. In Python it is also a ``ValueError``.
    """


class InputWarning(UserWarning):
    """An input could be used, but not as it stands. The message is one line, as that of an ``InputError``."""


def quoted(value: object) -> str:
    """Quote a value for a message: its ``repr`` on one line, or its type if the ``repr`` is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_QUOTE else f"a {type(value).__name__}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that is most similar, ignoring case; None if none is similar."""
    by_lower = {other.lower(): other for other in known}
    matches = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End a message with the most similar known word; empty if none is similar."""
    suggestion = nearest(word, known)
    return "" if suggestion is None else f"; did you mean '{suggestion}'?"

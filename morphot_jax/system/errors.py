"""The one kind of error that bad input raises, what it suggests instead, and how the command line ends."""

from collections.abc import Iterable
from difflib import get_close_matches

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
LONGEST_QUOTE = 80  # characters


class InputError(ValueError):
    """Something that was handed in cannot be used.

    The message is one line: it quotes what was received, says why it cannot be used and what to do instead.
    The command line prints it and exits with 2; Python callers catch it, or the ``ValueError`` that it is.
    """


def quoted(value: object) -> str:
    """A value as it is quoted in a message: its ``repr`` on one line, or its type where that is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_QUOTE else f"a {type(value).__name__}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, whatever the case of its letters; None where none is near."""
    by_lower = {other.lower(): other for other in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message that asks for the nearest known word; empty where none is near."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean '{near}'?"

"""Reports of work: its progress (the work done and the total, 0 if unknown) and remarks on what was done."""

from collections.abc import Callable
from typing import NamedTuple

Report = Callable[[int, int], None]


class Remark(NamedTuple):
    """A sentence about what was done: information, or a ``warning`` if the user should check it."""

    text: str
    warning: bool = False


def printable(text: str) -> str:
    """The text, with what is no text in it (bytes of a file name, say) as codes."""
    return text.encode(errors="backslashreplace").decode()


def percent(share: float) -> str:
    """Write a share as in every message: percent with two digits."""
    return "less than 0.01%" if 0 < share < 0.5e-4 else f"{share:.2%}"


def silent(*_: object) -> None:
    """Ignore a report."""


def part_of(report: Report, index: int, parts: int) -> Report:
    """Turn the progress of one of several equal parts into the progress of the whole work."""
    return lambda done, total: report(index * total + done, parts * total)


def split(report: Report, *shares: int) -> list[Report]:
    """Turn the progress of each piece, given the shares of the pieces, into the progress of the whole work."""
    whole = sum(shares)

    def piece(before: int, share: int) -> Report:
        return lambda done, total: report(before * total + share * done, whole * total)

    return [piece(sum(shares[:index]), share) for index, share in enumerate(shares)]

"""What work reports: how far it has come (work done, and the whole: 0 where that is not known), and remarks."""

from collections.abc import Callable
from typing import NamedTuple

Report = Callable[[int, int], None]


class Remark(NamedTuple):
    """A sentence about what was done: information, or a ``warning`` where the user should look again."""

    text: str
    warning: bool = False


def percent(share: float) -> str:
    """A share as every message writes it: percent with two digits."""
    return "less than 0.01%" if 0 < share < 0.5e-4 else f"{share:.2%}"


def silent(*_: object) -> None:
    """The callback of those who want no reports."""


def part_of(report: Report, index: int, parts: int) -> Report:
    """Progress of one of several equal parts of the work as progress of all."""
    return lambda done, total: report(index * total + done, parts * total)


def split(report: Report, *shares: int) -> list[Report]:
    """Progress of pieces of the work, each with its share in it, as progress of all."""
    whole = sum(shares)

    def piece(before: int, share: int) -> Report:
        return lambda done, total: report(before * total + share * done, whole * total)

    return [piece(sum(shares[:index]), share) for index, share in enumerate(shares)]

"""Callbacks that are told how far a piece of work has come: the work done, and all there is (0: not known)."""

from collections.abc import Callable

Report = Callable[[int, int], None]


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

"""Selections from the table of an experiment: rows with given values, and one column against another."""

from collections.abc import Iterable, Mapping
from typing import Any

from morphot_jax.runs.sweep import Row


def where(rows: Iterable[Row], wanted: Mapping[str, Any]) -> list[Row]:
    """Select the rows that have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def curve(rows: Iterable[Row], x: str, y: str, wanted: Mapping[str, Any]) -> dict[Any, Any]:
    """Column ``y`` by column ``x``, in order of x, from the rows that have these values and a ``y``."""
    selected = [row for row in where(rows, wanted) if row.get(y) is not None]
    return {row[x]: row[y] for row in sorted(selected, key=lambda row: row[x])}

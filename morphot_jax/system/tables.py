"""Tables as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@")  # characters that begin a formula in a spreadsheet
CONTROL = dict.fromkeys((*range(32), 127), " ")  # control characters, which could break lines or columns


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table, one line per row. None is an empty cell; an apostrophe marks formulas as text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def columns_to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write rows given as mappings; numbers get nine digits, missing values are empty cells."""
    return to_csv(columns, ([_rounded(row.get(name)) for name in columns] for row in rows))


def _rounded(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value


def _cell(value: Any) -> Any:
    """Put text on one line, with an apostrophe if it begins like a formula; leave numbers unchanged."""
    if not isinstance(value, str):
        return value
    text = value.translate(CONTROL)
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text

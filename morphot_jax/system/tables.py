"""Tables as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the beginning of one
CONTROL = dict.fromkeys((*range(32), 127), " ")  # characters that would break lines or columns


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table, one line a row. None is an empty cell; what a spreadsheet would compute is told to be text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def columns_to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The same of rows that know their columns by name; numbers with nine digits, what is not known empty."""
    return to_csv(columns, ([_rounded(row.get(name)) for name in columns] for row in rows))


def _rounded(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value


def _cell(value: Any) -> Any:
    """Text on one line, an apostrophe before what begins like a formula; numbers as they are."""
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

"""Tables: text is read back as it was written, and never becomes a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphot_jax.system.tables import columns_to_csv, to_csv


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2)))
def test_text_is_read_as_it_was_written_but_for_formulas(rows):
    found = read(to_csv(["a", "b"], rows))[1:]
    assert len(found) == len(rows)
    for written, again in zip(rows, found, strict=True):
        for before, after in zip(written, again, strict=True):
            shown = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in before)
            assert after in (shown, f"'{shown}")


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", " =1", "=HYPERLINK(1)"])
def test_formulas_are_marked_as_text(text):
    assert read(to_csv(["name"], [[text]]))[1] == [f"'{text}"]


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\tb", "\r\n"])
def test_no_text_breaks_a_line(text):
    assert len(to_csv(["name"], [[text]]).splitlines()) == 2


@pytest.mark.parametrize("value", ["-1.5", "+3e-4", "-inf", -2, -0.25, "map.mrc", "a=b"])
def test_numbers_and_plain_text_stay(value):
    assert read(to_csv(["x"], [[value]]))[1] == [str(value)]


def test_rows_by_name_have_nine_digits_and_gaps():
    rows = [{"b": 1 / 3, "a": 2}, {"a": None, "c": 9}]
    assert columns_to_csv(rows, ("a", "b")) == "a,b\n2,0.333333333\n,\n"

"""Options: values that declarations accept and refuse, and their messages, for every option."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from morphot_jax.morphing.settings import Settings
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.runs.request import Request
from morphot_jax.system.errors import InputError
from morphot_jax.system.options import check_options, check_word, declares_options, option, options_of, read

DECLARED = [(cls, one) for cls in (Settings, Preparation, Request) for one in options_of(cls).values()]
GIVEN = {Settings: {}, Preparation: {}, Request: {"output": Path("out")}}


@declares_options
@dataclass(frozen=True)
class Meal:
    """What to eat."""

    dish: Literal["soup", "bread"] = option("soup", "What is served.")
    plates: int | None = option(None, "How many plates.", least=1, none="all", flags=("--for",))
    salt: float = option(1.0, "Salt, in g.", above=0, below=5, advice=" (a pinch is 0.3)")
    steps: float | Sequence[float] | Literal["auto"] = option("auto", "When to stir.", most=60)
    hot: bool = option(True, "Whether it is hot.")
    place: Path = option(Path("here"), "Where.")
    note: str | None = option(None, "A word to the cook.")
    guests: Sequence[str] = option((), "Who comes.")

    def __post_init__(self):
        check_options(self)


def refused(cls, **values):
    with pytest.raises(InputError) as caught:
        cls(**(GIVEN.get(cls, {}) | values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dish": "bred"}, "dish is 'bred': give soup or bread; did you mean 'bread'?"),
        ({"dish": None}, "dish is None: give soup or bread"),
        ({"plates": 0}, "plates (--for) is 0: give a whole number of at least 1"),
        ({"plates": 2.0}, "plates (--for) is 2.0: give a whole number of at least 1"),
        ({"plates": True}, "plates (--for) is True: give a whole number of at least 1"),
        ({"plates": "2"}, "plates (--for) is '2': give a whole number of at least 1"),
        ({"salt": 0}, "salt is 0: give a number above 0 and below 5 (a pinch is 0.3)"),
        ({"salt": 5.0}, "salt is 5: give a number above 0 and below 5 (a pinch is 0.3)"),
        ({"salt": float("nan")}, "salt is nan: give a number above 0 and below 5 (a pinch is 0.3)"),
        ({"salt": 1 + 2j}, "salt is (1+2j): give a number above 0 and below 5 (a pinch is 0.3)"),
        ({"salt": np.ones(2)}, "salt is array([1., 1.]): give a number above 0 and below 5 (a pinch is 0.3)"),
        ({"steps": float("inf")}, "steps is inf: give auto, a number of at most 60 or several"),
        ({"steps": [1, 61, "x"]}, "steps holds 61, 'x': give a number of at most 60 or several"),
        ({"steps": []}, "steps holds nothing: give a number of at most 60 or several"),
        ({"steps": "atuo"}, "steps is 'atuo': give auto, a number of at most 60 or several; did you mean 'auto'?"),
        ({"hot": "yes"}, "hot is 'yes': give True or False"),
        ({"place": 3}, "place is 3: give a path"),
        ({"note": 3}, "note is 3: give text"),
        ({"guests": ["a", 3]}, "guests is ('a', 3): give a sequence of texts"),
    ],
)
def test_refusals_quote_what_was_given_and_say_what_to_give(values, message):
    assert refused(Meal, **values) == message


def test_values_come_in_their_plain_types():
    meal = Meal("soup", np.int32(2), 2, np.array([1, 2.5]), np.bool_(False), "there", None, ["a"])
    assert meal == Meal("soup", 2, 2.0, (1.0, 2.5), False, Path("there"), None, ("a",))
    kinds = [type(value) for value in (meal.plates, meal.salt, meal.steps[0], meal.hot)]
    assert kinds == [int, float, float, bool]
    assert Meal(steps=3).steps == 3.0


def test_long_values_are_cut_and_stay_on_one_line():
    line = refused(Meal, salt=np.zeros((30, 30)))
    assert len(line) < 200
    assert "..." in line


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("plates", "all", None),
        ("plates", "3", 3),
        ("steps", "auto", "auto"),
        ("steps", "1.5", 1.5),
        ("steps", "1,2.5", (1.0, 2.5)),
    ],
)
def test_texts_are_read(name, text, value):
    assert read(options_of(Meal)[name], text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plates", "al", "plates (--for) is 'al': give all or a whole number of at least 1; did you mean 'all'?"),
        ("plates", "2.5", "plates (--for) is '2.5': give all or a whole number of at least 1"),
        ("steps", "1,x", "steps is '1,x': give auto or numbers of at most 60, separated by commas"),
    ],
)
def test_texts_without_a_value_are_refused(name, text, message):
    with pytest.raises(InputError) as caught:
        read(options_of(Meal)[name], text)
    assert str(caught.value) == message


def test_docstrings_list_every_option():
    lines = Meal.__doc__.splitlines()
    assert lines[0] == "What to eat."
    assert "    - ``salt``: Salt, in g. (above 0 and below 5)" in lines
    for cls, one in DECLARED:
        assert f"- ``{one.name}``: {one.option.help}" in cls.__doc__


def test_words_are_checked_alone():
    check_word("dish", "soup", ("soup", "bread"))
    with pytest.raises(InputError, match="dish is 'Soup': give soup or bread; did you mean 'soup'"):
        check_word("dish", "Soup", ("soup", "bread"))


# Every option of the package


def test_every_field_that_users_choose_is_declared():
    undeclared = {f"{cls.__name__}.{one.name}" for cls in GIVEN for one in fields(cls)} - {
        f"{cls.__name__}.{one.name}" for cls, one in DECLARED
    }
    assert undeclared == {"Request.preparation", "Request.command"}


@pytest.mark.parametrize(("cls", "one"), DECLARED, ids=lambda one: getattr(one, "name", ""))
def test_unknown_words_are_refused_with_the_known_ones(cls, one):
    if not one.kind.words:
        return
    line = refused(cls, **{one.name: "nonsense"})
    assert line.startswith(f"{one.name} is 'nonsense': give ")
    assert [word for word in one.kind.words if word not in line] == []
    assert refused(cls, **{one.name: f"{one.kind.words[-1]}x"}).endswith(f"; did you mean '{one.kind.words[-1]}'?")


@pytest.mark.parametrize(("cls", "one"), DECLARED, ids=lambda one: getattr(one, "name", ""))
def test_every_known_word_is_accepted(cls, one):
    for word in one.kind.words:
        values = GIVEN[cls] | {one.name: word}
        assert getattr(cls(**values), one.name) == word


@pytest.mark.parametrize(("cls", "one"), DECLARED, ids=lambda one: getattr(one, "name", ""))
def test_numbers_beyond_their_bounds_are_refused(cls, one):
    bounds = one.option
    number = one.kind.number or one.kind.many
    wrong = [bound for bound in (bounds.above, bounds.below) if bound is not None]
    wrong += [bounds.least - 1] if bounds.least is not None else []
    wrong += [bounds.most + 1] if bounds.most is not None else []
    wrong += [float("nan"), float("inf")] if number is float else [2.5, True] if number is int else []
    for value in wrong:
        given = [value] if one.kind.many and not one.kind.number else value
        line = refused(cls, **{one.name: given})
        assert line.startswith(one.label)
        assert f"{value:.10g}" in line or str(value) in line
        assert bounds.bounds in line

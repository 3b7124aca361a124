"""Options: everything that a user can choose, declared once.

An option is a field of a frozen dataclass::

    frames: int = option(25, "How many frames.", least=2, group="Trajectory", commands=("morph", "demo"))

The annotation gives the type and the allowed words; ``option`` gives the rest. Everything else follows from this
declaration: the check of a new instance (``check_options``), the option of the command line and the parsing of its
text (``cli.options``), the entry in reports, and the table in the documentation.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import lru_cache
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin

from morphot_jax.system.errors import InputError, did_you_mean

OPTION = "option"  # the key of the declaration in a field's metadata
QUOTED = 80  # characters of a wrong value that a message shows
NO_SEQUENCES = (str, bytes, bytearray, Mapping, Set)  # though they can be iterated

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Option:
    """The declaration of an option, apart from its name, type and default.

    - ``help``: a sentence or two, with units. ``group``: the heading under which the help lists it.
    - ``above``, ``least``, ``most``, ``below``: bounds of a number, or of each of several numbers.
    - ``advice``: the end of the message that refuses a value.
    - ``none``: the word that stands for None on the command line, such as 'auto'.
    - ``commands``: the commands that have this option; empty if only Python has it.
    - ``flags``: its names on the command line, if they differ from the field's name. ``argument``: it is a
      positional argument without a flag. ``maps``: the shell completes it to names of maps.
    """

    help: str
    group: str | None = None
    above: int | float | None = None
    least: int | float | None = None
    most: int | float | None = None
    below: int | float | None = None
    advice: str = ""
    none: str | None = None
    commands: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    argument: bool = False
    maps: bool = False

    def allows(self, number: int | float) -> bool:
        """Whether a number is finite and within the bounds."""
        return (isinstance(number, int) or isfinite(number)) and not (
            (self.above is not None and number <= self.above)
            or (self.least is not None and number < self.least)
            or (self.most is not None and number > self.most)
            or (self.below is not None and number >= self.below)
        )

    @property
    def bounds(self) -> str:
        """Describe the bounds: 'from 2 to 9', 'above 0 and below 2', 'at least 2'; empty if there are none."""
        if self.least is not None and self.most is not None:
            return f"from {self.least:.10g} to {self.most:.10g}"
        bounds = {"above": self.above, "at least": self.least, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound:.10g}" for word, bound in bounds.items() if bound is not None)


@dataclass(frozen=True)
class Kind:
    """The values that an annotation allows: ``words``, one number, ``many`` numbers, a flag, other ``classes``.

    ``rows``: several rows of numbers, each typed with a flag of its own.
    """

    words: tuple[str, ...] = ()
    number: type | None = None
    many: type | None = None
    rows: type | None = None
    flag: bool = False
    optional: bool = False
    classes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Declared:
    """An option with the name, default and kind of its field. ``default``: MISSING if a value is required."""

    name: str
    default: Any
    kind: Kind
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line, the full name first."""
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    @property
    def label(self) -> str:
        """Its name in messages, with the flag if that differs."""
        differs = self.flags[0].strip("-").replace("-", "_") != self.name
        return f"{self.name} ({self.flags[0]})" if differs else self.name

    @property
    def spelled(self) -> bool:
        """Whether its text on the command line may be something other than one number or one word."""
        words = self.kind.words or self.option.none
        return bool(self.kind.rows or self.kind.many in (int, float) or (words and self.kind.number))


def option(default: Any = MISSING, help: str = "", **declared: Any) -> Any:
    """Declare a dataclass field as an option; ``declared``: the fields of ``Option``."""
    return field(default=default, metadata={OPTION: Option(help, **declared)})


@lru_cache
def options_of(cls: type) -> dict[str, Declared]:
    """Return the options of a dataclass by name, without those of nested dataclasses."""
    return {
        one.name: Declared(one.name, one.default, kind_of(one.type), one.metadata[OPTION])
        for one in fields(cls)
        if OPTION in one.metadata
    }


def declares_options(cls: Class) -> Class:
    """Add a line for each option to the docstring of the class, and return the class.

    Run-time type checkers skip the class: ``check_options`` accepts more, such as arrays, and its messages are
    clearer.
    """
    cls.__no_type_check__ = True
    lines = [
        f"- ``{one.name}``: {one.option.help}{bounds}"
        for one in options_of(cls).values()
        for bounds in [f" ({one.option.bounds})" if one.option.bounds else ""]
    ]
    cls.__doc__ = "\n    ".join([(cls.__doc__ or "").rstrip(), "", *lines, ""])
    return cls


def check_options(instance: Any) -> None:
    """Check every option of a frozen dataclass and convert it to a plain type, from its ``__post_init__``.

    NumPy numbers become Python numbers; sequences and arrays become tuples. Raises InputError, one line that
    quotes the value and says what to give, for a wrong type, an unknown word, or a number out of bounds.
    """
    for name, declared in options_of(type(instance)).items():
        object.__setattr__(instance, name, checked(declared, getattr(instance, name)))


def checked(declared: Declared, value: Any) -> Any:
    """Return the value in its plain type; InputError if the option does not allow it."""
    kind = declared.kind
    value = _item(value)
    if kind.optional and (value is None or (isinstance(value, str) and value == declared.option.none)):
        return None
    if isinstance(value, bool):
        if kind.flag:
            return value
    elif isinstance(value, str) and value in kind.words:
        return value
    elif kind.number and (number := _plain(value, kind.number)) is not None and declared.option.allows(number):
        return number
    elif (kind.many or kind.rows) and _is_sequence(value):
        return _several(declared, value, kind.many) if kind.many else _rows(declared, value, kind.rows)
    elif (instance := _of_class(value, kind.classes)) is not None:
        return instance
    raise InputError(refusal(declared, value))


def read(declared: Declared, text: str | Sequence[str]) -> Any:
    """Parse the text of an option on the command line; InputError if it is not a value of the option.

    An option of several rows has a text for each. Bounds are checked later, by the dataclass.
    """
    kind = declared.kind
    if kind.rows:
        row = replace(declared, kind=Kind(many=kind.rows))
        return tuple(read(row, one) for one in text)
    assert isinstance(text, str)
    if declared.option.none == text:
        return None
    if text in kind.words or str in kind.classes:
        return text
    number: Any = kind.many or kind.number
    try:
        numbers = tuple(number(part) for part in (text.split(",") if kind.many else [text]))
    except ValueError:
        raise InputError(refusal(declared, text, typed=True)) from None
    return numbers[0] if kind.number and len(numbers) == 1 else numbers


def refusal(declared: Declared, value: Any, *, typed: bool = False) -> str:
    """Write the message that refuses a value; ``typed``: on the command line, where a word stands for None."""
    known = [*words_of(declared, typed=typed)]
    allowed = _listed([*known, *wanted(declared, typed=typed)])
    suggestion = did_you_mean(value, known) if isinstance(value, str) else ""
    given = _quoted(value, exact=declared.kind.number is int)
    return f"{declared.label} is {given}: give {allowed}{declared.option.advice}{suggestion}"


def words_of(declared: Declared, *, typed: bool) -> tuple[str, ...]:
    """The words that an option allows; on the command line, also the word for None."""
    none = (declared.option.none,) if typed and declared.option.none else ()
    return (*none, *declared.kind.words)


def wanted(declared: Declared, *, typed: bool) -> list[str]:
    """Describe what an option allows besides its words, as in 'a number above 0'."""
    kind, bounds = declared.kind, declared.option.bounds
    within = f" of {bounds}" if bounds.startswith("at ") else f" {bounds}" if bounds else ""
    if kind.rows:
        return [f"numbers{within}, separated by commas" if typed else f"rows of numbers{within}"]
    if kind.number or kind.many in (int, float):
        one = f"a whole number{within}" if kind.number is int else f"a number{within}"
        several = f"numbers{within}, separated by commas" if typed else f"numbers{within}"
        if kind.many and kind.number:
            return [several] if typed else [one, "several"]
        return [several if kind.many else one]
    if declared.option.maps:
        return ["names of maps" if kind.many else "a map or the name of one"]
    if kind.many:
        return ["a sequence of texts"]
    named = {bool: "True or False", Path: "a path", str: "text"}
    return [named[one] for one in ((bool,) if kind.flag else kind.classes) if one in named]


def check_is(name: str, value: object, cls: type) -> None:
    """Raise InputError where a value is not of a class of options, such as ``Settings``."""
    if not isinstance(value, cls):
        raise InputError(f"{name} is {_quoted(value)}: give {cls.__name__}(...)")


def check_word(name: str, value: object, known: Sequence[str]) -> None:
    """Raise InputError for an unknown word; the message quotes it and suggests the most similar known word."""
    if value not in known:
        suggestion = did_you_mean(str(value), known)
        raise InputError(f"{name} is {_quoted(value)}: give {_listed(list(known))}{suggestion}")


def kind_of(annotation: Any) -> Kind:
    """Read off an annotation which values it allows."""
    union = get_origin(annotation) in (Union, UnionType)
    members = get_args(annotation) if union else (annotation,)
    single = {member for member in members if get_origin(member) is None}
    items = [get_args(member)[0] for member in members if get_origin(member) in (Sequence, tuple)]
    rows = [get_args(item)[0] for item in items if get_origin(item) in (Sequence, tuple)]
    return Kind(
        words=tuple(word for member in members if get_origin(member) is Literal for word in get_args(member)),
        number=next((number for number in (int, float) if number in single), None),
        many=next((item for item in items if item in (int, float, str)), None),
        rows=next((item for item in rows if item in (int, float)), None),
        flag=bool in single,
        optional=type(None) in single,
        classes=tuple(one for one in members if one in (str, Path) or isinstance(one, ForwardRef)),
    )


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, NO_SEQUENCES)


def _item(value: Any) -> Any:
    """Convert a scalar of an array library to a Python scalar; return anything else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _plain(value: Any, kind: type) -> Any:
    """Convert a number to a Python number; None if it is not a number, or not whole where ``kind`` is int."""
    if isinstance(value, bool):
        return None
    if kind is int:
        return int(value) if isinstance(value, Integral) else None
    try:
        return float(value) if isinstance(value, Real) else None
    except OverflowError:
        return None


def _several(declared: Declared, values: Iterable[Any], kind: type) -> tuple[Any, ...]:
    """Return the values as a tuple; InputError quotes those that cannot be used."""
    if kind is str:
        names = tuple(values)
        if all(isinstance(name, str) for name in names):
            return names
        raise InputError(refusal(declared, names))
    pairs = [(value, _plain(_item(value), kind)) for value in values]
    wrong = [value for value, number in pairs if number is None or not declared.option.allows(number)]
    if wrong or not pairs:
        received = ", ".join(map(_quoted, wrong)) or "nothing"
        allowed = _listed(wanted(declared, typed=False))
        raise InputError(f"{declared.label} holds {received}: give {allowed}{declared.option.advice}")
    return tuple(number for _, number in pairs)


def _rows(declared: Declared, values: Iterable[Any], kind: type | None) -> tuple[tuple[Any, ...], ...]:
    """Return rows of numbers as tuples; InputError quotes what cannot be used."""
    rows = tuple(values)
    if kind is None or not rows or not all(map(_is_sequence, rows)):
        raise InputError(refusal(declared, rows))
    return tuple(_several(declared, row, kind) for row in rows)


def _of_class(value: Any, classes: tuple[Any, ...]) -> Any:
    """Return the value if it is of one of the classes, text as a path where a path is allowed; else None."""
    for one in classes:
        if isinstance(one, ForwardRef):  # a class that would be slow to import
            if one.__forward_arg__ in (f"{kind.__module__}.{kind.__qualname__}" for kind in type(value).__mro__):
                return value
        elif isinstance(value, one):
            return value
        elif one is Path and isinstance(value, str):
            return Path(value)
    return None


def _listed(words: list[str]) -> str:
    """List words as in a sentence: 'a, b or c'."""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _quoted(value: Any, *, exact: bool = False) -> str:
    """Quote a value on one line, cut to ``QUOTED`` characters; ``exact``: 2.0 is not written as 2."""
    text = " ".join((f"{value:.10g}" if type(value) is float and not exact else repr(value)).split())
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."

"""Sweeps: compute a result for each of many settings (points), and collect the results in one table.

A sweep is a folder:

    manifest.json      the points in order: key and settings of each
    points/KEY/        a finished point: result.json (settings, rows, seconds) and, where it has any, arrays.npz
    results.csv        a line for each row of every finished point, in the order of the manifest

KEY is a hash of the settings, so that a point is found again whatever else the sweep holds. The folder of a point
gets its name when it is complete, and the point is never computed again. So a run that was killed continues where
it stopped, and several processes may work on one folder, each with a share of the points (``Shard``). The table
depends only on the results, not on which process computed them or when.
"""

import hashlib
import io
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import silent
from morphot_jax.system.tables import columns_to_csv

Value = str | float | int | bool | None
Settings = Mapping[str, Any]  # of JSON's types
Row = dict[str, Value]

MANIFEST, POINTS, RESULT, ARRAYS, TABLE = "manifest.json", "points", "result.json", "arrays.npz", "results.csv"


@dataclass(frozen=True)
class Outcome:
    """The result of a point: rows of the table, and arrays to save with them; ``failed``: why there is no result.

    A point that failed is not saved; the next run tries it again.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True)
class Shard:
    """Share ``number`` of ``shares``: every ``shares``-th point, from the ``number``-th on (counted from 1)."""

    number: int = 1
    shares: int = 1

    @classmethod
    def parse(cls, given: str) -> "Shard":
        """Read a share I/N; InputError for anything else."""
        number, _, shares = given.partition("/")
        if not (number.isdecimal() and shares.isdecimal() and 1 <= int(number) <= int(shares)):
            raise InputError(f"shard '{given}' is not a share: give I/N with I from 1 to N, such as 2/5")
        return cls(int(number), int(shares))


class Step(NamedTuple):
    """Progress of a run: points finished and to be computed in all, and the point that was computed last."""

    done: int
    total: int
    settings: Settings
    failed: str
    seconds: float
    seconds_left: float


class Sweep:
    """The points of a study and their folder.

    - ``points``: the settings of each point, in types that JSON has; equal settings count once.
    - ``columns``: of the table; names of settings and of values in rows.
    - ``derive``: changes or adds to all finished rows together, for the table alone.

    InputError where the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path | str,
        points: Iterable[Settings],
        columns: Sequence[str],
        *,
        derive: Callable[[list[Row]], list[Row]] = lambda rows: rows,
    ):
        self.folder, self.columns, self.derive = Path(folder), list(columns), derive
        self.points = {key_of(settings): settings for settings in points}
        self._known: dict[str, dict[str, Any]] = {}
        files.make_folder(self.folder / POINTS)
        listed = [{"key": key, "settings": settings} for key, settings in self.points.items()]
        files.write_text(self.folder / MANIFEST, json.dumps(listed, indent=1) + "\n")

    def missing(self, shard: Shard | None = None) -> list[Settings]:
        """The unfinished points of a share, in order."""
        shard = shard or Shard()
        mine = list(self.points.items())[shard.number - 1 :: shard.shares]
        return [settings for key, settings in mine if not self._place(key).is_dir()]

    def run(
        self,
        compute: Callable[[list[Settings]], Iterable[Outcome]],
        *,
        shard: Shard | None = None,
        alike: Callable[[Settings], Any] = lambda settings: None,
        at_once: int = 1,
        report: Callable[[Step], None] = silent,
    ) -> None:
        """Compute the missing points in groups, and write the table after each group.

        ``compute`` gets a group of up to ``at_once`` neighbours with equal ``alike``, and yields the outcome of
        each in order. Each outcome is saved at once.
        """
        self.write_table()
        missing = self.missing(shard)
        done, started = 0, time.perf_counter()
        for group in _groups(missing, alike, at_once):
            before = time.perf_counter()
            for settings, outcome in zip(group, compute(group), strict=True):
                now = time.perf_counter()
                if not outcome.failed:
                    self._keep(settings, outcome, now - before)
                done += 1
                left = (now - started) / done * (len(missing) - done)
                report(Step(done, len(missing), settings, outcome.failed, now - before, left))
                before = time.perf_counter()
            self.write_table()
        if not self.missing():
            for draft in (self.folder / POINTS).glob(".*"):  # of runs that were killed
                shutil.rmtree(draft, ignore_errors=True)

    def rows(self) -> list[Row]:
        """Settings and results of every finished point, in order."""
        rows = []
        for key, settings in self.points.items():
            if self._place(key).is_dir():
                rows += [dict(settings) | row for row in self._result(key)["rows"]]
        return self.derive(rows)

    def arrays(self, settings: Settings) -> dict[str, np.ndarray]:
        """The arrays of a finished point."""
        path = self._place(key_of(settings)) / ARRAYS
        if not path.is_file():
            return {}
        with np.load(path) as file:
            return dict(file)

    def seconds(self, settings: Settings) -> float:
        """The seconds that a finished point took."""
        return self._result(key_of(settings))["seconds"]

    def write_table(self) -> None:
        """Write the table of all points that this process and others have finished."""
        with FileLock(self.folder / ".lock"):  # the process that reads last also writes last
            files.write_text(self.folder / TABLE, columns_to_csv(self.rows(), self.columns))

    def _place(self, key: str) -> Path:
        return self.folder / POINTS / key

    def _result(self, key: str) -> dict[str, Any]:
        if key not in self._known:
            self._known[key] = json.loads((self._place(key) / RESULT).read_text(encoding="utf-8"))
        return self._known[key]

    def _keep(self, settings: Settings, outcome: Outcome, seconds: float) -> None:
        key = key_of(settings)
        draft = self.folder / POINTS / f".{secrets.token_hex(8)}"
        files.make_folder(draft)
        rows = [{name: _plain(value) for name, value in row.items()} for row in outcome.rows]
        result = {"settings": settings, "seconds": seconds, "rows": rows}
        files.write_text(draft / RESULT, json.dumps(result, indent=1) + "\n")
        if outcome.arrays:
            packed = io.BytesIO()
            np.savez_compressed(packed, allow_pickle=False, **dict(outcome.arrays))
            files.write_bytes(draft / ARRAYS, packed.getvalue())
        with suppress(OSError):
            draft.rename(self._place(key))
        if not self._place(key).is_dir():
            raise InputError(f"cannot save a result in '{self._place(key)}': check permissions and disk space")
        shutil.rmtree(draft, ignore_errors=True)  # it is still there if another process was faster


def grid(**axes: Iterable[Any]) -> list[dict[str, Any]]:
    """Every combination of the values of the settings; the last setting varies fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def key_of(settings: Settings) -> str:
    """The name of a point: a hash of its settings, independent of their order."""
    content = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _plain(value: Any) -> Value:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _groups(points: list[Settings], alike: Callable[[Settings], Any], at_once: int) -> Iterator[list[Settings]]:
    for _, some in groupby(points, alike):
        neighbours = list(some)
        for first in range(0, len(neighbours), at_once):
            yield neighbours[first : first + at_once]

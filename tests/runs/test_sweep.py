import json
import os
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pytest

from morphot_jax.runs.sweep import Outcome, Shard, Sweep, grid, key_of
from morphot_jax.system.errors import InputError

COLUMNS = ("a", "b", "sum", "half")
POINTS = grid(a=(1, 2, 3), b=(10.0, 20.0))


def add(points):
    for point in points:
        total = point["a"] + point["b"]
        yield Outcome([{"sum": total, "half": total / 2}], {"both": np.array([point["a"], point["b"]])})


def table(folder):
    return (folder / "results.csv").read_text(encoding="utf-8")


@pytest.fixture
def whole(tmp_path):
    """What an uninterrupted run writes."""
    sweep = Sweep(tmp_path / "whole", POINTS, COLUMNS)
    sweep.run(add)
    return table(sweep.folder)


def test_grid_is_every_combination_in_order():
    assert grid(a=(1, 2), b="xy") == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_key_depends_on_the_settings_alone():
    assert key_of({"a": 1, "b": 0.1}) == key_of({"b": 0.1, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert len({key_of(point) for point in POINTS}) == len(POINTS)


def test_table_holds_settings_and_results(whole):
    assert whole.splitlines()[:3] == ["a,b,sum,half", "1,10,11,5.5", "1,20,21,10.5"]
    assert len(whole.splitlines()) == 1 + len(POINTS)


def test_finished_points_are_not_computed_again(tmp_path):
    computed = []

    def counting(points):
        computed.extend(points)
        yield from add(points)

    Sweep(tmp_path, POINTS[:4], COLUMNS).run(counting)
    sweep = Sweep(tmp_path, POINTS, COLUMNS)  # more points, in the same folder
    assert sweep.missing() == POINTS[4:]
    sweep.run(counting)
    assert computed == POINTS
    assert not sweep.missing()
    np.testing.assert_array_equal(sweep.arrays(POINTS[3])["both"], [2.0, 20.0])
    assert sweep.arrays({"a": 9}) == {}
    assert sweep.seconds(POINTS[0]) >= 0


def test_each_point_is_kept_as_soon_as_it_is_there(tmp_path):
    def failing(points):
        yield from add(points[:1])
        raise KeyboardInterrupt

    sweep = Sweep(tmp_path, POINTS, COLUMNS)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(failing, at_once=3)
    assert sweep.missing() == POINTS[1:]


def test_groups_are_neighbours_that_are_alike(tmp_path):
    seen, steps = [], []

    def watching(points):
        seen.append([(point["a"], point["b"]) for point in points])
        yield from add(points)

    sweep = Sweep(tmp_path, [*POINTS, {"a": 3, "b": 30.0}], COLUMNS)
    sweep.run(watching, alike=lambda point: point["a"], at_once=2, report=steps.append)
    assert seen == [[(1, 10), (1, 20)], [(2, 10), (2, 20)], [(3, 10), (3, 20)], [(3, 30)]]
    assert [(step.done, step.total) for step in steps] == [(n, 7) for n in range(1, 8)]
    assert steps[-1].seconds_left == 0


def test_a_failed_point_is_tried_again(tmp_path, whole):
    def failing(points):
        return [Outcome(failed="no luck")] if points[0]["a"] == 2 else add(points)

    steps = []
    sweep = Sweep(tmp_path, POINTS, COLUMNS)
    sweep.run(failing, report=steps.append)
    assert [step.failed for step in steps] == ["", "", "no luck", "no luck", "", ""]
    assert len(table(tmp_path).splitlines()) == 1 + 4
    sweep.run(add)
    assert table(tmp_path) == whole


def test_shards_share_the_points_and_make_one_table(tmp_path, whole):
    for index in (3, 1, 2):
        Sweep(tmp_path, POINTS, COLUMNS).run(add, shard=Shard.parse(f"{index}/3"))
    assert table(tmp_path) == whole


def test_two_processes_that_compute_the_same_point_do_not_disturb_one_another(tmp_path, whole):
    other = Sweep(tmp_path, POINTS, COLUMNS)

    def overtaken(points):
        other.run(add)  # the other has done everything before this one has its first outcome
        yield from add(points)

    Sweep(tmp_path, POINTS, COLUMNS).run(overtaken)
    assert table(tmp_path) == whole
    assert not list((tmp_path / "points").glob(".*"))


def test_what_killed_runs_have_left_is_cleared_away(tmp_path, whole):
    sweep = Sweep(tmp_path, POINTS, COLUMNS)
    (tmp_path / "points" / ".left").mkdir()
    (tmp_path / "points" / ".left" / "result.json").write_text("{")
    sweep.run(add)
    assert table(tmp_path) == whole
    assert not list((tmp_path / "points").glob(".*"))


@pytest.mark.parametrize("given", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""])
def test_what_is_no_share_is_refused(given):
    with pytest.raises(InputError, match=f"shard '{given}' is not a share"):
        Shard.parse(given)


def test_derived_columns_see_all_rows(tmp_path):
    def with_share(rows):
        total = sum(row["sum"] for row in rows)
        return [row | {"half": row["sum"] / total} for row in rows]

    sweep = Sweep(tmp_path, POINTS[:2], COLUMNS, derive=with_share)
    sweep.run(add)
    assert table(tmp_path).splitlines()[1:] == ["1,10,11,0.34375", "1,20,21,0.65625"]
    kept = json.loads((tmp_path / "points" / key_of(POINTS[0]) / "result.json").read_text())
    assert kept["rows"] == [{"sum": 11.0, "half": 5.5}]


SLOW_SWEEP = """
import sys, time
from pathlib import Path
import numpy as np
from morphot_jax.runs.sweep import Outcome, Sweep, grid

folder = Path(sys.argv[1])

def compute(points):
    for point in points:
        with open(folder / "computed.log", "a") as log:
            log.write(f"{point['n']}\\n")
        time.sleep(0.02)
        yield Outcome([{"square": point["n"] ** 2}, {"square": -point["n"]}], {"n": np.ones(1000)})

folder.mkdir(exist_ok=True)
sweep = Sweep(folder, grid(n=range(40)), ("n", "square"))
before = len(sweep.missing())
print("ready", flush=True)
sweep.run(compute, at_once=4)
"""


def test_a_sweep_killed_five_times_gives_the_table_of_one_that_was_not(tmp_path):
    """SIGKILL at random moments; no finished point is computed again."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW_SWEEP)
    folder, random, finished = tmp_path / "killed", np.random.default_rng(5), set()

    def done():
        return {path.name for path in (folder / "points").iterdir() if not path.name.startswith(".")}

    for attempt in count():
        started = len(_computed(folder))
        process = subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        if attempt < 5:
            time.sleep(random.uniform(0.0, 0.15))
            os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        again = {key_of({"n": n}) for n in _computed(folder)[started:]}
        assert not again & finished  # what was finished before is not computed again
        finished = done()
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert attempt >= 5
    assert len(finished) == 40
    whole = tmp_path / "whole"
    subprocess.run([sys.executable, script, whole], check=True, stdout=subprocess.DEVNULL)
    assert table(folder) == table(whole)
    assert len(_computed(whole)) == 40


def _computed(folder):
    log = folder / "computed.log"
    return [int(line) for line in log.read_text().splitlines()] if log.is_file() else []

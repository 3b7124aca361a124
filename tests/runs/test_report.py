"""Reports and tables of trajectories that are made here by hand, so that every number is known."""

import csv
import io
import json

import numpy as np
import pytest
from scipy import ndimage

import morphot_jax
from helpers import REPORT_KEYS
from morphot_jax import morph, prepare_maps
from morphot_jax.maps.metrics import compare_maps
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Clock
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Frame, Trajectory, warnings_about
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.runs import report
from morphot_jax.runs.report import Input, Run
from morphot_jax.transport.barycenter import Relaxation
from morphot_jax.transport.status import Status
from morphot_jax.transport.stopping import stop_of
from shapes import blob, volume_of

PLAN = Plan(
    sigma=(1.0, 1.0, 1.0),
    distance=41.5,
    spread=9.0,
    extent=(3, 4, 5),
    kernel="dense",
    fallback="log",
    precision="double",
    batch=2,
    relaxation=Relaxation(1.8),
    stride=1,
    iterations=50,
    guard=None,
    reasons={"sigma": "asked for"},
)


def density(seed, shape=(3, 4, 5)):
    return np.random.default_rng(seed).random(shape, np.float32)


def made(frames, *, settings=None, plan=PLAN, voxel_size=(2.0, 2.0, 2.0), actions=(), warnings=()):
    """A trajectory of given frames with random densities."""
    densities = np.stack([density(frame.index) for frame in frames])
    template = Volume(densities[0], voxel_size)
    return Trajectory(densities, tuple(frames), template, settings or Settings(), plan, actions, warnings, Clock())


def solved(index, time, status=Status.CONVERGED, error=1e-7, **values):
    history = np.array([[0.5, 1.0, 0.25], [error, 1e-3, 1e-4]])
    stop = stop_of(status, history[:, 0], 1e-6, np.dtype(np.float64), values.get("unreached", 0.0))
    known = {
        "limit": str(stop.limit),
        "reason": stop.reason,
        "kernel": PLAN.kernel,
        "iterations": 2,
        "marginal_error": error,
        "change_l1": 1e-3,
        "change_l2": 1e-4,
        "history": history,
    }
    return Frame(index, time, 1.0 + index, status, **(known | values))


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# report.json


def test_report_of_a_solved_trajectory(tmp_path):
    trajectory = made([solved(0, 0.0), solved(1, 1.0)], settings=Settings(frames=2, sigma=1.0))
    volume = Volume(density(7), (1.0, 1.25, 1.5), (-4.0, 5.0, 6.0))
    run = Run("morphot morph a b", [Input("a.mrc", "00ff", volume)], "cpu", {"total": 2.5})
    content = json.loads(report.to_json(report.compose(run, trajectory, 123)))
    assert set(content) >= REPORT_KEYS
    assert content["version"] == morphot_jax.__version__
    assert (content["command"], content["device"], content["precision"]) == ("morphot morph a b", "cpu", "double")
    assert (content["warnings"], content["seconds"], content["peak_memory_bytes"]) == (
        [],
        {"total": 2.5},
        123,
    )
    entry = content["inputs"][0]
    assert entry == {
        "path": "a.mrc",
        "sha256": "00ff",
        "shape": [3, 4, 5],
        "voxel_size": [1.0, 1.25, 1.5],
        "origin": [-4.0, 5.0, 6.0],
        "mass": volume.mass,
        "warnings": [],
    }
    assert {
        "index": 1,
        "time": 1.0,
        "file": "vol_001.mrc",
        "mass": 2.0,
        "marginal_error": 1e-7,
    }.items() <= content["frames"][1].items()
    assert (content["frames"][1]["iterations"], content["frames"][1]["status"]) == (2, "converged")


def test_report_holds_the_settings_and_what_became_of_them():
    trajectory = made([solved(0, 0.5)], settings=Settings(times=(0.5,), sigma=1.0))
    content = json.loads(report.to_json(report.compose(Run("c", [], "cpu"), trajectory, None)))
    held = content["settings"]
    assert set(held) == {*Settings.__dataclass_fields__, "preparation", "resolved"}
    assert (held["times"], held["sigma"], held["kernel"]) == ([0.5], 1.0, "auto")
    resolved = held["resolved"]
    assert (resolved["kernel"], resolved["sigma_voxels_zyx"], resolved["batch"]) == ("dense", [1.0, 1.0, 1.0], 2)
    assert (resolved["gap_sigma"], resolved["max_iterations"]) == (41.5, 50)
    assert resolved["relaxation"] == {"w": 1.8, "scale": None, "warmup": 0}  # JSON knows no infinity
    assert resolved["reasons"] == {"sigma": "asked for"}
    assert content["peak_memory_bytes"] is None


def test_report_without_a_solve():
    trajectory = made([Frame(0, 0.0, 1.0), Frame(1, 1.0, 2.0)], settings=Settings(method="linear"), plan=None)
    content = json.loads(report.to_json(report.compose(Run("c", [], "cpu"), trajectory, None)))
    assert content["settings"]["resolved"] == {}
    assert content["precision"] == "single"
    assert [frame["marginal_error"] for frame in content["frames"]] == [None, None]
    assert [frame["status"] for frame in content["frames"]] == ["converged", "converged"]


def test_report_of_a_frame_that_blew_up_is_still_json():
    bad = float("nan"), float("inf")
    frame = solved(0, 0.5, Status.NONFINITE, error=bad[0], change_l1=bad[1], change_l2=bad[0])
    content = json.loads(report.to_json(report.compose(Run("c", [], "cpu"), made([frame]), None)))
    entry = content["frames"][0]
    assert (entry["status"], entry["marginal_error"], entry["change_l1"]) == ("nonfinite", None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_it_cannot_hold(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.to_json({"frames": [{"mass": value}]})


def test_json_ends_with_a_line_break():
    assert report.to_json({"a": 1.5}) == '{\n  "a": 1.5\n}\n'


@pytest.mark.parametrize(("index", "name"), [(0, "vol_000.mrc"), (42, "vol_042.mrc"), (1234, "vol_1234.mrc")])
def test_frames_are_numbered_by_three_digits_or_more(index, name):
    assert report.frame_name(index) == name


# Warnings


def warnings_of(trajectory):
    return list(warnings_about(trajectory.frames, trajectory.plan, trajectory.settings, trajectory.template))


def test_frames_that_ended_well_give_no_warning():
    trajectory = made([solved(0, 0.0), solved(1, 1.0, Status.FIXED_ITERATIONS)])
    assert warnings_of(trajectory) == []
    assert trajectory.complete


def test_what_was_done_is_information_and_what_to_look_at_again_a_warning():
    trajectory = made([solved(0, 0.5)], actions=("resampled", "cut"), warnings=("overlaps little",))
    content = report.compose(Run("c", [], "cpu"), trajectory, None)
    assert (content["actions"], content["warnings"]) == (["resampled", "cut"], ["overlaps little"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            Status.MAX_ITERATIONS,
            ["2 of 3 frames", "max_iterations", "marginal error up to 2.0e-03", "more iterations"],
        ),
        (
            Status.INFEASIBLE,
            ["2 of 3 frames", "infeasible", "not reach 12.50% of the mass", "41.5 sigma", "larger sigma"],
        ),
        (Status.NONFINITE, ["2 of 3 frames", "nonfinite", "relax less"]),
    ],
)
def test_frames_that_ended_badly_are_counted_with_the_worst_of_them(status, words):
    trajectory = made(
        [
            solved(0, 0.0, status, error=2e-3, unreached=0.1),
            solved(1, 0.5, error=0.9),
            solved(2, 1.0, status, error=1e-3, unreached=0.125),
        ]
    )
    (line,) = warnings_of(trajectory)
    assert [word for word in words if word not in line] == []
    assert "\n" not in line
    assert not trajectory.complete


def test_each_bad_ending_has_its_own_line():
    statuses = Status.NONFINITE, Status.MAX_ITERATIONS, Status.INFEASIBLE
    warnings = warnings_of(made([solved(i, i / 2, status) for i, status in enumerate(statuses)]))
    assert len(warnings) == 3
    assert all("1 of 3 frames" in line for line in warnings)


def test_kernel_that_is_not_round_in_space_gives_a_warning():
    long_voxels = {"voxel_size": (2.0, 2.0, 3.0)}
    (line,) = warnings_of(made([solved(0, 0.5)], **long_voxels))
    assert "2 x 2 x 3 Å" in line
    assert "--sigma-angstrom" in line
    assert warnings_of(made([solved(0, 0.5)], settings=Settings(sigma_angstrom=2.0), **long_voxels)) == []
    assert warnings_of(made([Frame(0, 0.5, 1.0)], plan=None, **long_voxels)) == []


# Tables


def metrics_table(trajectory, first, last, levels):
    return report.tables(trajectory, report.frame_rows(trajectory, (first, last), levels))[report.METRICS]


def test_metrics_table_is_read_back():
    trajectory = made([solved(0, 0.0), solved(1, 1 / 3, Status.MAX_ITERATIONS)])
    first, last = trajectory.volume(0), trajectory.volume(1)
    levels = np.array([level_of_mass(d) for d in trajectory.densities])
    table = rows(metrics_table(trajectory, first, last, levels))
    assert [row["frame"] for row in table] == ["0", "1"]
    assert [float(row["time"]) for row in table] == [0.0, 1 / 3]  # to the last digit
    assert [float(row["mass"]) for row in table] == [1.0, 2.0]
    assert [row["status"] for row in table] == ["converged", "max_iterations"]
    assert [float(row["maximum"]) for row in table] == [float(d.max()) for d in trajectory.densities]
    assert [float(row["level"]) for row in table] == levels.tolist()
    inside = [(d >= level).sum() * 8.0 for d, level in zip(trajectory.densities, levels, strict=True)]
    assert [float(row["enclosed_volume"]) for row in table] == inside  # Å^3, voxels of 2 Å
    for row, end, other in ((table[0], "first", "last"), (table[1], "last", "first")):
        assert float(row[f"relative_rms_to_{end}"]) == 0.0
        assert float(row[f"voxel_difference_to_{end}"]) == 0.0
        assert float(row[f"correlation_to_{end}"]) == pytest.approx(1.0)
        assert float(row[f"relative_rms_to_{other}"]) > 0.1
        assert float(row[f"correlation_to_{other}"]) < 0.99
    first, second = table
    assert first["relative_rms_to_previous"] == first["voxel_difference_to_previous"] == ""
    for measure in ("relative_rms", "voxel_difference"):
        assert second[f"{measure}_to_previous"] == second[f"{measure}_to_first"]  # the frame before is the first


def test_metrics_table_says_how_much_power_a_frame_keeps():
    """A map blurred by s voxels keeps exp(-(2 pi s f)^2) of its power at f cycles per voxel."""
    sharp = np.zeros((32, 32, 32), np.float32)
    sharp[14:18, 13:19, 15:17] = np.random.default_rng(0).uniform(1, 2, size=(4, 6, 2))
    width = 0.7
    blurred = ndimage.gaussian_filter(sharp, width, mode="constant", truncate=6.0)
    densities, template = np.stack([sharp, blurred, sharp]), Volume(sharp, (2.0, 2.0, 2.0))
    frames = tuple(Frame(i, i / 2, 1.0) for i in range(3))
    trajectory = Trajectory(densities, frames, template, Settings(), None, (), (), Clock())
    table = rows(metrics_table(trajectory, template, template, np.ones(3)))
    half_way = []
    for name in ("quarter", "half", "three_quarters"):
        first, middle, last = (float(row[f"power_kept_{name}"]) for row in table)
        assert first == last == pytest.approx(1.0)
        half_way.append(middle)
    expected = np.exp(-((np.pi * width * np.array([0.25, 0.5])) ** 2))
    np.testing.assert_allclose(half_way[:2], expected, rtol=0.3)
    assert half_way[2] < half_way[1]
    found = [float(row["resolution"]) for row in table]
    assert found[0] == found[2] == pytest.approx(4.0, rel=0.15)  # the Nyquist frequency of voxels of 2 Å
    assert found[1] == pytest.approx(2.0 * 2 * np.pi * width / np.sqrt(np.log(2)), rel=0.2)


def test_metrics_table_sees_mass_that_only_the_ends_have():
    """A compact frame between maps that lie elsewhere: compared as on the whole box."""
    frame, first, last = (np.zeros((8, 9, 10), np.float32) for _ in range(3))
    frame[4, 4, 4], first[1:3, 2, 2], last[6, 7, 8] = 2.0, 1.0, 3.0
    first[4, 4, 4] = 1.0
    template = Volume(frame, (2.0, 2.0, 2.0))
    trajectory = Trajectory(frame[None], (Frame(0, 0.5, 2.0),), template, Settings(), None, (), (), Clock())
    ends = template.with_data(first), template.with_data(last)
    (row,) = rows(metrics_table(trajectory, *ends, np.ones(1)))
    for name, end in (("first", first), ("last", last)):
        expected = compare_maps(frame, end)
        for measure in ("relative_rms", "voxel_difference", "correlation"):
            assert float(row[f"{measure}_to_{name}"]) == pytest.approx(expected[measure], rel=1e-12)


def test_metrics_table_leaves_out_what_is_not_known():
    trajectory = made([Frame(0, 0.0, 1.0)], plan=None)
    (row,) = rows(metrics_table(trajectory, trajectory.volume(0), trajectory.volume(0), np.ones(1)))
    assert (row["marginal_error"], row["iterations"]) == ("", "0")


def test_convergence_table_has_a_line_for_every_iteration():
    trajectory = made([solved(0, 0.0), Frame(1, 0.5, 1.0), solved(2, 1.0, error=2e-5)])
    table = rows(report.convergence_table(trajectory))
    assert [(row["frame"], row["iteration"]) for row in table] == [("0", "1"), ("0", "2"), ("2", "1"), ("2", "2")]
    assert [float(row["time"]) for row in table] == [0.0, 0.0, 1.0, 1.0]
    columns = "marginal_error", "change_l1", "change_l2"
    np.testing.assert_allclose([float(table[3][name]) for name in columns], [2e-5, 1e-3, 1e-4])
    np.testing.assert_allclose([float(table[2][name]) for name in columns], [0.5, 1.0, 0.25])


@pytest.mark.parametrize("method", ["displacement", "barycenter"])
def test_convergence_and_metrics_agree_on_the_error_of_each_solve(method):
    maps = [volume_of(blob((14, 15, 16), centre, 1.6, 1e-4)) for centre in ((5, 6, 5), (7, 8, 9), (8, 6, 11))]
    trajectory = morph(prepare_maps(maps), Settings(method=method, sigma=1.0, frames=5))
    table = rows(metrics_table(trajectory, *maps[::2], np.ones(5)))
    last = {row["frame"]: row["marginal_error"] for row in rows(report.convergence_table(trajectory))}
    assert list(last) == (["0", "2"] if method == "displacement" else ["0", "1", "2", "3", "4"])
    for index, error in last.items():
        assert error == f"{float(table[int(index)]['marginal_error']):.6e}"


def test_tables_hold_convergence_only_where_something_was_solved():
    ends = Volume(density(0), (2.0, 2.0, 2.0)), Volume(density(1), (2.0, 2.0, 2.0))

    def names(trajectory):
        return sorted(report.tables(trajectory, report.frame_rows(trajectory, ends, np.ones(1))))

    assert names(made([Frame(0, 0.0, 1.0)], plan=None)) == ["metrics.csv", "view.cxc"]
    assert names(made([solved(0, 0.0)])) == ["convergence.csv", "metrics.csv", "view.cxc"]

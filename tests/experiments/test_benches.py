"""The benches: quick runs, and the parts that determine their numbers."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import cases, methods, motions, options, other_programs, processes, solves
from experiments.benches import accuracy, peers, roofline, solver, solver_report, solver_tasks
from experiments.benches.peer_jobs import WORK, Job
from experiments.maps import SAMPLE
from experiments.measures import measures
from experiments.other_programs import Problem
from experiments.processes import Runner
from experiments.solves import Solve
from helpers import table
from morphot_jax import kernels, metrics, read_volume, solve_barycenter, solve_sinkhorn
from morphot_jax.maps.atoms import Atoms
from morphot_jax.prepare.prepared import unit_mass
from morphot_jax.runs.sweep import key_of
from shapes import blob


def run(main, *arguments):
    return CliRunner().invoke(options.command(main), [str(argument) for argument in arguments])


@pytest.mark.slow
def test_accuracy_runs_quickly_and_is_not_computed_again(tmp_path):
    done = run(accuracy.main, "-o", tmp_path, "--quick", "--cases", "adk-sample")
    assert done.exit_code == 0, done.output
    rows = table(tmp_path / "results.csv")
    assert len(rows) == 3 * len(accuracy.QUICK_METHODS)
    assert {row["status"] for row in rows} == {"converged"}
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    means = {row["method"]: float(row["relative_rms"]) for row in table(tmp_path / "summary.csv")}
    assert means["displacement"] < means["bridge"] < means["linear"]
    claims = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert len(claims) == 2
    assert all(claim["holds"] is True for claim in claims)

    (tmp_path / "results.csv").unlink()
    again = run(accuracy.main, "-o", tmp_path, "--quick", "--cases", "adk-sample")
    assert again.exit_code == 0, again.output
    assert not [line for line in again.output.splitlines() if line.startswith("1/")]
    assert table(tmp_path / "results.csv") == rows


def test_accuracy_names_unknown_methods(tmp_path):
    done = run(accuracy.main, "-o", tmp_path / "out", "--methods", "linear,teleport")
    assert done.exit_code == 2
    assert "teleport" in done.output
    assert not (tmp_path / "out").exists()


def test_accuracy_skips_cases_without_data(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "DATA", tmp_path / "nowhere")
    done = run(accuracy.main, "-o", tmp_path / "out", "--cases", "spike")
    assert done.exit_code == 2
    assert "spike: skipped, spike_ca.npz not found" in done.output


def rows_of(case, method, differences, time=0.5):
    values = {
        measure: str(value) for measure, value in zip((accuracy.RMS, accuracy.VOXEL), differences, strict=True)
    }
    return {"case": case, "method": method, "time": str(time)} | values


@pytest.mark.parametrize(("bridge", "holds"), [((0.15, 0.08), True), ((0.15, 0.21), False), ((0.17, 0.08), False)])
def test_a_claim_about_both_measures_fails_with_either(bridge, holds):
    rows = [rows_of("adk-linear", "linear", (0.25, 0.2)), rows_of("adk-linear", "bridge", bridge)]
    claims = {claim.claim: claim.holds for claim in accuracy.all_claims(accuracy.Means(rows))}
    assert claims["one method is good in both measures on adk-linear"] is holds
    nearer = "bridge is nearer to the atoms than the linear blend at every frame of every case"
    assert claims[nearer] is (bridge[1] < 0.2)


def test_nearer_than_the_original_means_by_a_fifth_and_below_linear_at_every_time():
    rows = [
        rows_of("mmcpn-real", "original-frame", (0.4, 0.3)),
        *(rows_of("mmcpn-real", "linear", (0.5, 0.3), t) for t in (0.25, 0.5)),
        *(rows_of("mmcpn-real", "bridge", (0.3, 0.2), t) for t in (0.25, 0.5)),
        *(rows_of("mmcpn-real", "debiased", (0.35, 0.2), t) for t in (0.25, 0.5)),
        rows_of("mmcpn-real", "displacement", (0.3, 0.2), 0.5),
        rows_of("mmcpn-real", "displacement", (0.3, 0.4), 0.25),
    ]
    claims = {claim.claim.split(":")[0]: claim for claim in accuracy.all_claims(accuracy.Means(rows))}
    assert claims["bridge"].holds
    assert not claims["debiased"].holds
    assert not claims["displacement"].holds
    assert "not everywhere below" in claims["displacement"].measured


def test_the_original_written_here_makes_the_frame_that_the_original_shipped(shared_data):
    maps = [read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")]
    shipped = read_volume(shared_data / "mmcpn_morphot_t050.mrc").data
    frame, _ = methods.original_barycenter(np.stack([unit_mass(m.data) for m in maps]), (0.5, 0.5), sigma=0.4)
    frame = frame * (sum(m.mass for m in maps) / 2)
    assert metrics.relative_rms(frame, shipped) <= 1e-6


def test_a_structural_case_ends_at_its_maps():
    case = cases.build_case("adk-sample")
    for time, volume in ((0.0, case.first), (1.0, case.last)):
        np.testing.assert_array_equal(case.reference(time), volume.data)
        assert measures(volume.data, 3.0 * case.reference(time))[accuracy.RMS] < 1e-12


def test_swinging_bodies_stay_rigid_and_the_rest_stays():
    rng = np.random.default_rng(0)
    static, moving = rng.uniform(-20, 20, (300, 3)), rng.uniform([17, -5, -5], [27, 5, 5], (60, 3))
    beads = Atoms(np.concatenate([static, moving]), np.ones(360))
    path = motions.swinging(beads, np.repeat([0, 1], [300, 60]), angle=30.0)
    np.testing.assert_allclose(path(0.0).positions, beads.positions, atol=1e-12)
    for time in (0.5, 1.0):
        moved = path(time).positions
        np.testing.assert_array_equal(moved[:300], static)
        distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (moved[300:], moving)]
        np.testing.assert_allclose(*distances, atol=1e-9)
        centred = [p - p.mean(axis=0) for p in (moving, moved[300:])]
        left, _, right = np.linalg.svd(centred[0].T @ centred[1])
        cosine = (np.trace(right.T @ left.T) - 1) / 2
        assert np.degrees(np.arccos(cosine)) == pytest.approx(30.0 * time)


def two_blobs(shape):
    """Zero in most of the box, as real maps are."""
    middle = np.array(shape) / 2
    maps = [blob(shape, middle + shift, 1.3, floor=1e-2) for shift in (-1.2, 0.9)]
    return np.stack([data / data.sum() for data in maps])


def once(work):
    work()
    return 0.0


LIMITS = other_programs.Limits(tolerance=1e-9)
WEIGHTS = (0.4, 0.6)


def problem_of(maps, sigma, weights=WEIGHTS):
    return Problem(maps, sigma, once, LIMITS, weights)


def own_barycenter(problem):
    maps, weights = jnp.asarray(problem.maps), jnp.array([problem.weights])
    return solve_barycenter(maps, weights, problem.kernel, tolerance=1e-11).value[0]


@pytest.mark.slow
@pytest.mark.parametrize("log_mode", [False, True])
def test_ott_finds_the_same_barycenter(double, log_mode):
    pytest.importorskip("ott", reason="OTT-JAX is not installed (extra 'peers')")
    problem = problem_of(two_blobs((8, 9, 10)), 0.9)
    found = other_programs.ott_barycenter(problem, log_mode=log_mode)
    assert found.status == "converged"
    assert found.marginal_error <= LIMITS.tolerance
    assert found.iterations % other_programs.CHECK == 0
    np.testing.assert_allclose(found.value, own_barycenter(problem), atol=1e-9)

    few = replace(problem, limits=replace(LIMITS, iterations=other_programs.CHECK))
    short = other_programs.ott_barycenter(few, log_mode=log_mode)
    assert (short.status, short.iterations) == ("max_iterations", other_programs.CHECK)
    assert short.marginal_error > LIMITS.tolerance


@pytest.mark.parametrize(
    ("shape", "weights", "matrix"), [((1, 12, 12), WEIGHTS, False), ((5, 6, 7), (0.5, 0.5), True)]
)
def test_pot_finds_the_same_barycenter(double, shape, weights, matrix):
    pytest.importorskip("ot", reason="POT is not installed (extra 'peers')")
    problem = problem_of(two_blobs(shape), 1.1, weights)
    found = other_programs.pot_barycenter(problem, matrix=matrix)
    assert found.status == "converged"
    assert found.marginal_error <= LIMITS.tolerance
    np.testing.assert_allclose(found.value, own_barycenter(problem), atol=1e-8)


def test_pot_finds_a_plan_to_the_same_error(double):
    pytest.importorskip("ot", reason="POT is not installed (extra 'peers')")
    found = other_programs.pot_plan(problem_of(two_blobs((5, 6, 7)), 1.1))
    assert found.status == "converged"
    assert found.marginal_error <= LIMITS.tolerance


def test_the_error_of_a_peer_is_that_of_its_plans(double):
    shape, sigma = (3, 4, 2), 0.8
    rng = np.random.default_rng(0)
    log_u, log_v, maps = rng.normal(size=(3, 2, *shape))
    maps, barycenter = np.abs(maps), rng.random(shape)
    places = np.argwhere(np.ones(shape))
    gibbs = np.exp(-((places[:, None] - places[None]) ** 2).sum(-1) / (2 * sigma**2))
    expected = 0.0
    for weight, u, v, data in zip(WEIGHTS, np.exp(log_u), np.exp(log_v), maps, strict=True):
        plan = u.reshape(-1, 1) * gibbs * v.ravel()
        expected += weight * np.abs(plan.sum(1) - data.ravel()).sum()
        expected += weight * np.abs(plan.sum(0) - barycenter.ravel()).sum()
    kernel = kernels.make("dense", shape, sigma, jnp.float64)
    found = other_programs.barycenter_error(log_u, log_v, barycenter, maps, WEIGHTS, kernel)
    assert found == pytest.approx(expected)


def test_the_error_of_the_packages_own_plan(double):
    first, second = two_blobs((5, 6, 7))
    kernel = kernels.make("dense", first.shape, 1.0, jnp.float64)
    plan = solve_sinkhorn(jnp.asarray(first), jnp.asarray(second), kernel, tolerance=1e-4)
    factor = kernel.x[0, 0] * kernel.y[0, 0] * kernel.z[0, 0]  # peers' kernels are one at distance zero
    found = other_programs.plan_error(
        plan.potentials[0] + jnp.log(factor), plan.potentials[1], first, second, kernel
    )
    assert found == pytest.approx(float(plan.marginal_error), rel=1e-6)


def test_peers_see_the_maps_and_a_margin():
    maps = np.zeros((2, 20, 20, 20))
    maps[0, 3, 10, 18], maps[1, 4, 12, 18] = 1.0, 1.0
    assert other_programs.window(maps, sigma=1.0).shape == (2, 9, 11, 6)


@pytest.fixture
def tiny(two_maps):
    """The original on two small maps, one frame of five."""
    return Solve(
        "original", "barycenter", "truncated", "double", "13^3", 1.0, two_maps, 5, timed=(0.5,), repeats=1
    )


def test_rows_are_measured_in_separate_processes(tiny):
    points = [processes.point_of(task) for task in (replace(tiny, implementation="nobody"), tiny)]
    runner = Runner(solver.TASKS, limit=600.0)
    failed, (row,) = processes.in_own_process(points, runner)
    assert failed == "failed: KeyError: 'nobody'"
    assert (row["status"], row["iterations"], row["timed_frames"]) == ("fixed_iterations", 20, 1)
    assert row["seconds"] == pytest.approx(5 * 20 * row["seconds_per_iteration"])
    assert 0 < row["marginal_error"] < 1
    assert row["peak_memory_bytes"] > 1e7
    (late,) = processes.in_own_process(points[1:], replace(runner, limit=0.01))
    assert late == "failed: stopped after 0.01 s"
    assert [outcome.failed for outcome in processes.measured(points[:1], runner)] == [failed]


def test_the_bench_measures_each_row_once(tiny, tmp_path, monkeypatch):
    measured = []

    def in_this_process(points, runner):
        measured.extend(points)
        return [task.rows() for task in processes.tasks_from(points, solver.TASKS)]

    monkeypatch.setattr(processes, "in_own_process", in_this_process)
    large = replace(tiny, grid="14^3")
    tasks = [tiny, replace(tiny, frames=3), large]
    monkeypatch.setattr(solver, "tasks_of", lambda name, scope: tasks)
    arguments = ("-o", tmp_path / "out", "--only", "results", "--grid-limit", "13", "--maps", *tiny.maps)
    done = run(solver.main, *arguments)
    assert done.exit_code == 0, done.output
    assert [(point["grid"], point["frames"]) for point in measured] == [("13^3", 5), ("13^3", 3)]
    rows = table(tmp_path / "out" / "results" / "results.csv")
    assert [(row["frames"], row["ratio"], row["maps"]) for row in rows] == [("5", "1", "a b"), ("3", "1", "a b")]
    assert json.loads((tmp_path / "out" / "claims.json").read_text(encoding="utf-8")) == []

    assert run(solver.main, *arguments).exit_code == 0
    assert len(measured) == 2
    assert run(solver.main, *arguments, "--only", "speed").exit_code == 2
    assert run(solver.main).exit_code == 2


def test_ratios_are_to_the_original_on_the_same_case():
    rows = [
        solved("barycenter", "original", seconds=6.0),
        solved("bridge", seconds=2.0),
        solved("bridge", grid="9^3"),
    ]
    found = solver.with_ratios([row | {"sigma": 1.0} for row in rows])
    assert [row["ratio"] for row in found] == [1.0, 3.0, None]


def test_times_of_a_few_frames_stand_for_all(tiny, monkeypatch):
    found = solves.Outcome(2.0, [10, 30], 1e-7, ["converged", "converged"])
    monkeypatch.setattr(solves, "SOLVERS", dict.fromkeys(solves.SOLVERS, lambda task: found))
    (own,) = replace(tiny, implementation="morphot_jax", timed=(0.25, 0.5)).rows()
    assert (own["seconds"], own["seconds_per_iteration"], own["iterations"]) == (5.0, 0.05, 30)
    (peer,) = replace(tiny, implementation="OTT-JAX", timed=(0.25, 0.5)).rows()
    assert peer["seconds"] == 3.0  # the two ends are not counted
    (whole,) = replace(tiny, implementation="morphot_jax", timed=()).rows()
    assert (whole["seconds"], whole["status"]) == (2.0, "converged")


@pytest.mark.parametrize("table_name", solver.COLUMNS)
@pytest.mark.parametrize("quick", [True, False])
def test_every_task_of_the_bench_is_a_different_point(table_name, quick):
    tasks = solver_tasks.tasks_of(table_name, solver_tasks.Scope(SAMPLE, quick=quick))
    points = [processes.point_of(task) for task in tasks]
    assert len({key_of(point) for point in points}) == len(points)
    assert processes.tasks_from(points, solver.TASKS) == list(tasks)
    assert max(solver_tasks.voxels(task) for task in tasks) <= (64 if quick else 240)


def solved(method, implementation="morphot_jax", **changes):
    row = {"grid": "64^3", "maps": "a b", "frames": 25, "timed_frames": 25, "kernel": "dense", "seconds": 1.0}
    row |= {"precision": "double", "status": "converged", "ratio": 50.0, "marginal_error": 1e-6}
    return row | {"method": method, "implementation": implementation} | changes


def test_claims_are_about_converged_rows_of_all_frames():
    rows = [
        solved("bridge", kernel="heat", ratio=39.0),
        solved("displacement", kernel="dense", ratio=30.0, seconds=2.0),
        solved("displacement", kernel="heat", ratio=60.0),
        solved("barycenter", ratio=3.0, seconds=4.0),
        solved("barycenter", ratio=9.0, seconds=1.0, precision="single"),
        solved("barycenter", kernel="fft", ratio=9.0, timed_frames=2),
        solved("barycenter", "OTT-JAX", seconds=24.0, status="time_limit", marginal_error=2e-5),
        solved("bridge", grid="128^3", ratio=99.0),
    ]
    found = {claim.claim.split(",")[0]: claim for claim in solver_report.claims(rows, [])[:3]}
    assert {name: claim.holds for name, claim in found.items()} == {
        "bridge": False,
        "displacement": True,
        "barycenter": True,
    }
    assert found["displacement"].measured == "60.0, converged"
    (beside,) = solver_report.claims(rows, [])[3:]
    assert beside.holds
    assert beside.measured == "> 6.0: OTT-JAX ended at 2.0e-05, time_limit"
    stuck = [
        solved("bridge", status="max_iterations", ratio=80.0),
        solved("barycenter", status="max_iterations", seconds=9.0),
    ]
    assert [claim.holds for claim in solver_report.claims(stuck, [])] == [False, False]


def test_kernels_agree_where_they_are_sound():
    values = {"dense": np.array([1.0, 0.0]), "fft": np.array([0.5, 0.0]), "log": np.array([1.0, 1e-7])}
    differences = roofline.differing(values, ["dense", "log"])
    assert differences == pytest.approx({"dense": 1e-7, "fft": 0.5, "log": 1e-7}, rel=1e-6)
    rows = [
        {"what": roofline.FRAME, "kernel": name, "grid": "9^3", "status": status}
        | {"difference": difference, "distance": 7.0}
        for (name, difference), status in zip(
            differences.items(), ("converged", "infeasible", "converged"), strict=True
        )
    ]
    (claim,) = solver_report.claims([], rows)
    assert claim.holds
    assert claim.measured == "1.0e-07, fft at 9^3 across 7.0 sigma infeasible"


@pytest.mark.slow
def test_kernel_and_roofline_tasks_measure(tiny):
    (row,) = roofline.Convolution("fft", "single", 13, 1.0, tiny.maps, repeats=1).rows()
    assert row["seconds"] > 0
    rows = roofline.Agreement(13, 1.0, tiny.maps, iterations=3).rows()
    assert {row["what"] for row in rows} == {roofline.FRAME}
    near = roofline.Agreement(13, 1.0, tiny.maps, iterations=3, share=0.2, kinds=("dense",)).rows()
    assert near[0]["what"] == f"{roofline.FRAME}, 0.2 of the way"
    assert near[0]["distance"] < rows[0]["distance"]
    assert [row["kernel"] for row in rows] == ["dense", "fft", "log"]
    assert all(row["difference"] < 1e-9 for row in rows)
    assert {row["status"] for row in rows} == {"fixed_iterations"}
    rates = roofline.Roofline("single", 13, matrix=64, triad=2**12, repeats=1).rows()
    assert [row["what"] for row in rates] == [roofline.MATMUL, roofline.TRIAD, *roofline.PARTS]
    assert rates[0]["share_of_matmul"] == rates[1]["share_of_bandwidth"] == 1.0
    plan, barycenter = rates[-2:]
    assert barycenter["operations"] == 2 * plan["operations"] == 4 * rates[2]["operations"]
    assert barycenter["transcendentals"] > plan["transcendentals"] > 13**3


def test_operations_and_bytes_of_a_convolution():
    box = (4, 5, 6)
    assert roofline.products(box) == sum(2 * 120 * n for n in box)
    three, whole = (roofline.least_traffic(what, box, 8) for what in ("three products", "convolution"))
    assert three == 8 * (6 * 120 + 16 + 25 + 36)
    assert whole - three == 8 * 5 * 120


def test_growth_is_the_slope_of_a_curve():
    rows = [
        {"sweep": "grid", "method": "bridge", "grid": f"{n}^3", "seconds": float(n**3), "status": status}
        for n, status in ((32, "converged"), (16, "max_iterations"), (8, "converged"))
    ]
    values = solver_report.curve(rows, "grid", "bridge")
    assert values == [(8.0, 512.0, True), (16.0, 4096.0, False), (32.0, 32768.0, True)]
    longer = {"sweep": "frames", "method": "bridge", "frames": 25, "seconds": 2.0, "status": "converged"}
    assert solver_report.curve([longer], "frames", "bridge") == [(25.0, 2.0, True)]
    assert solver_report.slope(*np.array(values)[:, :2].T) == pytest.approx(3.0)
    panel = solver_report.growth_figure(rows).axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["bridge, slope 3.0", "not converged"]


# Other programs beside this one.


def test_a_program_that_cannot_do_a_job_gives_the_reason(two_maps):
    job = Job("barycenter", "POT", "64^3", 1.0, two_maps)
    assert job.why_not(np.ones((2, 64, 64, 64))) == "it needs a cost matrix of 550 GB, and copies of it"
    assert "power of two" in Job("plan", "GeomLoss", "13^3", 1.0, two_maps).why_not(np.ones((2, 13, 13, 13)))
    assert Job("plan", "GeomLoss", "16^3", 1.0, two_maps).why_not(np.ones((2, 16, 16, 16))) == ""
    (row,) = Job("plan", "original", "13^3", 1.0, two_maps).rows()
    assert row["status"] == "cannot: it has no plan between two maps"


@pytest.mark.slow
@pytest.mark.parametrize("job", WORK)
def test_the_package_agrees_with_itself_among_its_peers(two_maps, job):
    (row,) = Job(job, "morphot_jax", "13^3", 1.0, two_maps, repeats=1).rows()
    assert row["status"] == "converged"
    assert row["marginal_error"] <= 1e-6
    assert row["difference"] < 1e-5


def test_the_page_of_peers_has_a_line_for_each_program():
    shared = {"job": "plan", "grid": "64^3", "sigma": 1.07}
    rows = [
        shared
        | {"program": "A", "seconds": 1.5, "iterations": 40, "marginal_error": 9e-7, "difference": 2e-8}
        | {"peak_memory_bytes": 5e8, "status": "converged"},
        shared | {"program": "B", "status": "cannot: no"},
    ]
    text = peers.page(rows)
    assert "| A | 1.5 | 40 | 9.0e-07 | 0.50 | 2.0e-08 | converged |" in text
    assert "| B |  |  |  |  |  | cannot: no |" in text

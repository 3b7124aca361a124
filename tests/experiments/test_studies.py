"""The studies of ``experiments/``: their parts, and (marked ``study``) a quick run of each."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread, imsave
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from experiments import points
from experiments.claims import GOAL, PAPER, Claim, conclude
from experiments.maps import SAMPLE, about, unit_maps
from experiments.methods import relaxation_for
from experiments.motions import find_bodies, screwing
from experiments.options import GammaOptions, command
from experiments.studies import (
    annealing,
    fig2_convergence,
    fig4_connectivity,
    gamma_and_grid,
    reproduction,
    table1_speed,
)
from helpers import QUICK, ROOT, table
from morphot_jax import kernels, solve_barycenter, solve_sinkhorn, write_volume
from morphot_jax.maps.atoms import Atoms
from morphot_jax.morphing.batches import START_ERROR, START_ITERATIONS
from morphot_jax.morphing.plan import ORIGINAL_GUARD
from morphot_jax.runs.sweep import Outcome, Shard, Sweep, grid
from morphot_jax.transport.barycenter import start_between
from morphot_jax.transport.relaxation import PLAIN
from shapes import blob, volume_of


def start(name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.study
@pytest.mark.parametrize("name", QUICK)
def test_quick_run(name, tmp_path):
    """In a process of its own; then again, where every point is known."""
    done = start(name, "-o", tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "results.csv")
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert len(rows) >= len(manifest) > 0
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == QUICK[name]
    for picture in pictures:
        assert imread(picture)[..., :3].std() > 0.01  # not empty
    claims = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert claims
    assert all(set(claim) == set(Claim._fields) for claim in claims)
    assert all(claim["measured"] for claim in claims if claim["holds"] is not None)

    before = (tmp_path / "results.csv").read_bytes()
    experiment = command(importlib.import_module(f"experiments.{name}").main)
    again = CliRunner().invoke(experiment, ["-o", str(tmp_path), "--quick"])
    assert again.exit_code == 0, again.output
    assert "1/" not in again.stdout.splitlines()[0]  # no point is computed again
    assert (tmp_path / "results.csv").read_bytes() == before


@pytest.mark.study
def test_shards_of_a_study_make_one_table(tmp_path):
    """Figures and claims are made after the last shard."""
    for share, last in (("1/2", False), ("2/2", True)):
        done = start("studies.fig4_connectivity", "-o", tmp_path / "parts", "--quick", "--shard", share)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "parts" / "claims.json").exists() is last
    assert start("studies.fig4_connectivity", "-o", tmp_path / "whole", "--quick").returncode == 0
    one, other = (tmp_path / folder / "results.csv" for folder in ("parts", "whole"))
    assert one.read_bytes() == other.read_bytes()


def fig2_options(maps):
    return fig2_convergence.Options(Path("unused"), maps=maps)


@pytest.mark.slow
@pytest.mark.parametrize("iteration", fig2_convergence.ITERATIONS)
def test_one_run_counts_the_same_iterations_as_a_run_for_each_threshold(two_maps, iteration):
    """Three thresholds and two norms, compared with a solve that stops at each."""
    sigma, most = 1.1, 400
    point = fig2_convergence.point(fig2_options(two_maps), 13, sigma, iteration) | {"most": most}
    (outcome,) = fig2_convergence.compute(two_maps, [point])
    assert len(outcome.rows) == len(fig2_convergence.THRESHOLDS) * len(fig2_convergence.NORMS)
    with jax.enable_x64(True):
        maps = jnp.asarray(unit_maps(two_maps, "13^3"))
        for row in outcome.rows:
            (norm,) = (name for name, word in fig2_convergence.NORMS.items() if word == row["norm"])
            stop = {"criterion": norm, "tolerance": row["threshold"], "max_iterations": most}
            half = jnp.asarray(fig2_convergence.HALF)
            if iteration == "original":
                kernel = kernels.truncated(maps.shape[1:], sigma, maps.dtype)
                own = solve_barycenter(maps, half, kernel, relaxation=PLAIN, guard=ORIGINAL_GUARD, **stop)
            else:
                own = _relaxed(maps, sigma, stop)
            assert row["status"] == fig2_convergence.REACHED
            assert row["iterations"] == int(own.iterations[0])
            assert row["marginal_error"] == pytest.approx(float(own.marginal_error[0]), rel=1e-6, abs=1e-14)


def _relaxed(maps, sigma, stop):
    """Solve with the start and the relaxation of ``fig2_convergence``."""
    factor = relaxation_for(np.asarray(maps), sigma)
    kernel = kernels.dense(maps.shape[1:], sigma, maps.dtype)
    plan = solve_sinkhorn(
        maps[0], maps[1], kernel, tolerance=START_ERROR, max_iterations=START_ITERATIONS, relaxation=factor
    )
    half = jnp.asarray(fig2_convergence.HALF)
    begin = start_between(plan.potentials[0], plan.potentials[1], half, sigma)
    return solve_barycenter(maps, half, kernel, relaxation=factor, start=begin, **stop)


@pytest.mark.slow
def test_gammas_together_and_alone_are_the_same(two_maps):
    shared = fig2_options(two_maps)
    lanes = [fig2_convergence.point(shared, 13, sigma, "relaxed") | {"most": 300} for sigma in (0.8, 1.2, 2.0)]
    together = list(fig2_convergence.compute(two_maps, lanes))
    for point, other in zip(lanes, together, strict=True):
        (alone,) = fig2_convergence.compute(two_maps, [point])
        assert [row["iterations"] for row in alone.rows] == [row["iterations"] for row in other.rows]
        np.testing.assert_allclose(alone.arrays["projection"], other.arrays["projection"], rtol=1e-6)


def test_gamma_is_what_one_says_it_is():
    for gamma_is, sigma in (("sd", 2.25), ("variance", 1.5)):
        options = GammaOptions(Path("unused"), gamma_is=gamma_is)
        assert options.sigma_of(2.25) == sigma
        assert options.gamma_of(sigma) == 2.25


def test_a_pair_is_known_by_what_its_files_hold(two_maps):
    before = about(two_maps)
    assert before["maps"] == "a b"
    write_volume(volume_of(blob((13, 13, 13), (5, 6, 4), 1.5)), two_maps[0], overwrite=True)
    assert about(two_maps) != before
    assert about(SAMPLE)["contents"] == " ".join(SAMPLE)


def test_conclusions_are_written_and_printed(tmp_path, capsys):
    claim = Claim("a", PAPER, "b", "c", True)
    conclude(tmp_path, [claim, None, claim._replace(holds=False), claim._replace(holds=None)])
    written = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert [claim["holds"] for claim in written] == [True, False, None]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["holds", "FAILS", "open "]


def test_a_study_waits_for_its_last_point(tmp_path, capsys):
    compute = points.one_by_one(lambda point: Outcome([{"b": point["a"]}]))
    sweep = Sweep(tmp_path, grid(a=[1, 2, 3]), ("a", "b"))
    assert not points.run(sweep, compute, Shard(1, 2))
    assert "1 of 3 points are missing" in capsys.readouterr().out
    assert points.run(sweep, compute, Shard(2, 2))
    assert capsys.readouterr().out.startswith("1/1 a 2: ")


# Bodies that move as one.


def _turned(points, vector, shift):
    return Rotation.from_rotvec(vector).apply(points) + shift


def test_bodies_are_found_in_every_copy_of_a_chain():
    rng = np.random.default_rng(1)
    chain = np.cumsum(rng.normal(size=(300, 3)), axis=0)
    truth = np.repeat([0, 1, 2], [140, 60, 100])
    copies = np.stack([chain, _turned(chain, [0.0, 0.0, 1.0], [50.0, 0.0, 0.0])])
    moved = copies.copy()
    for copy, vectors in enumerate(
        ([[0, 0, 0.1], [0.9, 0, 0], [0, -0.8, 0]], [[0, 0, 0.2], [0, 1, 0], [0.7, 0, 0.4]])
    ):
        for body, vector in enumerate(vectors):
            moved[copy][truth == body] = _turned(copies[copy][truth == body], vector, [body, 2.0 * body, 0.0])
    found = find_bodies(copies, moved, 3)
    assert (found != truth).mean() < 0.03


def test_screws_end_where_the_atoms_end_and_keep_bodies_rigid():
    rng = np.random.default_rng(2)
    bodies = np.repeat([0, 1], [20, 30])
    first = rng.normal(size=(50, 3))
    last = np.where(
        bodies[:, None] == 0, _turned(first, [0, 0.6, 0], [3, 0, 0]), _turned(first, [1, 0, 0], [0, 1, 0])
    )
    path = screwing(Atoms(first, np.ones(50)), Atoms(last, np.ones(50)), bodies)
    np.testing.assert_allclose(path(0.0).positions, first, atol=1e-10)
    np.testing.assert_allclose(path(1.0).positions, last, atol=1e-10)
    middle = path(0.4).positions
    for body in (0, 1):
        one, other = first[bodies == body], middle[bodies == body]
        lengths = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (one, other)]
        np.testing.assert_allclose(*lengths, atol=1e-9)
    changed = Atoms(last + rng.normal(scale=0.1, size=last.shape), np.ones(50))
    np.testing.assert_allclose(
        screwing(Atoms(first, np.ones(50)), changed, bodies)(1.0).positions, changed.positions
    )


# Comparisons between rows of a table.


def test_iterations_that_bend_upwards_do_not_fall_faster_than_exponentially():
    scope = fig2_convergence.Scope(grids=(9,), gammas=(1.0, 2.0, 3.0, 4.0))

    def rows(law):
        return [
            {
                "grid": 9,
                "gamma": gamma,
                "iteration": "original",
                "norm": "L2",
                "threshold": threshold,
                "iterations": law(gamma),
                "status": "reached",
            }
            for gamma in scope.gammas
            for threshold in fig2_convergence.THRESHOLDS
        ]

    powers = fig2_convergence._faster_than_exponential(rows(lambda g: 1000 * g**-2), scope)
    assert powers.holds is False
    assert "like gamma^-2.0, bend +" in powers.measured
    assert (
        fig2_convergence._faster_than_exponential(rows(lambda g: 1000 * np.exp(-(g**2) / 4)), scope).holds is True
    )


def test_equal_sigmas_in_length_are_found_by_the_nearest_frames():
    """Frames that depend on sigma / n alone: the exponent is one."""
    sigmas = np.geomspace(0.5, 4.0, 25)
    rows = []
    for n in (30, 60, 120):
        for sigma in sigmas * n / 60:
            like = float(np.clip(sigma * 60 / n, sigmas[0], sigmas[-1]))
            rows.append({"grid": n, "method": "barycenter", "sigma": sigma, "like": like})
    power, found = gamma_and_grid.exponent(rows, "barycenter", 60, 1.4)
    assert power == pytest.approx(1.0, abs=1e-6)
    assert found == pytest.approx({30: 0.7, 60: 1.4, 120: 2.8})


def test_the_nearest_sigma_lies_between_those_tried():
    x = np.linspace(-3, 3, 40)
    frames = {s: np.exp(-(x**2) / (2 * s**2))[None, None] for s in (0.5, 0.7, 1.0, 1.4, 2.0)}
    like, distance = gamma_and_grid.nearest(np.exp(-(x**2) / (2 * 0.85**2))[None, None], frames)
    assert like == pytest.approx(0.85, rel=0.03)
    assert 0 < distance < 0.2
    assert gamma_and_grid.nearest(frames[0.5], frames) == (0.5, 0.0)


def test_mass_that_stays_in_its_domain_does_not_leave(double):
    shape = (5, 6, 20)
    first = blob(shape, (2, 2, 4), 1.0, 1e-4) + blob(shape, (2, 3, 14), 1.0, 1e-4)
    first /= first.sum()
    left = np.zeros(shape)
    left[..., :9] = 1.0
    share, status = fig4_connectivity.leaving(first, first, left, left, sigma=0.7)
    assert status == "converged"
    assert abs(share) < 1e-5
    share, _ = fig4_connectivity.leaving(first, first[..., ::-1].copy(), left, left, sigma=0.7)
    assert abs(share) < 1e-3  # except for the tails
    share, _ = fig4_connectivity.leaving(first, first, left, 1.0 - left, sigma=0.7)
    assert share == pytest.approx(1.0, abs=1e-5)


def test_schedules_are_compared_where_both_converged():
    def row(schedule, sigma, iterations, status="converged"):
        shared = {"iteration": "plain", "schedule": schedule, "sigma": sigma, "status": status}
        return shared | {"iterations": iterations, "seconds": iterations / 10}

    rows = [row("fixed", 1.0, 100), row("fixed", 2.0, 40), row("2", 1.0, 50), row("2", 2.0, 900, "max_iterations")]
    claim = annealing._saves(rows, "plain")
    assert claim.holds
    assert claim.measured.startswith("2: 2.00 to 2.00 times fewer iterations, median 2.00; 2.00 times faster")


def test_exponents_are_of_voxels():
    shared = {"implementation": "morphot_jax", "method": "bridge", "frames": 5}
    rows = table1_speed.with_exponents(
        [shared | {"grid": f"{n}^3", "seconds": 1e-6 * n**3.6} for n in (60, 120, 240)]
    )
    assert [row["exponent"] for row in rows] == pytest.approx([1.2] * 3)
    assert rows[0]["seconds_per_frame"] == pytest.approx(rows[0]["seconds"] / 5)


def test_the_page_says_what_holds_and_shows_small_pictures(tmp_path):
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    name = "annealing"
    (runs / name).mkdir(parents=True)
    conclude(
        runs / name,
        [
            Claim("a | b", PAPER, "c", "d", True),
            Claim("e", GOAL, "f", "g", False),
            Claim("h", PAPER, "i", "", None),
        ],
    )
    noise = np.random.default_rng(0).random((1500, 2000, 3))
    imsave(runs / name / "annealing.png", noise)
    reproduction.main(runs, docs)
    text = (docs / reproduction.PAGE).read_text(encoding="utf-8")
    summary, section = text.split("## Gamma on a schedule")
    assert r"| a \| b | [annealing](#gamma-on-a-schedule) | holds |" in summary
    assert "| h | [annealing](#gamma-on-a-schedule) | could not be tested |" in summary
    assert "| e |" not in summary  # not a statement of the paper
    assert "| e | f | g | **does not hold** |" in section
    (picture,) = (docs / "images").iterdir()
    assert picture.name in section
    assert picture.stat().st_size <= reproduction.LARGEST
    assert imread(picture).shape[1] <= reproduction.WIDEST


def test_every_section_of_the_page_is_a_study_with_these_pictures():
    pictures = {f"{section.folder}.{name}": section.pictures for name, section in reproduction.SECTIONS.items()}
    assert {name for name in QUICK if name.startswith("studies.")} | {"benches.peers"} == set(pictures)
    for name, shown in pictures.items():
        assert len(shown) == QUICK[name]

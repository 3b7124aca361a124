"""The experiments: quick runs, and the parts of them that their numbers rest on."""

import csv
import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from experiments import accuracy, cases
from morphot_jax import metrics, read_volume
from morphot_jax.atoms import Atoms
from morphot_jax.prepare import unit_mass


def run(main, *arguments):
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_accuracy_runs_quickly_and_goes_on_where_it_was_interrupted(tmp_path):
    done = run(accuracy.main, "-o", tmp_path, "--quick", "--cases", "adk-sample")
    assert done.exit_code == 0, done.output
    rows = table(tmp_path / "results.csv")
    assert len(rows) == 3 * len(accuracy.QUICK_METHODS)
    assert {row["status"] for row in rows} == {"converged"}
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    means = {row["method"]: float(row["relative_rms"]) for row in table(tmp_path / "summary.csv")}
    assert means["bridge"] < means["displacement"] < means["linear"]
    claims = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert len(claims) == 3
    assert all(set(claim) == {"claim", "source", "expected", "measured", "holds"} for claim in claims)
    assert all(claim["holds"] is True for claim in claims)

    lines = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "results.csv").write_text("".join(lines[:-1]) + lines[-1][:20], encoding="utf-8")
    again = run(accuracy.main, "-o", tmp_path, "--quick", "--cases", "adk-sample")
    assert again.exit_code == 0, again.output
    assert [line for line in again.output.splitlines() if line.endswith("frames")] == [
        "adk-sample: mean, 1 frames"
    ]
    assert table(tmp_path / "results.csv") == rows


def test_accuracy_names_what_it_does_not_know(tmp_path):
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
        *(rows_of("mmcpn-real", "mean", (0.35, 0.2), t) for t in (0.25, 0.5)),
        rows_of("mmcpn-real", "displacement", (0.3, 0.2), 0.5),
        rows_of("mmcpn-real", "displacement", (0.3, 0.4), 0.25),
    ]
    claims = {claim.claim.split(":")[0]: claim for claim in accuracy.all_claims(accuracy.Means(rows))}
    assert claims["bridge"].holds
    assert not claims["mean"].holds
    assert not claims["displacement"].holds
    assert "not everywhere below" in claims["displacement"].measured


def test_the_original_written_here_makes_the_frame_that_the_original_shipped(shared_data):
    maps = [read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")]
    shipped = read_volume(shared_data / "mmcpn_morphot_t050.mrc").data
    frame, _ = cases.original_barycenter(np.stack([unit_mass(m.data) for m in maps]), (0.5, 0.5), sigma=0.4)
    frame = frame * (sum(m.mass for m in maps) / 2)
    assert metrics.relative_rms(frame, shipped) <= 1e-6


def test_a_structural_case_ends_at_its_maps():
    case = cases.build_case("adk-sample")
    for time, volume in ((0.0, case.first), (1.0, case.last)):
        np.testing.assert_array_equal(case.reference(time), volume.data)
        assert accuracy.measures(volume.data, 3.0 * case.reference(time))[accuracy.RMS] < 1e-12


def test_swinging_bodies_stay_rigid_and_the_rest_stays():
    rng = np.random.default_rng(0)
    static, moving = rng.uniform(-20, 20, (300, 3)), rng.uniform([17, -5, -5], [27, 5, 5], (60, 3))
    beads = Atoms(np.concatenate([static, moving]), np.ones(360))
    path = cases.swinging(beads, np.repeat([0, 1], [300, 60]), angle=30.0)
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

"""Conventions of the paper's statements: counts read from one history, and the table of the page."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import stopping
from experiments.claims import CONVENTION, GOAL, Claim
from experiments.maps import unit_maps
from experiments.methods import original_barycenter
from experiments.stopping import FILES, MAXIMUM, UNIT, first_below, grows
from experiments.studies import conventions, reproduction
from helpers import ROOT
from morphot_jax.prepare.prepared import unit_mass
from shapes import blob

CHANGES = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30).map(np.array)
POSITIVE = st.floats(1e-10, 1.0)


@given(CHANGES, POSITIVE, POSITIVE)
def test_a_stricter_threshold_is_reached_later_or_not_at_all(changes, one, other):
    loose, strict = (first_below(changes, threshold) or np.inf for threshold in (max(one, other), min(one, other)))
    assert loose <= strict


@given(CHANGES, POSITIVE)
def test_the_first_change_below_a_threshold_is_the_first(changes, threshold):
    found = first_below(changes, threshold)
    before = changes if found is None else changes[: found - 1]
    assert (before > threshold).all()
    assert found is None or changes[found - 1] <= threshold


def test_iterations_after_the_end_of_a_run_are_not_reached():
    history = dict.fromkeys(("change_l1", "change_l2", "marginal_error"), np.array([1e-1, 1e-2, np.nan, np.nan]))
    near, far = stopping.counts(history, {UNIT: 1.0}, (1e-2, 1e-3), {"L1": "change_l1"})
    assert (near["iterations"], near["marginal_error"]) == (2, 1e-2)
    assert (far["iterations"], far["marginal_error"]) == (None, None)


def changes_of(maps, sigma, iterations):
    """The L1 and L2 norms of the changes of the original's barycenter, from its second iteration on."""
    found = [original_barycenter(maps, (0.5, 0.5), sigma, k)[0] for k in range(1, iterations + 1)]
    steps = [after - before for before, after in pairwise(found)]
    return {"change_l1": [np.abs(d).sum() for d in steps], "change_l2": [np.linalg.norm(d) for d in steps]}


def two_blobs(n):
    """Two Gaussians in a box of n voxels along each axis, of one shape whatever n."""
    centres = (0.45, 0.5, 0.4), (0.5, 0.55, 0.6)
    return [blob((n, n, n), [n * c - 0.5 for c in centre], 0.11 * n, 1e-5) for centre in centres]


def test_scaling_the_maps_is_dividing_the_threshold():
    """Also where each map has a scale of its own: then by the geometric mean."""
    maps = [unit_mass(data) for data in two_blobs(12)]
    scales = 300.0, 7000.0
    unit = changes_of(np.stack(maps), 1.0, 9)
    scaled = [s * data for s, data in zip(scales, maps, strict=True)]
    factor = stopping.factors(scaled)[FILES]
    assert factor == pytest.approx(np.sqrt(np.prod(scales)))
    for norm, changes in changes_of(np.stack(scaled), 1.0, 9).items():
        np.testing.assert_allclose(changes, factor * np.array(unit[norm]), rtol=1e-9)
        for threshold in np.geomspace(changes[-1], changes[0], 7) * 1.01:
            assert first_below(np.array(changes), threshold) == first_below(
                np.array(unit[norm]), threshold / factor
            )


def test_maps_of_maximum_one_have_no_other_scale():
    maps = two_blobs(9)
    one, other = stopping.factors(maps), stopping.factors([5.0 * data for data in maps])
    assert other[MAXIMUM] == pytest.approx(one[MAXIMUM])
    assert other[FILES] == pytest.approx(5.0 * one[FILES])
    normed = stopping.factors([data / data.max() for data in maps])
    assert normed[FILES] == pytest.approx(normed[MAXIMUM]) == pytest.approx(one[MAXIMUM])


def test_the_compiled_iteration_is_that_of_the_original(two_maps):
    """Also in the part of the box that the kernel reaches: the blobs are cut to leave room around them."""
    maps = unit_maps(two_maps, "13^3")
    maps = np.stack([unit_mass(np.where(data > 0.3 * data.max(), data, 0.0)) for data in maps])
    sigma, iterations = 0.6, 12
    assert conventions.cropped(maps, 2).shape[1:] != maps.shape[1:]
    found = conventions.history_of(maps, sigma, {UNIT: 1.0}, iterations)
    for norm, changes in changes_of(maps, sigma, iterations).items():
        np.testing.assert_allclose(found[norm][1:], changes, rtol=1e-6)


def test_a_crop_leaves_the_mass_and_a_margin():
    maps = np.zeros((2, 9, 10, 11))
    maps[0, 3, 4, 5], maps[1, 5, 4, 9] = 1.0, 2.0
    cut = conventions.cropped(maps, 2)
    assert cut.shape == (2, 7, 5, 8)  # one face is nearer than the margin
    np.testing.assert_array_equal(cut, maps[:, 1:8, 2:7, 3:])


def test_a_finer_grid_at_the_same_length_changes_alike():
    """Predict the counts on twice the voxels, and compare with a run there."""
    coarse, fine = (changes_of(np.stack([unit_mass(m) for m in two_blobs(n)]), n / 12, 12) for n in (12, 24))
    scaled_by, finer = (stopping.factors(two_blobs(n)) for n in (12, 24))
    np.testing.assert_allclose(finer[MAXIMUM] / scaled_by[MAXIMUM], 8.0, rtol=0.1)
    coarse["change_l2"] = (np.array(coarse["change_l2"]) / np.sqrt(8.0)).tolist()
    for norm, changes in coarse.items():
        np.testing.assert_allclose(changes[:7], fine[norm][:7], rtol=0.1)  # the last ones see the voxels
    history = {norm: np.array(changes) for norm, changes in fine.items()} | {"marginal_error": np.ones(11)}
    history["change_l2"] = history["change_l2"] * np.sqrt(8.0)
    rows = conventions.counts_on_twice(history, dict(finer) | {MAXIMUM: finer[MAXIMUM] / 8.0})
    for row in rows:
        if row["scale"] in (UNIT, MAXIMUM):
            own = np.array(fine[stopping.NORMS[row["norm"]]])
            assert row["iterations"] == first_below(own, row["threshold"] / finer[row["scale"]])


def test_numbers_grow_until_they_are_not_reached():
    assert grows([1, 2, 3])
    assert grows([1, np.inf, np.inf])
    assert not grows([1, 1, 2])
    assert not grows([np.inf, 5])


def test_the_level_around_voxels_leaves_them_above():
    density = np.random.default_rng(0).random((4, 5, 6))
    for voxels in (0, 1, 17, 119):
        assert (density > conventions.level_around(density, voxels)).sum() == voxels


def row_of(sigma, grid, iterations, **changes):
    row = {"part": "counts", "sigma": sigma, "grid": grid, "norm": "L2", "scale": UNIT, "threshold": 1e-4}
    return row | {"iterations": iterations} | changes


def test_counts_that_were_not_reached_are_infinite():
    rows = [row_of(sigma, 9, None if sigma < 1 else 10) for sigma in conventions.SIGMAS]
    found = conventions.by_sigma(rows, 9, "L2", UNIT, 1e-4)
    assert list(found.values()) == [np.inf, np.inf, 10, 10, 10]


@pytest.mark.parametrize(("reached", "holds"), [(None, True), (30, False)])
def test_nothing_converges_if_no_threshold_is_reached(reached, holds):
    rows = [
        row_of(sigma, 120, reached, norm=norm, scale=scale, threshold=threshold)
        for _, norm, scale in conventions.rules()
        for threshold in conventions.THRESHOLDS
        for sigma in conventions.SIGMAS
    ]
    tested = list(conventions._none_reached(rows, conventions.FULL))
    assert {claim.holds for claim in tested} == {holds}
    assert len({claim.expected for claim in tested}) == len(tested)
    assert "not reached" in tested[0].measured or not holds


def test_stages_of_a_schedule_count_or_not():
    rows = [
        {"schedule": schedule, "sigma": sigma, "iterations": last, "in_stages": before}
        for schedule, last, before in (("fixed", 100, 0), ("2", 50, 50), ("4, 2", 40, 85))
        for sigma in (1.0, 2.0)
    ]
    assert conventions.best_schedule(rows, stages=True) == ("2", 1.0)
    assert conventions.best_schedule(rows, stages=False) == ("4, 2", 2.5)
    missed = [row | {"iterations": None} for row in rows]
    assert conventions.best_schedule(missed, stages=True) is None


def test_the_table_of_conventions_has_columns_for_those_that_statements_share(monkeypatch):
    monkeypatch.setattr(reproduction, "SHARED", 2)

    def claim(statement, convention, holds):
        return Claim(statement, CONVENTION, convention, f"{statement}, {convention}", holds)

    tested = [
        claim("a", "as tested", False),
        claim("a", "L1", True),
        claim("a", "own", True),
        claim("a", "more, own", True),
        claim("b", "as tested", False),
        claim("b", "L1", None),
    ]
    head, _, first, last = reproduction.by_convention(tested).splitlines()
    assert head == "| statement | as tested | L1 | verdict |"
    assert first == "| a | no | **holds** | holds under: L1; own |"
    assert last == "| b | no | not tested | under none of the 1 tried |"
    section = reproduction.section_of("conventions", tested)
    assert "**A**" in section
    assert "| own | a, own | **holds** |" in section
    plain = reproduction.section_of("annealing", [Claim("a", GOAL, "c", "d", True)])
    assert "| a | c | d | holds |" in plain


def test_every_statement_that_does_not_hold_has_its_conventions_on_the_page():
    page = (ROOT / "docs" / reproduction.PAGE).read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in re.split(r"(?m)^## ", page)[1:])
    rows = [line.split(" | ") for line in parts["The paper's statements"].splitlines() if line.startswith("| ")]
    failed = {cells[0].removeprefix("| ") for cells in rows if "does not hold" in cells[-1]}
    table, _, _ = parts["Conventions"].partition("![")
    assert failed == {
        line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")
    } - {"statement"}

"""The embedded samples: their symmetry, their size, and their PDB entries."""

from importlib.resources import files

import mrcfile
import numpy as np
import pytest

from helpers import SHARED_DATA
from morphot_jax.maps.samples import SAMPLE_NAMES, dihedral_operators, sample_atoms, sample_volume
from morphot_jax.system.errors import InputError

SHARED = SHARED_DATA
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared data at {SHARED}")
CORE = np.r_[0:29, 67:117, 160:214]  # residues 1-29, 68-117, 161-214


def _superpose(moving: np.ndarray, fixed: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Move all points by the rotation and translation that fit the points ``by`` best (Kabsch)."""
    a, b = moving[by].mean(axis=0), fixed[by].mean(axis=0)
    u, _, vt = np.linalg.svd((moving[by] - a).T @ (fixed[by] - b))
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (moving - a) @ u @ flip @ vt + b


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt((difference**2).sum(axis=-1).mean()))


def test_the_dihedral_operators_are_a_group_of_rotations():
    operators = dihedral_operators(8)
    np.testing.assert_allclose(
        operators @ operators.transpose(0, 2, 1), np.tile(np.eye(3), (16, 1, 1)), atol=1e-15
    )
    np.testing.assert_allclose(np.linalg.det(operators), 1.0)
    products = np.einsum("aij,bjk->abik", operators, operators).reshape(-1, 1, 3, 3)
    nearest = np.abs(products - operators).max(axis=(2, 3))
    assert (np.sort(nearest, axis=1)[:, 0] < 1e-14).all()
    assert np.abs(operators[:, None] - operators + 9 * np.eye(16)[..., None, None]).max(axis=(2, 3)).min() > 0.5


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_sample_volume_holds_its_atoms(name):
    atoms, volume = sample_atoms(name), sample_volume(name)
    step = {"mmcpn": 3.99, "adk": 1.5}[name.split("-")[0]]
    assert volume.shape == (64, 64, 64)
    assert volume.voxel_size == (step, step, step)
    assert volume.origin == (-32 * step, -32 * step, -32 * step)
    assert volume.mass == pytest.approx(atoms.mass, rel=1e-12)
    for axis in range(3):
        profile = volume.data.sum(axis=tuple({0, 1, 2} - {2 - axis}))
        centre = np.average((np.arange(64) - 32) * step, weights=profile)
        expected = np.average(atoms.positions[:, axis], weights=atoms.weights)
        assert centre == pytest.approx(expected, abs=1e-3 * step)


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_support_is_compact(name):
    data = sample_volume(name).data
    assert data.min() == 0.0
    assert np.count_nonzero(data) < data.size / 3
    edge = np.ones(data.shape, dtype=bool)
    edge[1:-1, 1:-1, 1:-1] = False
    assert not data[edge].any()


@pytest.mark.parametrize("name", ["mmcpn-open", "mmcpn-closed"])
def test_mmcpn_has_the_symmetry_of_its_point_group(name):
    # Index 0 of an even box has no partner across index 32: the part that maps onto itself starts at 1.
    data = sample_volume(name).data
    core = data[1:, 1:, 1:]
    tolerance = {"rtol": 0, "atol": 1e-12 * data.max()}
    np.testing.assert_allclose(np.rot90(core, axes=(1, 2)), core, **tolerance)  # a quarter turn about z
    np.testing.assert_allclose(core[::-1, ::-1, :], core, **tolerance)  # half a turn about x
    np.testing.assert_allclose(core[::-1, :, ::-1], core, **tolerance)  # half a turn about y
    assert np.abs(core[::-1] - core).max() > 0.1 * data.max()  # but no mirror


def test_the_two_states_of_a_pair_list_the_same_residues():
    for pair, count in (("mmcpn", 16 * 491), ("adk", 214)):
        first, last = sample_atoms(f"{pair}-open"), sample_atoms(f"{pair}-closed")
        assert first.positions.shape == (count, 3)
        assert (first.chains, first.residues, first.names) == (last.chains, last.residues, last.names)
        np.testing.assert_array_equal(first.weights, last.weights)
        assert len(set(zip(first.chains, first.residues, strict=True))) == count


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_neighbours_in_the_chain_are_bonded(name):
    atoms = sample_atoms(name)
    steps = np.linalg.norm(np.diff(atoms.positions, axis=0), axis=1)
    same_chain = np.array(atoms.chains[1:]) == np.array(atoms.chains[:-1])
    assert steps[same_chain].mean() == pytest.approx(3.8, abs=0.05)
    assert (steps[same_chain].min() > 2.8) & (steps[same_chain].max() < 4.1)


def test_mmcpn_opens_outwards():
    radius = {s: np.linalg.norm(sample_atoms(f"mmcpn-{s}").positions, axis=1).mean() for s in ("open", "closed")}
    assert radius["open"] > radius["closed"] + 5.0


def test_adenylate_kinase_closes_its_lids_on_a_still_core():
    opened, closed = (sample_atoms(f"adk-{state}").positions for state in ("open", "closed"))
    assert _rms((opened - closed)[CORE]) == pytest.approx(1.55, abs=0.02)
    assert _rms(opened - closed) == pytest.approx(8.09, abs=0.02)
    np.testing.assert_allclose(_superpose(opened, closed, CORE), opened, atol=2e-3)  # it lies where it should
    everything = np.arange(len(opened))
    assert _rms(_superpose(opened, closed, everything) - closed) == pytest.approx(7.13, abs=0.02)


def test_the_tables_are_small_and_say_where_they_come_from():
    for name in ("mmcpn.csv", "adk.csv"):
        text = files("morphot_jax.maps").joinpath("data", name).read_text(encoding="utf-8")
        header, columns, *_ = text.splitlines()
        assert len(text) < 100_000
        assert header.startswith("# ")
        assert "PDB" in header
        assert columns == "residue,name,electrons,open_x,open_y,open_z,closed_x,closed_y,closed_z"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mmcpn-opened", "did you mean 'mmcpn-open'"), ("ADK", "give one of mmcpn-open"), ("", "mmcpn-open")],
)
def test_an_unknown_name_is_refused_with_the_names_that_there_are(name, hint):
    for make in (sample_atoms, sample_volume):
        with pytest.raises(InputError, match=hint) as refusal:
            make(name)
        assert all(known in str(refusal.value) for known in SAMPLE_NAMES)
        assert "\n" not in str(refusal.value)


@needs_shared
@pytest.mark.parametrize(("state", "rms"), [("open", 0.41), ("closed", 0.003)])
def test_one_subunit_and_its_operators_give_the_whole_complex(state, rms):
    # The open entry was fitted without symmetry; its subunits differ by this much from their mean.
    with np.load(SHARED / "mmcpn_ca.npz") as entry:
        assert _rms(sample_atoms(f"mmcpn-{state}").positions - entry[state]) < 1.02 * rms


@needs_shared
@pytest.mark.parametrize(("state", "correlation"), [("open", 0.93), ("closed", 0.86)])
def test_sample_volumes_lie_in_the_real_maps(state, correlation):
    real = mrcfile.read(SHARED / f"mmcpn_{state}_64.mrc").astype(float)
    assert np.corrcoef(sample_volume(f"mmcpn-{state}").data.ravel(), real.ravel())[0, 1] > correlation

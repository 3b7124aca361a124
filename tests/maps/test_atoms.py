"""Atomic models and the densities made of them: closed forms, symmetries, files, refusals."""

import gzip
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax.maps.atoms import Atoms, choose_box, interpolate_linearly, read_atoms, simulate_density
from morphot_jax.system.errors import InputError

offsets = st.floats(-0.5, 0.5)
CUT_VARIANCE = 0.998929  # variance of a unit Gaussian cut at 4: 1 - 8 pdf(4) / (2 cdf(4) - 1)


def _cloud(count: int, seed: int = 0, spread: float = 6.0) -> Atoms:
    rng = np.random.default_rng(seed)
    return Atoms(rng.uniform(-spread, spread, (count, 3)), rng.uniform(1, 8, count))


def _coordinates(volume) -> list[np.ndarray]:
    """Voxel centres in Å along x, y, z."""
    return [
        start + step * np.arange(count)
        for start, step, count in zip(volume.origin, volume.voxel_size, volume.shape[::-1], strict=True)
    ]


@settings(deadline=None, max_examples=40)
@given(offsets, offsets, offsets, st.floats(1.0, 3.0))
def test_one_atom_has_its_mass_centre_and_variance(dx, dy, dz, width):
    step = (1.0, 1.1, 0.9)
    position = np.array([[dx, dy, dz]])
    volume = simulate_density(
        Atoms(position, np.array([6.0])),
        shape=(31, 29, 33),
        voxel_size=step,
        width=width,
        origin=(-16.0, -15.0, -14.0),
    )
    assert volume.mass == pytest.approx(6.0, rel=1e-12)
    for axis, x in enumerate(_coordinates(volume)):
        profile = volume.data.sum(axis=tuple({0, 1, 2} - {2 - axis})) / 6.0
        mean = profile @ x
        variance = profile @ (x - mean) ** 2
        # The small steps of the density at the cut keep the sums over voxels from being exact.
        assert mean == pytest.approx(position[0, axis], abs=5e-5)
        assert variance == pytest.approx(width**2 * CUT_VARIANCE + step[axis] ** 2 / 12, rel=5e-4)


@pytest.mark.parametrize("width", [0.1, 1.0, 2.5])
def test_each_voxel_holds_the_integral_of_the_gaussian(width):
    atom = Atoms(np.array([[0.3, -0.2, 0.4]]), np.array([7.0]))
    volume = simulate_density(atom, shape=25, voxel_size=1.0, width=width, origin=(-12.0, -12.0, -12.0))
    profiles = []
    for x, centre in zip(_coordinates(volume), atom.positions[0], strict=True):
        fine = x[:, None] + (np.arange(2000) + 0.5) / 2000 - 0.5
        inside = np.abs(fine - centre) <= 4 * width
        profiles.append(np.mean(np.exp(-0.5 * ((fine - centre) / width) ** 2) * inside, axis=1))
    x, y, z = (profile / profile.sum() for profile in profiles)
    np.testing.assert_allclose(volume.data, 7.0 * np.einsum("k,j,i->kji", z, y, x), atol=2e-4 * volume.data.max())


def test_nothing_lies_beyond_four_standard_deviations():
    width = 1.45  # so that the cut lies within voxels, not on their faces
    volume = simulate_density(Atoms(np.zeros((1, 3)), np.ones(1)), shape=31, voxel_size=0.8, width=width)
    for axis, x in enumerate(_coordinates(volume)):
        held = volume.data.any(axis=tuple({0, 1, 2} - {2 - axis}))
        np.testing.assert_array_equal(held, np.abs(x) - 0.4 < 4 * width)
    assert volume.data.min() == 0.0


def test_resolution_is_a_width_in_the_convention_of_molmap():
    atoms = _cloud(5)
    by_resolution = simulate_density(atoms, shape=40, voxel_size=1.0, resolution=8.0)
    by_width = simulate_density(atoms, shape=40, voxel_size=1.0, width=8.0 / (np.pi * np.sqrt(2)))
    np.testing.assert_array_equal(by_resolution.data, by_width.data)
    # By its definition: the Fourier transform falls to 1/e at one over the resolution.
    one = simulate_density(Atoms(np.zeros((1, 3)), np.ones(1)), shape=81, voxel_size=0.5, resolution=8.0)
    profile = one.data.sum(axis=(0, 1))
    (x, _, _) = _coordinates(one)
    assert np.sum(profile * np.cos(2 * np.pi * x / 8.0)) == pytest.approx(np.exp(-1), rel=1e-2)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_densities_add(count, seed):
    atoms = _cloud(count + 1, seed)
    box = {"shape": (24, 26, 28), "voxel_size": 1.0, "width": 1.2, "origin": (-13.0, -12.0, -12.0)}
    parts = [Atoms(atoms.positions[some], atoms.weights[some]) for some in (slice(count), slice(count, None))]
    whole = simulate_density(atoms, **box).data
    np.testing.assert_allclose(sum(simulate_density(p, **box).data for p in parts), whole, atol=1e-12)
    assert whole.sum() == pytest.approx(atoms.mass, rel=1e-12)


def test_atoms_beyond_one_batch_all_count(monkeypatch):
    atoms = _cloud(50)
    whole = simulate_density(atoms, shape=24, voxel_size=1.0, width=1.0)
    monkeypatch.setattr("morphot_jax.maps.atoms.ATOMS_AT_ONCE", 7)
    in_batches = simulate_density(atoms, shape=24, voxel_size=1.0, width=1.0)
    np.testing.assert_allclose(in_batches.data, whole.data, atol=1e-12)


def test_moving_the_atoms_by_whole_voxels_shifts_the_array():
    atoms = _cloud(30)
    atoms = replace(atoms, positions=np.round(atoms.positions * 64) / 64)  # so that the shift rounds nothing
    box = {"shape": 40, "voxel_size": 0.5, "width": 0.75, "origin": (-10.0, -10.0, -10.0)}
    here = simulate_density(atoms, **box).data
    there = simulate_density(replace(atoms, positions=atoms.positions + np.array([0.5, -1.0, 0.0])), **box).data
    np.testing.assert_allclose(there, np.roll(here, (0, -2, 1), axis=(0, 1, 2)), rtol=1e-12, atol=1e-15)


def test_permuting_the_axes_permutes_the_array():
    atoms = _cloud(30)
    volume = simulate_density(
        atoms, shape=(26, 30, 34), voxel_size=(1.0, 1.1, 1.2), width=1.3, origin=(-16.0, -15.0, -14.0)
    )
    cycled = simulate_density(
        replace(atoms, positions=atoms.positions[:, [1, 2, 0]]),  # the new x is the old y, and so on
        shape=(34, 26, 30),
        voxel_size=(1.1, 1.2, 1.0),
        width=1.3,
        origin=(-15.0, -14.0, -16.0),
    )
    np.testing.assert_allclose(cycled.data, volume.data.transpose(2, 0, 1), atol=1e-13)


@pytest.mark.parametrize("shape", [(20, 21, 22), (23, 20, 21)])
def test_the_weighted_centre_falls_on_the_middle_voxel(shape):
    atoms = _cloud(40, spread=4.0)
    volume = simulate_density(atoms, shape=shape, voxel_size=1.0, width=1.0)
    found = [
        np.average(np.arange(count), weights=volume.data.sum(axis=tuple({0, 1, 2} - {axis})))
        for axis, count in enumerate(shape)
    ]
    np.testing.assert_allclose(found, [count // 2 for count in shape], atol=1e-3)
    centre = np.average(atoms.positions, axis=0, weights=atoms.weights)
    np.testing.assert_allclose(np.array(volume.origin) + np.array(shape[::-1]) // 2, centre, atol=1e-12)


def test_a_box_that_cuts_atoms_off_is_refused_and_the_advice_works():
    atoms = _cloud(30)
    box = {"width": 1.5, "voxel_size": 1.0, "origin": (0.0, 0.0, 0.0)}
    with pytest.raises(InputError, match=r"% of the mass falls outside the box of 12 x 11 x 10 voxels") as refusal:
        simulate_density(atoms, shape=(10, 11, 12), **box)
    advice = str(refusal.value).split("leave out the origin and take ")[1].split()
    voxels, size = int(advice[0]), float(advice[-2])
    finer = simulate_density(atoms, shape=voxels, voxel_size=1.0, width=1.5)
    coarser = simulate_density(atoms, shape=(10, 11, 12), voxel_size=size, width=1.5)
    assert finer.mass == pytest.approx(atoms.mass, rel=1e-12)
    assert coarser.mass == pytest.approx(atoms.mass, rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"voxel_size": 0.0},
        {"voxel_size": (1.0, -1.0, 1.0)},
        {"voxel_size": float("nan")},
        {"shape": 0},
        {"shape": (20, -1, 20)},
        {"width": 0.0},
        {"width": float("inf")},
        {"width": None, "resolution": -3.0},
        {"width": None},
        {"resolution": 5.0},
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_line(change):
    with pytest.raises(InputError) as refusal:
        simulate_density(_cloud(3), **({"shape": 30, "voxel_size": 1.0, "width": 1.0} | change))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms(np.zeros((0, 3)), np.zeros(0)),
        Atoms(np.zeros((2, 3)), np.zeros(2)),
        Atoms(np.full((1, 3), np.nan), np.ones(1)),
    ],
)
def test_atoms_without_mass_or_place_are_refused(atoms):
    with pytest.raises(InputError, match="give finite positions and a mass above zero"):
        simulate_density(atoms, shape=8, voxel_size=1.0, width=1.0)


# --- boxes ---


def test_a_chosen_box_holds_both_models_with_room_to_spare():
    first, last = _cloud(20, 1), _cloud(20, 2, spread=9.0)
    box = choose_box(first, last, resolution=6.0)
    assert box.voxel_size == (2.0, 2.0, 2.0)
    assert all(count % 2 == 0 for count in box.shape)
    points = np.concatenate([first.positions, last.positions])
    low = np.array(box.origin)
    high = low + 2.0 * (np.array(box.shape[::-1]) - 1)
    assert (points.min(axis=0) - low >= 18 - 2).all()
    assert (high - points.max(axis=0) >= 18 - 2).all()
    for atoms in (first, last):
        volume = simulate_density(atoms, **vars(box), resolution=6.0)
        assert volume.origin == box.origin
        assert volume.mass == pytest.approx(atoms.mass, rel=1e-12)


def test_grid_and_voxel_size_can_be_asked_for():
    atoms = _cloud(20)
    assert choose_box(atoms, resolution=6.0, apix=1.5).voxel_size == (1.5, 1.5, 1.5)
    cube = choose_box(atoms, resolution=6.0, grid=32)
    assert cube.shape == (32, 32, 32)
    assert cube.voxel_size[0] == pytest.approx((np.ptp(atoms.positions, axis=0).max() + 36) / 32)
    both = choose_box(atoms, resolution=6.0, grid=32, apix=1.0)
    assert (both.shape, both.voxel_size) == ((32, 32, 32), (1.0, 1.0, 1.0))
    middle = (atoms.positions.min(axis=0) + atoms.positions.max(axis=0)) / 2
    np.testing.assert_allclose(np.array(both.origin) + 16.0, middle)


@pytest.mark.parametrize("change", [{"resolution": 0.0}, {"grid": 0}, {"apix": -1.0}])
def test_boxes_of_impossible_size_are_refused(change):
    with pytest.raises(InputError):
        choose_box(_cloud(3), **({"resolution": 6.0} | change))


def test_a_box_around_nothing_is_refused():
    with pytest.raises(InputError, match="give one or more models with atoms"):
        choose_box(resolution=6.0)


# --- the straight morph ---


def test_the_straight_morph_meets_its_ends_and_keeps_the_labels():
    first = replace(_cloud(4), chains=("A",) * 4, residues=(1, 2, 3, 4), names=("CA",) * 4)
    last = _cloud(4, seed=1)
    np.testing.assert_array_equal(interpolate_linearly(first, last, 0.0).positions, first.positions)
    np.testing.assert_array_equal(interpolate_linearly(first, last, 1.0).positions, last.positions)
    between = interpolate_linearly(first, last, 0.25)
    np.testing.assert_allclose(between.positions, 0.75 * first.positions + 0.25 * last.positions)
    assert between.mass == pytest.approx(0.75 * first.mass + 0.25 * last.mass)
    assert between.residues == first.residues


def test_models_of_different_atoms_and_times_outside_are_refused():
    atoms = replace(_cloud(2), chains=("A", "A"), residues=(1, 2), names=("CA", "CA"))
    with pytest.raises(InputError, match="2 and 3 atoms"):
        interpolate_linearly(atoms, _cloud(3), 0.5)
    with pytest.raises(InputError, match="atom 1 is CA of residue 2 in the first model but CA of residue 7"):
        interpolate_linearly(atoms, replace(atoms, residues=(1, 7)), 0.5)
    with pytest.raises(InputError, match=r"t = 1\.5"):
        interpolate_linearly(atoms, atoms, 1.5)


# --- files ---


def _model() -> gemmi.Structure:
    """Two chains with every kind of record that a reader must distinguish, and a second model, not to be read."""
    structure = gemmi.Structure()
    structure.name = "test"
    for number in (1, 2):
        model = gemmi.Model(number)
        for name in "AB":
            chain = gemmi.Chain(name)
            chain.add_residue(_residue("ALA", 5, [("N", "N", "\0", 1.0), ("CA", "C", "\0", 1.0)], number))
            places = [("CA", "C", "A", 0.4), ("CA", "C", "B", 0.6), ("HA", "H", "\0", 1.0), ("O", "O", "\0", 0.0)]
            chain.add_residue(_residue("SER", 6, places, number))
            chain.add_residue(_residue("ZN", 101, [("ZN", "Zn", "\0", 0.5)], number))
            chain.add_residue(_residue("HOH", 201, [("O", "O", "\0", 1.0)], number))
            model.add_chain(chain)
        structure.add_model(model)
    structure.setup_entities()
    structure.assign_serial_numbers()
    return structure


def _residue(name, number, places, model) -> gemmi.Residue:
    residue = gemmi.Residue()
    residue.name, residue.seqid = name, gemmi.SeqId(number, " ")
    residue.het_flag = "A" if name in {"ALA", "SER"} else "H"
    for order, (atom_name, element, location, occupancy) in enumerate(places):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.altloc, atom.occ = atom_name, gemmi.Element(element), location, occupancy
        atom.pos = gemmi.Position(1.5 * order, 0.25 * number, 10.0 * model)
        residue.add_atom(atom)
    return residue


@pytest.fixture
def model_files(tmp_path):
    structure = _model()
    structure.write_pdb(str(tmp_path / "m.pdb"))
    structure.make_mmcif_document().write_file(str(tmp_path / "m.cif"))
    for name in ("m.pdb", "m.cif"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "M.ENT").write_bytes((tmp_path / "m.pdb").read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", ["m.pdb", "m.cif", "m.pdb.gz", "m.cif.gz"])
def test_pdb_and_mmcif_give_the_same_atoms(model_files, name):
    atoms = read_atoms(model_files / name)
    assert atoms.chains == ("A",) * 4 + ("B",) * 4
    assert atoms.residues == (5, 5, 6, 101) * 2
    assert atoms.names == ("N", "CA", "CA", "ZN") * 2
    np.testing.assert_allclose(atoms.weights, [7.0, 6.0, 6.0, 15.0] * 2, rtol=1e-6)
    one_chain = [[0.0, 1.25, 10.0], [1.5, 1.25, 10.0], [1.5, 1.5, 10.0], [0.0, 25.25, 10.0]]
    np.testing.assert_allclose(atoms.positions, one_chain * 2, atol=1e-6)


def test_the_suffix_may_be_written_large(model_files):
    assert len(read_atoms(str(model_files / "M.ENT")).weights) == 8


def test_records_of_one_name_without_location_are_separate_atoms(tmp_path):
    structure = gemmi.Structure()
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    chain.add_residue(_residue("ALA", 1, [("CA", "C", "\0", 1.0), ("CA", "C", "\0", 1.0)], 1))
    model.add_chain(chain)
    structure.add_model(model)
    structure.write_pdb(str(tmp_path / "beads.pdb"))
    assert len(read_atoms(tmp_path / "beads.pdb").weights) == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.pdb", None, "no such file"),
        ("map.mrc", b"x", "not the name of a structure file"),
        ("empty.pdb", b"", "no atoms|not readable"),
        ("noise.cif", b"\x00\xff\xfe noise", "not readable"),
        ("empty.cif", b"data_none\n", "no atoms"),
        ("noise.pdb.gz", b"\x1f\x8b\x08\x00 no more", "not readable"),
        ("plain.pdb.gz", b"no gzip at all", "not readable"),
    ],
)
def test_files_without_a_model_are_refused_in_one_line(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason) as refusal:
        read_atoms(tmp_path / name)
    assert str(tmp_path / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_compressed_file_cut_short_is_refused_and_not_read_in_part(tmp_path):
    _model().write_pdb(str(tmp_path / "m.pdb"))
    compressed = gzip.compress((tmp_path / "m.pdb").read_bytes() * 100)
    (tmp_path / "cut.pdb.gz").write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(InputError, match="not readable"):
        read_atoms(tmp_path / "cut.pdb.gz")


def test_a_folder_is_no_model(tmp_path):
    (tmp_path / "folder.pdb").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_atoms(tmp_path / "folder.pdb")


@pytest.mark.parametrize("value", ["nan", "?", ".", "inf", "-1e300", "9e5"])
def test_atoms_without_a_place_are_refused_in_one_line(tmp_path, value):
    names = "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id"
    names += " label_seq_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id"
    lines = ["data_x", "loop_", *(f"_atom_site.{name}" for name in names.split())]
    lines += [f"ATOM {i} C CA . ALA A 1 {i} 1.0 {y} 1.0 1.0 0.0 {i} A" for i, y in ((1, "2.0"), (2, value))]
    path = tmp_path / "m.cif"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match="1 of 2 atoms have no place, the first is CA of residue 2 in chain A"
    ) as error:
        read_atoms(path)
    assert "\n" not in str(error.value)

"""Bodies and atoms on the command line: what is asked for, what is written, what is refused."""

import json

import gemmi
import numpy as np
import pytest

from helpers import morphot, table
from morphot_jax import InputError, read_volume, write_volume
from morphot_jax.runs.body_runs import AskedBody, read_body
from shapes import hinged


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Maps of a hinge, the mask of its arm, and its atoms as a PDB file of two chains."""
    folder = tmp_path_factory.mktemp("hinge")
    made = hinged(40.0)
    paths = {name: folder / f"{name}.mrc" for name in ("a", "b", "arm")}
    for path, volume in zip(
        paths.values(), (made.first, made.last, made.first.with_data(made.arms[0])), strict=True
    ):
        write_volume(volume, path)
    paths["model"] = folder / "model.pdb"
    _write_pdb(paths["model"], made.atoms)
    return made, paths


def _write_pdb(path, positions):
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for name in "AB":
        model.add_chain(gemmi.Chain(name))
    for number, place in enumerate(positions, start=1):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(str(number))
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*place.tolist())
        residue.add_atom(atom)
        model["B" if 118 <= number <= 162 else "A"].add_residue(residue)
    structure.add_model(model)
    structure.write_pdb(str(path))


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("lid.mrc", AskedBody("lid.mrc", masks=("lid.mrc",))),
        ("a.mrc:b.mrc", AskedBody("a.mrc:b.mrc", masks=("a.mrc", "b.mrc"))),
        ("chain:A1", AskedBody("chain:A1", chain="A1")),
        ("residues:A:30-59", AskedBody("residues:A:30-59", chain="A", residues=(30, 59))),
        ("residues:A:-3-7", AskedBody("residues:A:-3-7", chain="A", residues=(-3, 7))),
    ],
)
def test_bodies_are_named_by_masks_chains_and_residues(text, body):
    assert read_body(text) == body


@pytest.mark.parametrize("text", ["chain:", "residues:A", "residues:A:9-3", "a.mrc:", "a:b:c", ""])
def test_other_words_are_refused_and_quoted(text):
    with pytest.raises(InputError, match="cannot be read: give MASK"):
        read_body(text)


def test_bodies_are_found_and_written(inputs, tmp_path):
    made, paths = inputs
    out = tmp_path / "out"
    done = morphot("bodies", paths["a"], paths["b"], "-o", out)
    assert done.code == 0, done.err
    assert "body2" in done.err
    rows = table(out / "bodies.csv")
    entries = json.loads((out / "bodies.json").read_text())["bodies"]
    assert [row["body"] for row in rows] == [entry["body"] for entry in entries] == ["body1", "body2"]
    assert float(rows[1]["degrees"]) == pytest.approx(40.0, abs=3.0)
    for row, entry in zip(rows, entries, strict=True):
        for end, share in (("", "share_of_first"), ("_last", "share_of_last")):
            mask = read_volume(out / f"{row['body']}{end}.mrc").data
            assert 0.0 <= mask.min() <= mask.max() <= 1.0
            mass = (mask * (made.last if end else made.first).data).sum() / made.first.data.sum()
            assert entry[share] == pytest.approx(mass, abs=2e-3)
    assert (out / "bodies.png").stat().st_size > 10_000
    assert "open body2.mrc" in (out / "bodies.cxc").read_text()


@pytest.mark.figures
def test_masks_and_atoms_go_into_a_morph_and_atoms_come_out(inputs, tmp_path):
    made, paths = inputs
    out, body = tmp_path / "out", ("--body", "residues:B:118-162", "--model", paths["model"])
    done = morphot("morph", paths["a"], paths["b"], "-o", out, *body, "--frames", 3)
    assert done.code == 0, done.err
    content = json.loads((out / "report.json").read_text())
    assert content["settings"]["method"] == "rigid"
    ((arm,),) = content["bodies"]
    assert arm["degrees"] == pytest.approx(40.0, abs=3.0)
    assert min(content["model"]["correlation"]) > 0.95
    models = gemmi.read_structure(str(out / "model.cif"))
    assert [model.num for model in models] == [1, 2, 3]
    for model, t in zip(models, (0.0, 0.5, 1.0), strict=True):
        found = {(c.name, r.seqid.num, a.name): a.pos.tolist() for c in model for r in c for a in r}
        assert len(found) == len(made.atoms)
        places = np.array([found["B" if 118 <= k <= 162 else "A", k, "CA"] for k in range(1, len(found) + 1)])
        assert np.sqrt(((places - made.path(t)) ** 2).sum(axis=1).mean()) < 1.0
    assert "open model.cif coordsets true" in (out / "view.cxc").read_text()
    _check_doubts(made, out, content["doubt"])
    rounds = table(out / "rounds.csv")
    assert {(row["map"], row["to_map"]) for row in rounds} == {("1", "2"), ("2", "1")}
    assert max(float(row["marginal_error"]) for row in rounds if row["round"] == "1") <= 1e-6
    assert all((out / "figures" / f"{name}.png").stat().st_size > 10_000 for name in ("doubt", "convergence"))
    again = morphot("morph", paths["a"], paths["b"], "-o", out, *body, "--frames", 3, "--resume")
    assert "nothing is left to do" in again.err + again.out
    other = morphot("morph", paths["a"], paths["b"], "-o", out, "--body", paths["arm"], "--frames", 3, "--resume")
    assert other.code == 2
    assert "other maps, settings or versions" in other.err


def _check_doubts(made, out, entries):
    """The maps of doubts, their entries in the report, and the script that colours by them."""
    ((first, last),) = entries
    for entry, name, volume in ((first, "doubt_1_to_2.mrc", made.first), (last, "doubt_2_to_1.mrc", made.last)):
        doubt = read_volume(out / name)
        assert entry["file"] == name
        assert doubt.same_grid(volume)
        for share, key in ((0.5, "median"), (0.95, "quantile_95")):
            below = volume.data[doubt.data <= entry[key] * (1 + 1e-5)].sum() / volume.data.sum()
            assert below == pytest.approx(share, abs=0.01)
    script = (out / "doubt.cxc").read_text()
    assert all(f"open {name}" in script for name in ("vol_000.mrc", "doubt_1_to_2.mrc", "vol_002.mrc"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--body", "chain:A"), "add --model"),
        (("--body", "chain:Z", "--model", "{model}"), "it has the chains A, B"),
        (("--body", "gone.mrc"), "there is no such file"),
        (("--body", "{arm}", "--body", "{arm}"), "was given twice"),
        (("--body", "{arm}", "--bodies", "auto"), "give one of the two"),
        (("--body", "{arm}", "--method", "linear"), "do not go with the method 'linear'"),
        (("--model", "{model}", "--method", "bridge"), "does not go with the method 'bridge'"),
        (("--model", "gone.pdb"), "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(inputs, tmp_path, words, message):
    paths = inputs[1]
    out = tmp_path / "out"
    words = [word.format(**paths) for word in words]
    done = morphot("morph", paths["a"], paths["b"], "-o", out, *words)
    assert done.code == 2
    assert message in done.err
    assert not out.exists()


def test_a_mask_is_never_replaced(inputs, tmp_path):
    paths = inputs[1]
    mask = tmp_path / "vol_000.mrc"
    mask.write_bytes(paths["arm"].read_bytes())
    done = morphot("morph", paths["a"], paths["b"], "-o", tmp_path, "--overwrite", "--body", mask)
    assert done.code == 2
    assert mask.read_bytes() == paths["arm"].read_bytes()


def test_atoms_elsewhere_get_a_warning(inputs, tmp_path):
    made, paths = inputs
    model = tmp_path / "far.pdb"
    _write_pdb(model, made.atoms + np.array([20.0, 20.0, 20.0]))
    done = morphot("morph", paths["a"], paths["b"], "-o", tmp_path / "out", "--model", model, "--frames", 2)
    assert done.code == 0, done.err
    assert "hardly lie in the first map" in done.err

"""Examples at the end of each command's help: what each is for, and the command to type."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "morph": (
        ("25 frames between two maps", "morphot morph closed.mrc open.mrc -o out"),
        ("the memory and time it needs, without solving", "morphot morph closed.mrc open.mrc -o out --dry-run"),
        (
            "align the maps, filter them to 8 Å, and cut each at its contour level",
            "morphot morph a.map.gz b.map.gz -o out --align rigid --lowpass 8 --level 1.2,0.9",
        ),
        (
            "the paper's barycenters, at three times",
            "morphot morph closed.mrc open.mrc -o out --method barycenter --times 0.25,0.5,0.75",
        ),
        (
            "maps of eightfold symmetry, with parts that move as rigid bodies",
            "morphot morph closed.mrc open.mrc -o out --symmetry C8 --bodies auto",
        ),
        (
            "noisy maps whose solvent was masked: half maps show what is noise",
            "morphot morph a.mrc b.mrc -o out --half-maps a1.mrc:a2.mrc --half-maps b1.mrc:b2.mrc",
        ),
        ("a loop through three maps", "morphot morph a.mrc b.mrc c.mrc -o out --loop"),
        ("a way that stays inside a mask", "morphot morph closed.mrc open.mrc -o out --within mask.mrc"),
        ("continue an interrupted run", "morphot morph closed.mrc open.mrc -o out --resume"),
    ),
    "barycenter": (
        ("the mean of three maps", "morphot barycenter a.mrc b.mrc c.mrc -o out"),
        (
            "two barycenters that are nearer to the first map, as sharp as the maps",
            "morphot barycenter a.mrc b.mrc c.mrc -o out --weights 0.6,0.2,0.2 --weights 0.8,0.1,0.1 --debias",
        ),
    ),
    "demo": (
        ("25 frames of Mm-cpn closing", "morphot demo -o demo"),
        ("11 frames by another method", "morphot demo -o bridge --method bridge --frames 11"),
    ),
    "order": (
        (
            "where three maps lie between closed and open",
            "morphot order a.mrc b.mrc c.mrc --between closed.mrc open.mrc -o out",
        ),
    ),
    "place": (
        (
            "how much of three states is in each of two maps",
            "morphot place x.mrc y.mrc --among a.mrc --among b.mrc --among c.mrc -o out --grid 32",
        ),
    ),
    "landscape": (
        (
            "order the maps of a folder, and a morph through five of them",
            "morphot landscape maps -o out --grid 64",
        ),
        ("the same, after adding maps", "morphot landscape maps -o out --grid 64 --resume"),
    ),
    "bodies": (
        ("the parts that move as rigid bodies, as masks", "morphot bodies closed.mrc open.mrc -o out"),
        ("of noisy maps, by coarser features", "morphot bodies closed.mrc open.mrc -o out --sigma 2"),
    ),
    "field": (
        ("where the mass of one map goes in another", "morphot field closed.mrc open.mrc -o out"),
        (
            "the same, and how two parts of the map move",
            "morphot field closed.mrc open.mrc -o out --domain lid.mrc --domain core.mrc",
        ),
    ),
    "view": (
        ("write the viewer of a run again", "morphot view out"),
        ("colour the surfaces by how far their mass goes", "morphot view out --colour displacement"),
    ),
    "movie": (
        ("a movie for a talk", "morphot movie out -o morph.mp4"),
        ("a GIF for a web page, seen along y", "morphot movie out -o morph.gif --view y --size 400"),
    ),
    "prepare": (
        ("two maps on one grid, without solvent noise", "morphot prepare closed.mrc open.mrc -o out"),
        (
            "two maps aligned, filtered to 8 Å, in boxes of 128^3 voxels",
            "morphot prepare a.mrc b.mrc -o out --align rigid --lowpass 8 --box 128",
        ),
    ),
    "align": (
        ("move one map onto another", "morphot align closed.mrc open.mrc -o out"),
        ("the same, where the hand of the map is not known", "morphot align closed.mrc open.mrc -o out --mirror"),
        ("from where it lies, without a search", "morphot align closed.mrc open.mrc -o out --local"),
        ("lay a subunit onto its place in a complex", "morphot align subunit.mrc complex.mrc -o out --part"),
    ),
    "compare": (
        ("how far a frame is from a map", "morphot compare out/vol_012.mrc halfway.mrc"),
        ("with contours at a fifth of the maximum, as JSON", "morphot compare a.mrc b.mrc --threshold 0.2 --json"),
    ),
    "simulate": (
        ("a map at 6 Å from a model", "morphot simulate model.pdb -o model.mrc --resolution 6"),
        ("on the grid of a map", "morphot simulate model.cif.gz -o model.mrc --like closed.mrc"),
    ),
    "fetch": (("a map of the EMDB and a model of the PDB", "morphot fetch EMD-5138 3IYF"),),
    "info": (("what two files contain", "morphot info closed.mrc open.map.gz"),),
}

FIRST_STEPS = """\b
Start with the built-in maps, then use your own:
  morphot demo -o demo
  morphot morph closed.mrc open.mrc -o out

\b
The help of each command has examples: morphot morph --help"""


def lines_for(command: str) -> str | None:
    """The examples of a command as text to paste into a shell; None where there are none."""
    pairs = EXAMPLES.get(command, ())
    return "\n".join(["\b", *(line for what, typed in pairs for line in (f"# {what}", typed))]) if pairs else None

"""The page on what holds of the paper, written from the claims and figures of full runs.

    python -m experiments.studies.reproduction RUNS --docs docs

RUNS holds a folder for each study, named after it, as its full run has left it. The page gets the claims and the
pictures of each (made small, in ``docs/images``), and what is to be said about them (``SECTIONS``).
"""

import io
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from PIL import Image

from experiments.claims import CLAIMS, PAPER, Claim, read_claims
from morphot_jax.system import files

LARGEST = 300_000  # bytes of a picture
WIDEST = 1400  # pixels
COLOURS = 128
WORDS = {True: "holds", False: "**does not hold**", None: "could not be tested"}
PAGE = "reproduction.md"

HEAD = """# What holds of the paper

Written by `python -m experiments.studies.reproduction` from the `claims.json` of full runs of the experiments, on
2 CPU cores, gamma taken for the standard deviation of the kernel (`--gamma-is sd`), on the maps EMD-5138 and
EMD-5140 of Mm-cpn unless it says otherwise. Each section names the command that runs it again.

All maps are at unit mass, so thresholds on changes are relative to it. *Original* is the paper's algorithm in
SciPy: kernel cut at 4 sigma and reflected at the faces of the box, 20 plain iterations a frame unless iterations
are what is counted.
"""


class Section(NamedTuple):
    """A study on the page: its heading, the pictures that are shown, and what came out and why."""

    title: str
    pictures: tuple[str, ...]
    remarks: str
    folder: str = "studies"


FIG2 = """
Iterations fall like a power of gamma, gamma^-1.6 to a change of 1e-6 and gamma^-1.9 to 1e-8, on every grid: on a
logarithmic scale the curves flatten, where ones that fall faster than an exponential would steepen. At 1e-6 and
1e-8 larger grids take more iterations at the same gamma in voxels, as stated. At 1e-4 they take as many or fewer,
and not because they are done: mass one, spread over more voxels, changes by less in the L2 norm. So the original
passes 1e-4 after three iterations at gamma 0.5 on 120^3, where its plans are still half the mass away from their
maps, and reaches neither 1e-6 nor 1e-8 within 1500. A threshold on the change is no measure of the error: where
the change falls below it, the plans are off by 167 to a million times as much. The over-relaxed iteration from the
plan between the maps takes a third as many iterations (median; 1 to 56 times fewer).
"""

SECTIONS = {
    "fig1_accuracy": Section(
        "Figure 1: how near to the atoms",
        ("frames.png", "accuracy.png", "thresholds.png"),
        """
The statement on the voxel difference holds at every frame, against atoms moved along straight lines and against
rigid domains moved along screws; bridge and displacement go on to halve it. The statement on the volume
difference does not hold at 1 % of the maximum: an entropic barycenter is wrapped in a rim of blur, which counts as
volume there. At 20 %, where the rim does not count, it does hold. The EM maps are not the density of the atoms,
hence what is left at the two ends.
""",
    ),
    "table1_speed": Section(
        "Table 1: speed",
        ("speed.png",),
        """
No GPU was at hand. The original's algorithm in SciPy takes a sixth of the paper's CPU time on 2 newer cores.
Bridge and displacement, one plan for all frames, take less than the paper's GPU; converged barycenters, of which
each is solved to an error of 1e-6, take about as long as the original's 20 iterations, which end at 4e-2. (On
64^3 the original takes 2.6 times as long as on 60^3: SciPy's filter suffers from lines whose length is a power
of two. There converged barycenters are twice as fast.)
""",
    ),
    "fig2_convergence": Section("Figure 2: convergence", ("iterations.png", "errors.png", "maps.png"), FIG2),
    "gamma_and_grid": Section(
        "Gamma and the grid",
        ("gamma_and_grid.png",),
        """
The gamma that gives a visually similar barycenter (the least relative L2 distance) goes with the voxels along an
axis like n^1.02 to n^1.04, if gamma is the standard deviation of the kernel, and like n^2 if it is its variance:
what counts is sigma in Å. So does the detail that a barycenter keeps: to 1.7 sigma (Å; FSC 0.5 against the
smallest sigma on the finest grid) on every grid that can hold it. A default of a share of the box, the longest
axis / 60, therefore looks the same on every grid of one box, and keeps detail to a 35th of the box; to keep detail
of d Å in barycenters, give `--sigma-angstrom` d / 1.7. Displacement keeps far more, as it moves the maps' own
detail: to 9 Å at sigma 14.5 Å on 120^3, to 6.3 at sigma 3 Å. No multiple of sigma describes it; there sigma is
chosen for speed rather than for detail.
""",
    ),
    "annealing": Section(
        "Gamma on a schedule",
        ("annealing.png",),
        """
Lowering gamma on a schedule saves nothing: with it or without, the plain iteration takes 4 to 6 % fewer or more
iterations to an error of 1e-6, and the over-relaxed one the same, because what takes long is the tail at the last
gamma. Over-relaxation saves 3.5 to 20 times. The start from the plan costs one barycenter as much as it saves; it
pays because all frames of a trajectory share it. (The seconds of this run were taken beside other work: only the
iterations count.)
""",
    ),
    "fig3_order": Section(
        "Figure 3: ordering maps",
        ("order.png", "places.png"),
        """
Six maps of the spliceosome, two bodies of which swing by 40 degrees (no maps of such a series were at hand). The
order is found by every method, in noise and from a shuffled series too (Kendall's tau 1). Near 20, 40, 60 and 80 %
means within 10 % here: displacement and bridge come within 5 and 7 %, the original within 11, since its blurred
frames are drawn towards the middle. The linear blend does as well as they do, for a swing that moves little mass.
""",
    ),
    "fig4_connectivity": Section(
        "Figure 4: connectivity",
        ("connectivity.png", "sigma.png", "frames.png"),
        """
On maps of the spike made of its C-alpha atoms (Gaussians of 2 Å): at 40 % of the maximum the rising domain, 3 to
5 % of the mass, comes off the original's frames from t = 0.58 on, and off the converged barycenters: blur thins
the neck that it hangs by. It stays on the frames of bridge and displacement at every level. At sigma = 1 voxel
the plan takes 24 % of the domain's mass to places where the domain is not, 8 % of which is the blur of the plan
alone.
""",
    ),
    "peers": Section(
        "Other programs",
        ("peers.png",),
        """
Every program that reaches the error finds the same answer, to a few millionths. At 64^3 and 128^3 the only other
one that does is OTT-JAX, 21 to 25 times slower in kernel mode; its log mode took three minutes at 64^3 and more
than ten at 128^3. POT's solvers for general maps take a cost matrix, which fits for 12^3 and, for flat pictures,
64^2. GeomLoss was at an error of 7e-4 after two minutes at 64^3 and stops with an assertion of its own at 128^3.
On 12^3 this package is *not* the fastest: a call takes its few milliseconds whatever the work, and OTT-JAX's takes
half as many. All tables are in [peers.md](peers.md).
""",
        folder="benches",
    ),
}


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of the full runs, one folder a study.")],
    docs: Annotated[Path, typer.Option(help="Folder of the documentation.")] = Path("docs"),
) -> None:
    """Write the page and its pictures."""
    present = [name for name in SECTIONS if (runs / name / CLAIMS).is_file()]
    for name in SECTIONS.keys() - present:
        print(f"{name}: no {CLAIMS} in {runs / name}, left out")
    files.make_folder(docs / "images")
    for name in present:
        for picture in SECTIONS[name].pictures:
            files.write_bytes(docs / "images" / f"{name}_{picture}", small((runs / name / picture).read_bytes()))
    claims = {name: read_claims(runs / name) for name in present}
    files.write_text(docs / PAGE, page(claims))


def page(claims: dict[str, list[Claim]]) -> str:
    """The whole page in Markdown: a summary of the paper's statements, and a section for each study."""
    parts = [HEAD, "## The paper's statements\n", _summary(claims)]
    for name, made in claims.items():
        section = SECTIONS[name]
        parts.append(f"## {section.title}\n\n`python -m experiments.{section.folder}.{name} -o OUT`\n")
        if section.remarks:
            parts.append(section.remarks.strip() + "\n")
        parts += [f"![{section.title}](images/{name}_{picture})\n" for picture in section.pictures]
        rows = [
            f"| {_cell(c.claim)} | {_cell(c.expected)} | {_cell(c.measured)} | {WORDS[c.holds]} |" for c in made
        ]
        parts.append("\n".join(["| statement | test | measured | |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _summary(claims: dict[str, list[Claim]]) -> str:
    rows = [
        f"| {_cell(claim.claim)} | [{name}](#{_anchor(SECTIONS[name].title)}) | {WORDS[claim.holds]} |"
        for name, made in claims.items()
        for claim in made
        if claim.source.startswith(PAPER)
    ]
    return "\n".join(["| statement | study | |", "|---|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def small(picture: bytes) -> bytes:
    """A PNG of at most ``LARGEST`` bytes: no wider than ``WIDEST``, of few colours, narrower where need be."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    width = min(WIDEST, image.width)
    while True:
        scaled = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        scaled.quantize(COLOURS).save(stream, "PNG", optimize=True)
        if len(stream.getvalue()) <= LARGEST:
            return stream.getvalue()
        width = int(0.8 * width)


if __name__ == "__main__":
    typer.run(main)

"""The page on the reproduction of the paper, written from the claims and figures of full runs.

    python -m experiments.studies.reproduction RUNS --docs docs

RUNS holds a folder for each study, named after the study, with the results of its full run. The page shows the
claims and the pictures of each study (reduced in size, in ``docs/images``), with remarks (``SECTIONS``).
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from PIL import Image

from experiments.claims import CLAIMS, CONVENTION, PAPER, Claim, read_claims
from morphot_jax.system import files

LARGEST = 300_000  # bytes of a picture
WIDEST = 1400  # pixels
COLOURS = 128
WORDS = {True: "holds", False: "**does not hold**", None: "could not be tested"}
BRIEFLY = {True: "**holds**", False: "no", None: "not tested"}  # in tables where few hold
SHARED = 4  # statements that share a convention, which is then a column
PAGE = "reproduction.md"

HEAD = """# What holds of the paper

Written by `python -m experiments.studies.reproduction` from the `claims.json` of full runs of the experiments, on
2 CPU cores. Gamma is the standard deviation of the kernel (`--gamma-is sd`); the maps are EMD-5138 and
EMD-5140 of Mm-cpn unless stated otherwise. Each section gives the command that repeats its run.

All maps have unit mass, so thresholds on changes are relative to it. *Original* is the paper's algorithm in SciPy:
the kernel is cut at 4 sigma and reflected at the faces of the box, with 20 plain iterations per frame except where
iterations are counted.
[Conventions](#conventions) tests the paper's statements that do not hold so under other conventions.
"""


class Section(NamedTuple):
    """A study on the page: its heading, its pictures, and remarks on the results."""

    title: str
    pictures: tuple[str, ...]
    remarks: str
    folder: str = "studies"


FIG2 = """
The number of iterations falls like a power of gamma on every grid: gamma^-1.6 to a change of 1e-6, and gamma^-1.9
to 1e-8. On a logarithmic scale the curves flatten; a fall faster than exponential would make them steeper. At 1e-6
and 1e-8 larger grids need more iterations at the same gamma in voxels, as the paper states. At 1e-4 they need as
many or fewer, but not because they have converged: a unit mass that is spread over more voxels changes by less in
the L2 norm. At gamma 0.5 on 120^3 the original passes 1e-4 after three iterations, while its plans are still half
the mass away from their maps; it reaches neither 1e-6 nor 1e-8 within 1500. A threshold on the change does not
measure the error: where the change falls below it, the error of the plans is 167 to a million times as large. The
over-relaxed iteration from the plan between the maps needs a third of the iterations (median; 1 to 56 times
fewer).
In the L1 norm, on which the published code stops, the statements on larger grids and on gamma 0.5 hold; the one on
the fall with gamma holds in neither norm ([conventions](#conventions)).
"""

SECTIONS = {
    "fig1_accuracy": Section(
        "Figure 1: distance from the atoms",
        ("frames.png", "accuracy.png", "thresholds.png"),
        """
The statement on the voxel difference holds at every frame, against atoms moved along straight lines and against
rigid domains moved along screws; bridge and displacement halve the difference. The statement on the volume
difference does not hold at 1 % of the maximum, because an entropic barycenter has a rim of blur that counts as
volume there. It holds at 20 %, where the rim does not count. At the two ends a difference remains, because the EM
maps are not the density of the atoms.
With sigma 0.4, as in the published frames, it holds at contours too ([conventions](#conventions)).
""",
    ),
    "table1_speed": Section(
        "Table 1: speed",
        ("speed.png",),
        """
No GPU was available. The original's algorithm in SciPy takes a sixth of the paper's CPU time on 2 newer cores.
Bridge and displacement, with one plan for all frames, take less time than the paper's GPU. Converged barycenters,
each solved to an error of 1e-6, take about as long as the original's 20 iterations, which end at 4e-2. (On 64^3
the original takes 2.6 times as long as on 60^3, because SciPy's filter is slow on lines whose length is a power of
two. There converged barycenters are twice as fast.)
With the iterations that the published code's stop rule gives, its time is within a factor of three of the paper's
([conventions](#conventions)).
""",
    ),
    "fig2_convergence": Section("Figure 2: convergence", ("iterations.png", "errors.png", "maps.png"), FIG2),
    "gamma_and_grid": Section(
        "Gamma and the grid",
        ("gamma_and_grid.png",),
        """
The gamma of a visually similar barycenter (the least relative L2 distance) grows with the number of voxels n along
an axis: like n^1.02 to n^1.04 if gamma is the standard deviation of the kernel, and like n^2 if it is the
variance. The relevant quantity is sigma in Å. It also determines the detail in a barycenter: 1.7 sigma (Å; FSC 0.5
against the smallest sigma on the finest grid) on every grid that can hold it. The default, the longest axis / 60,
therefore looks the same on every grid of one box, and keeps detail down to a 35th of the box. To keep detail of d
Å in barycenters, give `--sigma-angstrom` d / 1.7. Displacement keeps far more, because it moves the maps' own
detail: 9 Å at sigma 14.5 Å on 120^3, and 6.3 Å at sigma 3 Å. No multiple of sigma describes it; for displacement,
sigma is chosen for speed rather than for detail.
""",
    ),
    "annealing": Section(
        "Gamma on a schedule",
        ("annealing.png",),
        """
To an error of 1e-6 lowering gamma on a schedule saves nothing. With or without it, the plain iteration takes 4 to
6 % fewer or more iterations to an error of 1e-6, and the over-relaxed iteration takes the same, because most
iterations are spent at the last gamma. Over-relaxation needs 3.5 to 20 times fewer. For one barycenter the start
from the plan costs as much as it saves; it pays off because all frames of a trajectory share it. (The machine did
other work during this run: only the iterations are meaningful, not the seconds.)
A schedule does save where a solve stops early: half of the plain iterations to an error of 1e-2
([conventions](#conventions)).
""",
    ),
    "fig3_order": Section(
        "Figure 3: ordering maps",
        ("order.png", "places.png"),
        """
Two bodies of the spliceosome swing by 40 degrees in six simulated maps (no experimental series was available).
Every method finds the order, also in noise and from a shuffled series (Kendall's tau 1). "Near 20, 40, 60 and 80
%" means within 10 % here: displacement and bridge come within 5 and 7 %, the original within 11 %, because its
blurred frames are pulled towards the middle. The linear blend does as well as they do, because the swing moves
little mass.
With sigma 0.4, as in the published frames, the original comes within 7 % ([conventions](#conventions)).
""",
    ),
    "fig4_connectivity": Section(
        "Figure 4: connectivity",
        ("connectivity.png", "sigma.png", "frames.png"),
        """
The maps of the spike are simulated from its C-alpha atoms (Gaussians of 2 Å). At 40 % of the maximum the rising
domain, 3 to 5 % of the mass, detaches in the original's frames from t = 0.58 on, and in the converged barycenters,
because blur thins its connection to the body. In the frames of bridge and displacement it stays attached at every
level. At sigma = 1 voxel the plan takes 24 % of the domain's mass to places outside the domain, 8 % of which is
the blur of the plan alone.
""",
    ),
    "conventions": Section(
        "Conventions",
        ("counts.png", "volumes.png"),
        """
The paper leaves some of its conventions open, and its text and the published code differ in others. Here the nine
statements that do not hold above are tested under more of them. Eight hold under some, one under none.
Many were tried, so a convention that holds is a possible explanation, not a proof that the paper used it.

One convention settles three statements: the L1 norm of the change, on which the published code stops, on maps of
unit mass. With it the iterations grow with the grid, and at gamma 0.5 on 120^3 no threshold is reached. A frame of
Table 1 then takes 85 iterations to a change of 1e-4, and 25 frames take 4647 s at the speed of this machine; the
paper's 6876 s would be 126 iterations a frame. In the L2 norm that the paper names, the two statements on
iterations hold on maps of mass 1e4, of maximum 1, or with the densities of their files: there a threshold of 1e-4
is one of 1.4e-8 to 1.2e-9 on unit mass.

The published frames have sigma 0.4 voxels. With this sigma the maps of Figure 3 are found within 0.062 of their
shares. The volume difference is below that of the linear blend at 20 % of the maximum, as with the default sigma,
and now at contours too: densities between those at which the two maps enclose the volume of their atoms. At 1, 5
and 10 % of the maximum it is above, with either sigma.

A schedule of gamma saves where a solve stops early. The best schedule takes 2.12 times fewer plain iterations to
an error of 1e-2 (the median over sigma 1 to 3 on 60^3), 1.22 times fewer to 1e-4, and 1.06 times fewer to 1e-6. By
the change in L1 on unit mass these are 2.02, 1.15 and 1.05 times at 1e-4, 1e-6 and 1e-8. Over-relaxed, a schedule
saves only to an error of 1e-2, 1.59 times.

Under no convention do iterations fall faster than exponentially: they fall like a power of gamma. In L1 the first
step from the smallest gamma is a factor of up to e^3.4 a voxel, the last one at most e^0.8.

A stop rule counts for a schedule if the schedule saves a tenth at all thresholds that were reached, and for the
time if one threshold gives it within a factor of three. The iterations at 240^3 are those of the same problem in Å
on 120^3, at half the sigma in voxels. (The same step from 60^3 to 120^3 predicts 86, 261 and 917 in L1, where 85,
269 and 929 were counted.) Seconds are those of the processor, in SciPy.
""",
    ),
    "peers": Section(
        "Other programs",
        ("peers.png",),
        """
All programs that reach the error agree to a few millionths. At 64^3 and 128^3 the only other program that reaches
it is OTT-JAX: in kernel mode it is 21 to 25 times slower; its log mode took three minutes at 64^3 and more than
ten at 128^3. POT's solvers for general maps need a cost matrix, which fits in memory for 12^3 and for images of
64^2. GeomLoss was at an error of 7e-4 after two minutes at 64^3, and stops with its own assertion error at 128^3.
On 12^3 this package is *not* the fastest: each call takes a few milliseconds whatever the work, and a call of
OTT-JAX takes half as long. All tables are in [peers.md](peers.md).
""",
        folder="benches",
    ),
}


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of the full runs, with one folder per study.")],
    docs: Annotated[Path, typer.Option(help="Folder of the documentation.")] = Path("docs"),
) -> None:
    """Write the page and its pictures."""
    present = [name for name in SECTIONS if (runs / name / CLAIMS).is_file()]
    for name in SECTIONS.keys() - present:
        print(f"{name}: left out, no {CLAIMS} in {runs / name}")
    files.make_folder(docs / "images")
    for name in present:
        for picture in SECTIONS[name].pictures:
            files.write_bytes(docs / "images" / f"{name}_{picture}", small((runs / name / picture).read_bytes()))
    claims = {name: read_claims(runs / name) for name in present}
    files.write_text(docs / PAGE, page(claims))


def page(claims: dict[str, list[Claim]]) -> str:
    """Write the page in Markdown: a summary of the paper's statements, and a section for each study."""
    parts = [HEAD, "## The paper's statements\n", _summary(claims)]
    return "\n".join([*parts, *(section_of(name, tested) for name, tested in claims.items())])


def section_of(name: str, tested: list[Claim]) -> str:
    """Write the section of a study: its command, remarks, pictures and claims."""
    section = SECTIONS[name]
    parts = [f"## {section.title}\n\n`python -m experiments.{section.folder}.{name} -o OUT`\n"]
    if section.remarks:
        parts.append(section.remarks.strip() + "\n")
    pictures = [f"![{section.title}](images/{name}_{picture})\n" for picture in section.pictures]
    if all(claim.source == CONVENTION for claim in tested):
        parts += [by_convention(tested), *pictures, *_each_statement(tested)]
    else:
        rows = [(c.claim, c.expected, c.measured, WORDS[c.holds]) for c in tested]
        parts += [*pictures, _table(("statement", "test", "measured", ""), rows)]
    return "\n".join(parts)


def by_convention(tested: list[Claim]) -> str:
    """Write a row for each statement, with a column for each convention that ``SHARED`` statements share."""
    statements = {claim.claim: [c for c in tested if c.claim == claim.claim] for claim in tested}
    tests = [claim.expected for claim in tested]
    columns = [test for test in dict.fromkeys(tests) if tests.count(test) >= SHARED]
    rows = []
    for statement, claims in statements.items():
        found = {claim.expected: BRIEFLY[claim.holds] for claim in claims}
        rows.append((statement, *(found.get(test, "") for test in columns), verdict(claims)))
    return _table(("statement", *columns, "verdict"), rows)


def verdict(claims: list[Claim]) -> str:
    """The conventions under which a statement holds, without those that add something to another one of them."""
    good = {claim.expected: set(claim.expected.split(", ")) for claim in claims if claim.holds}
    tried = sum(claim.holds is not None for claim in claims)
    least = [name for name, parts in good.items() if not any(other < parts for other in good.values())]
    return f"holds under: {'; '.join(least)}" if least else f"under none of the {tried} tried"


def _each_statement(tested: list[Claim]) -> list[str]:
    """Write what was measured under each convention, in a table for each statement."""
    parts = []
    for statement in dict.fromkeys(claim.claim for claim in tested):
        rows = [(c.expected, c.measured, BRIEFLY[c.holds]) for c in tested if c.claim == statement]
        parts += [f"**{statement[0].upper()}{statement[1:]}**\n", _table(("convention", "measured", ""), rows)]
    return parts


def _summary(claims: dict[str, list[Claim]]) -> str:
    rows = [
        (claim.claim, f"[{name}](#{_anchor(SECTIONS[name].title)})", WORDS[claim.holds])
        for name, tested in claims.items()
        for claim in tested
        if claim.source.startswith(PAPER)
    ]
    return _table(("statement", "study", ""), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *rest = ("|" + "".join(map(_cell, row)) for row in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *rest]) + "\n"


def _cell(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f" {escaped} |" if text else " |"


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def small(picture: bytes) -> bytes:
    """Reduce a PNG to at most ``LARGEST`` bytes: few colours, at most ``WIDEST`` wide, narrower if necessary."""
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

"""Claims: statements of the paper, or goals of this package, that the numbers of an experiment bear out or not."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from morphot_jax.system import files

PAPER, GOAL = "the paper", "goal of this package, not of the paper"
CLAIMS = "claims.json"


class Claim(NamedTuple):
    """A statement, whose it is, and whether the numbers bear it out; ``holds`` is None if that cannot be told."""

    claim: str
    source: str
    expected: str
    measured: str
    holds: bool | None


def conclude(output: Path, claims: Iterable[Claim | None]) -> None:
    """Write and print the claims that could be put to the test."""
    made = [claim for claim in claims if claim is not None]
    files.write_text(output / CLAIMS, json.dumps([claim._asdict() for claim in made], indent=2) + "\n")
    words = {True: "holds", False: "FAILS", None: "open "}
    for claim in made:
        print(f"{words[claim.holds]}: {claim.claim}: {claim.measured}")


def read_claims(folder: Path) -> list[Claim]:
    """The claims that an experiment has left in its folder."""
    return [Claim(**entry) for entry in json.loads((folder / CLAIMS).read_text(encoding="utf-8"))]

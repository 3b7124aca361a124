"""Claims: statements of the paper, or goals of this package, tested against the numbers of an experiment."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from morphot_jax.system import files

PAPER, GOAL = "the paper", "goal of this package, not of the paper"
CONVENTION = "a statement of the paper under the convention that 'expected' names"
CLAIMS = "claims.json"


class Claim(NamedTuple):
    """A statement, its source, and the result of its test; ``holds`` is None if it could not be tested."""

    claim: str
    source: str
    expected: str
    measured: str
    holds: bool | None


def conclude(output: Path, claims: Iterable[Claim | None]) -> None:
    """Write and print the claims; None stands for a claim without data."""
    tested = [claim for claim in claims if claim is not None]
    files.write_text(output / CLAIMS, json.dumps([claim._asdict() for claim in tested], indent=2) + "\n")
    words = {True: "holds", False: "FAILS", None: "open "}
    for claim in tested:
        print(f"{words[claim.holds]}: {claim.claim}: {claim.measured}")


def read_claims(folder: Path) -> list[Claim]:
    """Read the claims from the folder of an experiment."""
    return [Claim(**entry) for entry in json.loads((folder / CLAIMS).read_text(encoding="utf-8"))]

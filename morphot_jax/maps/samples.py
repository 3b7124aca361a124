"""The two pairs of conformations that come with the package: Mm-cpn and adenylate kinase, open and closed.

The tables in ``data/`` hold one CA atom per residue; the dihedral complex of Mm-cpn is built from one subunit.
"""

from importlib.resources import files

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.atoms import WIDTH_PER_RESOLUTION, Atoms, simulate_density
from morphot_jax.maps.volume import Volume
from morphot_jax.system.errors import InputError, did_you_mean
from morphot_jax.system.words import SAMPLE_NAMES

GRID = 64
# Å. Mm-cpn: the voxels of the maps EMD-5138 and EMD-5140 as the MorphOT authors prepared them, and a width
# that resembles theirs. Adenylate kinase: resolution 10 Å, wide enough to join CA atoms 3.8 Å apart.
VOXEL_SIZES = {"mmcpn": 3.99, "adk": 1.5}
WIDTHS = {"mmcpn": 4.0, "adk": 10 * WIDTH_PER_RESOLUTION}
COLUMNS = {"open": (3, 4, 5), "closed": (6, 7, 8)}


def dihedral_operators(fold: int) -> Float[np.ndarray, "operators 3 3"]:
    """The rotations C_k, then X C_k, for k < fold: C_k by -360 k / fold degrees about z, X by 180 degrees about x.

    The 2 * fold rotation matrices (x, y, z) of the point group D_fold, centre 0. Order and sense of rotation
    are those of the chains of Mm-cpn.
    """
    angles = -2 * np.pi * np.arange(fold) / fold
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(fold)
    about_z = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], axis=1).reshape(fold, 3, 3)
    return np.concatenate([about_z, np.diag([1.0, -1.0, -1.0]) @ about_z])


def sample_atoms(name: str) -> Atoms:
    """The CA positions in Å of one of ``SAMPLE_NAMES``; the weight of a residue is its number of electrons.

    - ``mmcpn-open``, ``mmcpn-closed`` (PDB 3IYF, 3J03): 16 subunits of 491 residues, D8 about z, centre at 0,
      in the frame of the maps EMD-5140 and EMD-5138. The same operators make both states.
    - ``adk-open``, ``adk-closed`` (PDB 4AKE, 1AKE): 214 residues, superposed on the CORE domain.

    The two states of a pair list the same residues in the same order. Raises ``InputError`` for another name.
    """
    protein, state = _split(name)
    text = files("morphot_jax.maps").joinpath("data", f"{protein}.csv").read_text(encoding="utf-8")
    table = np.loadtxt(text.splitlines(), delimiter=",", skiprows=2, usecols=(0, 2, *COLUMNS[state]))
    operators = dihedral_operators(8) if protein == "mmcpn" else np.eye(3)[None]
    copies, residues = len(operators), len(table)
    return Atoms(
        positions=np.einsum("kij,aj->kai", operators, table[:, 2:]).reshape(-1, 3),
        weights=np.tile(table[:, 1], copies),
        chains=tuple("ABCDEFGHIJKLMNOP"[k] for k in range(copies) for _ in range(residues)),
        residues=tuple(int(residue) for residue in table[:, 0]) * copies,
        names=("CA",) * (copies * residues),
    )


def sample_volume(name: str) -> Volume:
    """Simulate the density of ``sample_atoms(name)`` on 64^3 voxels, coordinate 0 at index 32 on each axis.

    Each CA is a Gaussian cut at 4 standard deviations (see ``simulate_density``). Mm-cpn: voxels of 3.99 Å,
    standard deviation 4 Å. Adenylate kinase: voxels of 1.5 Å, resolution 10 Å (standard deviation 2.25 Å).
    Raises ``InputError`` for a name that is not in ``SAMPLE_NAMES``.
    """
    protein, _ = _split(name)
    step = VOXEL_SIZES[protein]
    corner = -(GRID // 2) * step
    return simulate_density(
        sample_atoms(name),
        shape=GRID,
        voxel_size=step,
        width=WIDTHS[protein],
        origin=(corner, corner, corner),
    )


def _split(name: str) -> tuple[str, str]:
    if name not in SAMPLE_NAMES:
        suggestion = did_you_mean(name, SAMPLE_NAMES)
        raise InputError(f"no sample is named '{name}': give one of {', '.join(SAMPLE_NAMES)}{suggestion}")
    protein, state = name.split("-")
    return protein, state

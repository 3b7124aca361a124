"""Atomic models: read them, turn them into Gaussian density, morph them in a straight line.

Positions are in Å along x, y, z; grids are ``z y x``. The *width* of an atom is the standard deviation of its
Gaussian.
"""

import gzip
import zlib
from dataclasses import dataclass
from math import ceil, erf
from pathlib import Path

import numpy as np
from jaxtyping import Float

from morphot_jax.maps.limits import MAX_AXIS
from morphot_jax.maps.volume import Grid, Volume
from morphot_jax.system.errors import InputError
from morphot_jax.system.files import complete_path, instead_of
from morphot_jax.system.reporting import percent

CUTOFF = 4.0  # an atom's Gaussian ends here, in standard deviations along each axis
FARTHEST = 1e5  # Å from the origin of coordinates: beyond it an atom is at no place
WIDTH_PER_RESOLUTION = 1 / (np.pi * np.sqrt(2))
OUTSIDE_SHARE = 1e-3  # the largest share of the mass that a box may miss
PADDING = 3.0  # room around the atoms on a chosen grid, in resolutions
ATOMS_AT_ONCE = 4096  # bounds the memory of the one-dimensional profiles
SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True, eq=False, repr=False)
class Atoms:
    """Scattering points.

    - ``positions``: Å along x, y, z.
    - ``weights``: scattering mass in electrons: atomic number times occupancy, or a whole residue's electrons
      where one point stands for the residue.
    - ``chains``, ``residues``, ``names``: labels of each atom as the file gives them; empty where unknown.
    """

    positions: Float[np.ndarray, "atoms 3"]
    weights: Float[np.ndarray, "atoms"]
    chains: tuple[str, ...] = ()
    residues: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Atoms({len(self.weights)} points, mass {self.mass:.6g})"

    @property
    def mass(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())


def read_atoms(path: str | Path) -> Atoms:
    """Read the atoms of the first model in a PDB or mmCIF file (.pdb .ent .cif .mmcif, also .gz).

    Waters, hydrogens and atoms that do not scatter (occupancy zero, unknown element) are left out. An atom with
    alternate locations is placed at the location of highest occupancy, the first among equals. Its weight is the
    atomic number times the sum of the occupancies of all its locations.

    Raises ``InputError`` for a file that is missing, is not a structure, or holds no such atom.
    """
    path = Path(path)
    records = _scatterers(_first_model(path))
    if not records:
        raise InputError(
            f"{path}: no atoms except waters, hydrogens and atoms of occupancy zero; give a file with a model"
        )
    weights = [sum(atom.element.atomic_number * atom.occ for atom in places) for places in records.values()]
    best = [max(places, key=lambda atom: atom.occ) for places in records.values()]
    chains, residues, _, names, _ = zip(*records, strict=True)
    positions = np.array([atom.pos.tolist() for atom in best])
    lost = np.flatnonzero(~(np.abs(positions) < FARTHEST).all(axis=1))
    if lost.size:
        first = lost[0]
        where = ", ".join(f"{value:g}" for value in positions[first])
        raise InputError(
            f"{path}: {lost.size} of {len(best)} atoms have no place, the first is {names[first]} of residue "
            f"{residues[first]} in chain {chains[first]}, at ({where}) Å; repair or remove them"
        )
    return Atoms(positions, np.array(weights), chains, residues, names)


def read_positions(path: str | Path) -> Float[np.ndarray, "atoms 3"]:
    """Positions of all atoms of the first model in a file, waters and hydrogens too, in their order; in Å."""
    model = _first_model(Path(path))
    return np.array([atom.pos.tolist() for chain in model for residue in chain for atom in residue]).reshape(-1, 3)


def write_models(path: str | Path, source: str | Path, positions: Float[np.ndarray, "t atoms 3"]) -> None:
    """Write a trajectory of models as mmCIF: the first model of ``source``, once for each row of ``positions``.

    Names, chains and residues are those of the source. The order of the atoms is that of ``read_positions``.
    """
    import gemmi  # noqa: PLC0415 (slow to load)

    structure = gemmi.read_structure(str(source))
    first = structure[0].clone()
    while len(structure):
        del structure[0]
    for number, places in enumerate(positions, start=1):
        model = first.clone()
        model.num = number
        atoms = (atom for chain in model for residue in chain for atom in residue)
        for atom, place in zip(atoms, places, strict=True):
            atom.pos = gemmi.Position(*place.tolist())
        structure.add_model(model)
    structure.setup_entities()
    with complete_path(Path(path)) as part:
        structure.make_mmcif_document().write_file(str(part))


def _first_model(path: Path):
    import gemmi  # noqa: PLC0415 (slow to load, and only needed here)

    if not path.name.lower().removesuffix(".gz").endswith(SUFFIXES):
        raise InputError(f"{path}: not the name of a structure file; give one of {' '.join(SUFFIXES)} (or .gz)")
    if not path.is_file():
        raise InputError(f"{path}: no such file{instead_of(path)}")
    try:
        _check_compression(path)
        structure = gemmi.read_structure(str(path))
    except (OSError, EOFError, zlib.error, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as a structure ({reason}); give PDB or mmCIF") from error
    return structure[0] if len(structure) else ()


def _check_compression(path: Path) -> None:
    # gemmi accepts the readable part of a damaged archive; gzip raises if the end or the checksum is wrong.
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass


def _scatterers(model) -> dict[tuple, list]:
    """Collect the records of each atom, one for each of its locations."""
    records = {}
    for chain in model:
        for residue in chain:
            if residue.is_water():
                continue
            for atom in residue:
                if atom.is_hydrogen() or not atom.element.atomic_number * atom.occ > 0:
                    continue
                # Without a location label each record is a separate atom, whatever its name.
                number = None if atom.has_altloc() else len(records)
                key = (chain.name, residue.seqid.num, residue.seqid.icode, atom.name, number)
                records.setdefault(key, []).append(atom)
    return records


def simulate_density(
    atoms: Atoms,
    *,
    shape: int | tuple[int, int, int],
    voxel_size: float | tuple[float, float, float],
    resolution: float | None = None,
    width: float | None = None,
    origin: tuple[float, float, float] | None = None,
    cut: bool = False,
) -> Volume:
    """density[z, y, x] = sum_a weight_a g_a(z) g_a(y) g_a(x), with g_a a Gaussian integrated over each voxel.

    Along each axis g_a is the normal density of standard deviation ``width`` around the atom, cut at 4
    standard deviations and scaled back to a sum of 1. Voxels beyond the cut are exactly zero; the sum over
    voxels is the sum of the weights wherever the atoms sit between voxels. Double precision.

    - ``shape``: voxels along z, y, x, or one number for a cube.
    - ``voxel_size``: Å along x, y, z, or one number.
    - ``resolution`` in Å stands for width = resolution / (pi sqrt 2) = 0.225 resolution: the Fourier
      transform of the Gaussian falls to 1/e at 1/resolution. Give it or ``width`` (Å), not both.
    - ``origin``: Å, position of voxel (0, 0, 0). By default the weighted centre of the atoms falls on the
      voxel of index n // 2 along each axis.
    - ``cut``: what falls outside the box is left out, however much it is.

    Raises ``InputError`` when a size is not positive, or more than 0.1 % of the mass falls outside the box.

    Source: the resolution convention is that of ChimeraX ``molmap``.
    """
    sizes = _triple(shape, "shape", int)
    steps = _triple(voxel_size, "voxel size", float)
    width = _width(resolution, width)
    if not (0 < atoms.mass < np.inf and np.isfinite(atoms.positions).all()):
        raise InputError(
            f"{len(atoms.weights)} atoms of mass {atoms.mass:g}: give finite positions and a mass above zero"
        )
    centre = np.average(atoms.positions, axis=0, weights=atoms.weights)
    middle = np.array(sizes[::-1]) // 2
    start = centre - middle * steps if origin is None else np.array(origin, dtype=float)
    data = np.zeros(sizes)
    for first in range(0, len(atoms.weights), ATOMS_AT_ONCE):
        some = slice(first, first + ATOMS_AT_ONCE)
        x, y, z = (
            _profiles(atoms.positions[some, axis], sizes[2 - axis], steps[axis], start[axis], width)
            for axis in range(3)
        )
        _add_products(data, z * atoms.weights[some, None], y, x)
    if not cut:
        _refuse_mass_outside(1 - data.sum() / atoms.mass, atoms, sizes, steps, width, origin is not None)
    return Volume(data, _floats(steps), _floats(start))


def _profiles(
    positions: Float[np.ndarray, "atoms"], count: int, step: float, start: float, width: float
) -> Float[np.ndarray, "atoms voxels"]:
    """Integrate each atom's cut Gaussian over each voxel of one axis."""
    from scipy import special  # noqa: PLC0415 (slow to load)

    edges = start + (np.arange(count + 1) - 0.5) * step
    # Clipping the edges makes the cut: voxels beyond it have equal edges, and get exactly zero.
    distances = np.clip((edges - positions[:, None]) / width, -CUTOFF, CUTOFF)
    return np.diff(special.erf(distances / np.sqrt(2)), axis=1) / (2 * erf(CUTOFF / np.sqrt(2)))


def _add_products(
    data: Float[np.ndarray, "z y x"],
    z_profiles: Float[np.ndarray, "atoms z"],
    y_profiles: Float[np.ndarray, "atoms y"],
    x_profiles: Float[np.ndarray, "atoms x"],
) -> None:
    # One matrix product per plane, with the few atoms that reach it: the cube of a single atom is never stored.
    for k, shares in enumerate(z_profiles.T):
        near = np.flatnonzero(shares)
        data[k] += (y_profiles[near] * shares[near, None]).T @ x_profiles[near]


def _refuse_mass_outside(
    share: float,
    atoms: Atoms,
    sizes: tuple[int, int, int],
    steps: tuple[float, float, float],
    width: float,
    placed: bool,
) -> None:
    if share <= OUTSIDE_SHARE:
        return
    centre = np.average(atoms.positions, axis=0, weights=atoms.weights)
    reach = np.abs(atoms.positions - centre).max(axis=0) + CUTOFF * width
    voxels = max(2 * ceil(r / step) + 1 for r, step in zip(reach, steps, strict=True))
    coarser = max(r / max((n - 1) / 2, 1) for r, n in zip(reach, sizes[::-1], strict=True))
    raise InputError(
        f"{percent(share)} of the mass falls outside the box of {' x '.join(map(str, sizes[::-1]))} voxels of "
        f"{' x '.join(f'{step:g}' for step in steps)} Å ({percent(OUTSIDE_SHARE)} may): "
        f"{'leave out the origin and ' if placed else ''}"
        f"take {voxels} voxels a side, or voxels of {ceil(100 * coarser) / 100:g} Å"
    )


def choose_box(
    *models: Atoms,
    resolution: float,
    grid: int | None = None,
    apix: float | None = None,
    padding: float = PADDING,
) -> Grid:
    """Choose one grid for one or more models: their common bounding box plus ``padding`` resolutions on each side.

    - neither ``grid`` nor ``apix``: voxels of resolution / 3, as many along each axis as needed (an even number);
    - ``apix`` (Å): the same with this voxel size;
    - ``grid``: a cube of this many voxels a side; the voxel size is chosen so that the longest axis fits;
    - both: exactly these. The box may then be too small for the atoms; ``simulate_density`` refuses that.

    The middle of the bounding box lies at index n // 2. Raises ``InputError`` when there are no atoms or a size is
    not positive.

    Source: voxel size and padding as in ChimeraX ``molmap``.
    """
    _width(resolution, None)
    points = np.concatenate([model.positions for model in models]) if models else np.empty((0, 3))
    if not len(points):
        raise InputError(f"{len(models)} models without an atom: give one or more models with atoms")
    low, high = points.min(axis=0), points.max(axis=0)
    lengths = high - low + 2 * padding * resolution
    if grid is None:
        step = _triple(resolution / 3 if apix is None else apix, "voxel size", float)[0]
        counts = 2 * np.ceil(lengths / step / 2)
    else:
        counts = np.array(_triple(grid, "grid", float))
        step = _triple(lengths.max() / grid if apix is None else apix, "voxel size", float)[0]
    if counts.max() > MAX_AXIS:
        raise InputError(
            f"voxels of {step:g} Å make an axis of {counts.max():g}: give larger voxels, for {MAX_AXIS} at most"
        )
    x, y, z = (int(count) for count in counts)
    return Grid((z, y, x), (step, step, step), _floats((low + high) / 2 - counts // 2 * step))


def interpolate_linearly(first: Atoms, last: Atoms, t: float) -> Atoms:
    """x_t = (1 - t) x_0 + t x_1, and the same for the weights: every atom moves in a straight line.

    The models list the same atoms in the same order; the labels are those of ``first``. Straight lines shorten
    bodies that rotate. Raises ``InputError`` when the models differ in their atoms or ``t`` is not in [0, 1].
    """
    if not 0 <= t <= 1:
        raise InputError(f"t = {t:g} is not a time of the morph; take t from 0 to 1")
    if len(first.weights) != len(last.weights):
        raise InputError(
            f"the models have {len(first.weights)} and {len(last.weights)} atoms; keep the atoms that both have"
        )
    labels = [zip(model.residues, model.names, strict=True) for model in (first, last)]
    # Models without labels match by their order alone.
    for index, (one, other) in enumerate(zip(*labels, strict=False)):
        if one != other:
            raise InputError(
                f"atom {index} is {one[1]} of residue {one[0]} in the first model but {other[1]} of residue "
                f"{other[0]} in the last; list the same atoms in the same order"
            )
    return Atoms(
        (1 - t) * first.positions + t * last.positions,
        (1 - t) * first.weights + t * last.weights,
        first.chains,
        first.residues,
        first.names,
    )


def _width(resolution: float | None, width: float | None) -> float:
    for name, value, scale in (("resolution", resolution, WIDTH_PER_RESOLUTION), ("width", width, 1.0)):
        if value is not None and not 0 < value < np.inf:
            raise InputError(f"{name} {value:g} is not a positive length; give Å above zero")
        if value is not None and (resolution is None or width is None):
            return float(value) * scale
    raise InputError(f"resolution {resolution} and width {width}: give exactly one of the two, in Å")


def _triple(given, name: str, kind: type) -> tuple:
    values = np.broadcast_to(given, 3) if np.shape(given) in ((), (3,)) else np.zeros(3)
    if not all(0 < value < np.inf and kind(value) == value for value in values):
        number = "whole number" if kind is int else "number"
        raise InputError(f"{name} {given} cannot be used; give one {number} above zero, or three, one per axis")
    return tuple(kind(value) for value in values)


def _floats(values) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z

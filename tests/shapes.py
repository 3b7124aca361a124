"""Small maps whose answers are known: Gaussians, scattered voxels, bars."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from morphot_jax.maps.atoms import Atoms, simulate_density
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.pose import Pose
from morphot_jax.maps.samples import sample_atoms
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.prepare.prepared import prepare_maps

ARMS = {"x": 13, "y": 9, "z": 5}  # voxels from the corner that three bars start from
# What lies to the right, above and towards the eye in each view.
AXES = {"z": ("+x", "+y", "+z"), "y": ("+x", "+z", "-y"), "x": ("+y", "+z", "+x")}


BODY_SHAPE = (24, 25, 26)
BODY = np.array([[0.0, 0.0, 0.0], [9.0, 1.0, -2.0], [-3.0, 8.0, 4.0], [2.0, -4.0, 10.0], [-8.0, -5.0, -3.0]])


def blob(shape, centre, sd, floor=1e-9) -> np.ndarray:
    """A Gaussian of unit mass, axes z y x, exactly zero below ``floor`` of its maximum."""
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    sd = np.broadcast_to(sd, (3,))
    density = np.exp(-sum((g - c) ** 2 / (2 * s**2) for g, c, s in zip(grids, centre, sd, strict=True)))
    density[density < floor] = 0.0
    return density / density.sum()


def body() -> np.ndarray:
    """A compact density of maximum one in a box that is mostly empty."""
    density = blob(BODY_SHAPE, (12, 12, 13), 3.0, 1e-3)
    return density / density.max()


def noisy(sd, seed=0, middle=0.0) -> np.ndarray:
    """That body in white noise."""
    return body() + np.random.default_rng(seed).normal(middle, sd, BODY_SHAPE)


def prepared_alone(density, **options):
    """The densities of one map after preparation, and all that is said of it."""
    result = prepare_maps([volume_of(density)], Preparation(**options))
    return result.volumes[0].data, " ".join([*result.actions, *result.warnings])


def scatter(shape, seed, fill=0.3) -> np.ndarray:
    """Random positive densities on a random part of the box, unit mass.

    Every seed fills as many voxels, so that solves of one shape share what is compiled.
    """
    rng = np.random.default_rng(seed)
    density = np.zeros(shape)
    filled = rng.choice(density.size, max(1, round(fill * density.size)), replace=False)
    density.flat[filled] = rng.uniform(0.01, 1.0, len(filled))
    density.flat[filled[0]] += 1.0
    return density / density.sum()


def volume_of(data, mass=1.0) -> Volume:
    """A map of voxels of 2 Å, in a place of its own."""
    return Volume((mass * data).astype(np.float32), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))


def blobs_in_files(folder, shape, centres, sd=1.6):
    """Maps a.mrc, b.mrc ... of a Gaussian at each centre; their paths."""
    paths = [folder / f"{name}.mrc" for name, _ in zip("abc", centres, strict=False)]
    for path, centre in zip(paths, centres, strict=True):
        write_volume(volume_of(blob(shape, centre, sd, 1e-4)), path)
    return paths


def moments(density) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance along z, y, x of a density taken as a distribution."""
    density = np.asarray(density, np.float64) / np.sum(density, dtype=np.float64)
    means, variances = [], []
    for axis, n in enumerate(density.shape):
        marginal = density.sum(axis=tuple(a for a in range(3) if a != axis))
        index = np.arange(n)
        mean = (marginal * index).sum()
        means.append(mean)
        variances.append((marginal * (index - mean) ** 2).sum())
    return np.array(means), np.array(variances)


def balls(points, side=32, voxel=2.0, width=3.0, origin=(-31.0, -31.0, -31.0), alike=False):
    """Gaussians at points (Å; x, y, z) of weights that differ, or do not: a map in closed form, at any place."""
    axes = [o + voxel * np.arange(side) for o in origin]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    data = np.zeros((side,) * 3)
    for weight, (px, py, pz) in enumerate(points, start=2):
        squared = (x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
        data += (1.0 if alike else weight) * np.exp(-squared / (2 * width**2))
    return Volume(data.astype(np.float32), (voxel, voxel, voxel), origin)


def ring(arms):
    """Points with an n-fold axis along z through 0, without other symmetry."""
    arm = np.array([[10.0, 0.0, -6.0], [14.0, 4.0, 3.0]])
    turns = Rotation.from_rotvec(np.outer(2 * np.pi / arms * np.arange(arms), [0.0, 0.0, 1.0]))
    return np.concatenate([turn.apply(arm) for turn in turns])


def motion(seed, furthest=8.0):
    rng = np.random.default_rng(seed)
    shift = rng.normal(size=3)
    return Pose(
        Rotation.random(random_state=seed).as_matrix(), shift * rng.uniform(0, furthest) / np.linalg.norm(shift)
    )


def tripod():
    """Three bars of different lengths along x, y and z, from one corner: no turn, no mirror of itself."""
    density = np.zeros((24, 24, 24), np.float32)
    start = 5
    density[start : start + 3, start : start + 3, start : start + ARMS["x"]] = 1.0
    density[start : start + 3, start : start + ARMS["y"], start : start + 3] = 1.0
    density[start : start + ARMS["z"], start : start + 3, start : start + 3] = 1.0
    return density


def turn_about(axis, degrees, shift=(0.0, 0.0, 0.0)):
    """The pose that turns about an axis through 0 and shifts; x, y, z in Å."""
    vector = np.radians(degrees) * np.asarray(axis) / np.linalg.norm(axis)
    return Pose(Rotation.from_rotvec(vector).as_matrix(), np.array(shift))


@dataclass(frozen=True)
class Hinged:
    """A body whose arm turns: maps, the share of the arm in both, its motion, and the atoms at time t."""

    first: Volume
    half: Volume
    last: Volume
    arms: tuple
    pose: Pose
    path: Callable

    @property
    def atoms(self):
        """Positions of the atoms in the first map."""
        return self.path(0.0)


def hinged(degrees, *, voxel=2.5, n=32, width=2.5):
    """Adenylate kinase whose residues 118 to 162 turn as an arm, about an axis through their ends."""
    atoms = sample_atoms("adk-open")
    residues = np.arange(1, len(atoms.positions) + 1)
    arm = (residues >= 118) & (residues <= 162)
    middle = atoms.positions.mean(axis=0)
    ends = atoms.positions[arm][[0, -1]] - middle
    start = atoms.positions - middle
    way = start[arm].mean(axis=0) - ends.mean(axis=0)
    axis = np.cross(way, [0.3, 0.5, 1.0])
    turn = turn_about(axis / np.linalg.norm(axis), degrees)
    pivot = ends.mean(axis=0)
    pose = Pose(turn.rotation, pivot - turn.rotation @ pivot)

    def path(t):
        return np.where(arm[:, None], pose.part(t).carried(start), start)

    corner = -(n - 1) / 2 * voxel
    grid = {"shape": (n, n, n), "voxel_size": (voxel,) * 3, "origin": (corner,) * 3, "width": width}
    maps = [simulate_density(replace(atoms, positions=path(t)), **grid) for t in (0.0, 0.5, 1.0)]
    arms = []
    for t, whole in ((0.0, maps[0]), (1.0, maps[2])):
        part = simulate_density(Atoms(path(t)[arm], atoms.weights[arm]), **grid).data
        arms.append(
            np.divide(part, whole.data, out=np.zeros(whole.shape), where=whole.data > 0).astype(np.float32)
        )
    return Hinged(maps[0], maps[1], maps[2], tuple(arms), pose, path)

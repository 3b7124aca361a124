"""Rigid motions of a map in space, mirrored or not, and evenly spread rotations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

PSI = 1.533751168755204288118041  # constant of the super-Fibonacci spirals: psi^4 = psi + 4


@dataclass(frozen=True, eq=False, repr=False)
class Pose:
    """A motion that takes point p to ``rotation`` @ p + ``shift``; coordinates along x, y, z in Å.

    ``rotation``: orthogonal; its determinant is -1 if the motion includes a mirror image.
    """

    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    def __repr__(self) -> str:
        axis, shift = (", ".join(f"{value:.4g}" for value in vector) for vector in (self.axis, self.shift))
        mirror = "mirrored (x to -x), " if self.mirrored else ""
        return f"Pose({mirror}turned by {self.degrees:.4g}° about ({axis}), then shifted by ({shift}) Å)"

    @classmethod
    def fitted(
        cls,
        points: Float[np.ndarray, "n 3"],
        carried: Float[np.ndarray, "n 3"],
        weights: Float[np.ndarray, " n"] | None = None,
    ) -> "Pose":
        """Fit the motion that takes ``points`` to ``carried`` with the least squared distances (Kabsch 1976)."""
        centres = [np.average(places, axis=0, weights=weights) for places in (points, carried)]
        turn = Rotation.align_vectors(carried - centres[1], points - centres[0], weights=weights)[0].as_matrix()
        return cls(turn, centres[1] - turn @ centres[0])

    def part(self, t: float) -> "Pose":
        """The fraction t of this motion along its screw: exp(t log T), with T its 4 x 4 matrix."""
        whole = np.vstack([self.matrix, [0.0, 0.0, 0.0, 1.0]])
        share = np.real(expm(t * np.asarray(logm(whole))))
        return Pose(share[:3, :3], share[:3, 3])

    @property
    def slide(self) -> float:
        """The shift along the axis, in Å."""
        return float(self.axis @ self.shift)

    @property
    def pivot(self) -> Float[np.ndarray, "3"]:
        """The point of the axis nearest to the origin: (I - R) p = the shift perpendicular to the axis."""
        across = self.shift - self.slide * self.axis
        return np.linalg.pinv(np.eye(3) - self.proper, rcond=1e-9) @ across

    @property
    def matrix(self) -> Float[np.ndarray, "3 4"]:
        """Rotation and shift side by side, the form that viewers read."""
        return np.column_stack([self.rotation, self.shift])

    @property
    def mirrored(self) -> bool:
        """Whether the motion includes a mirror image."""
        return bool(np.linalg.det(self.rotation) < 0)

    @property
    def proper(self) -> Float[np.ndarray, "3 3"]:
        """The rotation without the mirror: the rotation that follows x -> -x."""
        return self.rotation @ np.diag([-1.0, 1.0, 1.0]) if self.mirrored else self.rotation

    @property
    def degrees(self) -> float:
        """The angle of the rotation in degrees, 0 to 180."""
        return float(np.degrees(Rotation.from_matrix(self.proper).magnitude()))

    @property
    def axis(self) -> Float[np.ndarray, "3"]:
        """The unit vector of the rotation axis, anticlockwise seen from its tip; z if there is no rotation."""
        turn = Rotation.from_matrix(self.proper).as_rotvec()
        length = np.linalg.norm(turn)
        return turn / length if length > 0 else np.array([0.0, 0.0, 1.0])

    def after(self, other: "Pose") -> "Pose":
        """The motion that applies ``other`` first, then this one."""
        return Pose(self.rotation @ other.rotation, self.rotation @ other.shift + self.shift)

    def inverse(self) -> "Pose":
        """The inverse motion."""
        return Pose(self.rotation.T, -self.rotation.T @ self.shift)

    def carried(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Apply the motion to points."""
        return points @ self.rotation.T + self.shift


IDENTITY = Pose(np.eye(3), np.zeros(3))


def spread_rotations(count: int) -> Float[np.ndarray, "count 3 3"]:
    """Rotations spread evenly over all rotations: super-Fibonacci spirals (Alexa, CVPR 2022).

    Quaternion i = 0 ... count - 1, with s = i + 1/2 and r = sqrt(s / count):
    (r sin a, r cos a, sqrt(1 - r^2) sin b, sqrt(1 - r^2) cos b), a = 2 pi s / sqrt 2, b = 2 pi s / psi.
    """
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1.0 - s / count)
    a, b = 2.0 * np.pi * s / np.sqrt(2.0), 2.0 * np.pi * s / PSI
    quaternions = np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=1)
    return Rotation.from_quat(quaternions).as_matrix()


def degrees_between(
    first: Float[np.ndarray, "*#n 3 3"], second: Float[np.ndarray, "*#n 3 3"]
) -> Float[np.ndarray, "..."] | np.floating:
    """The angle between two rotations in degrees: cos = (tr(A^T B) - 1) / 2."""
    trace = np.einsum("...ij,...ij->...", first, second)
    return np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))

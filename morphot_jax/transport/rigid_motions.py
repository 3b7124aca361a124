r"""Rigid motions in space, many at once: the nearest rotation, its vector, and the screw between two poses.

A rotation R is exp([w]x) with the rotation vector w: its direction is the axis, its length the angle. A motion
that turns by w and takes x to y goes on a screw,

    x(t) = x + V(t w) t V(w)^-1 (y - x) ,    V(w) = I + (1 - cos |w|)/|w|^2 [w]x + (|w| - sin |w|)/|w|^3 [w]x^2 ,

with x(0) = x and x(1) = y, at constant speed (the exponential of SE(3); Murray, Li, Sastry 1994, chapter 2).

Arrays have the index of the motion last: vectors ``3 n``, rotations ``3 3 n``. One order of axes serves for all.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STEPS = 8  # of the iteration for the nearest rotation, which starts near it
SMALL = 1e-6  # radians: below it the series of the coefficients are exact to double precision

Vectors = Float[Array, "3 n"]
Rotations = Float[Array, "3 3 n"]
Quaternions = Float[Array, "4 n"]  # real part first
Components = tuple[Float[Array, " n"], ...]  # of vectors or of quaternions, each an array of its own


def nearest_rotation(moments: Rotations, start: Rotations) -> Rotations:
    """The rotation R of largest tr(R^T M), for M = sum of w y x^T: it turns the points x best onto y.

    Turns ``start`` by w = (sum of r_i x m_i) / |sum of r_i . m_i|, for columns r and m, ``STEPS`` times (Mueller
    and others 2016). It stays a rotation whatever M is, of any rank and either handedness.
    """
    least = jnp.finfo(moments.dtype).tiny
    wanted = [tuple(moments[:, k]) for k in range(3)]

    def turn(_, quaternion: Components) -> Components:
        pairs = list(zip(_columns(quaternion), wanted, strict=True))
        hold = sum(r[i] * m[i] for r, m in pairs for i in range(3))
        half = 0.5 / (jnp.abs(hold) + least)
        torques = (_cross(r, m) for r, m in pairs)
        return _composed(tuple(half * sum(parts) for parts in zip(*torques, strict=True)), quaternion)

    # Each component is an array of its own: on a CPU a step on stacked ones takes six times as long.
    end = jax.lax.fori_loop(0, STEPS, turn, tuple(_quaternion(start)))
    return jnp.stack([jnp.stack(column) for column in _columns(end)], axis=1)


def rotation_vector(rotation: Rotations) -> Vectors:
    """The vector w of each rotation, |w| at most pi."""
    real, *imaginary = _quaternion(rotation)
    vector = jnp.stack(imaginary)
    sine = _length(vector)
    some = sine > SMALL
    return vector * jnp.where(some, 2.0 * jnp.arctan2(sine, real) / jnp.where(some, sine, 1.0), 2.0)


def turned(vector: Vectors, points: Vectors) -> Vectors:
    """exp([w]x) x."""
    angle = _length(vector)
    first, second = _sine_over(angle), _versine_over(angle)
    moved = cross(vector, points)
    return points + first * moved + second * cross(vector, moved)


def along_screw(vector: Vectors, start: Vectors, end: Vectors, t: Float[Array, ""]) -> Vectors:
    """Where each point is at time t on the screw that turns by ``vector`` and takes it from start to end."""
    angle = _length(vector)
    way = end - start
    some = angle > SMALL
    half = jnp.where(some, angle, 1.0) / 2.0
    # V^-1 = I - [w]x / 2 + k [w]x^2
    k = jnp.where(some, (1.0 - half / jnp.tan(half)) / (4.0 * half**2), 1.0 / 12.0)
    moved = cross(vector, way)
    speed = way - moved / 2.0 + k * cross(vector, moved)
    moved = cross(vector, speed)
    first, second = _versine_over(angle * t) * t, _rest_over(angle * t) * t**2
    return start + t * (speed + first * moved + second * cross(vector, moved))


def cross(a: Vectors, b: Vectors) -> Vectors:
    """The vector product along the first axis."""
    return jnp.stack(_cross(tuple(a), tuple(b)))


def _cross(a: Components, b: Components) -> Components:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _columns(quaternion: Components) -> tuple[Components, Components, Components]:
    """Of the rotation of a unit quaternion: where it takes the axes."""
    r, a, b, c = quaternion
    return (
        (1.0 - 2.0 * (b * b + c * c), 2.0 * (a * b + r * c), 2.0 * (a * c - r * b)),
        (2.0 * (a * b - r * c), 1.0 - 2.0 * (a * a + c * c), 2.0 * (b * c + r * a)),
        (2.0 * (a * c + r * b), 2.0 * (b * c - r * a), 1.0 - 2.0 * (a * a + b * b)),
    )


def _quaternion(rotation: Rotations) -> Quaternions:
    """The unit quaternion of a rotation with a real part of at least zero, by the largest of its four parts."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    rows = jnp.stack(
        [
            jnp.stack([1.0 + xx + yy + zz, zy - yz, xz - zx, yx - xy]),
            jnp.stack([zy - yz, 1.0 + xx - yy - zz, yx + xy, zx + xz]),
            jnp.stack([xz - zx, yx + xy, 1.0 - xx + yy - zz, zy + yz]),
            jnp.stack([yx - xy, zx + xz, zy + yz, 1.0 - xx - yy + zz]),
        ]
    )
    largest = jnp.argmax(jnp.stack([rows[k, k] for k in range(4)]), axis=0)
    row = jnp.take_along_axis(rows, largest[None, None], axis=0)[0]
    row = row * jnp.where(row[0] < 0, -1.0, 1.0)
    return row / jnp.sqrt(jnp.sum(row**2, axis=0))


def _composed(half: Components, quaternion: Components) -> Components:
    """The rotation by about twice ``half`` after another: by the quaternion along (1, half), without a sine."""
    real, vector = quaternion[0], quaternion[1:]
    first = real - sum(h * v for h, v in zip(half, vector, strict=True))
    crossed = _cross(half, vector)
    rest = [v + real * h + c for h, v, c in zip(half, vector, crossed, strict=True)]
    scale = jax.lax.rsqrt(first**2 + sum(part**2 for part in rest))
    return tuple(scale * part for part in (first, *rest))


def _length(vector: Vectors) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.sum(vector**2, axis=0))


def _sine_over(angle: Float[Array, " n"]) -> Float[Array, " n"]:
    """sin(a) / a."""
    some = angle > SMALL
    safe = jnp.where(some, angle, 1.0)
    return jnp.where(some, jnp.sin(safe) / safe, 1.0)


def _versine_over(angle: Float[Array, " n"]) -> Float[Array, " n"]:
    """(1 - cos(a)) / a^2, by the half angle, without cancellation."""
    return _sine_over(angle / 2.0) ** 2 / 2.0


def _rest_over(angle: Float[Array, " n"]) -> Float[Array, " n"]:
    """(a - sin(a)) / a^3; by its series where the difference cancels."""
    some = angle > 0.05
    safe = jnp.where(some, angle, 1.0)
    square = angle**2
    series = (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))) / 6.0
    return jnp.where(some, (safe - jnp.sin(safe)) / safe**3, series)

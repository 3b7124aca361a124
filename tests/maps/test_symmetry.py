"""Point groups, by the laws of groups."""

import numpy as np
import pytest

from morphot_jax.maps.symmetry import operators
from morphot_jax.system.errors import InputError


@pytest.mark.parametrize(
    ("name", "order"), [("C1", 1), ("C3", 3), ("c17", 17), ("D1", 2), ("D8", 16), ("T", 12), ("O", 24), ("I", 60)]
)
def test_the_operators_are_a_group_of_rotations(name, order):
    turns = operators(name)
    assert len(turns) == order
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    for product in np.einsum("aij,bjk->abik", turns, turns).reshape(-1, 3, 3):
        assert np.abs(turns - product).max(axis=(1, 2)).min() < 1e-9


def test_axes_lie_as_the_docs_say():
    flip = np.diag([1.0, -1.0, -1.0])  # half a turn about x
    for name in ("D1", "D2", "D5", "T", "O", "I"):
        assert np.abs(operators(name) - flip).max(axis=(1, 2)).min() < 1e-12
    fifth = [
        [np.cos(0.4 * np.pi), -np.sin(0.4 * np.pi), 0],
        [np.sin(0.4 * np.pi), np.cos(0.4 * np.pi), 0],
        [0, 0, 1],
    ]
    for name in ("C5", "D5"):
        assert np.abs(operators(name) - fifth).max(axis=(1, 2)).min() < 1e-12


@pytest.mark.parametrize("name", ["", "D", "C0", "C100", "E2", "D8 ", "C-1", 3, None])
def test_other_names_are_refused(unchecked, name):
    with pytest.raises(InputError, match=r"the symmetry .* is unknown: give C1 to C99, D1 to D99, T, O, I"):
        operators(name)

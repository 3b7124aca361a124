"""Point groups, by the laws of groups."""

import numpy as np
import pytest

from morphot_jax.maps.symmetry import generators, operators, wider
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


@pytest.mark.parametrize("name", ["C1", "C2", "C8", "D1", "D2", "D7", "T", "O", "I"])
def test_products_of_the_generators_are_the_whole_group(name):
    group, made = operators(name), np.eye(3)[None]
    few = generators(group)
    assert len(few) <= 2
    for _ in range(len(group)):
        made = np.concatenate([made, np.einsum("aij,bjk->abik", made, few).reshape(-1, 3, 3)])
        made = made[np.unique(np.round(made.reshape(len(made), 9), 6), axis=0, return_index=True)[1]]
    assert len(made) == len(group)


@pytest.mark.parametrize(
    ("name", "ways"), [("C1", 1), ("C3", 6), ("D2", 24), ("D99", 396), ("T", 24), ("O", 24), ("I", 60)]
)
def test_other_names_of_the_axes_give_the_same_group(name, ways):
    group, found = operators(name), wider(name)
    assert len(found) == ways
    for way in found[:: max(1, ways // 8)]:
        for turn in group[:12]:
            assert np.abs(group - way @ turn @ way.T).max(axis=(1, 2)).min() < 1e-9

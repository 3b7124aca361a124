"""What counts as a mask, and what is done to it."""

import numpy as np
import pytest

from helpers import morphot
from morphot_jax import Preparation, displacement_field, prepare_maps, write_volume
from morphot_jax.prepare.masks import as_mask
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

SHAPE = (8, 9, 10)


def mask_of(*values):
    """A map whose voxels take these values in turn."""
    return volume_of(np.resize(np.array(values, float), SHAPE))


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        ((0, 1), (0, 1), None),
        ((0.2, 0.7), (0.2, 0.7), None),
        ((0, 0), (0, 0), None),
        ((-0.004, 0.5, 1.002), (0, 0.5, 1), "values beyond 0 and 1 set to these"),
        ((0, 51, 255), (0, 0.2, 1), "its bytes from 0 to 255 were taken as 0 to 1"),
        ((-128, 127), (0, 1), "its signed bytes from -128 to 127 were taken as 0 to 1"),
        ((-128, -127, -128), (0, 1, 0), "its signed bytes -128 and -127 were taken as 0 to 1"),
    ],
)
def test_masks_are_recognised_however_they_are_stored(values, expected, said):
    found, text = as_mask(mask_of(*values), "mask 'm.mrc'")
    np.testing.assert_allclose(found.data, np.resize(expected, SHAPE), atol=1e-6)
    assert text == (said and f"mask 'm.mrc': {said}")


@pytest.mark.parametrize(
    "values", [(0, 1.67), (-0.5, 1), (0, 254), (0, 100.5, 255), (1, 255), (-128, -126), (-1, 1), (5, 5)]
)
def test_what_is_no_mask_is_refused_with_its_values(values):
    words = f"mask has values from {min(values):g} to {max(values):g}: a mask goes from 0 to 1"
    with pytest.raises(InputError, match=words):
        as_mask(mask_of(*values), "mask")


def test_a_map_is_not_taken_for_a_mask(tmp_path):
    """One with values to 1.67 was clipped once, and removed 72 % of the mass."""
    volume = volume_of(blob(SHAPE, (4, 4, 5), 1.5))
    density = volume.with_data(volume.data * (1.67 / volume.data.max()))
    write_volume(density, tmp_path / "map.mrc")
    with pytest.raises(InputError, match=r"mask '.*map.mrc' has values from .* to 1.67"):
        prepare_maps([volume], Preparation(mask=str(tmp_path / "map.mrc")))
    with pytest.raises(InputError, match=r"mask has values from .* to 1\.67"):
        prepare_maps([volume], Preparation(mask=density))
    with pytest.raises(InputError, match=r"domain 'part' has values from .* to 1\.67"):
        displacement_field([volume, volume], domains={"part": density})


@pytest.mark.parametrize(("command", "option"), [("prepare", "--mask"), ("field", "--domain")])
def test_what_is_wrong_with_the_file_of_a_mask_is_said(tmp_path, command, option):
    for name, x in (("a", 7), ("b", 8)):
        write_volume(volume_of(blob((14, 15, 16), (7, 7, x), 1.8, 1e-4)), tmp_path / f"{name}.mrc")
    mask = tmp_path / "mask.mrc"
    write_volume(volume_of(np.ones((14, 15, 16))), mask)
    content = bytearray(mask.read_bytes())
    content[208:212] = bytes(4)
    mask.write_bytes(content)
    done = morphot(command, tmp_path / "a.mrc", tmp_path / "b.mrc", option, mask, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert f"warning: '{mask}' does not say that it is a map" in done.err


@pytest.mark.parametrize("command", ["prepare", "field"])
def test_a_mask_of_bytes_does_what_the_mask_does_and_is_said(tmp_path, command):
    a, b = (volume_of(blob((14, 15, 16), (7, 7, x), 1.8, 1e-4)) for x in (7, 8))
    soft = np.zeros(a.shape)
    soft[:, :, 3:12] = 1.0
    for name, volume in (("a", a), ("b", b), ("plain", a.with_data(soft)), ("coded", a.with_data(255 * soft))):
        write_volume(volume, tmp_path / f"{name}.mrc")
    option, written = ("--mask", "000_a.mrc") if command == "prepare" else ("--domain", "displacement.mrc")
    outputs = []
    for name in ("plain", "coded"):
        out = tmp_path / name
        done = morphot(
            command, tmp_path / "a.mrc", tmp_path / "b.mrc", "-o", out, option, tmp_path / f"{name}.mrc"
        )
        assert done.code == 0, done.err
        assert ("its bytes from 0 to 255 were taken as 0 to 1" in done.err) == (name == "coded")
        outputs.append((out / written).read_bytes())
    assert outputs[0] == outputs[1]

"""Maps that tests of several experiments use."""

import pytest

from morphot_jax import write_volume
from shapes import blob, volume_of


@pytest.fixture
def two_maps(tmp_path):
    """The paths of two small maps."""
    paths = []
    for name, centre in (("a", (6, 6, 4)), ("b", (6, 7, 8))):
        paths.append(str(tmp_path / f"{name}.mrc"))
        write_volume(volume_of(blob((13, 13, 13), centre, 1.5, 1e-4)), paths[-1])
    return tuple(paths)

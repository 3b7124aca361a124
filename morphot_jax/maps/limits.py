"""Limits of maps, used in the declarations of options; without slow imports."""

MIN_AXIS = 4  # voxels: a shorter axis cannot show a shape
MAX_AXIS = 2048  # voxels: a longer axis is probably a mistake in the unit
FLOOR = 1e-6  # fraction of the maximum below which density does not count as mass

"""What a map can be: limits that other modules declare options with. Nothing slow to import."""

MIN_AXIS = 4  # voxels: a shorter axis holds no shape
MAX_AXIS = 2048  # voxels: a longer axis is a mistaken unit rather than a wish
DUST = 1e-6  # fraction of the maximum below which density is dust, not mass

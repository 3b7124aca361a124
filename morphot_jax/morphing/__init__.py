"""From maps and settings to a trajectory, and to displacement fields, rigid-body motions and an order of maps."""

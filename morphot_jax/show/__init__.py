"""Pictures of maps and trajectories: surfaces, figures, the viewer, movies, scripts for ChimeraX."""

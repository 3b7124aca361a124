"""What people look at: surfaces, figures, the viewer, movies, scripts for ChimeraX."""

"""What the project sets itself: speed, accuracy, robustness, alignment, estimates, other programs beside it."""

"""What the project sets itself: speed, accuracy, robustness, alignment, estimates, and other programs beside it."""

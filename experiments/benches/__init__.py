"""What the project sets itself: speed, accuracy, robustness, alignment, estimates, and peers to compare with."""

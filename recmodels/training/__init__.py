"""Training: the loop, its callbacks and its files."""

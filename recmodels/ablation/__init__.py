"""Ablations: points of a file, their runs, the workers that share them, and a table."""

"""Experiments: runs and their reports."""

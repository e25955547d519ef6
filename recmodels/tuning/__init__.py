"""Searches of the values of keys by the valid metric: space, study, trials, report."""

"""Data sets without pickles: checks, loading, the split and its fingerprint, evaluation with per-user values."""

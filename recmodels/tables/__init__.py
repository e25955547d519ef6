"""Tables: ids to ego embeddings."""

from recmodels.tables.plain import INITIALIZATIONS, PlainTable

__all__ = ["INITIALIZATIONS", "PlainTable"]

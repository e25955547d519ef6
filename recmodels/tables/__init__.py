"""Tables: ids to ego embeddings."""

from recmodels.tables.adaptive import AdaptiveTable
from recmodels.tables.base import Table
from recmodels.tables.plain import INITIALIZATIONS, PlainTable
from recmodels.tables.search import SearchTable
from recmodels.tables.transformed import TransformedTable

__all__ = ["INITIALIZATIONS", "AdaptiveTable", "PlainTable", "SearchTable", "Table", "TransformedTable"]

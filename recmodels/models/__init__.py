"""The named models."""

from recmodels.models.base import GraphRecommender, Parts
from recmodels.models.lightgcn import LightGCN
from recmodels.models.ncl import NCL
from recmodels.models.ncl_ot import NCL_OT

MODELS: dict[str, type[GraphRecommender]] = {model.__name__: model for model in (LightGCN, NCL, NCL_OT)}

__all__ = ["MODELS", "NCL", "NCL_OT", "GraphRecommender", "LightGCN", "Parts"]

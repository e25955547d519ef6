"""The named models."""

from recmodels.models.base import GraphRecommender, Parts
from recmodels.models.graph_filter import GFCF, ChebyCF, GraphFilter
from recmodels.models.lightgcl import LightGCL
from recmodels.models.lightgcn import LightGCN
from recmodels.models.ncl import NCL
from recmodels.models.ncl_ot import NCL_OT
from recmodels.models.sgl import SGL
from recmodels.models.simgcl import SimGCL
from recmodels.models.xsimgcl import XSimGCL

MODELS: dict[str, type[GraphRecommender]] = {
    model.__name__: model for model in (LightGCN, NCL, NCL_OT, SGL, SimGCL, XSimGCL, LightGCL)
}
# Fitted at once, without gradients.
FILTERS: dict[str, type[GraphFilter]] = {model.__name__: model for model in (GFCF, ChebyCF)}

__all__ = [
    "FILTERS",
    "GFCF",
    "MODELS",
    "NCL",
    "NCL_OT",
    "ChebyCF",
    "GraphFilter",
    "GraphRecommender",
    "LightGCN",
    "Parts",
    "SGL",
    "LightGCL",
    "SimGCL",
    "XSimGCL",
]

"""Objectives: terms of the loss."""

from recmodels.objectives.base import Objective
from recmodels.objectives.contrast import PrototypeContrast, StructureContrast
from recmodels.objectives.ranking import EgoNorm, PairwiseRanking
from recmodels.objectives.subgraph_transport import DistanceContrast, SubgraphTransport

__all__ = [
    "DistanceContrast",
    "EgoNorm",
    "Objective",
    "PairwiseRanking",
    "PrototypeContrast",
    "StructureContrast",
    "SubgraphTransport",
]

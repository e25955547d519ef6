"""Objectives: terms of the loss."""

from recmodels.objectives.base import Objective
from recmodels.objectives.contrast import PrototypeContrast, StructureContrast
from recmodels.objectives.distance_contrast import DistanceContrast
from recmodels.objectives.distillation import Distillation, Teacher
from recmodels.objectives.ranking import (
    AlignmentUniformity,
    BilateralRanking,
    EgoNorm,
    PairwiseRanking,
    RankingObjective,
    SampledSoftmaxRanking,
    SoftmaxRanking,
    TopKSoftmaxRanking,
)
from recmodels.objectives.subgraph_transport import SubgraphTransport
from recmodels.objectives.view_contrast import (
    CANDIDATES,
    REDUCTIONS,
    ContrastForm,
    HopContrast,
    LowRankContrast,
    PairContrast,
    ViewContrast,
)

__all__ = [
    "CANDIDATES",
    "REDUCTIONS",
    "ContrastForm",
    "HopContrast",
    "LowRankContrast",
    "PairContrast",
    "ViewContrast",
    "AlignmentUniformity",
    "BilateralRanking",
    "DistanceContrast",
    "Distillation",
    "EgoNorm",
    "Objective",
    "PairwiseRanking",
    "PrototypeContrast",
    "RankingObjective",
    "SampledSoftmaxRanking",
    "SoftmaxRanking",
    "StructureContrast",
    "SubgraphTransport",
    "Teacher",
    "TopKSoftmaxRanking",
]

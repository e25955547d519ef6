"""Samplers of subgraphs around centers, all centers of a call at once, and what is read off the sampled nodes.

Inside this package the center of a row stands for "nothing": it is never a candidate of its own row, so a place that
holds it is a free place, and padding needs no second tensor until the mask is made.
"""

from recmodels.sampling.draws import draw_centers, other_centers
from recmodels.sampling.neighborhoods import Neighbors, TwoHopNodes, TwoHopPaths, TwoHopWalks
from recmodels.sampling.samplers import BfsSampler, ClusterSampler, HopSampler, WalkSampler
from recmodels.sampling.structure import subgraph_adjacency, subgraph_reach2

__all__ = [
    "BfsSampler",
    "ClusterSampler",
    "HopSampler",
    "Neighbors",
    "TwoHopNodes",
    "TwoHopPaths",
    "TwoHopWalks",
    "WalkSampler",
    "draw_centers",
    "other_centers",
    "subgraph_adjacency",
    "subgraph_reach2",
]

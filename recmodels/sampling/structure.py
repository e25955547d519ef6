"""Structure between the nodes of sampled subgraphs: edges, or two-hop reachability."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.records import Subgraphs

REACH2_WEIGHTS = ("binary", "count")

# Columns of one sparse product: what a product costs besides its entries is a pointer for each column.
_MAX_COLUMNS = 2**21


def subgraph_adjacency(graph: BipartiteGraph, subgraphs: Subgraphs) -> Tensor:
    """The block of the graph's adjacency between the valid nodes of each subgraph.

    Args:
        graph: users and items.
        subgraphs: B subgraphs of S places.

    Returns:
        (B, S, S) 0 or 1 in the default dtype, symmetric with zero diagonal; rows and columns of padded places are zero.
    """
    nodes, mask = subgraphs
    is_user = nodes < graph.n_users
    # Only user-item pairs can be edges, so a quarter of the block is looked up and mirrored.
    pairs = (is_user & mask)[:, :, None] & (~is_user & mask)[:, None, :]
    batch, left, right = pairs.nonzero(as_tuple=True)
    block = torch.zeros(pairs.shape)
    block[batch, left, right] = graph.has_edge(nodes[batch, left], nodes[batch, right]).to(block.dtype)
    return block + block.transpose(1, 2)


def subgraph_reach2(graph: BipartiteGraph, subgraphs: Subgraphs, weights: str) -> Tensor:
    """The block of two-hop reachability between the valid nodes of each subgraph, by intersecting their neighbor lists.

    Args:
        graph: users and items.
        subgraphs: B subgraphs of S places.
        weights: `count`: the number of two-step paths, which is that of common neighbors and the block of A @ A
            without its diagonal; `binary`: 1 where there is one.

    Returns:
        (B, S, S) in the default dtype, symmetric with zero diagonal; rows and columns of padded places are zero.
        Memory is O(B * S^2 + edges of the nodes).

    Raises:
        ParamError: `weights` is none of `REACH2_WEIGHTS`.
    """
    if weights not in REACH2_WEIGHTS:
        raise ParamError(f"subgraph_reach2: weights must be one of {', '.join(REACH2_WEIGHTS)}, got {weights!r}")
    size = max(1, _MAX_COLUMNS // graph.n_nodes)
    parts = zip(subgraphs.nodes.split(size), subgraphs.mask.split(size), strict=True)
    block = torch.cat([_common_neighbors(graph, Subgraphs(*part)) for part in parts])
    block.diagonal(dim1=1, dim2=2).zero_()
    return block.clamp(max=1) if weights == "binary" else block


def _common_neighbors(graph: BipartiteGraph, subgraphs: Subgraphs) -> Tensor:
    """(B, S, S) number of common neighbors; each subgraph has columns of its own, so that one product serves all."""
    nodes, mask = subgraphs.nodes.flatten(), subgraphs.mask.flatten()
    n_subgraphs, n_places = subgraphs.nodes.shape
    neighbor, index = incoming_edges(graph, nodes[mask])
    column = mask.nonzero().flatten()[index] // n_places * graph.n_nodes + neighbor
    indptr = torch.cat([nodes.new_zeros(1), (graph.degrees[nodes] * mask).cumsum(0)])
    shape = (n_subgraphs * n_places, n_subgraphs * graph.n_nodes)
    ones = np.ones(len(column), dtype=np.float32)
    incidence = csr_matrix((ones, column.int().numpy(), indptr.int().numpy()), shape)
    common = (incidence @ incidence.T).tocoo()
    block = torch.zeros(n_subgraphs * n_places, n_places)
    # Row and column belong to one subgraph, so the place within it is what is left of the column.
    block[common.row.astype(np.int64), common.col.astype(np.int64) % n_places] = torch.from_numpy(common.data).to(block)
    return block.view(n_subgraphs, n_places, n_places)

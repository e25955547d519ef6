"""Node views: from an Encoding to the embeddings of chosen nodes."""

import re

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from recmodels.attention import attention_sum
from recmodels.costs import in_float32
from recmodels.graph import BipartiteGraph, incoming_edges
from recmodels.kernels import gather
from recmodels.perturbed_views import NoisyView
from recmodels.records import Encoding
from recmodels.views import PropagationView


class HopView(nn.Module):
    """The embeddings after `hop` propagations; a negative hop counts from the last one."""

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop

    def forward(self, encoding: Encoding, nodes: Tensor) -> Tensor:
        """(M,) node ids to (M, d)."""
        return gather(encoding.hops[self.hop], nodes)

    def extra_repr(self) -> str:
        """The hop."""
        return str(self.hop)


class MeanView(nn.Module):
    """The mean of hops `first` to `last`, both included."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, encoding: Encoding, nodes: Tensor) -> Tensor:
        """(M,) node ids to (M, d)."""
        chosen = [gather(hop, nodes) for hop in encoding.hops[self.first : self.last + 1]]
        return torch.stack(chosen).mean(0)

    def extra_repr(self) -> str:
        """The range of hops."""
        return f"{self.first}..{self.last}"


class NextHopView(nn.Module):
    """One more propagation of the last hop, as the encoder does it."""

    def __init__(self, encoder: PropagationView) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, encoding: Encoding, nodes: Tensor) -> Tensor:
        """(M,) node ids to (M, d)."""
        return gather(self.encoder.next_hop(encoding.hops[-1], len(encoding.hops)), nodes)


class AttentionView(nn.Module):
    """GSC's generator: one graph attention layer on the embeddings of a hop.

    Only the edges into the asked nodes are computed. Each node attends to its neighbors and to itself. On a CPU the
    sums are sparse products (`attention_sum`), some eight times as fast as PyG's rows for each edge; on a GPU they are
    PyG's, which uses torch-scatter for the softmax where that is installed.

    Args:
        graph: the training graph.
        width: d, both in and out.
        hop: the hop attended to.

    Source: Han et al. 2022 (GSC), section 3.2; Velickovic et al. 2018 (GAT).
    """

    def __init__(self, graph: BipartiteGraph, width: int, hop: int) -> None:
        super().__init__()
        self.graph, self.hop = graph, hop
        self.attention = GATConv(width, width, add_self_loops=False)

    def forward(self, encoding: Encoding, nodes: Tensor) -> Tensor:
        """(M,) node ids to (M, d)."""
        source, target = _with_loops(*incoming_edges(self.graph, nodes.cpu()), nodes.cpu())
        return self._attend(encoding.hops[self.hop], nodes, source.to(nodes.device), target.to(nodes.device))

    def _attend(self, x: Tensor, nodes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Attention over the distinct source nodes only; (M, d)."""
        sources, local = torch.unique(source, return_inverse=True)
        ends, layer = (gather(x, sources), gather(x, nodes)), self.attention
        if x.is_cuda:
            return layer(ends, torch.stack([local, target]))
        values, own = (in_float32(layer.lin(end)) for end in ends)
        with torch.autocast(x.device.type, enabled=False):
            scores = (values @ layer.att_src.flatten(), own @ layer.att_dst.flatten())
            return attention_sum(values, *scores, local, target, layer.negative_slope) + layer.bias

    def extra_repr(self) -> str:
        """The hop attended to."""
        return f"hop={self.hop}"


def _with_loops(source: Tensor, target: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Edges (E,) into (M,) nodes, targets ascending, and after those of each node the one from itself."""
    n = torch.arange(len(nodes))
    n_edges = torch.bincount(target, minlength=len(nodes))
    merged = source.new_empty(len(source) + len(nodes))
    merged[torch.arange(len(source)) + target] = source  # one loop for each target before
    merged[n_edges.cumsum(0) + n] = nodes
    return merged, n.repeat_interleave(n_edges + 1)


class NoiseView(nn.Module):
    """The mean of hops `first` to `last`, both included, of the encoder with noise on every hop after the first.

    The noise is drawn anew at every call, and so are the edges that the encoder's `edge_dropout` leaves out, which are
    others than those of the encoding. Cost and memory are those of `last` propagations of the whole graph.

    Args:
        encoder: the view that is perturbed; its adjacency and aggregation are used.
        first: first hop of the mean; hop 0 has no noise.
        last: last hop of the mean, >= 1 and >= `first`.
        noise: >= 0, length of the noise, unit of the embeddings.

    Source: Yu et al. 2022 (SimGCL), section 3, whose readout is `noise:1-L`.
    """

    def __init__(self, encoder: PropagationView, first: int, last: int, noise: float) -> None:
        super().__init__()
        plain = PropagationView(encoder.adjacency, last, aggregation=encoder.aggregation)
        self.noisy, self.mean = NoisyView(plain, noise), MeanView(first, last)

    def on_epoch_start(self, epoch: int, generator: torch.Generator) -> None:
        """Starts the stream of the noise with a draw from the epoch's."""
        self.noisy.on_epoch_start(epoch, generator)

    def forward(self, encoding: Encoding, nodes: Tensor) -> Tensor:
        """(M,) node ids to (M, d)."""
        noisy: Tensor = self.mean(self.noisy(encoding.ego), nodes)
        return noisy


_VIEW = re.compile(r"(?P<one>hop|gat):(?P<hop>-?\d+)|(?P<range>mean|noise):(?P<first>\d+)-(?P<last>\d+)|next")
_VIEW_FORMS = "hop:K, mean:I-J, next, gat:K or noise:I-J"


def view_problem(text: str, n_hops: int) -> str | None:
    """What is wrong with the text of a node view, or None.

    Args:
        text: `hop:K` or `gat:K` (negative K counts from the last hop), `mean:I-J`, `noise:I-J` or `next`.
        n_hops: the last hop there is.
    """
    match = _VIEW.fullmatch(text)
    if match is None:
        return f"must be {_VIEW_FORMS}, got {text!r}"
    hops = [int(match[name]) for name in ("hop", "first", "last") if match[name]]
    if any(not -n_hops - 1 <= hop <= n_hops for hop in hops):
        return f"names a hop outside 0..{n_hops} (n_layers and hyper_layers decide how many there are), got {text!r}"
    if match["range"] and hops[0] > hops[1]:
        return f"must name the lower hop first, got {text!r}; did you mean '{match['range']}:{hops[1]}-{hops[0]}'?"
    if match["range"] == "noise" and hops[1] == 0:
        return f"must reach hop 1 or beyond, because hop 0 has no noise, got {text!r}; did you mean 'noise:0-1'?"
    return None


def node_view(text: str, graph: BipartiteGraph, encoder: PropagationView, width: int, noise: float) -> nn.Module:
    """The node view that a text names; the text is one for which `view_problem` is None.

    Args:
        text: see `view_problem`.
        graph: the training graph, for `gat`.
        encoder: what made the hops, for `next` and `noise`.
        width: d of the embeddings, for `gat`.
        noise: length of the noise, unit of the embeddings, for `noise`.
    """
    match = _VIEW.fullmatch(text)
    if match is None:
        raise ValueError(f"a node view must be {_VIEW_FORMS}, got {text!r}")
    if match["range"]:
        first, last = int(match["first"]), int(match["last"])
        return MeanView(first, last) if match["range"] == "mean" else NoiseView(encoder, first, last, noise)
    if match["one"] == "hop":
        return HopView(int(match["hop"]))
    return AttentionView(graph, width, int(match["hop"])) if match["one"] == "gat" else NextHopView(encoder)

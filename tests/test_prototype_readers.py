"""Clusters for the transport term: the E-step runs while anything that reads it counts, the prototype term or not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.models import GraphRecommender
from recmodels.objectives import PrototypeContrast, StructureContrast, SubgraphTransport, contrast
from recmodels.sampling import ClusterSampler
from recmodels.training import checkpoint
from tests.conftest import random_graph
from tests.runs import start
from tests.worlds import objective, session, triples

CLUSTERS: dict[str, Any] = {"ot_sampler": "cluster", "ot_weight": 0.1, "m_step": 3, "num_clusters": 4}


def e_steps(model: GraphRecommender, n_epochs: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs in which k-means runs, once for each side."""
    seen: list[int] = []
    kmeans = contrast.kmeans

    def counted(*arguments: Any) -> Any:  # noqa: ANN401
        seen.append(model.epoch)
        return kmeans(*arguments)

    monkeypatch.setattr(contrast, "kmeans", counted)
    for epoch in range(n_epochs):
        model.on_epoch_start(epoch)
    assert seen[::2] == seen[1::2]
    return seen[::2]


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"proto_reg": 0.0}, [0, 3, 6]),
        ({"proto_reg": 0.0, "ot_starts_at": 2}, [2, 3, 6]),
        ({"proto_reg": 0.0, "warm_up_step": 5}, [0, 3, 6]),  # the start of a term without weight means nothing
        ({"proto_reg": 0.1, "warm_up_step": 5}, [0, 3, 5, 6]),
        ({"proto_reg": 0.1, "warm_up_step": 5, "ot_weight": 0.0}, [5, 6]),
        ({"proto_reg": 0.0, "ot_weight": 0.0}, []),
        ({"proto_reg": 0.1, "warm_up_step": 5, "ot_sampler": "hops"}, [5, 6]),
        ({"proto_reg": 0.0, "ot_sampler": "hops"}, []),
    ],
)
def test_the_e_step_runs_while_a_term_that_reads_it_counts(
    settings: dict[str, Any], want: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert e_steps(session(tmp_path, **CLUSTERS | settings).model, 7, monkeypatch) == want


def test_without_a_weight_the_prototypes_are_kept_for_their_reader_and_are_no_term(tmp_path: Path) -> None:
    of = session(tmp_path, **CLUSTERS, proto_reg=0.0, warm_up_step=0)
    of.model.on_epoch_start(0)
    terms = of.model.terms(of.model.batch(triples(of)))
    assert "proto" not in terms | of.model.weights()
    assert "ot" in terms
    prototypes = objective(of.model, "proto")
    assert set(prototypes.assignment[of.model.graph.users].tolist()) == {0, 1, 2, 3}
    alone = session(tmp_path, **CLUSTERS | {"ot_weight": 0.0}, proto_reg=0.0).model
    assert not any(isinstance(o, PrototypeContrast) for o in alone.objectives)


def test_the_subgraphs_lie_in_the_clusters_of_the_epoch(tmp_path: Path) -> None:
    model = session(tmp_path, **CLUSTERS, ot_resample="epoch", ot_centers=[20, 20]).model
    transport, prototypes = objective(model, "ot"), objective(model, "proto")
    assert isinstance(transport, SubgraphTransport)
    seen = []
    for epoch in (0, 3):
        with torch.no_grad():
            model.table.weight.normal_(generator=torch.Generator().manual_seed(epoch))
        model.on_epoch_start(epoch)
        assert isinstance(transport.sampler, ClusterSampler)
        draw = transport._drawn
        assert draw is not None
        nodes = draw.nodes[draw.places]
        is_valid = torch.ones_like(nodes, dtype=torch.bool) if draw.mask is None else draw.mask
        clusters = prototypes.assignment[nodes]
        assert bool((clusters == clusters[:, :1])[is_valid].all())
        seen.append(clusters)
    assert not torch.equal(seen[0], seen[1])


def test_the_clusters_are_those_that_the_prototype_term_would_have(tmp_path: Path) -> None:
    assignments = []
    for settings in (CLUSTERS | {"proto_reg": 0.0}, CLUSTERS | {"proto_reg": 0.5, "ot_sampler": "hops"}):
        model = session(tmp_path, **settings, warm_up_step=0).model
        model.on_epoch_start(0)
        assignments.append(objective(model, "proto").assignment)
    assert torch.equal(assignments[0], assignments[1])


@pytest.mark.usefixtures("undrawn")
def test_clusters_without_a_term_are_resumed(tmp_path: Path) -> None:
    settings = CLUSTERS | {"proto_reg": 0.0, "learning_rate": 0.05}
    whole = start(tmp_path, "whole", epochs=5, **settings).fit()
    start(tmp_path, "parts", epochs=2, **settings).fit()
    saved = checkpoint.load(tmp_path / "parts" / "last.pt", None)
    resumed = start(tmp_path, "parts", epochs=5, **settings)
    resumed.trainer.load_state_dict(saved | {"finished": False})
    resumed.fit()
    weights = [s.session.model.table.weight for s in (whole, resumed)]
    assert torch.equal(*weights)


def test_an_objective_without_weight_never_counts_but_is_needed_by_its_readers() -> None:
    graph = random_graph()
    prototypes = PrototypeContrast(graph, 4, 2, 1, 0.1, weight=0.0, starts_at=0)
    assert not prototypes.is_needed(9)
    reader = StructureContrast(graph, 2, 0.1, 1.0, weight=1.0)
    reader.starts_at = 3
    prototypes.readers.append(reader)
    assert [prototypes.is_needed(epoch) for epoch in range(5)] == [False, False, False, True, True]
    assert not any(prototypes.is_active(epoch) for epoch in range(5))
    assert prototypes.needed_by() == [reader]
    assert not list(prototypes.children())  # a reader is no part of what it reads

"""What SGL, SimGCL, XSimGCL and LightGCL choose, beyond the contract of every model."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from recmodels.errors import ParamError
from recmodels.models import SGL, LightGCL, SimGCL, XSimGCL
from recmodels.objectives import HopContrast, LowRankContrast, ViewContrast
from recmodels.perturbed_views import DroppedView, NoisyView
from recmodels.views import Aggregation, PropagationView
from tests.runs import Recorder, start
from tests.worlds import objective, session, triples

CONTRASTIVE = [model.__name__ for model in (SGL, SimGCL, XSimGCL, LightGCL)]


@pytest.mark.parametrize(("published", "drop"), [("ED", "edge"), ("ND", "node"), ("RW", "walk")])
def test_sgl_drops_what_its_type_says_twice(tmp_path: Path, published: str, drop: str) -> None:
    contrast = objective(session(tmp_path, model="SGL", type=published, drop_ratio=0.3).model, "ssl")
    assert isinstance(contrast, ViewContrast)
    for view in (contrast.first, contrast.second):
        assert isinstance(view, DroppedView)
        assert (view.drop, view.rate) == (drop, 0.3)
    assert contrast.first is not contrast.second


@pytest.mark.parametrize("model", ["SimGCL", "XSimGCL"])
def test_hop_0_is_in_the_readout_only_where_it_is_asked_for_or_lightgcnpp_has_a_share_for_it(
    tmp_path: Path, model: str
) -> None:
    def final_and_hops(**overrides: object) -> tuple[torch.Tensor, torch.Tensor]:
        encoding = session(tmp_path, model=model, n_layers=2, **overrides).model.eval().encode()
        return encoding.final, torch.stack(encoding.hops)

    final, hops = final_and_hops()
    assert_close(final, hops[1:].mean(0))
    final, hops = final_and_hops(readout_ego=True)
    assert_close(final, hops.mean(0))
    final, hops = final_and_hops(aggregation="lightgcn++", agg_ego_share=0.2)
    assert_close(final, 0.2 * hops[0] + 0.8 * hops[1:].mean(0))


def test_simgcl_scores_without_noise_and_contrasts_two_noisy_views(tmp_path: Path) -> None:
    model = session(tmp_path, model="SimGCL", eps=0.3).model
    model.train().on_epoch_start(0)
    assert torch.equal(model.encode().final, model.encode().final)
    contrast = objective(model, "ssl")
    assert isinstance(contrast, ViewContrast)
    for view in (contrast.first, contrast.second):
        assert isinstance(view, NoisyView)
        assert (view.noise, view.aggregation) == (0.3, model.encoder.aggregation)


def test_xsimgcl_scores_the_noisy_encoding_in_training_and_contrasts_its_readout_with_a_hop(tmp_path: Path) -> None:
    model = session(tmp_path, model="XSimGCL", layer_cl=2).model
    contrast = objective(model, "ssl")
    assert isinstance(contrast, HopContrast)
    assert (contrast.hop, len(list(contrast.children()))) == (2, 0)
    model.train().on_epoch_start(0)
    assert not torch.equal(model.encode().scored, model.encode().scored)
    model.eval()
    assert torch.equal(model.encode().scored, model.encode().scored)


@pytest.mark.parametrize("layer", [-1, 3])
def test_xsimgcl_refuses_a_hop_that_does_not_exist(tmp_path: Path, layer: int) -> None:
    with pytest.raises(ParamError, match=f"layer_cl: must be .*, got {layer}"):
        session(tmp_path, model="XSimGCL", n_layers=2, layer_cl=layer)


def test_lightgcl_trains_on_a_part_of_the_graph_and_scores_with_the_whole(tmp_path: Path) -> None:
    model = session(tmp_path, model="LightGCL", dropout=0.5, q=3).model
    model.train().on_epoch_start(0)
    trained = model.encode().final
    assert torch.equal(trained, model.encode().final)
    assert not torch.equal(trained, model.eval().encode().final)
    contrast = objective(model, "ssl")
    assert isinstance(contrast, LowRankContrast)
    assert contrast.view.rank == 3
    assert contrast.view.aggregation == model.encoder.aggregation == Aggregation()
    plain = session(tmp_path, model="LightGCL", dropout=0).model
    assert not isinstance(plain.encoder, DroppedView)


@pytest.mark.parametrize("aggregation", ["lightgcn", "lightgcn++"])
def test_lightgcl_pulls_hops_to_themselves_where_the_rank_is_full_and_no_edge_dropped(
    tmp_path: Path, aggregation: str
) -> None:
    model = session(tmp_path, model="LightGCL", dropout=0, q=1000, aggregation=aggregation).model
    for hop, other in objective(model, "ssl").pairs(model.train().encode()):
        kept = model.graph.degrees > 0
        assert_close(torch.cosine_similarity(hop, other)[kept], torch.ones(int(kept.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", CONTRASTIVE)
def test_the_views_of_an_objective_without_weight_are_gone_with_it(tmp_path: Path, model: str) -> None:
    without = session(tmp_path, model=model, ssl_weight=0).model
    assert {o.name for o in without.objectives} == {"bpr", "reg"}
    inside = {type(module).__name__ for module in without.objectives.modules()}
    assert not inside & {"DroppedView", "NoisyView", "LowRankView"}


@pytest.mark.parametrize("model", CONTRASTIVE)
def test_another_weight_sees_the_same_batches_views_and_noise(tmp_path: Path, model: str) -> None:
    batches, first_terms = [], []
    for number, weight in enumerate((0.01, 0.5)):
        started = start(tmp_path, f"run-{number}", model=model, epochs=1, ssl_weight=weight)
        recorder = started.watch(Recorder())
        started.fit()
        batches.append(torch.cat(recorder.batches, dim=1))
        first_terms.append(recorder.steps[0][2])
    assert torch.equal(batches[0], batches[1])
    assert first_terms[0] == first_terms[1]


@pytest.mark.parametrize("model", CONTRASTIVE)
def test_an_epoch_draws_the_same_whatever_came_before_it(tmp_path: Path, model: str) -> None:
    straight, resumed = (session(tmp_path, model=model, ssl_weight=0.1).model.train() for _ in range(2))
    of, values = session(tmp_path, model=model, ssl_weight=0.1), []
    for one, epochs in ((straight, (0, 1, 2)), (resumed, (2,))):
        for epoch in epochs:
            one.on_epoch_start(epoch)
            terms = [float(one.calculate_loss(triples(of)).detach()) for _ in range(2)]
        values.append(terms)
    assert values[0] == values[1]


def test_lightgcl_drops_edges_by_the_epoch_or_by_the_step(tmp_path: Path) -> None:
    with pytest.raises(
        ParamError, match="agg_edge_dropout: comes beside dropout 0.1, which drops edges already; choose"
    ):
        session(tmp_path, model="LightGCL", dropout=0.1, agg_edge_dropout=0.2)
    encoder = session(tmp_path, model="LightGCL", dropout=0, agg_edge_dropout=0.2).model.encoder
    assert (type(encoder), encoder.aggregation.edge_dropout) == (PropagationView, 0.2)


@pytest.mark.parametrize("model", ["LightGCN", "NCL_OT", "SGL", "XSimGCL"])
def test_edge_dropout_is_of_the_encoder_and_not_of_dropped_views(tmp_path: Path, model: str) -> None:
    built = session(tmp_path, model=model, agg_edge_dropout=0.2).model
    rates = {type(view): view.aggregation.edge_dropout for view in built.modules() if isinstance(view, PropagationView)}
    assert rates == {type(built.encoder): 0.2} | ({DroppedView: 0.0} if model == "SGL" else {})

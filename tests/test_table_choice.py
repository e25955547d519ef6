"""What the keys of the table make, what they refuse, and that an adaptive table trains like any other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recmodels.errors import ParamError
from recmodels.experiments import run
from recmodels.experiments.session import deciding_values, resolve_train
from recmodels.models import MODELS
from recmodels.models.table_choice import TableParams
from recmodels.models.width_search import SearchParams
from recmodels.tables import AdaptiveTable, PlainTable, TransformedTable
from tests.runs import Recorder, options, start
from tests.worlds import session, triples

ALL_FULL = {"table": "adaptive", "adae_dims": [16, 16]}


def _widths(root: Path, **overrides: Any) -> Tensor:  # noqa: ANN401
    table = session(root, model="LightGCN", table="adaptive", **overrides).model.table
    assert isinstance(table, AdaptiveTable)
    return table.widths.long()


def _trained(root: Path, **overrides: Any) -> tuple[list[Any], Tensor]:  # noqa: ANN401
    """Terms and loss of every step of three epochs, valid scores, and the embeddings at the end."""
    ready = start(root, **overrides)
    seen = ready.watch(Recorder())
    ready.fit()
    steps = [(epoch, index, terms, loss) for epoch, index, terms, loss, _ in seen.steps]
    return [*steps, ready.trainer.best_valid_result], ready.session.model.table().detach()


def test_the_table_is_plain_unless_it_is_asked_for(tmp_path: Path) -> None:
    for name in MODELS:
        model = session(tmp_path, model=name).model
        assert isinstance(model.table, PlainTable)
        assert isinstance(model.params, TableParams)
    assert isinstance(session(tmp_path, table="adaptive", adae_mode="original").model.table, PlainTable)
    assert isinstance(session(tmp_path, table="adaptive", adae_mode="fix").model.table, TransformedTable)


def test_widths_follow_the_frequency_of_users_and_of_items(tmp_path: Path) -> None:
    choice = {"adae_quantiles": [0.3], "adae_dims": [4, 16], "adae_item_quantiles": [0.2, 0.5]}
    of = session(tmp_path, model="LightGCN", table="adaptive", adae_item_dims=[2, 6, 8], **choice)
    widths, graph = of.model.table.widths.long(), of.model.graph
    assert set(widths[graph.users].tolist()) == {4, 16}
    assert set(widths[graph.items].tolist()) == {2, 6, 8}
    wide = graph.degrees[graph.users][widths[graph.users] == 16]
    assert len(wide) <= 0.3 * len(graph.users)
    assert wide.min() > graph.degrees[graph.users][widths[graph.users] == 4].max()


def test_the_controls_have_the_same_size(tmp_path: Path) -> None:
    choice = {"adae_quantiles": [0.3], "adae_dims": [4, 16]}
    orders = {order: _widths(tmp_path, adae_order=order, **choice) for order in ("frequency", "reversed", "random")}
    assert len({int(widths.sum()) for widths in orders.values()}) == 1
    assert not orders["frequency"].equal(orders["random"])
    assert orders["random"].equal(_widths(tmp_path, adae_order="random", **choice))


def test_a_budget_is_a_share_or_a_number_of_parameters(tmp_path: Path) -> None:
    graph = session(tmp_path, model="LightGCN").model.graph
    full = graph.n_nodes * 16
    for budget, most in ((0.4, int(0.4 * full)), (900, 900)):
        widths = _widths(tmp_path, adae_budget=budget, adae_quantiles="distinct")
        assert 0.9 * most < int(widths.sum()) <= most
    for exponent in (0.0, 0.3, 0.5, 1.0, 2.0):  # the whole table fits, so nobody is narrower
        assert _widths(tmp_path, adae_budget=1, adae_exponent=exponent).tolist() == [16] * graph.n_nodes


def test_both_starts_have_entries_of_one_scale_whatever_the_width(tmp_path: Path) -> None:
    plain = session(tmp_path, model="LightGCN", init="normal").model.table()
    for share in (True, False):
        choice = {"adae_share": share, "init": "normal", "adae_quantiles": [0.3], "adae_dims": [2, 16]}
        table = session(tmp_path, model="LightGCN", table="adaptive", **choice).model.table
        for width in (2, 16):
            entries = table()[table.widths == width][:, :width]
            assert float(entries.std() / plain.std()) == pytest.approx(1, rel=0.25)
        is_prefix = table() == torch.where(torch.arange(16) < table.widths.long()[:, None], plain, 0)
        assert bool(is_prefix.all()) is share


@pytest.mark.parametrize("name", ["LightGCN", "NCL", "NCL_OT"])
@pytest.mark.parametrize(
    "adaptive", [ALL_FULL, {"table": "adaptive", "adae_mode": "original"}], ids=["rank", "original"]
)
def test_full_widths_train_bit_for_bit_like_the_plain_table(
    name: str, adaptive: dict[str, Any], tmp_path: Path
) -> None:
    (plain, first), (wide, second) = (
        _trained(tmp_path / "plain", model=name),
        _trained(tmp_path, model=name, **adaptive),
    )
    assert plain == wide
    assert first.equal(second)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("align", ["zero_pad", "transform"])
def test_every_parameter_of_an_adaptive_model_gets_a_gradient(name: str, align: str, tmp_path: Path) -> None:
    of = session(tmp_path, model=name, table="adaptive", adae_align=align, adae_norm=True, adae_dims=[4, 16])
    of.model.on_epoch_start(4)
    of.model.calculate_loss(triples(of)).backward()
    for key, parameter in of.model.table.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_an_adaptive_run_is_tested_resumed_and_evaluated_like_any_other(tmp_path: Path, undrawn: None) -> None:
    chosen = options(tmp_path, model="LightGCN", table="adaptive", adae_dims=[4, 16], epochs=2)
    folder = run.train(resolve_train(chosen), str(tmp_path / "run"))
    result = json.loads((folder / "result.json").read_text())
    model = session(tmp_path, model="LightGCN", table="adaptive", adae_dims=[4, 16]).model
    assert result["n_parameters"] == int(model.table.widths.sum())
    assert run.evaluate(str(folder)) == result["test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "adaptiv"}, "table: must be one of 'plain', 'adaptive', got 'adaptiv'; did you mean 'adaptive'"),
        ({"adae_quantiles": [0.5, 0.2]}, r"adae_quantiles: must ascend, got \[0.5, 0.2\]; did you mean \[0.2, 0.5\]"),
        ({"adae_quantiles": [0.2, 0.2]}, r"did you mean \[0.2\]"),
        ({"adae_quantiles": [0.0]}, "adae_quantiles: must be > 0, got 0.0"),
        ({"adae_quantiles": [1.5]}, "adae_quantiles: must be < 1, got 1.5"),
        ({"adae_quantiles": "distinc"}, "did you mean 'distinct'"),
        ({"adae_dims": [4, 8, 16]}, r"adae_dims: 1 quantiles make 2 classes of users, got 3 widths \[4, 8, 16\]"),
        ({"adae_dims": [4, 8], "adae_item_dims": [4]}, "adae_item_dims: 1 quantiles make 2 classes of items, got 1"),
        ({"adae_dims": [4, 32]}, "adae_dims: a width of 32 does not fit into the aligned width, embedding_size 16"),
        ({"adae_dims": [0, 16]}, "adae_dims: must be >= 1, got 0"),
        ({"adae_quantiles": "distinct"}, "adae_quantiles: 'distinct' gives no width to each class"),
        ({"adae_budget": 0.4, "adae_align": "transform"}, "adae_align: adae_budget counts rows"),
        ({"adae_budget": 900.5}, "adae_budget: must be a share"),
        (
            {"adae_quantiles": 0.2},
            r"adae_quantiles: expected 'distinct' or a list, each a number, got 0.2 \(float\); did you mean \[0.2\]\?",
        ),
        ({"adae_dims": 16}, r"adae_dims: expected 'all' or a list, each .*, got 16 \(int\); did you mean \[16\]\?"),
        ({"adae_budget": -1}, "adae_budget: must be > 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_data_is_read(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParamError, match=message):
        resolve_train(options(tmp_path, **{"table": "adaptive", "adae_dims": [4, 16], **changes}))


def test_a_budget_below_the_smallest_table_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=re.escape("adae_budget: got 12 parameters")):
        session(tmp_path, table="adaptive", adae_budget=12)
    with pytest.raises(ParamError, match=r"adae_budget: got 0.01, which leaves \d+ parameters, but the smallest"):
        session(tmp_path, table="adaptive", adae_budget=0.01)


def test_a_budget_above_the_plain_table_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="adae_budget: got 99,999 parameters, but the plain table has only"):
        session(tmp_path, table="adaptive", adae_budget=99_999)


@pytest.mark.parametrize(
    "changes", [{"adae_quantiles": "distinct"}, {"adae_mode": "auto", "adae_dims": [4, 16], "adae_warmup": 0}]
)
def test_a_budget_counts_the_norms(changes: dict[str, Any], tmp_path: Path) -> None:
    table = session(tmp_path, table="adaptive", adae_budget=1200, adae_norm=True, **changes).model.table
    n_norms = sum(p.numel() for name, p in table.named_parameters() if "norm" in name)
    assert n_norms == 4 * 16
    assert 1000 < int(table.widths.sum()) + n_norms <= 1200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adae_dims": [16, 4]}, r"adae_dims: a search needs two or more ascending candidates, got \[16, 4\]"),
        ({"adae_dims": [16]}, r"two or more ascending candidates, got \[16\]"),
        ({"adae_dims": [4, 32]}, "adae_dims: a width of 32 does not fit"),
        ({"adae_dims": "all", "adae_align": "transform"}, "adae_dims: 'all' widths are prefixes of one table"),
        ({"adae_dims": "al"}, "adae_dims: must be one of 'all', got 'al'"),
        ({"adae_temperature": 0.1}, "adae_temperature_end: must be at most adae_temperature, 0.1"),
        ({"adae_holdout": 1.0}, "adae_holdout: must be < 1"),
        ({"adae_every": 0}, "adae_every: must be >= 1"),
        ({"adae_picker": "net"}, "adae_picker: must be one of 'network', 'logits', 'twin', got 'net'"),
        ({"bpr_weight": 0, "reg_weight": 0.1}, "bpr_weight: the picker learns from the ranking term"),
        ({"adae_mode": "given"}, "adae_widths: mode given reads it; got none"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    chosen = {"table": "adaptive", "adae_mode": "auto", "adae_dims": [4, 16], **changes}
    with pytest.raises(ParamError, match=message):
        resolve_train(options(tmp_path, model="LightGCN", **chosen))


def test_the_schedule_of_a_search_is_read_from_its_keys(tmp_path: Path) -> None:
    chosen = {"adae_temperature": 2.0, "adae_random": 0.5, "adae_decay": 0.1, "adae_warmup": 3, "adae_gates": "hard"}
    params = resolve_train(options(tmp_path, table="adaptive", adae_mode="auto", adae_dims=[4, 16], **chosen)).params
    assert isinstance(params, SearchParams)
    schedule = params.gate_schedule
    assert (schedule.sample, schedule.warm_up) == ("hard", 3)
    assert (schedule.temperature(0), schedule.temperature(10**6)) == (2.0, 0.2)
    assert (schedule.random_share(0), schedule.random_share(10**6)) == (0.5, 0.0)


def test_keys_that_nothing_reads_are_no_part_of_the_identity(tmp_path: Path) -> None:
    def deciding(**overrides: Any) -> dict[str, Any]:  # noqa: ANN401
        return deciding_values(resolve_train(options(tmp_path, **overrides)))

    assert deciding() == deciding(adae_dims=[1, 2], slk_k=7, bsl_ratio=3.0, directau_gamma=2.0)
    assert "table" not in deciding()
    assert deciding(table="adaptive", adae_dims=[1, 2]) != deciding(table="adaptive", adae_dims=[2, 2])
    assert deciding(rec_loss="slk", slk_k=7) != deciding(rec_loss="slk")
    assert deciding(rec_loss="bsl", bsl_ratio=3.0) != deciding(rec_loss="bsl")

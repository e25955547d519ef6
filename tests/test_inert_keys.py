"""Keys that nothing reads at the other values: they move no bit, and are no part of a run's identity."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recmodels.errors import ParamError
from recmodels.experiments.session import deciding_values, resolve_train
from recmodels.graph import BipartiteGraph
from recmodels.models import MODELS, LightGCN, Parts
from recmodels.objectives import EgoNorm
from tests.runs import options, same_state, start

NO_PROTOTYPES: dict[str, Any] = {"model": "NCL_OT", "proto_reg": 0}
TRANSPORT: dict[str, Any] = {"model": "NCL_OT", "ot_share": 0, "ot_cost": "cosine", "ot_threshold": 0}
LOGITS: dict[str, Any] = {"model": "LightGCN", "table": "adaptive", "adae_mode": "auto", "adae_dims": [2, 16]}
LOGITS |= {"adae_picker": "logits", "adae_warmup": 0}
# What is chosen, and a key with another value, which is then unread.
UNREAD: list[tuple[dict[str, Any], str, Any]] = [
    ({"model": "NCL_OT", "ot_weight": 0}, "ot_hop1", 7),
    ({"model": "NCL_OT", "ot_weight": 0}, "ot_starts_at", 9),
    (NO_PROTOTYPES, "num_clusters", 3),
    (NO_PROTOTYPES, "m_step", 1),
    (NO_PROTOTYPES, "warm_up_step", 0),
    ({"model": "NCL", "ssl_reg": 0}, "alpha", 3.0),
    ({"model": "NCL", "ssl_reg": 0, "proto_reg": 0}, "ssl_temp", 0.7),
    (TRANSPORT, "ot_gw_epsilon", 0.7),
    (TRANSPORT, "ot_structure", "feature"),
    (TRANSPORT, "ot_cost_temperature", 0.9),
    (TRANSPORT, "ot_noise", 0.7),
    ({"model": "NCL_OT", "ot_share": 1}, "ot_temperature", 0.9),
    ({"model": "SGL", "ssl_weight": 0}, "ssl_candidates", "batch"),
    ({"model": "LightGCN"}, "adae_dims", [3, 5]),
    ({"model": "LightGCN"}, "slk_k", 3),
    ({"model": "LightGCN"}, "distill_top", 3),
    ({"model": "LightGCN", "table": "adaptive", "adae_mode": "fix"}, "adae_budget", 0.3),
    (LOGITS, "adae_picker_hidden", 7),
    (LOGITS, "adae_bucket_width", 3),
    (LOGITS, "adae_stable_share", 0.4),
    (LOGITS, "stopping_step", 1),
]
READ: list[tuple[dict[str, Any], str, Any]] = [
    ({"model": "LightGCN", "distill_weight": 0.5}, "distill_top", 3),
    ({"model": "NCL_OT"}, "num_clusters", 3),
    (NO_PROTOTYPES | {"ot_sampler": "cluster", "ot_structure": "feature"}, "num_clusters", 3),
    ({"model": "NCL_OT", "ot_share": 0.5, "ot_structure": "adjacency"}, "ot_gw_epsilon", 0.7),
    ({"model": "NCL_OT", "ot_threshold": 0}, "ot_threshold_scope", "problem"),  # the minimum is subtracted even at 0
    ({"model": "SGL", "ssl_weight": 0.1}, "ssl_candidates", "batch"),
    (LOGITS | {"adae_picker": "network"}, "adae_picker_hidden", 7),
    (LOGITS | {"adae_picker": "network"}, "adae_picker_embedding", True),
]


def weights(root: Path, name: str, **changes: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    return start(root, name, **changes, epochs=2).fit().session.model.state_dict()


def decides(root: Path, chosen: dict[str, Any], key: str, value: Any) -> bool:  # noqa: ANN401
    one, two = (deciding_values(resolve_train(options(root, **chosen, **more))) for more in ({}, {key: value}))
    return one != two


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("chosen", "key", "value"), UNREAD)
def test_what_is_unread_moves_no_bit_and_no_identity(
    chosen: dict[str, Any], key: str, value: Any, tmp_path: Path
) -> None:
    assert not decides(tmp_path, chosen, key, value)
    assert same_state(weights(tmp_path, "one", **chosen), weights(tmp_path, "two", **chosen, **{key: value}))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("chosen", "key", "value"), READ)
def test_what_is_read_moves_both(chosen: dict[str, Any], key: str, value: Any, tmp_path: Path) -> None:
    assert decides(tmp_path, chosen, key, value)
    assert not same_state(weights(tmp_path, "one", **chosen), weights(tmp_path, "two", **chosen, **{key: value}))


@pytest.mark.parametrize(
    ("weights_of_terms", "listed"),
    [
        ({"model": "LightGCN", "bpr_weight": 0, "reg_weight": 0}, "bpr_weight, distill_weight, reg_weight"),
        (
            {"model": "NCL_OT", "bpr_weight": 0, "reg_weight": 0, "ssl_reg": 0, "ot_weight": 0, "warm_up_step": 3},
            "bpr_weight, distill_weight, reg_weight, ssl_reg, proto_reg (from epoch 3), ot_weight",
        ),
    ],
)
def test_a_loss_without_a_term_is_refused_before_any_data_is_read(
    weights_of_terms: dict[str, Any], listed: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ParamError, match=r"bpr_weight: no term of the loss counts in epoch 0; raise one of .*"
    ) as caught:
        resolve_train(options(tmp_path, **weights_of_terms))
    assert f"raise one of {listed}, or start one at 0" in str(caught.value)


def test_a_model_of_ones_own_without_a_loss_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(LightGCN):
        def build(self, p: LightGCN.Params, graph: BipartiteGraph) -> Parts:
            return super().build(p, graph)._replace(objectives=[EgoNorm(0.0, squared=False)])

    monkeypatch.setitem(MODELS, "LightGCN", Idle)
    with pytest.raises(ParamError, match="^Idle: no term of the loss counts in epoch 0; got reg: weight 0"):
        start(tmp_path, model="LightGCN")

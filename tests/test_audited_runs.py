"""The gradient audit inside real runs: classic mistakes are named, clean models pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recmodels.experiments import trainers
from recmodels.tables import Table
from recmodels.training.audit import AuditError
from tests.runs import Started, start

pytestmark = pytest.mark.usefixtures("undrawn")


class Broken(Table):
    """A table with the three classic mistakes."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.inner = table
        width = table().shape[1]
        self.frozen = torch.ones(width, requires_grad=True)  # a plain tensor
        self.scales = {"user": nn.Parameter(torch.ones(width))}  # never registered
        self.detached = nn.Parameter(torch.zeros(width))

    def forward(self) -> Tensor:
        return self.inner() * self.frozen * self.scales["user"] + self.detached.detach()


def broken(root: Path, **overrides: Any) -> Started:  # noqa: ANN401
    """A run whose trainer was made for a model with a broken table."""
    started = start(root, "broken", **overrides)
    model: Any = started.session.model
    model.table = Broken(model.table)
    return Started(started.session, trainers.make_trainer(started.session, root / "broken"))


def test_the_audit_finds_a_plain_tensor_a_dict_of_parameters_and_a_detached_branch(tmp_path: Path) -> None:
    with pytest.raises(AuditError) as caught:
        broken(tmp_path).fit()
    message = str(caught.value)
    assert message.count(";") == 2
    assert "parameter 'table.detached' got no gradient" in message
    assert "tensor 'table.frozen' is used by the loss but no optimizer updates it" in message
    assert "tensor \"table.scales['user']\" is used by the loss but no optimizer updates it" in message


def test_the_audit_can_warn_instead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started = broken(tmp_path, epochs=3, guard_none_gradient="warn", guard_orphan="ignore").fit()
    found = [r.getMessage() for r in caplog.records if "gradient: the loss" in r.getMessage()]
    assert found
    assert all("'table.detached'" in message for message in found)
    assert started.trainer.next_epoch == 3


@pytest.mark.parametrize("model", ["LightGCN", "NCL", "NCL_OT"])
def test_clean_models_pass_the_audit_and_only_dead_terms_are_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    start(tmp_path, model=model).fit()
    messages = [r.getMessage() for r in caplog.records if r.name.endswith("audit")]
    assert all("is dead" in message for message in messages)
    assert len(messages) == len(set(messages))

"""Widths as text and back."""

import pytest
import torch

from recmodels.errors import ParamError
from recmodels.tables.width_text import widths_as_text, widths_from_text
from tests.conftest import random_graph

GRAPH = random_graph(n_users=21, n_items=31)


def test_the_text_is_read_back_for_any_widths() -> None:
    for seed in range(5):
        widths = torch.randint(1, 65, (GRAPH.n_nodes,), generator=torch.Generator().manual_seed(seed))
        assert widths_from_text(GRAPH, widths_as_text(GRAPH, widths), 64).equal(widths)


def test_widths_by_frequency_are_a_few_runs() -> None:
    widths = torch.where(GRAPH.degrees >= GRAPH.degrees.float().median(), 64, 16)
    text = widths_as_text(GRAPH, widths)
    assert len(text.split()) == 6
    n = int((widths[: GRAPH.n_users] == 64).sum())
    assert text.startswith(f"users 64*{n} 16*{GRAPH.n_users - n} items 64*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "adae_widths: expected runs of widths such as 'users 64"),
        ("users 64*21", "expected runs"),
        ("users 64*21 items x*31", "expected runs"),
        ("users 64*20 items 8*31", "adae_widths: 20 users, but the training part has 21, padding included"),
        ("users 64*21 items 8*32", "32 items, but the training part has 31"),
        ("users 64*21 items 65*31", "must lie in 1 to embedding_size, 64, got 65 for items"),
        ("users 0*21 items 6*31", "got 0 for users"),
    ],
)
def test_another_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParamError, match=message.replace("*", r"\*")):
        widths_from_text(GRAPH, text, 64)

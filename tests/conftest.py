import os
import sys
from pathlib import Path

import pytest
import torch

from recmodels.graph import BipartiteGraph

os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    """Every test runs in an empty folder and with arguments that RecBole would read if it could."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest", "--learning_rate=9", "--epochs=7"])


@pytest.fixture
def checkout() -> Path:
    return Path(__file__).resolve().parent.parent


def random_graph(n_users: int = 7, n_items: int = 9, density: float = 0.4, seed: int = 0) -> BipartiteGraph:
    """A random graph whose counts include the padding rows, which stay isolated."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n_users, n_items, generator=generator) < density
    mask[0], mask[:, 0] = False, False
    users, items = mask.nonzero(as_tuple=True)
    return BipartiteGraph.from_interactions(users, items, n_users, n_items)

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read by torch and faiss when they are imported; on small tensors, threads that wait for each other cost most.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402

from recmodels.graph import BipartiteGraph  # noqa: E402
from recmodels.records import Batch, Encoding  # noqa: E402
from recmodels.scoring import Scorer, Temperature  # noqa: E402
from recmodels.views import PropagationView  # noqa: E402


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the torture out unless it is asked for by `-m torture`, whatever else `-m` selects."""
    if "torture" in config.getoption("-m"):
        return
    for item in items:
        if "torture" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="runs only with -m torture"))


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder and with arguments that RecBole would read if it could."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest", "--learning_rate=9", "--epochs=7"])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave an empty curves.png, because drawing takes ten times as long as a small run."""
    monkeypatch.setattr("recmodels.training.curves.draw", lambda rows, metrics, path: path.touch())


@pytest.fixture(scope="module", params=[32, 1], ids=["problems first", "problems last"])
def both_layouts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a module's tests in both layouts of transport problems: few problems lie first, many last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recmodels.proximal_steps.MANY_PROBLEMS", request.param)
        yield


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


def ranked_world(n_triples: int = 20, *, has_bias: bool = False) -> tuple[BipartiteGraph, Encoding, Batch]:
    """Cosine scores at temperature 0.3 of a random graph in float64, and a batch in which nodes repeat."""
    graph = random_graph(8, 11, density=0.6)
    generator = torch.Generator().manual_seed(3)
    ego = torch.randn(graph.n_nodes, 5, dtype=torch.float64, generator=generator).requires_grad_()
    scorer = Scorer(graph, "cosine", Temperature(0.3, 1.0, 0), has_bias=has_bias).double()
    for bias in scorer.parameters():
        torch.nn.init.normal_(bias, generator=generator)
    encoding = scorer(PropagationView(graph.normalized_adjacency(torch.float64), 2)(ego))
    users = torch.randint(1, 8, (n_triples,), generator=generator)
    items = 8 + torch.randint(1, 11, (2, n_triples), generator=generator)
    return graph, encoding, Batch.of(users, items[0], items[1])

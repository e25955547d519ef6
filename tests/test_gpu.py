"""The same numbers on a GPU, and one wait for it a step; skipped where there is none."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recmodels.experiments import run
from recmodels.experiments.compact import compacted
from recmodels.experiments.session import resolve_train
from recmodels.kernels import propagate, weighted_infonce_sum
from recmodels.models import FILTERS
from recmodels.models.ranking_term import LOSSES
from tests.conftest import random_graph
from tests.runs import Recorder, options, start

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DEVICE = torch.device("cuda")


def test_propagation_on_a_gpu_is_that_of_the_cpu() -> None:
    adjacency = random_graph(60, 90).normalized_adjacency(torch.float64)
    x = torch.randn(150, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = propagate(adjacency, x)
    adjacency.to(DEVICE)  # in place, as every module
    assert_close(propagate(adjacency, x.to(DEVICE)).cpu(), expected, atol=1e-12, rtol=1e-10)
    assert torch.equal(propagate(adjacency.cpu(), x), expected)


def test_the_contrast_on_a_gpu_is_that_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    a, p, c = (F.normalize(torch.randn(n, 16, dtype=torch.float64, generator=generator), dim=-1) for n in (70, 70, 90))
    weights = torch.rand(70, dtype=torch.float64, generator=generator)
    found = []
    for device in (torch.device("cpu"), DEVICE):
        inputs = [x.to(device).requires_grad_() for x in (a, p, c)]
        value = weighted_infonce_sum(*inputs, weights.to(device), 0.1)
        found.append([x.cpu() for x in (value.detach(), *torch.autograd.grad(value, inputs))])
    assert_close(found[1], found[0], atol=1e-10, rtol=1e-10)


SAME: list[dict[str, Any]] = [{"model": model} for model in ("LightGCN", "NCL", "NCL_OT", "LightGCL")]
SAME += [{"model": "LightGCN", "rec_loss": loss} for loss in LOSSES if loss != "bpr"]
SAME += [{"model": "LightGCN", "distill_weight": 1, "distill_top": top} for top in (None, 5)]
DRAWN_ON_THE_GPU = ("SGL", "SimGCL", "XSimGCL")  # their views draw other numbers there


@pytest.mark.parametrize("choice", SAME, ids=lambda choice: "-".join(map(str, choice.values())))
def test_an_epoch_on_a_gpu_is_that_of_the_cpu(tmp_path: Path, choice: dict[str, Any]) -> None:
    logs = []
    for use_gpu in (False, True):
        started = start(tmp_path, f"run-{use_gpu}", **choice, epochs=1, use_gpu=use_gpu)
        recorder = started.watch(Recorder())
        started.fit()
        logs.append(recorder.logs[0].values)
    terms = [name for name in logs[0] if name.startswith("train/")]
    assert terms
    assert {name: logs[1][name] for name in terms} == pytest.approx({name: logs[0][name] for name in terms}, rel=1e-4)


@pytest.mark.parametrize("model", [*DRAWN_ON_THE_GPU, *FILTERS, "EASE", "MultiVAE"])
def test_a_run_on_a_gpu_ends_with_a_result(tmp_path: Path, model: str) -> None:
    rank = {"ideal_rank": 8} if model in FILTERS else {}
    resolved = resolve_train(options(tmp_path, model=model, epochs=2, use_gpu=True, **rank))
    folder = run.train(resolved, str(tmp_path / "run"))
    assert all(0 <= value <= 1 for value in json.loads((folder / "result.json").read_text())["test"].values())


@pytest.mark.parametrize("model", ["LightGCN", "NCL", "NCL_OT"])
def test_a_step_waits_for_the_gpu_once(tmp_path: Path, model: str) -> None:
    session, trainer = start(tmp_path, model=model, epochs=1, use_gpu=True)
    batches = list(session.splits.train)
    for callback in trainer.callbacks:
        callback.on_epoch_start(trainer, 1)
    session.model.train()
    session.model.on_epoch_start(1)
    trainer._step(1, 0, batches[0])  # what is allocated and compiled once
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for index, batch in enumerate(batches[1:], 1):
                trainer._step(1, index, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in caught if "synchronizing" in str(warning.message)]
    assert len(batches) > 1
    assert len(waits) <= len(batches) - 1, waits


@pytest.mark.parametrize("more", [{}, {"adae_picker": "twin", "adae_picker_embedding": True, "adae_unrolled": True}])
def test_a_search_for_widths_on_a_gpu_ends_in_a_compact_model(tmp_path: Path, more: dict[str, Any]) -> None:
    search = {"table": "adaptive", "adae_mode": "auto", "adae_dims": [2, 4, 16], "adae_budget": 0.4, "adae_warmup": 0}
    given = options(tmp_path, model="LightGCN", epochs=2, use_gpu=True, **search, **more)
    folder = run.train(resolve_train(given), str(tmp_path / "search"))
    told = json.loads((folder / "result.json").read_text())["test"]
    assert run.evaluate(str(folder)) == pytest.approx(told, abs=1e-6)
    small = run.train(compacted(str(folder), {})[0], str(tmp_path / "small"))
    assert run.evaluate(str(small)) == pytest.approx(json.loads((small / "result.json").read_text())["test"], abs=1e-6)

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.model.general_recommender import NCL as RecboleNCL  # noqa: N811  (a class)
from recbole.sampler import Sampler
from recbole.trainer import NCLTrainer

from benchmarks import breakdown
from benchmarks.ours import FitSide, OurSide
from benchmarks.recbole_side import RecboleSide
from benchmarks.rows import Results
from benchmarks.side import Head, Side
from recmodels.errors import ParamError
from tests.benchmark_runs import FACTS, FakeWorker, lines, options, settings
from tests.runs import same_state


def test_head_is_the_beginning_of_a_loader_and_otherwise_the_loader() -> None:
    loader = range(10)
    assert (list(Head(loader, 3)), len(Head(loader, 3))) == ([0, 1, 2], 3)
    assert (list(Head(loader, None)), len(Head(loader, 99))) == (list(loader), 10)
    assert Head(loader, 3).stop == 10


def test_recbole_side_trains_recboles_classes_with_recboles_sampler(tmp_path: Path) -> None:
    side = RecboleSide(settings(tmp_path / "theirs", "NCL"))
    assert (type(side.trainer), type(side.trainer.model)) == (NCLTrainer, RecboleNCL)
    assert (type(side.loader), type(side.loader._sampler)) == (TrainDataLoader, Sampler)
    before = side.trainer.model.user_embedding.weight.detach().clone()
    side.warm_up()
    side.epoch()
    model = side.trainer.model
    assert not torch.equal(model.user_embedding.weight, before)
    assert model.user_centroids.shape == (model.n_users, model.latent_dim)  # 1000 clusters are more than the users
    torch.testing.assert_close(model.item_centroids.norm(dim=1), torch.ones(1000))
    assert sys.modules["faiss"].Kmeans.__name__ == "Kmeans"
    (tmp_path / "ours").mkdir()
    assert OurSide(settings(tmp_path / "ours", "NCL")).facts() == side.facts()


def test_a_step_in_parts_is_a_whole_step(tmp_path: Path) -> None:
    sides = [OurSide(settings(tmp_path, "NCL_OT")) for _ in range(2)]
    for side, step in zip(sides, (OurSide.step, breakdown._step_in_parts), strict=True):
        side.begin_epoch()
        np.random.seed(0)
        for _ in range(2):
            step(side)
    assert same_state(*(side.session.model.state_dict() for side in sides))


def test_breakdown_names_every_part(tmp_path: Path) -> None:
    found = breakdown.measure(OurSide(settings(tmp_path, "LightGCN")), 3)
    parts = {"sampling", "propagation", "term bpr", "term reg", "backward", "optimizer", "rest"}
    assert found["parts_ms"].keys() == parts
    assert found["sum_ms"] == pytest.approx(sum(found["parts_ms"].values()))
    text = breakdown.breakdown_table([{"model": "LightGCN", **found}])
    assert parts <= {line.rsplit(None, 1)[0] for line in text.splitlines() if line}


def test_an_epoch_of_a_filter_is_its_whole_fit(tmp_path: Path) -> None:
    side = FitSide(settings(tmp_path, "GFCF"))
    side.warm_up()
    assert not side.session.model.basis.any()
    side.epoch()
    fitted = OurSide(settings(tmp_path, "GFCF"))
    fitted.session.model.fit()
    assert torch.equal(side.session.model.basis, fitted.session.model.basis)
    assert side.facts() == OurSide(settings(tmp_path, "LightGCN")).facts()
    FitSide.evaluate(side)
    assert side.trainer.recorder.per_user


class FakeGpu(Side):
    """A side that says it is on a GPU."""

    def __init__(self, folder: Path) -> None:
        super().__init__(settings(folder, "NCL", use_gpu=True), range(9), "0", torch.device("cuda"))

    def train(self, loader: Head) -> None:
        assert len(loader) == 1


def test_the_peak_on_a_gpu_is_what_torch_held_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, side = [7 * 2**20], FakeGpu(tmp_path)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.append(3 * 2**20))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[-1])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    side.warm_up()
    assert side.device_peak_mb() == 3
    assert side.facts()["device"] == "cuda, Some GPU"
    assert OurSide(settings(tmp_path, "LightGCN")).device_peak_mb() is None


def test_a_gpu_is_the_first_visible_one_whatever_the_layers_say(tmp_path: Path) -> None:
    run = settings(tmp_path, "NCL", use_gpu=True).resolved().run
    assert (run.use_gpu, run.gpu_id) == (True, "0")


@pytest.mark.parametrize("key", ["enable_amp", "enable_scaler"])
def test_steps_in_parts_are_refused_with_mixed_precision(key: str) -> None:
    with pytest.raises(ParamError, match=rf"{key}: got True, expected False: steps in parts have full precision only"):
        breakdown.run(["--models", "NCL", "--set", f"{key}=true"], Results())
    assert breakdown.why_no_parts(options()) is None


class FakeProcess(FakeWorker):
    """In place of a process; stops at the model it is told to."""

    stops_at = "NCL_OT"

    def __init__(self, *_: object, name: str, **__: object) -> None:
        super().__init__(name, [], FACTS, None)

    def run(self, action: Any, *_: Any) -> Any:  # noqa: ANN401
        if action is not breakdown.measure:
            return super().run(action)
        if self.name.startswith(self.stops_at):
            raise KeyboardInterrupt
        return {"steps": 1, "parts_ms": {"rest": 1.0}, "sum_ms": 1.0, "step_ms": 1.0, "epoch_start_ms": 1.0}

    def __enter__(self) -> "FakeProcess":
        return self

    def __exit__(self, *_: object) -> None: ...


def test_the_breakdown_keeps_each_model_below_its_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "Worker", FakeProcess)
    results, arguments = Results(), ["--models", "LightGCN", "NCL_OT", "--set", "seed=1"]
    with pytest.raises(KeyboardInterrupt):
        breakdown.run([*arguments, "--out", "found"], results)
    header, *rows = lines(tmp_path / "found" / "breakdown-ml-100k.jsonl")
    assert header.items() >= {**FACTS, "dataset": "ml-100k", "warmup_steps": 10, "overrides": {"seed": 1}}.items()
    assert header.keys() >= {"cpu", "torch", "recbole", "recmodels"}
    assert [row["model"] for row in rows] == ["LightGCN"]
    assert results.kept() == "what was finished is in found/breakdown-ml-100k.jsonl"

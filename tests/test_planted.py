from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recmodels.experiments.session import Session
from recmodels.experiments.trainers import make_trainer
from recmodels.models import MODELS
from recmodels.models.ranking_term import LOSSES
from tests.worlds import chance, groups, session, top1_in_group, write_groups

TRAINING = {"epochs": 30, "embedding_size": 32, "train_batch_size": 512}
# Without hop 0 in the readout even random embeddings rank the groups: propagation smooths all else away. With it,
# XSimGCL's published weight tells the 15 alike members of a group apart rather than the groups.
CHOICES = {"SimGCL": {"readout_ego": True}, "XSimGCL": {"readout_ego": True, "ssl_weight": 0.01}}


def _trained(untrained: Session, folder: Path) -> Session:
    trainer = make_trainer(untrained, folder)
    trainer.callbacks = []
    trainer.fit(untrained.splits.train)
    return untrained


def _cohesion(of: Session) -> float:
    """Mean cosine of ego embeddings within a group minus that across groups."""
    group = groups(of)
    real = group >= 0
    similarity, group = _cosines(of.model.table().detach()[real]), group[real]
    same = group[:, None] == group
    others = ~torch.eye(len(group), dtype=torch.bool)
    return float(similarity[same & others].mean() - similarity[~same].mean())


def _cosines(x: Tensor) -> Tensor:
    unit = normalize(x, dim=-1)
    return unit @ unit.T


@pytest.mark.parametrize("model", MODELS)
def test_planted_groups_are_found_by_training_and_not_without(model: str, tmp_path: Path) -> None:
    write_groups(tmp_path)
    choice = CHOICES.get(model, {})
    untrained = [session(tmp_path, model=model, seed=seed, **TRAINING, **choice) for seed in range(4)]
    # Propagating random embeddings already smooths within groups, so the control lies above plain chance.
    assert chance(untrained[0]) < 0.1
    assert sum(map(top1_in_group, untrained)) / 4 < 0.4
    assert top1_in_group(_trained(untrained[0], tmp_path)) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_every_ranking_loss_finds_the_groups(loss: str, tmp_path: Path) -> None:
    write_groups(tmp_path)
    choice = {"rec_loss": loss, "rec_similarity": "cosine", "rec_temperature": 0.2}
    untrained = session(tmp_path, model="LightGCN", **TRAINING, **choice)
    assert top1_in_group(untrained) < 0.5
    assert top1_in_group(_trained(untrained, tmp_path)) > 0.85


def test_a_student_who_sees_no_positive_finds_the_groups_by_its_teacher(tmp_path: Path) -> None:
    write_groups(tmp_path)
    choice = {"bpr_weight": 0, "distill_weight": 1, "distill_penalty": 5, "distill_top": 10}
    untrained = session(tmp_path, model="LightGCN", **TRAINING, **choice, rec_similarity="cosine", rec_temperature=0.2)
    assert top1_in_group(untrained) < 0.5
    assert top1_in_group(_trained(untrained, tmp_path)) > 0.85


def test_lightgcnpp_finds_the_groups(tmp_path: Path) -> None:
    write_groups(tmp_path)
    untrained = session(tmp_path, model="LightGCN", aggregation="lightgcn++", **TRAINING)
    assert top1_in_group(untrained) < 0.9  # directions of neighbors smooth even random embeddings a good deal
    assert top1_in_group(_trained(untrained, tmp_path)) == 1


@pytest.mark.slow
def test_the_transport_term_alone_gathers_the_groups(tmp_path: Path) -> None:
    write_groups(tmp_path)
    alone = {"bpr_weight": 0, "reg_weight": 0, "ssl_reg": 0, "proto_reg": 0, "ot_weight": 1, "ot_share": 0.5}
    untrained = session(tmp_path, model="NCL_OT", **TRAINING, **alone)
    assert [o.name for o in untrained.model.objectives] == ["ot"]
    before, top1_before = _cohesion(untrained), top1_in_group(untrained)
    trained = _trained(untrained, tmp_path)
    assert abs(before) < 0.03
    assert _cohesion(trained) > 0.15
    assert top1_in_group(trained) > top1_before + 0.3

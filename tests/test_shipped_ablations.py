"""The shipped ablations: they load, say what they should, and every point can be built."""

import csv
import os
import re
from functools import cache
from pathlib import Path

import pytest

from recmodels.ablation.ablation_file import load_ablation
from recmodels.ablation.evidence import base_point
from recmodels.ablation.points import Point
from recmodels.experiments.session import prepare, resolve_train
from recmodels.models.base import GraphRecommender
from tests.runs import CHECKOUT, write_data

# The diary is not part of the project: a file beside the checkout, or where the variable says.
DIARY = Path(os.environ.get("RECMODELS_DIARY", CHECKOUT.parent / "shared" / "data" / "ml-1m-notes-results.csv"))
N_POINTS = {
    "components": 22,
    "gsc": 21,
    "losses": 6,
    "models": 18,
    "notes": 118,
    "taught": 11,
    "weights": 20,
    "widths": 45,
}
BASES = {
    "components": "base",
    "gsc": "gsc",
    "notes": "default(wg32a)[dontchange]",
    "taught": "no_transport",
    "weights": "base",
}
SMALL = {"embedding_size": 8, "num_clusters": 5, "use_gpu": False, "show_progress": False}


@cache
def points(name: str) -> dict[str, Point]:
    found, listed = load_ablation(name, {"dataset": "ml-100k"})
    assert found == name
    return {point.name: point for point in listed}


def build(point: Point, root: Path) -> GraphRecommender:
    """The untrained model of a point on the planted data, with small tables."""
    own = {"data_path": str(root / "data"), "dataset": "planted", "load_col": {"inter": ["user_id", "item_id"]}}
    small = {key: value for key, value in SMALL.items() if key in point.resolved.values}
    if point.resolved.values.get("table") == "adaptive":  # its widths would not fit
        small.pop("embedding_size")
    values = {**point.resolved.values, "val_interval": None, **own, **small}
    return prepare(resolve_train({"model": point.resolved.model, **values})).model


def decided(file: str, *names: str) -> list[dict[str, object]]:
    """What each point has other than the first point of its file."""
    first, *_ = points(file).values()
    base = first.resolved.values
    return [
        {key: value for key, value in points(file)[name].resolved.values.items() if value != base[key]}
        for name in names
    ]


def test_the_readme_has_the_number_of_points_of_each(checkout: Path) -> None:
    section = (checkout / "README.md").read_text(encoding="utf-8").partition("## Ablations")[2]
    rows = re.findall(r"^\| `(\w+)` \| (\d+): ", section, re.MULTILINE)
    assert {name: int(number) for name, number in rows} == N_POINTS


def test_every_shipped_ablation_is_counted() -> None:
    assert {path.stem for path in (CHECKOUT / "properties" / "ablation").glob("*.yaml")} == set(N_POINTS)


@pytest.mark.parametrize("name", sorted(N_POINTS))
def test_a_shipped_ablation_loads_and_has_all_its_points(name: str) -> None:
    assert len(points(name)) == N_POINTS[name]


@pytest.mark.parametrize("name", sorted(N_POINTS))
def test_the_header_of_a_shipped_ablation_has_its_command(name: str) -> None:
    text = (CHECKOUT / "properties" / "ablation" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"recmodels ablate {name}" in text.partition("\nbase:")[0]


@pytest.mark.parametrize("name", [*sorted(set(N_POINTS) - {"notes"}), pytest.param("notes", marks=pytest.mark.slow)])
def test_every_point_of_a_shipped_ablation_can_be_built(name: str, tmp_path: Path) -> None:
    write_data(tmp_path)
    for point in points(name).values():
        values = point.resolved.values
        switched = {
            "ot": values.get("ot_weight", 0) > 0,
            "proto": values.get("proto_reg", 0) > 0
            or (values.get("ot_weight", 0) > 0 and values.get("ot_sampler") == "cluster"),
        }
        names = {objective.name for objective in build(point, tmp_path).objectives}
        assert {term: term in names for term in switched} == switched, point.name


@pytest.mark.parametrize("name", sorted(BASES))
def test_a_shipped_ablation_of_transport_has_a_control_of_its_base(name: str) -> None:
    control = points(name)["again"]
    of = points(name)[control.control_of or "again"]
    assert (of.name, of.resolved) == (BASES[name], control.resolved)
    assert base_point(list(points(name).values()), None) is of
    assert not set(of.seeds) & set(control.seeds)


def test_a_planted_difference_and_plain_lightgcn_frame_the_components() -> None:
    slow, lightgcn = decided("components", "slow", "lightgcn")
    assert slow == {"learning_rate": pytest.approx(points("components")["base"].resolved.values["learning_rate"] / 10)}
    assert lightgcn == {"ot_weight": 0, "ssl_reg": 0}
    base = points("components")["base"].resolved.values
    assert [base[key] for key in ("rec_loss", "train_batch_unit", "proto_reg")] == ["softmax", "users", 0]


def test_neighbors_of_gsc_change_one_thing() -> None:
    names = ["temperature_0.1", "cosine", "threshold_of_problem", "infonce", "envelope", "own_gw_plan", "weight_1"]
    assert [len(changed) for changed in decided("gsc", *names)] == [1] * len(names)


def test_a_sweep_changes_one_key_and_leaves_out_the_value_of_base() -> None:
    swept = decided("weights", *[name for name in points("weights") if "=" in name])
    assert {tuple(changed) for changed in swept} == {("ot_weight",), ("ot_temperature",), ("ssl_temp",)}


def test_words_of_the_diary_mean_the_same_in_all_rows() -> None:
    words = {
        "_only_wd": ("ot_share", 0),
        "_only_gwd": ("ot_share", 1),
        "wobpr": ("bpr_weight", 0),
        "w_init_pam_ot": ("bpr_weight", 0),
        "150150b": ("ot_centers", [150, 150]),
        "1515b": ("ot_centers", [15, 15]),
        "1e-8ot": ("ot_weight", 1e-8),
        "1e-7ot": ("ot_weight", 1e-7),
        "1-cd": ("ot_cost", "cosine"),
        "_nc": ("ot_cost_temperature", 0.1),
        "_5k1": ("ot_hop1", 5),
        "_10k2": ("ot_hop2", 10),
        "z1:-2": ("ot_view_a", "hop:-2"),
        "z2:gat3": ("ot_view_b", "gat:3"),
        "lg(list[-1])": ("ot_view_b", "next"),
        "wo_init": ("init", "normal"),
        "xx": ("ot_structure", "feature"),
        "bce": ("ot_loss", "bce"),
        "dwd": ("ot_plan_grad", "unroll"),
        "0.01*ncl_kmeans": ("proto_reg", 8e-10),
        "_ui_": ("ot_sides", "separate"),
    }
    excepted = {("z1:-2", "wg06A2a_z1:-2_z2:gat4")}  # hop 2 by its number, because the list has one hop more
    for word, (key, value) in words.items():
        found = {name: point.resolved.values[key] for name, point in points("notes").items() if word in name}
        assert found, word
        wrong = [name for name, got in found.items() if got != value and (word, name) not in excepted]
        assert wrong == [], word


@pytest.mark.skipif(not DIARY.is_file(), reason="the diary is not here")
def test_every_row_of_the_diary_is_a_point_or_stands_in_the_note_of_one() -> None:
    notes, rows = points("notes"), list(csv.DictReader(DIARY.open(encoding="utf-8")))
    assert len(rows) >= len(notes)
    found, lost = set(), []
    for row in rows:
        name, texts = row["variant"], [text for key, text in row.items() if "@" in key]
        numbers = [float(text) for text in texts if text.replace(".", "").isdigit()]
        if name in notes:
            found.add(name)
            assert list(notes[name].reported.values()) == numbers, name
            assert numbers or "no figure" in notes[name].note, name
            continue
        figures = " ".join(text.lstrip("0") for text in texts if text) or "no figure"
        lost += [name] * (sum(f"also {name}: {figures}" in point.note for point in notes.values()) != 1)
    assert lost == []
    assert found == set(notes) - {"again"}  # the control


def test_controls_of_widths_have_the_size_of_what_they_control(tmp_path: Path) -> None:
    write_data(tmp_path)

    def size(name: str) -> int:
        return sum(p.numel() for p in build(points("widths")[name], tmp_path).parameters())

    assert size("power_one") == size("power_random") == size("power_reversed") <= 0.4 * size("uniform_64") * 64 / 8
    assert size("two_classes") == size("two_classes_own") == size("two_classes_reversed")
    assert size("two_classes_transform") == size("two_classes") + 2 * 16 * 64

"""Documents tell the truth: their code runs, their commands resolve, their links lead somewhere."""

import re
import shlex

import pytest

from recmodels import cli
from recmodels.experiments.folder import CONFIG
from recmodels.experiments.session import DEFAULTS, PARAMS
from recmodels.layers import load_layer, parse_argv
from recmodels.models import MODELS
from recmodels.plain_yaml import load_yaml

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")
KEY = re.compile(r"^( *)([A-Za-z_]\w*):(.*)$")
LONGEST_EXAMPLE = 30
README_COMMAND = re.compile(r"^(?:python run_recbole\.py|recmodels (?:train|evaluate|demo))\b")


def blocks(path, language):
    return [text for found, text in FENCE.findall(path.read_text(encoding="utf-8")) if found == language]


def documents(checkout):
    return [checkout / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
        checkout.glob("docs/**/*.md")
    )


def commands(checkout):
    """Lines of the README's bash blocks that run this project, continuation lines joined."""
    lines = "\n".join(blocks(checkout / "README.md", "bash")).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if README_COMMAND.match(line)]


def uncommented(text):
    """Keys without a comment on their own line or on the lines right above them."""
    missing, above = [], False
    for line in text.splitlines():
        match = KEY.match(line)
        if match and "#" not in match[3] and not above:
            missing.append(match[2])
        above = line.lstrip().startswith("#") and not line.lstrip().startswith("# ---")
    return missing


def asked(path):
    """The part of a shipped YAML whose keys need comments; points and grids of ablations have names and notes."""
    text = path.read_text(encoding="utf-8")
    return re.split(r"^(?:points|grid):", text, flags=re.MULTILINE)[0] if path.parent.name == "ablation" else text


def anchors(path):
    """Names of a document's headings, as links write them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_examples_of_adding_a_model_run_in_order_and_are_short(checkout):
    page = checkout / "docs" / "adding-a-model.md"
    examples, (yaml_text, _) = blocks(page, "python"), blocks(page, "yaml")
    namespace = {"yaml_text": yaml_text, "__name__": "adding_a_model"}
    assert {len(example.splitlines()) < LONGEST_EXAMPLE for example in examples} == {True}
    for example in examples:
        exec(compile(example, str(page), "exec"), namespace)
    assert namespace["HingeGCN"].Params.keys() == (*MODELS["LightGCN"].Params.keys(), "margin", "hinge_weight")


def test_the_yaml_of_adding_a_model_has_every_key_of_its_params_with_a_comment(checkout):
    text, ablation = blocks(checkout / "docs" / "adding-a-model.md", "yaml")
    values = load_yaml(text, "HingeGCN.yaml")
    shared = {key for file in (checkout / "properties" / "component").iterdir() for key in load_layer(file, "").values}
    keys = {*MODELS["LightGCN"].Params.keys(), "margin", "hinge_weight"}
    assert keys - shared <= set(values) <= keys
    assert set(load_yaml(ablation, "no_margin.yaml")) <= set(values)
    assert uncommented(text) == []


@pytest.mark.parametrize("pattern", ["overall.yaml", "*/*.yaml"])
def test_every_key_of_the_shipped_yaml_is_explained_by_a_comment(checkout, pattern):
    paths = sorted((checkout / "properties").glob(pattern))
    assert paths, pattern
    assert {path: uncommented(asked(path)) for path in paths} == {path: [] for path in paths}


def test_points_of_an_ablation_need_no_comments_but_its_base_does(checkout):
    for path in sorted((checkout / "properties" / "ablation").iterdir()):
        bare = uncommented(re.sub("#.*", "", asked(path)))
        assert bare[:2] == ["base", "model"], path.name
        assert not {"points", "reported"} & set(bare), path.name


def test_a_key_without_a_comment_is_noticed():
    assert uncommented("a: 1  # one\nb: 2\n# three\nc: 3\n  d: 4\n# --- part\ne: 5") == ["b", "d", "e"]


def test_every_training_command_of_the_readme_resolves(checkout, tmp_path):
    for text in blocks(checkout / "README.md", "yaml"):
        name = re.search(r"^# ([\w.-]+\.yaml)", text)
        if name:
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    found = [line for line in commands(checkout) if "--resume" not in line and "--help" not in line]
    training = [line for line in found if line.startswith(("python run_recbole.py", "recmodels train"))]
    assert len(training) >= 5
    for line in training:
        given = parse_argv(shlex.split(line)[2:])
        given.pop("run_dir", None)
        resolved = _resolve(given)
        presets = {"DirectAU": "LightGCN", "NCL-ml-1m": "NCL"}
        named = [presets[name] for name in given.get("config_files", []) if name in presets]
        expected = given.get("model") or (named or [DEFAULTS["model"]])[0]
        assert resolved.model == expected, line


def _resolve(given):
    from recmodels.config import resolve

    return resolve(given, PARAMS, DEFAULTS)


def test_every_command_of_the_readme_is_a_command_of_the_program(checkout):
    names = {shlex.split(line)[1] for line in commands(checkout) if line.startswith("recmodels ")}
    assert names
    assert names <= set(cli._COMMANDS)


def test_links_between_documents_lead_to_files_and_headings_that_exist(checkout):
    broken, seen = [], 0
    for document in documents(checkout):
        for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            seen += 1
            path = (document.parent / target).resolve()
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{document.name}: {target}#{anchor}")
    assert broken == []
    assert seen >= 10


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_a_line_in_the_readme_and_a_row_in_the_weights(checkout, name):
    row = re.compile(rf"^\| `{name}` \|", re.MULTILINE)
    assert len(row.findall((checkout / "README.md").read_text(encoding="utf-8"))) == 1
    assert len(row.findall((checkout / "docs" / "weights.md").read_text(encoding="utf-8"))) == 1


def test_every_weight_of_a_model_has_its_triple_in_the_weights(checkout):
    text = (checkout / "docs" / "weights.md").read_text(encoding="utf-8")
    keys = {key for params in PARAMS.values() for key in params.keys()}  # noqa: SIM118  (a class method)
    weights = {key for key in keys if key.endswith("_weight") or key in ("ssl_reg", "proto_reg")}
    assert weights >= {"bpr_weight", "reg_weight", "ssl_reg", "proto_reg"}
    assert {key for key in weights if not re.search(rf"^\| `{key}` \|", text, re.MULTILINE)} == set()


def test_the_readme_names_every_file_of_a_run_folder(checkout):
    from recmodels.experiments import folder

    text = (checkout / "README.md").read_text(encoding="utf-8")
    names = (CONFIG, folder.RESULT, folder.USERS, folder.LAST, folder.BEST, "curves.csv", "curves.png", "log.txt")
    assert {name for name in names if f"| `{name}`" not in text} == set()

"""What holds for the package as a whole: who imports whom, sizes, and that nothing is without a test."""

import ast
import re
from pathlib import Path

import pytest

from recmodels.layers import properties_root
from recmodels.models import FILTERS, MODELS

# Lowest first. A unit (a module, or a package with all its modules) imports only units of lower layers and itself.
LAYERS: list[set[str]] = [
    {"allocator", "errors", "records", "streams", "files", "typed_values", "tiling", "losses"},
    {"adjacency", "attention"},
    {"graph"},
    {"kernels", "costs", "params", "proximal_steps", "clustering", "sampling", "spectral", "filters", "ridge"},
    {"plain_yaml"},
    {"sinkhorn", "problems", "scoring", "tables", "views", "layers", "run_params", "data_params", "compat"},
    {"transport", "config", "data", "perturbed_views"},
    {"distances", "node_views"},
    {"objectives"},
    {"models"},
    {"training"},
    {"experiments"},
    {"tuning", "reporting"},
    {"ablation"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}
MAY_IMPORT_RECBOLE = re.compile(r"(compat|config|data/\w+|models/base|training/\w+|experiments/\w+)\.py")
MATHEMATICS = {
    "objectives",
    "views",
    "sampling",
    "tiling",
    "adjacency",
    "attention",
    "graph",
    "kernels",
    "losses",
    "proximal_steps",
    "transport",
    "clustering",
    "tables",
    "perturbed_views",
    "node_views",
    "filters",
    "ridge",
}
CONFIGURATION = {
    "params",
    "plain_yaml",
    "layers",
    "config",
    "run_params",
    "data_params",
    "compat",
    "data",
    "models",
    "training",
}
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 40, 6
# Public classes that no test has reason to name, and the test that fails without them.
TESTED_THROUGH = {
    "Board": "test_every_run_that_ends_is_a_line_and_the_same_plan_again_runs_nothing",
    "BaselineParams": "test_what_recbole_would_take_silently_is_refused",
    "Clusters": "test_separated_groups_are_found",
    "ContrastParams": "test_the_keys_of_its_yaml_and_its_components_are_the_fields_of_its_params",
    "CountingCollector": "test_counting_metrics_of_a_trained_model_agree_with_its_lists",
    "NoiseParams": "test_hop_0_is_in_the_readout_only_where_it_is_asked_for_or_lightgcnpp_has_a_share_for_it",
    "Need": "test_a_value_that_recbole_cannot_use_is_refused_before_data_are_loaded",
    "RandomStates": "test_a_snapshot_holds_every_generator_of_the_model",
    "Refused": "test_a_refused_key_is_accepted_while_it_asks_for_nothing",
    "Resolved": "test_every_layer_is_read_in_order_and_remembered",
    "Saving": "test_a_resumed_state_is_the_saved_one",
    "SharedStudy": "test_a_trial_is_in_one_process_at_a_time_and_free_when_its_lock_is",
    "SilentWriter": "test_a_trainer_writes_nothing_into_the_working_directory",
    "TrainingError": "test_the_command_line_stops_with_one_message_and_code_1",
    "TypeMismatchError": "test_a_problem_names_key_value_bound_and_nearest_choice",
    "UpdatableDok": "test_the_updatable_matrix_holds_exactly_its_dictionary",
}
ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "recmodels").rglob("*.py"))
NAMES = [file.relative_to(ROOT / "recmodels").as_posix() for file in FILES]
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in zip(NAMES, FILES, strict=True)}
modules = pytest.mark.parametrize("module", NAMES)


def _unit(module: str) -> str:
    return module.removesuffix(".py").split("/")[0]


def _imports(module: str) -> set[str]:
    """Dotted names of all imported modules, wherever in the file and whether for types only or not."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide who imports whom"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own_units(module: str) -> set[str]:
    """Units of this package that a module imports."""
    parts = [name.split(".") for name in _imports(module) - {"recmodels", "recmodels.__version__"}]
    return {part[1] for part in parts if part[0] == "recmodels"}


@modules
def test_a_unit_imports_only_lower_layers(module: str) -> None:
    unit = _unit(module)
    if unit == "__init__":
        assert not _own_units(module)
        return
    assert unit in RANK, f"say in LAYERS to which layer {unit} belongs"
    wrong = {other for other in _own_units(module) - {unit} if RANK[other] >= RANK[unit]}
    assert not wrong, f"{module} (layer {RANK[unit]}) imports {wrong}"


@modules
def test_recbole_is_imported_only_where_it_is_known(module: str) -> None:
    foreign = {name for name in _imports(module) if name.split(".")[0] == "recbole"}
    assert not foreign or MAY_IMPORT_RECBOLE.fullmatch(module), f"{module} imports {foreign}"
    assert not any(name.startswith("recbole.quick_start") for name in foreign)


def test_the_mathematics_needs_neither_configuration_nor_recbole_nor_yaml() -> None:
    reached, queue = set(), list(MATHEMATICS)
    while queue:
        unit = queue.pop()
        if unit in reached:
            continue
        reached.add(unit)
        for module in (name for name in NAMES if _unit(name) == unit):
            queue += _own_units(module)
            assert not {name.split(".")[0] for name in _imports(module)} & {"recbole", "yaml"}, module
    assert not reached & CONFIGURATION


@modules
def test_no_tensor_is_sent_to_a_device_by_name(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            constants = {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
            assert node.func.attr != "cuda", f"{module}:{node.lineno}"
            assert node.func.attr != "to" or not constants & {"cpu", "cuda"}, f"{module}:{node.lineno}"


@modules
def test_files_and_functions_are_short(module: str) -> None:
    tree = TREES[module]
    assert len((ROOT / "recmodels" / module).read_text(encoding="utf-8").splitlines()) <= MAX_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            first = (node.body[0].end_lineno or 0) + 1 if has_docstring else node.body[0].lineno
            assert (node.end_lineno or 0) - first + 1 <= MAX_FUNCTION, f"{module}: {node.name}"
            positional = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
            assert len(positional) <= MAX_PARAMETERS, f"{module}: {node.name} takes {len(positional)}"


@modules
def test_files_are_named_after_what_they_hold(module: str) -> None:
    vague = r"utils?|misc|helpers?|common|tools"
    assert not any(re.fullmatch(vague, part) for part in module.removesuffix(".py").split("/"))


def _public_classes() -> list[str]:
    nodes = [(module, node) for module, tree in TREES.items() for node in tree.body]
    return [f"{m}:{n.name}" for m, n in nodes if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("where", _public_classes())
def test_every_public_class_has_a_test(where: str) -> None:
    name = where.split(":")[1]
    if name in MODELS:  # the contract of test_models.py
        return
    proof = rf"^def {TESTED_THROUGH[name]}\b" if name in TESTED_THROUGH else rf"\b{name}\b"
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("*.py") if file != Path(__file__)]
    assert any(re.search(proof, text, re.MULTILINE) for text in texts), f"no test names {where}"


def test_indirectly_tested_classes_exist() -> None:
    assert set(TESTED_THROUGH) <= {where.split(":")[1] for where in _public_classes()}


def test_every_model_has_its_yaml_and_every_yaml_its_model() -> None:
    yaml = {entry.name for entry in (properties_root() / "model").iterdir() if entry.name.endswith(".yaml")}
    assert yaml == {f"{name}.yaml" for name in MODELS | FILTERS}


@pytest.mark.parametrize("name", MODELS | FILTERS)
def test_every_model_has_a_line_in_the_readme(name: str, checkout: Path) -> None:
    lines = (checkout / "README.md").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(f"| `{name}` |") for line in lines)


def test_the_model_names_are_the_names_of_their_classes() -> None:
    assert all(model.__name__ == name for name, model in (MODELS | FILTERS).items())

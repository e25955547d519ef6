"""From YAML layers and overrides to typed parameters, and on to what RecBole's `Config` is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from recmodels.data_params import REFUSED, DataParams, time_problems
from recmodels.errors import ParamError
from recmodels.layers import Layer, load_layer, load_named, merge, parse_argv, properties_root, read_argv
from recmodels.params import Params, nearest, raise_all
from recmodels.plain_yaml import dump_yaml
from recmodels.run_params import RunParams

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "COMMAND_LINE",
    "POINT",
    "Resolved",
    "changed",
    "outer_layers",
    "parse_argv",
    "properties_root",
    "read_layers",
    "resolve",
    "unknown_key_problems",
]

COMMAND_LINE, POINT = "command line", ""  # as an origin; of an ablation's point, which its messages name already
_OUTSIDE = ("model", "dataset", "config_files", "run_dir", "resume")  # words of the command line that no layer holds


@dataclass(frozen=True)
class Resolved:
    """A complete, checked configuration.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        params: the model's own parameters.
        run: training, evaluation, guards, files.
        data: reading and filtering of the data set.
        values: every key of the three as flat plain data.
        origin: which layer set each key, for reading only; not part of equality.
        made_from: the run whose result some values are, and how, for reading only; empty for most.
    """

    model: str
    dataset: str
    params: Params
    run: RunParams
    data: DataParams
    values: dict[str, Any]
    origin: dict[str, str] = field(compare=False, repr=False)
    made_from: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def recbole_values(self) -> dict[str, Any]:
        """What a RecBole `Config` is told over RecBole's own defaults: a fresh dictionary.

        Beside `values` it holds `model`, `dataset`, and `runs_dir` as `checkpoint_dir`. A null `eval_batch_size` is
        left out: evaluation then follows `eval_batch_bytes`. `data_path` is not yet joined with the data set's name.
        """
        told = self.params.as_values() | self.run.as_values() | self.data.as_values()
        if told["eval_batch_size"] is None:
            del told["eval_batch_size"]
        return told | {"model": self.model, "dataset": self.dataset, "checkpoint_dir": self.run.runs_dir}

    def with_seed(self, seed: int) -> Resolved:
        """The same configuration with another seed, a whole number from 0 to 2^32 - 1."""
        return replace(self, run=replace(self.run, seed=seed), values={**self.values, "seed": seed})

    def dump(self) -> str:
        """YAML text, model and data set first, that resolves to equal values as a configuration file."""
        return dump_yaml({"model": self.model, "dataset": self.dataset, **self.values})


def resolve(
    source: Sequence[str] | Mapping[str, Any],
    models: Mapping[str, type[Params]],
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Resolved:
    """Merges the layers and checks every key.

    Layers, lowest first: RecBole's formats of data sets (`sample.yaml`), `overall.yaml`, `component/*.yaml` as far as
    the model has their keys, `model/<model>.yaml` (of a model of RecBole's own its YAML), `dataset/<dataset>.yaml` (may
    be absent), the configuration files in their order, the overrides.

    Args:
        source: a command line (see `parse_argv`), or overrides as flat names to plain data. `config_files` is then a
            path or a list of paths; the name of a shipped preset (`preset/*.yaml`) counts as a path. `model` and
            `dataset` come from here or from a configuration file.
        models: model name to its parameter class.
        defaults: `model` and `dataset` where neither the source nor a configuration file names them.

    Returns:
        The configuration. `data_path` is absolute where it has a folder of the data set.

    Raises:
        ParamError: unknown, refused, missing, mistyped or out-of-range keys, unreadable files; all at once, with the
            layer that set each.
    """
    outer, problems = outer_layers(source)
    found, more = read_layers([Layer("defaults", dict(defaults)), *outer], models)
    raise_all("configuration", problems + more)
    assert found is not None  # `read_layers` gives a configuration or problems
    return found


def read_layers(outer: Sequence[Layer], models: Mapping[str, type[Params]]) -> tuple[Resolved | None, list[str]]:
    """Like `resolve` for layers over the shipped ones: (configuration, []) or (None, problems).

    Args:
        outer: lowest first; one of them names model and data set. A problem names its layer unless that is called "".
        models: model name to its parameter class.
    """
    chosen, problems = _names(outer, models)
    inner, found = _inner_layers(*chosen, models)
    values, origin = merge([*inner, *outer])
    for name in ("model", "dataset"):
        values.pop(name, None)
    found += unknown_key_problems(values, chosen[0], models)
    parts, more = _read_parts(values, models.get(chosen[0]))
    problems += [_with_origin(text, origin) for text in dict.fromkeys(found + more)]
    return (None, problems) if problems else (_resolved(chosen, parts, origin), [])


def changed(
    base: Resolved, change: Mapping[str, Any], models: Mapping[str, type[Params]]
) -> tuple[Resolved | None, list[str]]:
    """A configuration with other values of some of its keys, without reading any file: as `read_layers`.

    Args:
        base: what the other keys are taken from.
        change: known keys of the model, the run or the data.
        models: model name to its parameter class.
    """
    values, _ = merge([Layer("base", base.values), Layer("change", dict(change))])
    parts, problems = _read_parts(values, models[base.model])
    return (None, problems) if problems else (_resolved((base.model, base.dataset), parts, base.origin), [])


def _resolved(chosen: tuple[str, str], parts: list[Any], origin: dict[str, str]) -> Resolved:
    """The record, once nothing is wrong."""
    params, run, data = parts[0], _anchored(parts[1], chosen[1]), parts[2]
    values = {key: value for part in (params, run, data) for key, value in part.as_values().items()}
    known = {key: layer for key, layer in origin.items() if key.partition(".")[0] in values}
    return Resolved(*chosen, params=params, run=run, data=data, values=values, origin=known)


def _anchored(run: RunParams, dataset: str) -> RunParams:
    """The run with an absolute `data_path` if the data set is there, so that its folder can be used from any other."""
    is_there = (Path(run.data_path) / dataset).is_dir()
    return replace(run, data_path=os.path.abspath(run.data_path)) if is_there else run


def outer_layers(source: Sequence[str] | Mapping[str, Any]) -> tuple[list[Layer], list[str]]:
    """The configuration files and, last, the overrides of a source as in `resolve`, and what cannot be read."""
    if isinstance(source, Mapping):
        label, (overrides, problems) = "overrides", (dict(source), list[str]())
    else:
        label, (overrides, problems) = COMMAND_LINE, read_argv(source)
    paths = overrides.pop("config_files", None) or []
    paths, layers = [paths] if isinstance(paths, (str, Path)) else paths, []
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, Path)) for path in paths):
        problems.append(f"config_files: expected paths or names of shipped presets, got {paths!r}")
        paths = []
    for path in paths:
        repeated = list[str]()
        try:
            layers.append(load_named(str(path), "preset", repeated))
        except ParamError as error:
            problems.append(f"config_files: {error}")
        problems += [f"config_files: {path}, {text}" for text in repeated]
    return [*layers, Layer(label, overrides)], problems


def _names(outer: Sequence[Layer], models: Mapping[str, type[Params]]) -> tuple[tuple[str, str], list[str]]:
    """Model and data set as the highest layer names them, and what is wrong with the names."""
    given, _ = merge(outer)
    model, dataset = given.get("model"), given.get("dataset")
    problems: list[str] = []
    if model is None:
        problems.append(f"model: no value; write --model=NAME with one of {', '.join(models)}")
    elif not isinstance(model, str):
        problems.append(f"model: expected the name of one, got {model!r}")
        model = None
    elif model not in models:
        problems.append(f"model: unknown model {model!r}, expected one of {', '.join(models)}{nearest(model, models)}")
    if dataset is None:
        problems.append("dataset: no value; write --dataset=NAME")
    elif not isinstance(dataset, str) or not re.fullmatch(r"[^/\\]+", dataset) or dataset in (".", ".."):
        problems.append(f"dataset: expected the name of a folder, got {dataset!r}; its parent is data_path")
        dataset = None
    return (str(model or ""), dataset or ""), problems


def _inner_layers(model: str, dataset: str, models: Mapping[str, type[Params]]) -> tuple[list[Layer], list[str]]:
    """The shipped layers; those of an unknown model or data set are left out."""
    root = properties_root()
    recbole = files("recbole") / "properties"
    own, theirs = (folder / "model" / f"{model}.yaml" for folder in (root, recbole))
    components = sorted((root / "component").iterdir(), key=lambda file: file.name) if model in models else []
    shared = {f"properties/component/{file.name}": file for file in components}
    sources: list[tuple[Traversable, str]] = [
        (recbole / "dataset" / "sample.yaml", "RecBole's sample.yaml"),
        (root / "overall.yaml", "properties/overall.yaml"),
        *((file, name) for name, file in shared.items()),
        (own, f"properties/model/{model}.yaml"),
        *([(theirs, f"RecBole's {model}.yaml")] if model in models and not own.is_file() else []),
        (root / "dataset" / f"{dataset}.yaml", f"properties/dataset/{dataset}.yaml"),
    ]
    layers, problems = [], []
    for source, name in sources:
        try:
            layers += [load_layer(source, name)] if source.is_file() else []
        except ParamError as error:
            problems.append(str(error))
    keys = set(models[model].keys()) if model in models else set()
    return [_part(layer, keys) if layer.name in shared else layer for layer in layers], problems


def _part(layer: Layer, keys: Set[str]) -> Layer:
    """A component's layer with the keys that the model has."""
    return Layer(layer.name, {key: value for key, value in layer.values.items() if key in keys})


def unknown_key_problems(values: Mapping[str, Any], model: str, models: Mapping[str, type[Params]]) -> list[str]:
    """Keys that nobody here reads; with an unknown model, such as "", any model's keys pass."""
    shared = {*RunParams.keys(), *DataParams.keys()}
    own = shared.union(*(models[name].keys() for name in ([model] if model in models else models)))
    problems = []
    for key, value in values.items():
        if key in REFUSED and key not in own:
            problems += [] if value in REFUSED[key].inert else [f"{key}: {value!r} is refused: {REFUSED[key].reason}"]
        elif key == "config_files":
            problems.append("config_files: a configuration file cannot name further ones; list them all in one place")
        elif key not in own:
            owners = [name for name, params in models.items() if key in set(params.keys())]
            hint = f"; it belongs to {', '.join(owners)}" if owners else nearest(key, [*own, *REFUSED, *_OUTSIDE])
            problems.append(f"{key}: unknown key of {model or 'any model'}{hint}")
    return problems


def _read_parts(values: Mapping[str, Any], params: type[Params] | None) -> tuple[list[Any], list[str]]:
    """The typed parameters of the model, the run and the data, and everything wrong with them."""
    parts: list[Any] = []
    problems: list[str] = []
    for cls in (params or Params, RunParams, DataParams):
        own = set(cls.keys())
        part, found = cls.read({key: value for key, value in values.items() if key in own})
        parts.append(part)
        problems += found
    run, data = parts[1:]
    return parts, problems + (time_problems(run.eval_args, data) if run and data else [])


def _with_origin(problem: str, origin: Mapping[str, str]) -> str:
    """The message with the layer that set its key."""
    key = problem.partition(":")[0]
    layer = origin.get(key) or origin.get(key.partition(".")[0])
    return f"{problem} (from {layer})" if layer else problem

"""What a study has found: a table, the best overrides, the importance of the keys."""

import io
import shlex
import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recmodels.experiments.folder import CONFIG
from recmodels.experiments.session import resolve_run, resolve_train
from recmodels.files import write_bytes, write_text
from recmodels.plain_yaml import dump_yaml
from recmodels.tuning.identity import read_identity
from recmodels.tuning.study import FOUND, load, study_lock, trial_folder

BEST_VALUES, TABLE, PICTURE = "best.yaml", "trials.csv", "importance.png"
_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
_SHOWN = 30
_NOT_OF_THE_WINNER = ("runs_dir", "state", "show_progress", "use_gpu", "gpu_id")
_MIN_FOR_IMPORTANCE = 4


def describe_trial(trial: FrozenTrial, metric: str) -> str:
    """One line about a finished trial."""
    values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    found = trial.user_attrs[FOUND]
    score = "no score" if found["score"] is None else f"{metric} {found['score']:.4f} at epoch {found['best_epoch']}"
    reason = f" | {found['reason']}" if found["reason"] else ""
    return f"trial {trial.number} {trial.state.name.lower()}: {score}, {found['seconds']:.1f} s | {values}{reason}"


def table(study: optuna.Study, metric: str) -> pd.DataFrame:
    """One row for each trial that has begun: complete ones, best first, then pruned, failed and running ones.

    Args:
        study: finished or not.
        metric: the valid metric that is searched for.

    Returns:
        Columns `trial`, `state`, the metric (best valid, unrounded), `best_epoch`, `epochs`, `seconds`, the searched
        keys, `reason`.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state in _ORDER]
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    rows = [_row(trial, metric, list(keys)) for trial in sorted(trials, key=lambda trial: _rank(trial, sign))]
    own = ["trial", "state", metric, "best_epoch", "epochs", "seconds"]
    return pd.DataFrame(rows, columns=[*own, *keys, "reason"]).astype({"best_epoch": "Int64", "epochs": "Int64"})


def write_report(folder: Path) -> str:
    """Writes `trials.csv`, and, as far as there are completed trials, `best.yaml` and `importance.png`.

    Args:
        folder: of the study, finished or not.

    Returns:
        The table with the commands to type next.

    Raises:
        UserError: the folder is not a study's.
    """
    metric, study = str(read_identity(folder)["metric"]), load(folder)
    rows = table(study, metric)
    with study_lock(folder):
        files = _write_files(folder, study, metric, rows)
    lines = [_counts(rows), "", _text(rows, metric), "", f"{', '.join(files)} in {folder}"]
    if BEST_VALUES not in files:
        return "\n".join([*lines, "no trial is complete"])
    winner = trial_folder(folder, study.best_trial.number)
    named = shlex.quote(str(folder / BEST_VALUES))
    after = [
        f"test the winner, once:      recmodels evaluate {shlex.quote(str(winner))}",
        f"train with its values:      recmodels train --config_files={named}",
    ]
    return "\n".join([*lines, *after])


def _write_files(folder: Path, study: optuna.Study, metric: str, rows: pd.DataFrame) -> list[str]:
    """Writes what can be written; returns the names."""
    write_text(folder / TABLE, rows.to_csv(index=False))
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not completed:
        return [TABLE]
    best = study.best_trial
    write_text(folder / BEST_VALUES, _best_values(trial_folder(folder, best.number), best, metric))
    if len(completed) < _MIN_FOR_IMPORTANCE:
        return [TABLE, BEST_VALUES]
    _draw_importance(study, metric, folder / PICTURE)
    return [TABLE, BEST_VALUES, PICTURE]


def _rank(trial: FrozenTrial, sign: float) -> tuple[int, float, int]:
    score = trial.user_attrs.get(FOUND, {}).get("score")
    return _ORDER.index(trial.state), float("inf") if score is None else sign * score, trial.number


def _row(trial: FrozenTrial, metric: str, keys: list[str]) -> dict[str, Any]:
    found = trial.user_attrs.get(FOUND) or {"epochs": len(trial.intermediate_values)}
    own = {name: found.get(name) for name in ("best_epoch", "epochs", "seconds")}
    values = {key: trial.params.get(key) for key in keys}
    named = {"trial": trial.number, "state": trial.state.name.lower(), metric: found.get("score")}
    return {**named, **own, **values, "reason": found.get("reason", "")}


def _counts(rows: pd.DataFrame) -> str:
    counts = rows["state"].value_counts()
    return f"{len(rows)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items())


def _text(rows: pd.DataFrame, metric: str) -> str:
    """The first rows, aligned, without the reasons."""
    formats: dict[Any, Any] = {metric: "{:.4f}".format, "seconds": "{:.1f}".format}
    formats |= dict.fromkeys(rows.columns[6:-1], _short)
    shown = rows.drop(columns="reason").head(_SHOWN)
    text = shown.to_string(index=False, na_rep="", formatters=formats)
    return text if len(rows) <= _SHOWN else f"{text}\n... {len(rows) - _SHOWN} more in {TABLE}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _best_values(folder: Path, trial: FrozenTrial, metric: str) -> str:
    """The overrides that make the winner of the shipped layers."""
    best = resolve_run(str(folder))
    names = {"model": best.model, "dataset": best.dataset}
    shipped = resolve_train(names).values
    changed = {
        key: value
        for key, value in best.values.items()
        if key in trial.params or (value != shipped.get(key) and key not in _NOT_OF_THE_WINNER)
    }
    score = trial.user_attrs[FOUND]["score"]
    return f"# Trial {trial.number}: valid {metric} {score:.4f}; config of the run: {folder / CONFIG}\n" + dump_yaml(
        {**names, **changed}
    )


def _draw_importance(study: optuna.Study, metric: str, path: Path) -> None:
    """Bars of the importances."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on few trials: that they count alike, which the title says
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names, values = list(found)[::-1], list(found.values())[::-1]
    figure = Figure(figsize=(7, 1.3 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, values, color="#4c72b0")
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set_xlim(0, 1.12 * max(values))
    axes.set_xlabel(f"importance for a good {metric} (PED-ANOVA, sums to 1)")
    n_completed = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    axes.set_title(f"{n_completed} completed trials", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())

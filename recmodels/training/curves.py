"""Learning curves: one row per epoch in `curves.csv`, one picture at the end."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from recmodels.files import write_bytes, write_text
from recmodels.training.callbacks import Callback, EpochLog

if TYPE_CHECKING:
    from recmodels.training.trainer import Trainer

Row = dict[str, float | int | bool]

# What is drawn together: title of a panel, prefix of its columns, whether its axis is logarithmic.
_PANELS = (("loss terms, unweighted, per-batch mean", "train/", True), ("share of the gradient norm", "share/", True))


class Curves(Callback):
    """Keeps every epoch's values, rewrites `curves.csv` atomically, draws `curves.png` at the end.

    Args:
        run_dir: folder of the two files.
        valid_metrics: metrics drawn in the first panel.
    """

    def __init__(self, run_dir: Path, valid_metrics: list[str]) -> None:
        self.run_dir, self.valid_metrics = run_dir, valid_metrics
        self.rows: list[Row] = []

    def on_fit_start(self, trainer: "Trainer") -> None:
        """Mends the file of a resumed run, in case it was damaged."""
        if self.rows:
            self._write()

    def on_epoch_end(self, trainer: "Trainer", log: EpochLog) -> None:
        """Appends the row."""
        self.rows.append({"epoch": log.epoch, **log.values, "is_best": log.is_best})
        self._write()

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Draws the picture."""
        if self.rows:
            draw(self.rows, self.valid_metrics, self.run_dir / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the rows back, so that a resumed run's file has each epoch once."""
        self.rows = list(state["rows"])

    def _write(self) -> None:
        write_text(self.run_dir / "curves.csv", to_csv(self.rows))


def to_csv(rows: list[Row]) -> str:
    """CSV text; columns in the order of their first appearance, empty where an epoch has no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def draw(rows: list[Row], valid_metrics: list[str], path: Path) -> None:
    """Draws valid metrics, loss terms and gradient shares over epochs, the best epoch marked.

    Args:
        rows: one per epoch, as in `curves.csv`.
        valid_metrics: names as in the columns, without `valid/`.
        path: PNG to write.
    """
    panels = [("valid metrics", [f"valid/{name}" for name in valid_metrics], False)]
    panels += [(title, _columns(rows, prefix), is_log) for title, prefix, is_log in _PANELS]
    panels = [panel for panel in panels if any(name in row for name in panel[1] for row in rows)]
    figure = Figure(figsize=(7, 2.8 * max(1, len(panels))), layout="constrained")
    all_axes = figure.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]
    for axes, (title, names, is_log) in zip(all_axes, panels, strict=False):
        _draw_panel(axes, rows, names, title, is_log)
    all_axes[-1].set_xlabel("epoch")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())


def _columns(rows: list[Row], prefix: str) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    return [name for name in names if name != "train/loss"]


def _draw_panel(axes: Any, rows: list[Row], names: list[str], title: str, is_log: bool) -> None:  # noqa: ANN401
    for name in names:
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None, label=name.split("/", 1)[1])
    best = [row["epoch"] for row in rows if row["is_best"]]
    if best:
        axes.axvline(best[-1], color="0.6", linestyle=":", label="best epoch")
    if is_log and all(row.get(name, 1.0) > 0 for row in rows for name in names):
        axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)

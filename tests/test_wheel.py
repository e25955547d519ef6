"""The wheel: what it holds, and that it works without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.runs import CHECKOUT, arguments

pytestmark = pytest.mark.slow
SOURCES = ("recmodels", "properties", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
TRAIN = "import sys; from recmodels.cli import main; sys.exit(main(['train', *sys.argv[1:]]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    root = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, root / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, root / "copy" / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root), str(root / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = root.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_every_yaml(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "recmodels").rglob("*.py")}
    layers = {f"recmodels/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "properties").rglob("*.yaml")}
    assert len(layers) > 5
    assert modules | layers <= names
    assert not [name for name in names if name.startswith(("tests/", "properties/", "runs/"))]


def test_the_installed_wheel_trains_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(tmp_path / "site")]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "elsewhere").mkdir()
    places = "import recmodels, recmodels.properties as p; print(recmodels.__file__, *p.__path__)"
    given = [*arguments(tmp_path, epochs=1), f"--run_dir={tmp_path / 'run'}"]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, *more], cwd=tmp_path / "elsewhere", env=environment,
            capture_output=True, text=True, check=False,
        )
        for code, more in ((places, []), (TRAIN, given))
    ]  # fmt: skip
    assert [output.returncode for output in outputs] == [0, 0], outputs[1].stderr
    assert all(Path(place).is_relative_to(tmp_path / "site") for place in outputs[0].stdout.split())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs_run"] == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []

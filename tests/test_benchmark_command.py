import os
import shlex
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from benchmarks import bench, breakdown, scale
from benchmarks.command import common_options, main, parse
from benchmarks.rows import Results
from recmodels.cli import Remedies, shortage
from recmodels.models import FILTERS, MODELS
from tests.benchmark_runs import REMEDIES, run

Command = Callable[[Sequence[str], Results], None]


def parsed(*arguments: str) -> Namespace:
    return parse(common_options("benchmarks.bench", ""), arguments)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of an option that is refused."""
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    assert list(Path().iterdir()) == []
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [bench.run, breakdown.run, scale.run])
def test_an_unknown_model_is_refused_with_the_choices(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(["--models", "NLC"], Results())
    assert caught.value.code == 2
    assert "invalid choice: 'NLC' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs=0", "--steps=-1", "--threads=two", "--batch-size=1.5"])
def test_counts_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.run([option], Results())
    assert caught.value.code == 2
    name, _, value = option.partition("=")
    assert f"argument {name}: got '{value}', expected a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_an_unknown_data_set_is_one_error_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(bench.run, ["--dataset=ml-100", "--models", "LightGCN", "--out=found"], REMEDIES) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "ml-100" in line
    assert [path.name for path in tmp_path.rglob("*")] == ["found"]


@pytest.mark.parametrize(
    ("given", "owner"),
    [
        ("model=NCL", "--models"),
        ("dataset=ml-1m", "--dataset"),
        ("data_path=x", "--data_path"),
        ("train_batch_size=9", "--batch-size"),
        ("use_gpu=true", "--gpu"),
        ("gpu_id=1", "--gpu, which takes the first of CUDA_VISIBLE_DEVICES"),
        ("show_progress=true", "the benchmark, which shows none"),
        ("run_dir=x", "nothing, a benchmark writes no runs"),
        ("runs_dir=x", "nothing, a benchmark writes no runs"),
        ("config_files=x.yaml", "--set itself, key by key"),
        ("epochs=5", "the benchmark, with --epochs where it times epochs"),
    ],
)
def test_set_leaves_alone_what_an_option_decides(given: str, owner: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = given.partition("=")[0]
    message = refusal(capsys, "--set", "embedding_size=8", given)
    assert message.endswith(f"error: argument --set: got {given!r}, but {key} is decided by {owner}")


def test_set_takes_a_key_once(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--set", "seed=1", "seed=2"], ["--set", "seed=1", "--set", "seed=1"]):
        assert refusal(capsys, *given).endswith("error: argument --set: got seed twice, expected it once")


def test_set_reads_values_as_training_does_and_adds_up() -> None:
    options = parsed("--set", "learning_rate=1e-3", "warm_up_step=5", "--set", "topk=[5, 10]")
    assert options.set == {"learning_rate": 0.001, "warm_up_step": 5, "topk": [5, 10]}
    assert parsed().set == {}


def test_every_model_is_measured_but_filters_that_do_not_know_a_key_of_the_others() -> None:
    def measured(*arguments: str) -> set[str]:
        return set(parse(common_options("benchmarks.bench", "", list(FILTERS)), arguments).models)

    assert measured() == measured("--set", "seed=1") == set(MODELS | FILTERS)
    assert measured("--set", "rec_loss=softmax") == set(MODELS)
    assert measured("--set", "rec_loss=softmax", "--models", "GFCF") == {"GFCF"}  # and is refused when it is resolved
    assert {name for group in bench.GROUPS for name in group} == set(MODELS | FILTERS)
    assert set(parsed().models) == set(MODELS)


@pytest.mark.parametrize("given", ["seed", "=1", "seed=", "seed=[1"])
def test_set_wants_a_key_and_a_value(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: argument --set: " in refusal(capsys, "--set", given)


@pytest.mark.parametrize("command", [bench.run, breakdown.run])
def test_a_gpu_that_is_not_there_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(command, ["--gpu"], REMEDIES) == 2
    expected = "error: --gpu: got no CUDA device, expected one; leave --gpu out to measure the CPU\n"
    assert capsys.readouterr().err == expected
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", [bench.run, breakdown.run, scale.run])
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    for out, reason in (("file", "File exists"), ("file/below", "Not a directory")):
        with pytest.raises(SystemExit) as caught:
            main(command, ["--out", out], REMEDIES)
        assert caught.value.code == 2
        message = f"error: argument --out: cannot write into {out}: {reason}; choose another folder"
        assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_the_folder_is_made_and_left_empty() -> None:
    parsed("--out", "new/folder")
    assert [str(path) for path in Path().rglob("*")] == ["new", "new/folder"]


def test_an_error_after_a_first_result_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: Sequence[str], results: Results) -> None:
        results.write(Path("a.jsonl"), [{"x": 1}])
        raise MemoryError

    assert main(fails, [], Remedies(memory="this")) == 2
    assert capsys.readouterr().err == "error: out of memory; lower this\nwhat was finished is in a.jsonl\n"
    assert Path("a.jsonl").read_text() == '{"x": 1}\n'


def test_remedies_are_those_of_the_command() -> None:
    full, denied = OSError(28, "No space left on device"), OSError(13, "Permission denied")
    assert shortage(full, REMEDIES) == "No space left on device; less"
    assert shortage(denied, REMEDIES) == "Permission denied; another folder"
    assert shortage(ValueError("out of memory"), REMEDIES) is None
    assert shortage(RuntimeError("a shape does not fit"), REMEDIES) is None


@pytest.mark.slow
def test_want_of_memory_is_one_message_that_names_the_model(tmp_path: Path) -> None:
    for module, given, model, remedy in (
        ("scale", ["--edges", "99999999999999"], "LightGCN, 99,999,999,999,999 edges", "lower --edges"),
        ("breakdown", ["--set", "embedding_size=999999999"], "LightGCN, ours", "lower --batch-size, or values of"),
    ):
        done = run(module, tmp_path, "--models", "LightGCN", *given)
        (message,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert message.startswith(f"error: {model}: out of memory (")
        assert remedy in message


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_takes_paths_with_spaces(checkout: Path) -> None:
    given = ["DATASET=a set", "DATA_PATH=my data", "BENCH_ARGS=--epochs 2"]
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # `make test` runs this
    make = ["make", "-n", "--no-print-directory", "bench"]
    printed = subprocess.run([*make, *given], cwd=checkout, capture_output=True, text=True, check=True, env=outside)
    command = shlex.split(printed.stdout.splitlines()[-1])
    assert command[1:] == ["-m", "benchmarks.bench", "--dataset=a set", "--data_path=my data", "--epochs", "2"]

"""The command line: one message for a mistake, before any work, and nothing left behind."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recmodels
from recmodels import cli
from recmodels.experiments import run
from recmodels.experiments.session import resolve_train
from tests.runs import CHECKOUT, arguments, files_of, options, python, write_data

pytestmark = pytest.mark.usefixtures("undrawn")

# What is added to a correct command line, and what the one message must contain.
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "mistyped key": (
        ["--learning_rte=0.1"],
        ["learning_rte: unknown key of NCL_OT; did you mean 'learning_rate'?", "(from "],
    ),
    "mistyped word of the command": (["--modle=NCL"], ["modle: unknown key of NCL_OT; did you mean 'model'?"]),
    "mistyped key of the model": (["--ot_wieght=0.1"], ["ot_wieght: unknown key", "did you mean 'ot_weight'?"]),
    "key of another model": (
        ["--model=LightGCN"],
        ["ot_centers: unknown key of LightGCN; it belongs to NCL_OT", "m_step: unknown key of LightGCN"],
    ),
    "wrong type": (
        ["--learning_rate=abc"],
        ["learning_rate: expected a number, got 'abc' (str)", "(from "],
    ),
    "out of range": (["--ot_share=1.5"], ["ot_share: must be <= 1, got 1.5"]),
    "wrong choice": (["--ot_solver=sinkhron"], ["'ipot', 'sinkhorn'", "got 'sinkhron'", "did you mean 'sinkhorn'?"]),
    "infinite": (["--learning_rate=.inf"], ["learning_rate: expected a number, got inf", "it must be finite"]),
    "refused key": (["--nproc=2"], ["nproc: 2 is refused: a run is one process on one device"]),
    "refused evaluation": (["--eval_args={mode: uni100}"], ["eval_args.mode: 'uni100' is refused"]),
    "unknown view": (["--ot_view_a=hop:9"], ["ot_view_a:", "hop:9"]),
    "unknown model": (
        ["--model=NCL_TO"],
        ["model: unknown model 'NCL_TO', expected one of LightGCN, NCL, NCL_OT", "did you mean 'NCL_OT'?"],
    ),
    "absent data set": (
        ["--dataset=plantde"],
        ["data set 'plantde': no folder", "plantde.inter", "did you mean 'planted'?"],
    ),
    "data set with a path": (["--dataset=../planted"], ["dataset: expected the name of a folder, got '../planted'"]),
    "missing file": (["--config_files=absent.yaml"], ["config_files: absent.yaml: cannot be read"]),
    "bad YAML": (["--config_files=bad.yaml"], ["config_files: bad.yaml, line 3: "]),
    "value that is no YAML": (["--topk=[10"], ["topk: '[10'"]),
    "argument without dashes": (["epochs=3"], ["epochs=3: unexpected argument; write --epochs=3"]),
    "no value": (["--epochs="], ["epochs: no value; write --epochs=VALUE"]),
    "two values": (["--epochs=4"], ["epochs: given twice, as 3 and 4; keep one"]),
    "empty file": (["--dataset=empty"], ["empty.inter, line 1: got an empty file; expected a header"]),
    "header only": (["--dataset=header"], ["header.inter: got a header and no rows"]),
    "everything filtered": (
        ['--user_inter_num_interval="[1000,inf)"'],
        ["none of", "interactions is left after filtering", "Loosen val_interval, user_inter_num_interval"],
    ),
    "lists longer than the items": (
        ["--topk=[10,100]"],
        ["topk: got 100 in [10, 100]; expected at most 80, the number of items"],
    ),
    "no loss": (
        ["--bpr_weight=0", "--reg_weight=0", "--ssl_reg=0", "--ot_weight=0"],
        [
            "bpr_weight: no term of the loss counts in epoch 0; raise one of bpr_weight, distill_weight, reg_weight, ",
            "ot_weight",
        ],
    ),
    "unknown encoding": (["--encoding=utf9"], ["encoding: unknown encoding 'utf9'; did you mean 'utf-8'?"]),
    "nothing separates": (["--field_separator=''"], ["field_separator: expected a separator", "got ''"]),
    "threshold in words": (["--threshold={rating: abc}"], ["threshold.rating: expected a number, got 'abc'"]),
    "interval of names": (
        ["--val_interval={user_id: '[3,inf)'}"],
        ["val_interval.user_id: got '[3,inf)' for a column of names; expected a list of the names that stay"],
    ),
    "no prefix": (["--NEG_PREFIX=''"], ["NEG_PREFIX: expected a prefix like 'neg_'"]),
    "device in words": (["--gpu_id=abc"], ["gpu_id: expected one device, a number like '0'"]),
    "value that holds itself": (["--metrics=&x [Recall, *x]"], ["metrics: ", "the alias *x is refused"]),
    "full folder": (["--run_dir=full"], ["--run_dir=full: the folder is not empty; choose another folder"]),
    "folder that cannot be made": (["--runs_dir=bad.yaml"], ["cannot create the run folder bad.yaml/", "--run_dir"]),
}
REPLACED = {"--dataset", "--model", "--runs_dir", "--learning_rate", "--ot_weight"}


def command_line(added: list[str]) -> list[str]:
    """A correct command line with arguments replaced or added."""
    keys = {argument.partition("=")[0] for argument in added} & REPLACED
    return [given for given in arguments(Path()) if given.partition("=")[0] not in keys] + added


def write_traps() -> None:
    write_data(Path())
    for name, text in (("empty", ""), ("header", "user_id:token\titem_id:token\n")):
        (Path("data") / name).mkdir()
        (Path("data") / name / f"{name}.inter").write_text(text)
    Path("bad.yaml").write_text("seed: 1\nepochs: [3\n")
    Path("full").mkdir()
    Path("full/notes.txt").touch()


def message_of(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a mistake: the only output, with exit code 2, and nothing changed on disk."""
    before = files_of(Path()), sorted(Path().rglob("*"))
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert (files_of(Path()), sorted(Path().rglob("*"))) == before
    return err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_leaves_nothing_behind(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_traps()
    added, words = MISTAKES[mistake]
    message = message_of(["train", *command_line(added)], capsys)
    for expected in words:
        assert expected in message


def test_the_correct_command_line_of_these_tests_trains(capsys: pytest.CaptureFixture[str]) -> None:
    write_traps()
    assert cli.main(["train", *command_line(["--run_dir=run"])]) == 0
    assert json.loads(Path("run/result.json").read_text())["epochs_run"] == 3
    assert "evaluate again: recmodels evaluate run" in capsys.readouterr().err


def test_all_mistakes_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    write_traps()
    message = message_of(["train", *command_line(["--learning_rte=1", "--ot_share=2", "--seed=x"])], capsys)
    assert "3 problems" in message
    assert all(key in message for key in ("learning_rte: ", "ot_share: ", "seed: "))


def test_a_mistake_in_a_file_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_traps()
    Path("mine.yaml").write_text("ot_share: 2\n")
    message = message_of(["train", *command_line(["--config_files=mine.yaml"])], capsys)
    assert "ot_share: must be <= 1, got 2.0 (from mine.yaml)" in message


def test_resume_takes_no_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    for other in ("--epochs=9", "--run_dir=x"):
        message = message_of(["train", "--resume=runs/a", other], capsys)
        assert f"--resume keeps the run's own configuration, got also {other};" in message
        assert "--config_files=runs/a/config.yaml" in message


def test_resume_and_evaluate_want_a_run_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for command in (["train", "--resume={}"], ["evaluate", "{}"]):
        given = [word.format("absent") for word in command]
        assert "error: no run folder absent" in message_of(given, capsys)
        given = [word.format("empty") for word in command]
        assert "error: empty is not a run folder: it has no config.yaml" in message_of(given, capsys)


@pytest.mark.parametrize("given", [[], ["a", "b"], ["--run_dir=a"]])
def test_evaluate_takes_exactly_one_folder(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = message_of(["evaluate", *given], capsys)
    assert f"evaluate takes one run folder, got {given}; try recmodels evaluate --help" in message


def test_evaluate_of_an_unfinished_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text(resolve_train(options(Path())).dump())
    message = message_of(["evaluate", "run"], capsys)
    assert "run has no checkpoint.pt yet: no epoch is validated; --resume=run continues it" in message


def test_evaluate_prints_the_metrics_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run.train(resolve_train(options(Path())), "run")
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("run/result.json").read_text())["test"]


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    message = message_of(["trian"], capsys)
    assert "unknown command 'trian'; did you mean 'train'?" in message
    assert "usage: recmodels COMMAND" in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ["usage: recmodels COMMAND", "train", "evaluate"]),
        (["--help"], ["usage: recmodels COMMAND"]),
        (["--version"], [f"recmodels {recmodels.__version__}\n"]),
        (["train", "--help"], ["LightGCN, NCL, NCL_OT", "--resume=RUN_DIR", "Exit codes"]),
        (["train", "--epochs=3", "-h"], ["--config_files=FILES"]),
        (["evaluate", "--help"], ["usage: recmodels evaluate RUN_DIR"]),
    ],
)
def test_help_is_printed_and_nothing_else_happens(
    given: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(given) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(word in out for word in words)
    assert list(Path().iterdir()) == []


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    assert cli.main(["train", *arguments(Path())]) == 130
    assert "--resume=RUN_DIR continues after the last finished epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied; choose a folder you may"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free disk space, then --resume"),
        (OSError("strange"), "strange\n"),
        (MemoryError(), "out of memory; lower train_batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "out of memory (CUDA out of memory.); lower train_"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            "out of memory (DefaultCPUAllocator: can't allocate memory: 9 bytes); lower train_batch_size",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_message(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: list[str]) -> None:
        raise error

    assert cli.guarded(refused, []) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    def broken(_: list[str]) -> None:
        raise RuntimeError("a shape does not fit")

    with pytest.raises(RuntimeError, match="a shape does not fit"):
        cli.guarded(broken, [])


def test_a_run_folder_that_cannot_be_written_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    write_traps()
    Path("run").mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    message = message_of(["train", *command_line(["--run_dir=run"])], capsys)
    assert "cannot write into the run folder run: Read-only file system; choose another --run_dir" in message


def test_a_run_is_evaluated_from_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(resolve_train(options(Path(), epochs=1)), "run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "run/result.json").read_text())["test"]


@pytest.mark.slow
def test_the_script_works_from_another_folder(tmp_path: Path) -> None:
    script = str(CHECKOUT / "run_recbole.py")
    done = python([script, *arguments(tmp_path, epochs=1)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "runs"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "result.json").is_file()


def test_a_reader_that_stops_reading_is_no_error() -> None:
    code = "from recmodels import cli; raise SystemExit(cli.guarded(lambda _: print('x' * 10**6, flush=True), []))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_log_shows_as_many_decimals_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = options(Path.cwd(), model="LightGCN", epochs=1, loss_decimal_place=2, metric_decimal_place=3)
    write_data(Path.cwd())
    assert cli.main(["train", *[f"--{key}={value}" for key, value in overrides.items()]]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert re.search(r"bpr 0\.\d{2} .*ndcg@10 0\.\d{3} \*", line)


def test_what_is_typed_and_read_by_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(Path.cwd(), model="LightGCN", epochs=1, adae_budget=0.4, bsl_ratio=2, n_layers=1)
    assert cli.main(["train", *words]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("given, but")]
    assert "nothing reads it at these values: adae_budget, bsl_ratio; " in line


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = python(["-m", "recmodels", "--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "recmodels train" in done.stdout

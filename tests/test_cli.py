from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from switch_ema.__main__ import main
from switch_ema.bench.results import Row
from switch_ema.data import images
from tests.conftest import Sema, loaded_after

SMALL = ("--model", "mlp", "--train-size", "96", "--batch-size", "32", "--epochs", "2", "--seeds", "1")
TO_INSTALL = 'is not installed; run: pip install "switch-ema[bench]"'
DONE_WHEN = ("--label-noise", "0.4", "--methods", "baseline,ema:decay=0.99,sema:decay=0.9", "--model", "mlp")


def compare(*arguments: object) -> tuple[object, ...]:
    return ("compare", "classification", *arguments)


BAD_INPUT: list[tuple[tuple[object, ...], str]] = [
    (("compare",), "missing argument"),
    (("compare", "clasification"), "unknown task 'clasification'; did you mean 'classification'"),
    (("train",), "no such command 'train'"),
    (compare("--epoch", 3), "--epoch is no option of task classification; did you mean 'epochs'"),
    (compare("--label-nois", 0.1), "--label-nois is no option of task classification; did you mean 'label_noise'"),
    (compare("--label-noise=0.1", "--label-noise", 2), "--label-noise 2: write a share"),
    (compare("more"), "unexpected argument 'more'"),
    (("compare", "--label-noise", 0.4, "classification"), "name the task before --label-noise"),
    (compare("--epochs"), "requires an argument"),
    (compare("--epochs", "many"), "--epochs 'many': input should be a valid integer"),
    (compare("--epochs", 0), "--epochs '0': input should be greater than or equal to 1"),
    (compare("--seeds", 0), "--seeds '0'"),
    (compare("--batch-size", -1), "--batch-size '-1'"),
    (compare("--accumulate", 0), "--accumulate '0'"),
    (compare("--devices", 0), "--devices '0'"),
    (compare("--clip-norm", 0), "--clip-norm '0'"),
    (compare("--lr", "fast"), "--lr 'fast' is not a list of numbers; write e.g. 0.05"),
    (compare("--lr", "0.1,,0.2"), "--lr '0.1,,0.2' is not a list of numbers"),
    (compare("--lr", "0"), "--lr 0: a learning rate is a number above 0"),
    (compare("--lr", "nan"), "--lr nan: a learning rate is a number above 0"),
    (compare("--lr", "0.1,0.1"), "--lr names 0.1 twice"),
    (compare("--optimizer", "adagrad"), "input should be 'sgd', 'adam'"),
    (compare("--schedule", "linear"), "'cosine', 'constant', 'step'"),
    (compare("--precision", "fp16"), "'32-true', '16-mixed' or 'bf16-mixed'"),
    (compare("--strategy", "horovod"), "input should be 'auto', 'ddp' or 'fsdp2'"),
    (compare("--momentum", 1), "--momentum '1': input should be less than 1"),
    (compare("--weight-decay", -1), "--weight-decay '-1'"),
    (compare("--epochs", 2, "--warmup-epochs", 3), "--warmup-epochs 3 is longer than the 2 epochs"),
    (compare("--methods", "emma"), "unknown method 'emma'; did you mean 'ema'"),
    (compare("--methods", ""), "--methods '' has an empty entry"),
    (compare("--methods", "ema,,sema"), "empty entry; write e.g. baseline,ema"),
    (compare("--methods", "decay=0.9"), "option 'decay=0.9' stands before any method; write e.g. ema:decay=0.9"),
    (compare("--methods", "ema:decya=0.9"), "unknown option of method 'ema' 'decya'; did you mean 'decay'"),
    (compare("--methods", "ema:decay"), "option 'decay' has no value; write decay=VALUE"),
    (compare("--methods", "ema:decay=1.5"), "number in [0, 1], got 1.5; write e.g. 0.999"),
    (compare("--methods", "ema:decay=-0.1"), "number in [0, 1]"),
    (compare("--methods", "ema:decay=nan"), "number in [0, 1]"),
    (compare("--methods", "ema:decay=slow"), "'slow' is not a decay; write 0.999, 'half-life 500 steps'"),
    (compare("--methods", "ema:decay=window 3 days"), "'3 days' is not a length of training"),
    (compare("--methods", "ema:decay=0.9,decay=0.8"), "option 'decay' is given twice"),
    (compare("--methods", "ema,ema"), "--methods names 'ema' twice"),
    (compare("--methods", "sema:switch_every=often"), "'often' is not a trigger; write it like '500 steps'"),
    (compare("--methods", "sema:switch_every=0 epochs"), "'0 epochs' is not a length of training"),
    (compare("--methods", "sema:switch_every=1.5 steps"), "needs a whole number"),
    (compare("--methods", "sema:switch_every=1 epoch after 9 until 5"), "never fires"),
    (compare("--methods", "sema:optimizer_state=drop"), "optimizer_state=drop: write one of keep, reset"),
    (compare("--methods", "ema:use_buffers=maybe"), "use_buffers=maybe: write true or false"),
    (compare("--methods", "lookahead:k=0"), "k=0: write a whole number of at least 1"),
    (compare("--methods", "lookahead:alpha=2"), "alpha is the share"),
    (compare("--methods", "lawa:window=x"), "window=x: write a whole number of at least 1"),
    (compare("--methods", "power_ema:gamma=-1"), "gamma must be a number of at least 0"),
    (compare("--methods", "baseline:lr_scale=0"), "lr_scale=0: write a number above 0"),
    (compare("--methods", "baseline:decay=0.9"), "unknown option of method 'baseline' 'decay'"),
    (compare("--methods", "sam:rho=0"), "rho=0: write a number above 0"),
    (compare("--methods", "sam+baseline"), "unknown method 'sam+baseline'"),
    (compare("--methods", "sam+emma"), "did you mean 'sam+ema'"),
    (compare("--model", "resnet26"), "write timm/resnet26"),
    (compare("--model", "wrn-27-10"), "write wrn-D-K with depth D = 6n + 4"),
    (compare("--model", "timm/resnet19"), "unknown model 'timm/resnet19'; did you mean"),
    (compare("--model", "small-resnt"), "did you mean 'small-resnet'"),
    (compare("--data", "cifar11"), "cifar11"),
    (compare("--data", "no/such/folder"), "no/such/folder"),
    (compare("--label-noise", 1.5), "--label-noise 1.5: write a share from 0 to 1"),
    (compare("--train-size", 0), "--train-size 0: write a whole number of at least 1"),
    (compare("--augment", "mixup"), "--augment mixup: write one of auto, none"),
    (("report", "no/such/run"), "no/such/run"),
    (compare("--randaugment", 11), "--randaugment 11: write a magnitude from 0 to 10"),
    (compare("--label-file", "no.pt"), "no.pt: no such file"),
    (compare("--betas", "0.9;0.95"), "--betas '0.9;0.95' is not a list of numbers"),
    (compare("--milestones", "5,3"), "--milestones [5.0, 3.0]: write rising epochs"),
    (compare("--schedule", "onecycle", "--warmup-epochs", 1), "the onecycle schedule has its own warm-up; write 0"),
    (compare("--optimizer", "schedulefree"), "which the switches of 'sema' would not reach; write adamw"),
    (compare("--schedule", "wsd", "--decay-share", 1), "--decay-share 1 of 30 epochs begins within the warm-up"),
    (compare("--lr-min", 1), "--lr-min 1 is above the learning rate 0.05"),
    (("compare", "regression", "--loss", "l3"), "--loss l3: write one of l1, l2, huber"),
    (("compare", "regression", "--data", "diabetes", "--angular"), "the target of diabetes is no angle"),
    (("compare", "nothing.yaml"), "nothing.yaml: cannot be read"),
    (("compare", "nothing.py:Task"), "nothing.py: cannot be read"),
    (("recipe", "cifar100-resnet19"), "unknown recipe 'cifar100-resnet19'; did you mean"),
    (("list", "recipe"), "'recipe' is not one of"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT, ids=[" ".join(map(str, a)) for a, _ in BAD_INPUT])
def test_bad_input_gets_one_line_and_exit_code_2(sema: Sema, arguments: tuple[object, ...], words: str) -> None:
    answer = sema(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("sema: ")
    assert words.lower() in answer.err.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--train-size", 64, "--batch-size", 128),
            "more than the 64 training examples; write at most --batch-size 64",
        ),
        (("--train-size", 64, "--batch-size", 32, "--accumulate", 3), "write at most --batch-size 21"),
        (("--methods", "ema:decay=window 0.001 epoch"), "a window is at least one step"),
    ],
)
def test_what_only_the_data_can_tell_is_refused_as_well(
    sema: Sema, tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    answer = sema(*compare(*SMALL, *arguments, "--out", tmp_path / "run"))
    assert answer.code == 2
    assert words in answer.err.splitlines()[-1]
    assert not (tmp_path / "run" / "run.json").exists()


def test_help_names_the_defaults_that_a_command_has(sema: Sema) -> None:
    compare, study, tune = (" ".join(sema(name, "--help").out.split()) for name in ("compare", "study", "tune"))
    assert "[default: 30]" in compare
    assert "--control" in compare
    assert "[default: 30]" not in study
    assert "Epochs. [default: the study's own]" in study
    assert "--control" not in tune  # the search sets it, and refuses it
    assert "--seeds" in tune


def test_refusals_and_help_do_not_load_torch() -> None:
    loaded = loaded_after(
        "import sys\n"
        "from switch_ema.cli import main\n"
        "for arguments in (['--help'], ['list'], ['compare', 'classification', '--methods', 'emma'],\n"
        "                  ['compare', 'classification', '--model', 'timm/x'], ['report', 'nowhere']):\n"
        "    sys.argv = ['sema', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
    )
    assert not loaded & {"torch", "numpy", "lightning", "timm", "torchvision", "sklearn", "scipy", "plotly"}


@pytest.mark.parametrize("missing", ["typer", "lightning"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path: Path, missing: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        f"sys.argv = ['sema', *{[str(a) for a in compare(*SMALL, '--out', tmp_path / 'x')]!r}]\n"
        "from switch_ema.__main__ import main\n"
        "main()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"sema: {missing}")
    assert last.endswith(TO_INSTALL)


def test_a_package_that_is_missed_in_the_middle_is_named_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    images.load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.setattr("sys.argv", ["sema", *map(str, compare(*SMALL, "--out", tmp_path / "x"))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("sema: sklearn")
    assert last.endswith(TO_INSTALL)


def test_a_comparison_from_start_to_end(sema: Sema, tmp_path: Path) -> None:
    command = compare(*SMALL, "--methods", "ema:decay=0.8,sema:decay=0.8", "--control", "--out", tmp_path / "x")
    answer = sema(*command)
    assert answer.code == 0
    assert "sema:decay=0.8" in answer.out
    assert "baseline:lr_scale=" in answer.out
    assert "learning-rate controls" in answer.out
    assert "report.html" in answer.out
    rows = [json.loads(line) for line in (tmp_path / "x" / "rows.jsonl").read_text().splitlines()]
    assert all(set(row) == set(Row.__dataclass_fields__) for row in rows)
    assert {row["epoch"] for row in rows} == {1, 2}
    run = json.loads((tmp_path / "x" / "run.json").read_text())
    assert {"started", "asked", "environment", "methods", "trajectories"} <= set(run)

    again = sema(*command)
    assert again.code == 0
    assert "nothing to do" in again.err
    assert again.out == answer.out

    (tmp_path / "x" / "report.html").unlink()  # as if killed after the last epoch
    assert sema(*command).out == answer.out
    assert (tmp_path / "x" / "report.html").exists()

    other = sema(*command, "--lr", "0.1")
    assert other.code == 2
    assert "holds another comparison (lr: [0.05] there, [0.1] asked); choose another --out" in other.err


def test_a_switch_that_freezes_training_is_said_before_training(
    sema: Sema, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    methods = "sema:decay=0.99,switch_every=3 steps,lookahead:alpha=0.05,sema:decay=0.5"
    assert sema(*compare(*SMALL, "--methods", methods, "--out", tmp_path / "x")).code == 0
    decay, alpha = (record.getMessage() for record in caplog.records if "stands still" in record.getMessage())
    assert decay.startswith("sema:decay=0.99,switch_every=3 steps: a switch every 3 steps keeps 2.0 %")
    assert "would keep 25 %" in decay
    assert "would keep 25 %" not in alpha
    assert "alpha in Lookahead" in alpha


def test_json_is_one_object_for_machines(sema: Sema, tmp_path: Path) -> None:
    answer = sema(*compare(*SMALL, "--methods", "ema:decay=0.8", "--out", tmp_path / "x", "--json"))
    result = json.loads(answer.out)
    assert [row["label"] for row in result["rows"]] == ["baseline", "ema:decay=0.8"]
    assert Path(result["report"]).exists()


def test_several_rates_give_each_method_its_own_best(sema: Sema, tmp_path: Path) -> None:
    answer = sema(
        *compare(*SMALL, "--methods", "sema:decay=0.5", "--lr", "1e-6,0.05", "--out", tmp_path / "x", "--json")
    )
    result = json.loads(answer.out)
    assert result["own_rates"]
    assert [row["lr"] for row in result["rows"]] == [0.05, 0.05]


def test_a_folder_of_something_else_is_not_touched(sema: Sema, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    answer = sema(*compare("--out", tmp_path))
    assert answer.code == 2
    assert "holds files but no comparison" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_report_writes_the_page_anew(sema: Sema, tmp_path: Path) -> None:
    sema(*compare(*SMALL, "--methods", "ema:decay=0.8", "--out", tmp_path / "x"))
    before = (tmp_path / "x" / "report.html").read_bytes()
    (tmp_path / "x" / "report.html").unlink()
    assert sema("report", tmp_path / "x").code == 0
    assert (tmp_path / "x" / "report.html").read_bytes() == before


@pytest.mark.parametrize("what", ["tasks", "methods", "data", "models"])
def test_list_names_everything(sema: Sema, what: str) -> None:
    answer = sema("list", what)
    assert answer.code == 0
    expected = {"tasks": "classification", "methods": "power_ema", "data": "digits", "models": "timm/NAME"}[what]
    assert expected in answer.out


def rows_without_seconds(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def test_a_comparison_killed_midway_goes_on_to_the_same_rows(sema: Sema, tmp_path: Path) -> None:
    command = (*compare(*DONE_WHEN, "--seeds", 2, "--epochs", 4), "--out")
    assert sema(*command, tmp_path / "whole").code == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "switch_ema", *map(str, command), str(tmp_path / "cut")]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = tmp_path / "cut" / "rows.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rows.exists() and rows.stat().st_size > 4000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = len(rows.read_text().splitlines())
    assert 0 < cut < len(rows_without_seconds(tmp_path / "whole"))
    assert sema(*command, tmp_path / "cut").code == 0
    assert rows_without_seconds(tmp_path / "cut") == rows_without_seconds(tmp_path / "whole")


def test_ctrl_c_leaves_a_comparison_that_goes_on(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from switch_ema.bench.progress import LiveProgress

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    command = compare(*SMALL, "--methods", "ema:decay=0.8", "--out", tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(LiveProgress, "epoch", interrupt)
        answer = sema(*command)
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "sema: stopped; the same command continues where it was"
    assert sema(*command).code == 0


def test_two_processes_train_as_one_comparison(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "switch_ema", *map(str, compare(*SMALL, "--methods", "ema:decay=0.8"))]
    command += ["--devices", "2", "--strategy", "ddp", "--accelerator", "cpu", "--out", str(tmp_path / "x")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert answer.returncode == 0, answer.stderr
    run = json.loads((tmp_path / "x" / "run.json").read_text())
    assert run["environment"]["world_size"] == 2
    assert answer.stdout.count("report:") == 1
    rows = rows_without_seconds(tmp_path / "x")
    keys = [(row["method"], row["epoch"], row["split"], row["metric"]) for row in rows]
    assert len(keys) == len(set(keys))

"""A study from start to end: its folder, what it refuses, going on after a break, side by side, and its pages."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from switch_ema.bench.compare import compare
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.bench.studies import run as running
from switch_ema.bench.studies.entries import STUDIES, find_study
from switch_ema.bench.studies.record import read_arms
from switch_ema.bench.studies.run import plan_study
from switch_ema.bench.studies.study import Arm, Findings, Measured, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.text import as_markdown
from switch_ema.bench.studies.trained import Trained
from switch_ema.bench.timing import Estimate
from switch_ema.errors import FieldError, InputError
from tests.conftest import Sema

SMALL = {"model": "mlp", "epochs": "2", "seeds": "1", "lr": "0.05"}


def _arms(small: Settings) -> list[Arm]:
    return [
        Arm("one", "first", vary(small, methods="baseline,ema", keep_weights="last")),
        Arm("two", "second", vary(small, methods="baseline,sema", keep_weights="last")),
    ]


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    assert trained is not None
    rows = [trained.row(kept, "answer", 42.0, None) for kept in trained.solutions()]
    return Measured(rows, {"name": arm.name})


def _findings(arms: list[Reading]) -> Findings:
    told = [f"{arm.sheets['name']}: {sorted(arm.trained.methods)}" for arm in arms]
    values = {arm.trained.at(arm.trained.methods[1], 0.05, "test", metric="answer")[0] for arm in arms}
    return Findings(told, [Panel("Numbers", f"All are {values}.", table=(["a", "b"], [("<b>x</b>", "1|2")]))])


MADE = Study("Is it so?", (), "classification", SMALL, {"train_size": "100"}, "", _arms, _findings, _measure)  # type: ignore[arg-type]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch_ema.bench.studies.convergence.STUDY", MADE)


@pytest.mark.usefixtures("made")
def test_a_study_trains_measures_and_writes_its_pages(sema: Sema, tmp_path: Path) -> None:
    answer = sema("study", "convergence", "--jobs", 1, "--out", tmp_path / "s")
    assert answer.code == 0, answer.err
    assert "one: ['baseline', 'ema']\ntwo: ['baseline', 'sema']\nOne seed: no difference" in answer.out
    page = (tmp_path / "s" / "report.html").read_text()
    assert "All are {42.0}." in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    text = (tmp_path / "s" / "findings.md").read_text()
    assert "| &lt;b>x&lt;/b> | 1\\|2 |" in text
    assert (tmp_path / "s" / "arms" / "one" / "report.html").exists()


@pytest.mark.usefixtures("made")
def test_a_finished_study_is_not_trained_again_and_a_broken_off_one_goes_on(
    sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def stop_at_second(settings: object, folder: Path, *more: object) -> object:
        if folder.name == "two" and not trained.count("two"):
            trained.append("two")
            raise KeyboardInterrupt
        trained.append(folder.name)
        return compare(settings, folder, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "compare", stop_at_second)
    asked = ("study", "convergence", "--jobs", 1, "--out", tmp_path / "s")
    assert sema(*asked).code == 130
    assert sema(*asked).code == 0
    assert trained == ["one", "two", "two"]
    page = (tmp_path / "s" / "report.html").read_bytes()
    assert sema(*asked).code == 0
    assert trained == ["one", "two", "two"]
    assert (tmp_path / "s" / "report.html").read_bytes() == page


@pytest.mark.usefixtures("made")
def test_another_request_does_not_overwrite(sema: Sema, tmp_path: Path) -> None:
    assert sema("study", "convergence", "--jobs", 1, "--out", tmp_path / "s").code == 0
    answer = sema("study", "convergence", "--jobs", 1, "--batch-size", 32, "--out", tmp_path / "s")
    assert answer.code == 2
    assert "holds another study (batch-size: 64 there, 32 asked); choose another --out" in answer.err
    answer = sema("study", "early", "--out", tmp_path / "s")
    assert (answer.code, "holds the study convergence; choose another --out" in answer.err) == (2, True)


def test_side_by_side_comes_to_the_same(sema: Sema, tmp_path: Path) -> None:
    asked = ("study", "lr-decay", "--epochs", 1, "--seeds", 1, "--lr", 0.05, "--train-size", 100)
    for jobs in (1, 2):
        assert sema(*asked, "--jobs", jobs, "--out", tmp_path / f"j{jobs}").code == 0
    one, two = (
        [[row["value"] for row in map(json.loads, (path / "rows.jsonl").read_text().splitlines())] for path in folders]
        for folders in (sorted((tmp_path / f"j{jobs}" / "arms").iterdir()) for jobs in (1, 2))
    )
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "convergance"], "unknown study 'convergance'; did you mean 'convergence'?"),
        (["study", "--epochs", "2"], "Missing argument 'name'"),
        (["study", "convergence", "--methods", "ema"], "--methods ema: study convergence sets it itself; leave it out"),
        (["study", "convergence", "--epochs", "0"], "--epochs '0': input should be greater than or equal to 1"),
        (["study", "convergence", "--jobs", "0"], "--jobs 0: write at least 1"),
        (["study", "convergence", "--recipe", "cifar"], "unknown task 'cifar'"),
        (["study", "convergence", "--no-such", "1"], "--no-such is no option of task classification"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(sema: Sema, arguments: list[str], message: str) -> None:
    answer = sema(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_damaged_measurements_are_named(sema: Sema, tmp_path: Path, made: None) -> None:
    assert sema("study", "convergence", "--jobs", 1, "--out", tmp_path / "s").code == 0
    (tmp_path / "s" / "arms" / "one" / "measured.json").write_text("{")
    with pytest.raises(InputError, match=r"measured\.json is damaged; delete it and give the command again"):
        read_arms(tmp_path / "s")
    with pytest.raises(InputError, match="is not the folder of a study"):
        read_arms(tmp_path)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_vary_what_was_asked(name: str) -> None:
    study = find_study(name)
    base, arms = plan_study(name, "", {"seeds": "7"}, {})
    assert len({arm.name for arm in arms}) == len(arms) > 0
    assert study.question.endswith("?")
    assert study.claims
    trained = [arm.settings for arm in arms if arm.settings]
    assert base.seeds == 7
    assert not trained or 7 in {settings.seeds for settings in trained}


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in ("theory", "boundary", "noisy-labels")])
def test_studies_run_from_their_recipes(name: str) -> None:
    recipe = find_study(name).recipe
    assert recipe
    _, arms = plan_study(name, recipe, {"data": "digits", "model": "small-resnet", "batch_size": "64"}, {})
    assert all(arm.settings and arm.settings.data for arm in arms)


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [({}, {}, 0.4), ({"data": "digits"}, {}, 0.4), ({}, {"val_share": "0.3"}, 0.3), ({"data": "mnist"}, {}, None)],
)
def test_options_for_digits_go_with_digits_alone(
    data: dict[str, str], options: dict[str, str], expected: float | None
) -> None:
    base, arms = plan_study("convergence", "", data, options)
    found = {arm.settings.task_options.get("val_share") for arm in arms if arm.settings}
    assert found == {base.task_options.get("val_share")} == {expected}


def test_rates_are_relative_unless_several_are_asked_for() -> None:
    base = request("classification", SMALL, {})
    assert rates(base, (0.1, 1, 3)) == (0.005, 0.05, 0.15)
    assert rates(vary(base, lr=(0.2, 0.4)), (0.1, 1, 3)) == (0.2, 0.4)


def test_vary_checks_what_it_makes() -> None:
    base = request("classification", SMALL, {})
    noisy = vary(base, {"label_noise": 0.4})
    assert noisy.task_options == {"label_noise": 0.4}
    assert vary(noisy, epochs=3).task_options == {"label_noise": 0.4}
    assert vary(noisy, task="regression", data="diabetes", model="auto").task_options == {}
    with pytest.raises(FieldError, match="epochs"):
        vary(base, epochs=0)
    with pytest.raises(FieldError, match="label_noise"):
        vary(base, {"label_noise": 2})


def test_errors_come_back_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(FieldError("epochs", "0: write at least 1")))
    assert (error.field, str(error)) == ("epochs", "epochs 0: write at least 1")


def test_text_is_no_markup_in_the_findings() -> None:
    findings = Findings(
        ["<i>p</i> < 0.05 & a|b"], [Panel("x<y", "", table=(["a|b"], [("1\n2",), ("&lt;",)]))], ["<!--"]
    )
    record = {"study": "made", "command": "sema study made", "started": "now"}
    text = as_markdown(record, MADE, [], findings)
    assert "\n&lt;i>p&lt;/i> &lt; 0.05 &amp; a|b\n" in text
    assert "\n## x&lt;y\n" in text
    assert "\n- &lt;!--\n" in text
    assert "| a\\|b |\n| --- |\n| 1 2 |\n| &amp;lt; |" in text


@pytest.mark.usefixtures("made")
def test_the_time_left_goes_by_the_epochs_of_all_comparisons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, told = [0.0], list[str]()

    def train(name: str, arm: Arm, *_: object) -> None:
        now[0] += 80 if arm.name == "long" else 20

    base, _ = plan_study("convergence", "", {}, {})
    arms = [
        Arm(name, name, vary(base, methods="baseline", epochs=epochs))
        for name, epochs in (("first", 1), ("long", 7), ("last", 3))
    ]
    monkeypatch.setattr(running, "_run_arm", train)
    monkeypatch.setattr(running, "Estimate", partial(Estimate, clock=lambda: now[0]))
    running._one_by_one("convergence", arms, tmp_path, "", told.append, lambda: nullcontext(Silent()))
    assert told == ["[1/3] first", "[2/3] long (about 2 min left in all)", "[3/3] last (about 40 s left in all)"]

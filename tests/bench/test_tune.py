"""A search: judged on validation, trained again on fresh seeds, and the same whether it was broken off or not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench import tune as tune_module
from switch_ema.bench.compare import compare
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.results import read_run
from switch_ema.bench.sampling import ask, completed, open_study
from switch_ema.bench.searchspace import Space, method_at, read_space
from switch_ema.bench.tune import FIRST_SEED, Search, check_search, read_trials, tune
from switch_ema.bench.tune_page import read_outcome, write_outcome
from switch_ema.errors import InputError
from tests.conftest import Sema

GIVEN = {"model": "mlp", "batch_size": "32", "epochs": "2", "seeds": "2"}
SMALL = ("--model", "mlp", "--batch-size", 32, "--epochs", 2, "--seeds", 2, "--train-size", 96, "--trials", 3)


def search() -> Search:
    return Search(request("classification", GIVEN, {"train_size": "96"}), trials=3, trial_seeds=1)


class Quiet(Silent):
    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *about: object) -> None:
        pass


def run(out: Path) -> list[str]:
    told: list[str] = []
    assert not check_search(search(), out)
    tune(search(), out, "sema tune", told.append, Quiet)
    return told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "x"
    run(out)
    return out


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_trials_and_the_last_comparison_share_no_seed(finished: Path) -> None:
    trials, final = (read_run(finished / name)[1] for name in ("trials", "final"))
    tried, fresh = ({row["seed"] for row in rows} for rows in (trials, final))
    assert (tried, fresh) == ({FIRST_SEED}, {0, 1})
    assert not tried & fresh
    assert {row["method"].partition(":")[0] for row in final} == {"baseline", "ema", "sema"}
    assert any("lr_scale" in row["method"] for row in final)  # the learning-rate control


def test_the_best_on_validation_is_trained_again(finished: Path) -> None:
    found, page = write_outcome(finished)
    assert len(found.trials) == 3
    assert found.best.val.mean == max(trial.val.mean or 0 for trial in found.trials)
    assert found.best.label in [row.label for row in found.final.rows]
    first, second, *_ = found.sentences
    assert first.startswith("Best of 3 trials on validation: sema:decay=")
    assert "(1 seed)" in first
    assert second.startswith("Trained again on 2 fresh seeds its validation accuracy is ")
    wanted = (found.best.label, "val", "accuracy", 2)
    rows = read_run(finished / "final")[1]
    names = ("method", "split", "metric", "epoch")
    values = [row["value"] for row in rows if tuple(row[name] for name in names) == wanted]
    assert found.again.mean == pytest.approx(sum(values) / 2)
    assert 'href="final/report.html"' in page.read_text()
    assert json.loads((finished / "tuned.json").read_text())["best"]["label"] == found.best.label


def test_the_first_trial_is_the_default(finished: Path) -> None:
    [first, *_] = read_trials(finished / "trials")
    assert first.window == pytest.approx(3, rel=0.01)  # steps an epoch
    assert first.interval == 1


def test_broken_off_and_continued_it_is_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopError(Exception):
        pass

    real, trained = tune_module._train, [0]

    def stop(*arguments: Any) -> Any:
        trained[0] += 1
        if trained[0] == 2:
            raise StopError
        return real(*arguments)

    monkeypatch.setattr(tune_module, "_train", stop)
    out = tmp_path / "x"
    with pytest.raises(StopError):
        run(out)
    trained[0] = 1
    monkeypatch.setattr(tune_module, "_train", real)
    monkeypatch.setattr(tune_module, "compare", stop)
    with pytest.raises(StopError):
        run(out)
    monkeypatch.setattr(tune_module, "compare", compare)
    run(out)
    for name in ("trials", "final"):
        assert plain(read_run(out / name)[1]) == plain(read_run(finished / name)[1])
    assert read_outcome(out).sentences == read_outcome(finished).sentences
    assert check_search(search(), out)


def test_the_command(finished: Path, sema: Sema) -> None:
    answer = sema("tune", "classification", *SMALL, "--out", finished)
    assert answer.code == 0, answer.err
    assert answer.err == f"nothing to do: {finished} holds this search, finished\n"
    assert "Best of 3 trials on validation" in answer.out
    assert answer.out.splitlines()[-1] == f"report: {finished / 'report.html'}"
    as_json = json.loads(sema("tune", "classification", *SMALL, "--out", finished, "--json").out)
    assert len(as_json["trials"]) == 3
    other = sema("tune", "classification", *SMALL, "--out", finished, "--lr", 0.01)
    assert other.code == 2
    assert "holds another search (lr: [0.05] there, [0.01] asked); choose another --out" in other.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", 0), "--trials 0: write at least 1"),
        (("--trial-seeds", 0), "--trial-seeds 0: write at least 1"),
        (("--methods", "sema"), "--methods is set by the search itself; leave it out"),
        (("--control",), "--control is set by the search itself; leave it out"),
        (("--devices", 2), "--devices 2: a search trains on one device"),
        (("--optimizer", "schedulefree"), "--optimizer schedulefree: it keeps weights of its own"),
        (("--epochs", 0), "--epochs '0'"),
    ],
)
def test_bad_input(sema: Sema, tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    answer = sema("tune", "classification", *arguments, "--out", tmp_path / "x")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert words in answer.err
    assert not (tmp_path / "x").exists()


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something else than a search"):
        check_search(search(), tmp_path)


@pytest.mark.parametrize(
    ("decay", "interval", "words"),
    [
        ("0.9", None, "decay '0.9' is not a range; write e.g. 0.9,0.999"),
        ("0.9,1", None, "decay 0.9,1: write two decays"),
        ("0.99,0.9", None, "the lower first"),
        ("nan,0.9", None, "is not a range"),
        (None, "0,10", "switch_every 0,10: write two whole numbers of steps from 1 to 100"),
        (None, "5,1000", "from 1 to 100"),
        (None, "1.5,10", "whole numbers"),
        (None, "often", "switch_every 'often' is not a range"),
    ],
)
def test_wrong_ranges_are_refused(decay: str | None, interval: str | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_space(decay, interval, steps=100)
    assert words in str(caught.value)


def test_ranges_follow_the_length_of_training() -> None:
    assert read_space(None, None, steps=1000) == Space((0.5, 0.998), (1, 250))
    assert read_space("0.9,0.99", "5,50", steps=1000).window == pytest.approx((10, 100))
    assert read_space(None, None, steps=2) == Space((0.5, 0.6), (1, 1))


def test_points_are_written_as_methods() -> None:
    assert (
        method_at({"window": 20_000.0, "interval": 500, "lr": 0.1}).label == "sema:decay=0.99995,switch_every=500 steps"
    )


def test_a_search_that_was_broken_off_asks_for_the_same_points(tmp_path: Path) -> None:
    space = Space((0.5, 0.999), (1, 100))

    def asked(out: Path, break_off: bool) -> list[dict[str, Any]]:
        out.mkdir()
        points = []
        study = open_study(out, higher_is_better=True)
        for number in range(13):
            if break_off and number in (0, 6, 12):
                ask(study, space, (0.1, 0.2), 10)  # and the process dies
                study = open_study(out, higher_is_better=True)
            trial = ask(study, space, (0.1, 0.2), 10)
            points.append(dict(trial.params))
            study.tell(trial, -math.inf if number == 5 else -abs(math.log(trial.params["window"] / 30)))
        assert len(completed(study)) == 13
        return points

    straight = asked(tmp_path / "straight", False)
    assert asked(tmp_path / "broken", True) == straight
    assert straight[0] == {"window": 10.0, "interval": 10, "lr": 0.1}
    assert len({point["window"] for point in straight}) == 13


def test_the_database_lies_in_the_folder_whatever_it_is_called(tmp_path: Path) -> None:
    out = tmp_path / "what? #1 {x} 50%41"
    out.mkdir()
    open_study(out, higher_is_better=True)
    assert [path.name for path in out.iterdir()] == ["optuna.db"]
    assert list(tmp_path.iterdir()) == [out]


def test_damage_is_told_in_a_line(finished: Path, tmp_path: Path, sema: Sema) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "optuna.db").write_text("no database" * 1000)
    with pytest.raises(InputError, match=r"optuna\.db cannot be read; delete the folder"):
        open_study(tmp_path / "x", higher_is_better=True)
    record = (finished / "tune.json").read_text()
    (tmp_path / "x" / "tune.json").write_text(record.replace('"trials": 3', '"trials": 4'))
    answer = sema("tune", "classification", *SMALL, "--out", tmp_path / "x")
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "tune.json is damaged" in answer.err

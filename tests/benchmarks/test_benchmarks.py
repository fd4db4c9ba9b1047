"""The benchmark's own arithmetic, check of the averages, tables and picture: nothing is timed, no peer is needed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import run
from benchmarks.check import verify
from benchmarks.measure import interleave, ratio, spread
from benchmarks.peers import OURS, PEERS, Average, Ours, reason
from benchmarks.picture import picture
from benchmarks.rows import Row, read_results, timed_rows, write_results
from benchmarks.shapes import GPT2Shapes, is_tied, many_small, num_parameters
from benchmarks.table import WIDTH, cell, markdown, number, summary
from benchmarks.updates import swap_fault

DECAY = 0.999
HERE = ("switch_ema", "switch_ema, no buffers", "torch AveragedModel", "torch, use_buffers")  # need torch alone
MACHINE = {
    "date": "2026-01-01",
    "system": "Linux x86_64",
    "processor": "A processor",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "python": "3.11",
    "versions": {"switch-ema": "0.1.0", "torch": "2.14.1", "a-peer-with-a-long-name": "1.2.3", "another": "10.0.1"},
    "rounds": 40,
    "load_before": 0.1,
    "load_after": 1.0,
}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.b = nn.Linear(3, 4)
        self.b.weight = self.a.weight


class Faulty:
    """Our average, but what `fault` says is done to it."""

    def __init__(self, model: nn.Module, fault: str) -> None:
        self._model = model
        self._ours = Ours(model, 0.99 if fault == "another decay" else DECAY)
        self._fault = fault
        self._calls = 0
        self.state, self.load = self._ours.state, self._ours.load

    def update(self) -> None:
        self._calls += 1
        if self._fault == "raises":
            raise RuntimeError("no such thing\nsecond line")
        if self._fault != "skips the last" or self._calls < 4:
            self._ours.update()
        if self._fault == "updates twice":
            self._ours.update()

    def tensors(self) -> dict[str, Tensor]:
        tensors = self._ours.tensors()
        if self._fault == "rounds":
            return {name: tensor.bfloat16().float() for name, tensor in tensors.items()}
        if self._fault == "keeps half precision":
            return {name: tensor.bfloat16() for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in tensors.items() if self._fault != "forgets one" or name != "a.bias"}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        if self._fault == "lends nothing":
            yield
            return
        with self._ours.swapped():
            yield
        if self._fault == "brings back other weights":
            with torch.no_grad():
                next(self._model.parameters()).add_(1e-6)


def test_right_averages_pass_the_check() -> None:
    model = Tied()
    contenders = {peer.name: peer.make(model, DECAY) for peer in PEERS if peer.name in HERE}
    verdicts = verify(model, contenders, DECAY)
    assert {name: verdict.fault for name, verdict in verdicts.items()} == dict.fromkeys(HERE, "")
    assert verdicts["switch_ema"].buffers == {"floats": "averaged", "integers": "copied"}
    assert verdicts["switch_ema, no buffers"].buffers == {"floats": "not kept", "integers": "not kept"}
    assert verdicts["torch AveragedModel"].buffers == {"floats": "copied", "integers": "copied"}
    assert verdicts["torch, use_buffers"].buffers == {"floats": "averaged", "integers": "wrong"}


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("skips the last", "wrong: the average of a.weight is off"),
        ("updates twice", "wrong: the average of a.weight is off"),
        ("another decay", "wrong: the average of a.weight is off"),
        ("rounds", "wrong: the average of a.weight is off"),
        ("keeps half precision", "stays bfloat16"),
        ("forgets one", "wrong: keeps no average of a.bias"),
        ("raises", "cannot: no such thing"),
    ],
)
def test_wrong_averages_are_found(fault: str, found: str) -> None:
    torch.manual_seed(0)
    model = Tied()
    verdicts = verify(model, {"faulty": Faulty(model, fault), "right": Ours(model, DECAY)}, DECAY)
    assert verdicts["faulty"].fault.startswith(found)
    assert verdicts["right"].fault == ""


def test_mixed_types_pass_only_with_exact_sums() -> None:
    model = many_small(1).bfloat16()
    torch_single = next(peer for peer in PEERS if peer.name == "torch, avg_fn")
    contenders: dict[str, Average] = {
        "ours": Ours(model, DECAY),
        "torch": torch_single.make(model, DECAY),
        "faulty": Faulty(model, "updates twice"),
    }
    verdicts = verify(model, contenders, DECAY)
    assert verdicts["ours"].fault == ""
    assert verdicts["torch"].fault.startswith("inexact: off by")
    assert verdicts["faulty"].fault.startswith("wrong: the average of 0.weight is off by")


@pytest.mark.parametrize("name", HERE)
def test_swaps_lend_and_bring_back(name: str) -> None:
    model = Tied()
    average = next(peer for peer in PEERS if peer.name == name).make(model, DECAY)
    verify(model, {name: average}, DECAY)
    assert swap_fault(model, average) == ""


@pytest.mark.parametrize(
    ("fault", "found"),
    [("lends nothing", "wrong: the weights inside"), ("brings back other weights", "wrong: the weights do not come")],
)
def test_wrong_swaps_are_found(fault: str, found: str) -> None:
    model = Tied()
    average = Faulty(model, fault)
    verify(model, {"faulty": average}, DECAY)
    assert swap_fault(model, average).startswith(found)


def test_ratios_are_taken_within_a_round() -> None:
    ours, theirs = [1.0, 10.0, 2.0, 1.0, 4.0], [2.0, 20.0, 4.0, 2.0, 8.0]
    assert ratio(theirs, ours) == spread([2.0] * 5)
    assert (spread([5.0]).low, spread([4.0, 1.0, 2.0, 3.0, 5.0]).median) == (5.0, 3.0)
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]).low == 2.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]).high == 4.0


def test_all_take_turns_in_every_round() -> None:
    calls: list[str] = []
    actions = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleave(actions, 5, torch.device("cpu"), before=lambda: calls.append("-"), warm_up=2)
    rounds = "".join(calls).split("-")[1:]
    assert [len(taken) for taken in times.values()] == [5, 5, 5]
    assert [sorted(one) for one in rounds] == [["a", "b", "c"]] * 7
    assert len(set(rounds)) > 1  # no contender always follows the same other


def test_shapes() -> None:
    assert len(list(many_small().parameters())) == 400
    with torch.device("meta"):
        model = GPT2Shapes()
    assert num_parameters(model) == 124_439_808
    assert is_tied(model)
    assert not is_tied(many_small(1))


def rows() -> list[Row]:
    times = {OURS.name: [0.1, 0.2], "a peer": [0.2, 0.4], "quick": [0.05, 0.1], "(bare)": [0.01, 0.02]}
    found = []
    for dtype in ("float32", "mixed"):
        for name in ("ResNet-50", "ViT-B/16", "GPT-2 small", "400 small"):
            found += timed_rows("update", dtype, name, times, OURS.name, {})
            found.append(Row("update", dtype, name, "a < b & c", note="cannot: a reason that is told beneath"))
    found.append(Row("state", "ResNet-50", "stays float32", OURS.name, note="yes"))
    for name, peak in ((OURS.name, 1.0), ("a peer", 2.0), ("alike", 0.999), ("less", 0.5)):
        found.append(Row("memory", "ViT-B/16, mixed", "peak", name, "x", peak, peak, peak))
    return found


def test_rows_hold_medians_and_ratios_to_ours() -> None:
    ours, peer, *_ = rows()
    assert (round(ours.value or 0), ours.ratio, ours.unit) == (150, 1.0, "ms")
    assert (round(peer.value or 0), peer.ratio, peer.low, peer.high) == (300, 2.0, 2.0, 2.0)


def test_results_are_read_as_written(tmp_path: Path) -> None:
    write_results(tmp_path / "cpu.json", MACHINE, rows())
    assert read_results(tmp_path / "cpu.json") == (MACHINE, rows())


def test_tables_are_narrow_and_complete() -> None:
    text = markdown(MACHINE, rows())
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in (
        "300 ms (2.00)",
        "1. cannot: a reason that is told beneath",
        "a-peer-with-a-long-name 1.2.3",
        "| yes",
    ):
        assert words in text
    assert "nan" not in text


def test_summary_says_where_ours_is_slower() -> None:
    lines = "\n".join(summary(rows())).splitlines()
    assert sum("quick" in line and "SLOWER" in line for line in lines) == 8
    alone = [row for row in rows() if row.contender != "quick"]
    lines = "\n".join(summary(alone)).splitlines()
    assert sum("a peer" in line and "faster" in line for line in lines) == 8
    unsure = [replace(row, low=0.9, high=1.1) for row in rows()]
    assert "alike" in "\n".join(summary(unsure))
    assert summary([]) == []


def test_cells() -> None:
    notes: dict[str, int] = {}
    assert cell(None, notes) == ""
    assert cell(Row("update", "", "", "p", note="wrong: so"), notes) == "wrong [1]"
    assert cell(Row("update", "", "", "q", note="wrong: otherwise"), notes) == "wrong [2]"
    assert cell(Row("update", "", "", "r", note="wrong: so"), notes) == "wrong [1]"
    assert cell(Row("buffers", "", "", "s", note="not kept"), notes) == "not kept"
    assert [number(value) for value in (1234.5, 12.34, 1.234, 0.01234)] == ["1234", "12.3", "1.23", "0.012"]


def test_picture_is_drawn_to_scale_and_apart() -> None:
    root = ElementTree.fromstring(picture(MACHINE, rows()))
    svg = "{http://www.w3.org/2000/svg}"
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    bars = [rect.attrib for rect in root.iter(f"{svg}rect") if rect.attrib.get("height") == "12"]
    assert len(bars) == 8 * 4 + 4
    ours, peer, alike, less = (bar["fill"] for bar in bars[-4:])
    assert len({ours, peer, less}) == 3
    assert alike == peer
    assert float(bars[1]["width"]) == pytest.approx(2 * float(bars[0]["width"]), abs=0.2)
    assert float(bars[1]["width"]) > 200
    places = {(text.attrib["x"], text.attrib["y"]) for text in root.iter(f"{svg}text")}
    texts = list(root.iter(f"{svg}text"))
    assert len(places) == len(texts)
    assert all(0 <= float(t.attrib["x"]) <= width and 0 <= float(t.attrib["y"]) <= height for t in texts)
    words = {text.text for text in texts}
    assert {"cannot", "a < b & c", "ViT-B/16, bfloat16 weights, float32 averages", "ours: 150 ms"} <= words


def test_command_line() -> None:
    options = run.parse(["--only", "update", "--models", "400 small", "--rounds", "2", "--device", "cpu"])
    titles = [title for title, _ in run.sections(options, torch.device("cpu"))]
    assert titles == ["update, 400 small float32", "update, 400 small mixed"]
    everything = [title.split(",")[0] for title, _ in run.sections(run.parse([]), torch.device("cpu"))]
    assert set(everything) == set(run.SECTIONS)
    with pytest.raises(SystemExit):
        run.parse(["--rounds", "0"])


def test_reasons_take_one_line() -> None:
    assert reason(ValueError("first\nsecond")) == "cannot: first"
    assert reason(ValueError()) == "cannot: ValueError"

"""Averages of checkpoint files: the right weights, every kind of file, little memory, and no wrong input taken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import switch_ema
from switch_ema import SWA, average_checkpoints, load_averaged, save_averaged
from switch_ema.averaging import safewriter, sources
from switch_ema.averaging.merge import ema_weights, recipe_weights
from tests.conftest import Sema

from .cases import batchnorm
from .test_checkpoints import Tied, bits, trained

State = dict[str, Tensor]
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.complex64)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)


def state(dtype: torch.dtype = torch.float32) -> State:
    return {"fc.weight": torch.randn(5, 3).to(dtype), "fc.bias": torch.randn(5).to(dtype)}


def files(states: list[State], ending: str = ".safetensors") -> list[str]:
    """Save states as files a, b, c, ... and return their names."""
    names = [f"{chr(ord('a') + i)}{ending}" for i in range(len(states))]
    for name, values in zip(names, states, strict=True):
        if ending == ".safetensors":
            save_file(values, name)
        else:
            torch.save(values, name)
    return names


def mean(states: list[State], weights: list[float]) -> State:
    """The slow, plain version: a weighted sum in float64."""
    return {
        name: sum((w * s[name].double() for w, s in zip(weights, states, strict=True)), torch.zeros(())).to(
            states[0][name].dtype
        )
        for name in states[0]
    }


def averaged(inputs: list[str], **options: Any) -> State:
    average_checkpoints(inputs, "out.safetensors", force=True, **options)
    return load_file("out.safetensors")


def close(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[n], other[n], rtol=1e-6, atol=1e-7) for n in one)


# how much each file counts


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [1 / 4] * 4),
        ({"weights": [1, 2, 3, 4]}, [0.1, 0.2, 0.3, 0.4]),
        ({"weights": [0, 3, 0, 1]}, [0, 0.75, 0, 0.25]),
        ({"weights": [-1, 0, 0, 3]}, [-0.5, 0, 0, 1.5]),
        ({"weights": [1e308, 1e308, 1e308, 1e308]}, [1 / 4] * 4),
        ({"decay": 0.5}, [0.125, 0.125, 0.25, 0.5]),
        ({"decay": 0.0}, [0, 0, 0, 1]),
        ({"decay": 1}, [1, 0, 0, 0]),
        ({"half_life": 1}, [0.125, 0.125, 0.25, 0.5]),
        ({"half_life": 2.0}, [0.5**1.5, (1 - 0.5**0.5) * 0.5, (1 - 0.5**0.5) * 0.5**0.5, 1 - 0.5**0.5]),
        ({"recipe": "linear"}, [1 / 4] * 4),
        ({"recipe": "1-sqrt"}, [0.5, 0.5**0.5 - 0.5, 0.75**0.5 - 0.5**0.5, 1 - 0.75**0.5]),
        ({"recipe": "cosine"}, [(1 - 0.5**0.5) / 2, 0.5**0.5 / 2, 0.5**0.5 / 2, (1 - 0.5**0.5) / 2]),
        ({"last": 3}, [0, 1 / 3, 1 / 3, 1 / 3]),
        ({"last": 2, "weights": [1, 3]}, [0, 0, 0.25, 0.75]),
        ({"last": 2, "decay": 0.25}, [0, 0, 0.25, 0.75]),
    ],
    ids=str,
)
def test_files_count_as_they_should(options: dict[str, Any], weights: list[float]) -> None:
    states = [state() for _ in range(4)]
    assert close(averaged(files(states), **options), mean(states, weights))
    about = average_checkpoints(files(states), "o.safetensors", **options)
    assert about["weights"] == pytest.approx([w for w in weights if w or "last" not in options])


@pytest.mark.parametrize("k", range(2, 8))
def test_the_mean_is_that_of_torch(k: int) -> None:
    states = [state() for _ in range(k)]
    result = averaged(files(states))
    for name, value in result.items():
        assert torch.equal(value, torch.stack([s[name].double() for s in states]).mean(0).float())


def test_an_ema_of_files_is_that_of_a_loop() -> None:
    states = [state() for _ in range(6)]
    average = {name: value.double() for name, value in states[0].items()}
    for later in states[1:]:
        average = {name: 0.7 * old + 0.3 * later[name] for name, old in average.items()}
    result = averaged(files(states), decay=0.7)
    assert close(result, {name: value.float() for name, value in average.items()})
    assert not close(result, averaged(files(states)[::-1], decay=0.7))


def test_a_recipe_makes_progress_count_as_the_decay_would() -> None:
    """What is learned between files i-1 and i counts by the decay at i / n."""
    progress = [torch.randn(8, dtype=torch.float64) for _ in range(6)]
    start = torch.randn(8, dtype=torch.float64)
    states = [{"w": start + sum(progress[:i], torch.zeros(8))} for i in range(6)]
    decayed = start + sum(((1 - (i / 6) ** 0.5) * progress[i - 1] for i in range(1, 6)), torch.zeros(8))
    torch.testing.assert_close(averaged(files(states), recipe="1-sqrt")["w"], decayed, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_weights_add_up_to_one(n: int) -> None:
    for weights in (ema_weights(n, 0.9), *(recipe_weights(n, name) for name in ("1-sqrt", "linear", "cosine"))):
        assert sum(weights) == pytest.approx(1, abs=1e-12)
        assert min(weights) > 0


def test_a_tail_is_the_mean_of_what_came_between() -> None:
    values = [torch.randn(7) for _ in range(10)]
    means = [{"w": torch.stack(values[:n]).double().mean(0)} for n in (4, 10)]
    result = averaged(files(means), tail=(4, 10))["w"]
    torch.testing.assert_close(result, torch.stack(values[4:]).double().mean(0), rtol=1e-13, atol=1e-13)


def test_a_tail_of_saved_means_knows_its_counts() -> None:
    model = batchnorm()
    averager = SWA(model)
    seen = []
    for epoch in range(7):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        averager.end_epoch()
        seen.append(model.get_parameter("0.weight").detach().clone())
        if epoch in (2, 6):
            save_averaged(averager, f"{epoch}.safetensors")
    result = averaged(["2.safetensors", "6.safetensors"], tail="saved")["0.weight"]
    torch.testing.assert_close(result, torch.stack(seen[3:]).mean(0))
    with pytest.raises(ValueError, match="the smaller first, got 7, 3"):
        averaged(["6.safetensors", "2.safetensors"], tail="saved")
    save_averaged(trained(batchnorm()), "ema.safetensors")
    with pytest.raises(ValueError, match=r"ema.safetensors is no plain mean saved by save_averaged \(SWA\)"):
        averaged(["2.safetensors", "ema.safetensors"], tail="saved")


# exact where it can be


def any_bits(dtype: torch.dtype, size: int = 4096) -> Tensor:
    """Values of every sort: tiny, huge, negative zero, infinite, and not a number."""
    return torch.randint(0, 256, (size * dtype.itemsize,), dtype=torch.uint8).view(dtype)


@pytest.mark.parametrize("options", [{}, {"decay": 0.9}, {"recipe": "1-sqrt"}, {"weights": [0.1] * 7}], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_average_of_copies_is_the_copy_bit_for_bit(dtype: torch.dtype, options: dict[str, Any]) -> None:
    values = {"w": any_bits(dtype)}
    result = averaged(files([values] * 7, ".pt"), **options)
    assert result["w"].dtype == dtype
    assert bits(result["w"]) == bits(values["w"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn], ids=str)
def test_low_precision_is_summed_in_double(dtype: torch.dtype) -> None:
    states = [state(dtype) for _ in range(50)]
    result = averaged(files(states, ".pt"))
    for name, value in result.items():
        assert value.dtype == dtype
        right = torch.stack([s[name].double() for s in states]).mean(0)
        assert torch.equal(value.double(), right.to(dtype).double())


def test_a_small_part_is_not_lost_beside_a_large_one() -> None:
    states = [{"w": torch.tensor([1e8])}, {"w": torch.tensor([1.0])}, {"w": torch.tensor([-1e8])}]
    assert averaged(files(states))["w"].item() == pytest.approx(1 / 3, rel=1e-6)


def test_a_file_of_no_weight_does_not_count_even_if_it_is_not_finite() -> None:
    states = [{"w": torch.full((3,), torch.nan)}, {"w": torch.ones(3)}]
    assert averaged(files(states), weights=[0, 1])["w"].tolist() == [1, 1, 1]


def test_whole_numbers_and_truth_values_are_those_of_the_last_file() -> None:
    states = [{"n": torch.tensor(i), "m": torch.tensor([i > 1]), "w": torch.ones(1)} for i in range(3)]
    result = averaged(files(states), weights=[1, 1, 0])
    assert (result["n"].item(), result["m"].tolist(), result["n"].dtype) == (2, [True], torch.int64)


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safewriter, "BLOCK", 4)
    states = [state() | {"empty": torch.zeros(0, 3), "scalar": torch.randn(())} for _ in range(3)]
    assert close(averaged(files(states)), mean(states, [1 / 3] * 3))
    assert close(averaged(files(states, ".pt")), mean(states, [1 / 3] * 3))


def test_the_type_can_be_chosen() -> None:
    states = [state(torch.bfloat16) | {"n": torch.tensor(3)} for _ in range(3)]
    wide = averaged(files(states), dtype="float32")
    assert torch.equal(wide["fc.bias"], torch.stack([s["fc.bias"].double() for s in states]).mean(0).float())
    assert wide["n"].dtype == torch.int64
    mixed = [states[0], state() | {"n": torch.tensor(3)}]
    assert averaged(files(mixed), dtype="float64")["fc.weight"].dtype == torch.float64


# every kind of file


def sharded(values: State, folder: str, save: Callable[[State, Path], None] = save_file, ending: str = "") -> Path:
    """Save a state as two shards with an index, and return the folder."""
    Path(folder).mkdir()
    ending = ending or "model-{}.safetensors"
    place = {name: ending.format(i % 2) for i, name in enumerate(values)}
    for shard in set(place.values()):
        save({name: value for name, value in values.items() if place[name] == shard}, Path(folder, shard))
    index = ending.replace("-{}", "") + ".index.json"
    Path(folder, index).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return Path(folder)


def test_shards_and_single_files_give_the_same() -> None:
    states = [state(), state()]
    one = averaged(files(states))
    folders = [str(sharded(values, f"folder{i}")) for i, values in enumerate(states)]
    torches = [str(sharded(values, f"t{i}", torch.save, "pytorch_model-{}.bin")) for i, values in enumerate(states)]
    for inputs in (
        folders,
        [f"{folder}/model.safetensors.index.json" for folder in folders],
        torches,
        [folders[0], "b.safetensors"],
        files(states, ".pt"),
        ["a.safetensors", "b.pt"],
    ):
        result = averaged(inputs)
        assert one.keys() == result.keys()
        assert all(torch.equal(one[name], result[name]) for name in one)


def test_a_folder_with_one_file_is_that_file() -> None:
    Path("folder").mkdir()
    save_file(state(), "folder/model.safetensors")
    assert averaged(["folder", "folder"]).keys() == state().keys()


@pytest.mark.parametrize(
    ("checkpoint", "key"),
    [
        (lambda s: s, None),
        (lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(1)}}}}, None),
        (lambda s: {"model": s, "args": {"lr": 0.1}}, None),
        (lambda s: {"model": {"x": torch.ones(1)}, "ema": s}, "ema"),
        (
            lambda s: {"model": {"x": torch.ones(1)}, "averager": {"averages": s, "counters": {"n": 1}}},
            "averager.averages",
        ),
        (lambda s: {name: nn.Parameter(value) for name, value in s.items()}, None),
    ],
)
def test_the_weights_are_found_in_a_torch_checkpoint(checkpoint: Callable[[State], Any], key: str | None) -> None:
    states = [state(), state()]
    for name, values in zip("ab", states, strict=True):
        torch.save(checkpoint(values), f"{name}.ckpt")
    assert close(averaged(["a.ckpt", "b.ckpt"], key=key), mean(states, [0.5, 0.5]))


def test_old_torch_files_are_read() -> None:
    states = [state(), state()]
    for name, values in zip("ab", states, strict=True):
        torch.save(values, f"{name}.pth", _use_new_zipfile_serialization=False)
    assert close(averaged(["a.pth", "b.pth"]), mean(states, [0.5, 0.5]))


def test_parts_that_wrappers_put_into_names_do_not_matter() -> None:
    states = [state(), state()]
    right = mean(states, [0.5, 0.5])
    wrapped = {f"module._orig_mod.{name}": value for name, value in states[0].items()}
    assert close(averaged(files([wrapped, states[1]])), right)
    assert close(averaged(files([wrapped, {f"_orig_mod.{n}": v for n, v in states[1].items()}])), right)
    assert close(averaged(files([{f"module.{n}": v for n, v in s.items()} for s in states])), right)


def test_a_models_own_part_named_module_keeps_its_name() -> None:
    states = [{"module.weight": torch.randn(3), "head": torch.randn(2)} for _ in range(2)]
    assert averaged(files(states)).keys() == {"module.weight", "head"}


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_tied_weights_are_stored_once_and_loaded_twice(ending: str) -> None:
    models = [Tied(), Tied()]
    names = [f"{i}{ending}" for i in range(2)]
    averagers = [trained(model) for model in models]
    for name, model, averager in zip(names, models, averagers, strict=True):
        if ending == ".pt":
            torch.save(model.state_dict(), name)
        else:
            save_averaged(averager, name)
    about = average_checkpoints(names, "out.safetensors")
    assert about["aliases"] == {"head.weight": "embed.weight"}
    assert "head.weight" not in load_file("out.safetensors")
    fresh = Tied()
    load_averaged("out.safetensors", fresh)
    states: list[Any] = [
        m.state_dict() if ending == ".pt" else a.averaged_state_dict() for m, a in zip(models, averagers, strict=True)
    ]
    assert close(dict(fresh.state_dict()), mean(states, [0.5, 0.5]))


def test_weights_tied_in_one_file_only_are_stored_apart() -> None:
    both = torch.randn(3)
    torch.save({"a": both, "b": both}, "a.pt")
    torch.save({"a": both, "b": both + 1}, "b.pt")
    result = averaged(["a.pt", "b.pt"])
    assert torch.allclose(result["b"] - result["a"], torch.full((3,), 0.5))


def test_the_file_says_what_it_is_made_of_and_names_no_folders(tmp_path: Path) -> None:
    inputs = [str(tmp_path / name) for name in files([state(), state()])]
    told = average_checkpoints(inputs, tmp_path / "out.safetensors", weights=[1, 3])
    model = nn.ModuleDict({"fc": nn.Linear(3, 5)})
    about = load_averaged("out.safetensors", model)
    assert about == told
    assert about["inputs"] == ["a.safetensors", "b.safetensors"]
    assert about["weights"] == [0.25, 0.75]
    assert about["version"] == switch_ema.__version__
    assert str(tmp_path).encode() not in Path("out.safetensors").read_bytes()


# memory


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """Three files of 48 MB, one tensor of them 16 MB, are averaged in less than 16 MB more than three tiny ones."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux to measure the peak of one process")
    for i in range(3):
        large = {"large": torch.full((4 << 20,), float(i))}
        save_file(large | {f"{j}": torch.full((64 << 10,), float(i)) for j in range(128)}, f"{i}.safetensors")
        save_file({"w": torch.full((1000,), float(i))}, f"tiny{i}.safetensors")
    script = """
import torch
torch.set_num_threads(1)
from switch_ema import average_checkpoints
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10
average_checkpoints([f"tiny{i}.safetensors" for i in range(3)], "tiny.safetensors")
before = peak()
average_checkpoints([f"{i}.safetensors" for i in range(3)], "out.safetensors")
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path("out.safetensors").stat().st_size > 48e6
    assert int(done.stdout) < 16 << 20
    assert load_file("out.safetensors")["large"].unique().tolist() == [1.0]


# what is refused


def _write(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def _prepare() -> None:
    """Make the files that the table below speaks of."""
    files([state(), state(), state()])
    save_file({"fc.weight": torch.zeros(3, 5), "fc.bias": torch.zeros(5)}, "turned.safetensors")
    save_file({"fc.weight": torch.zeros(5, 3)}, "less.safetensors")
    save_file({n: v.half() for n, v in state().items()}, "half.safetensors")
    save_file({n: v.int() for n, v in state().items()}, "int.safetensors")
    _write("cut.safetensors", Path("a.safetensors").read_bytes()[:-3])
    _write("words.safetensors", b"not found, sorry")
    _write("words.pt", b"not found, sorry")
    _write("empty.pt", b"")
    _write("a.txt", b"")
    torch.save({"model": state(), "ema": state()}, "two.pt")
    torch.save({"epoch": 3, "w": torch.ones(1)}, "mixed.pt")
    torch.save(torch.ones(3), "tensor.pt")
    torch.save(nn.Linear(2, 1), "object.pt")
    torch.save({"w": torch.eye(3).to_sparse()}, "sparse.pt")
    torch.save({"w": torch.ones(2, dtype=torch.complex128)}, "complex.pt")
    average_checkpoints(["a.safetensors", "b.safetensors"], "ours.safetensors")
    damaged = bytearray(Path("ours.safetensors").read_bytes())
    damaged[-5] ^= 1
    _write("damaged.safetensors", bytes(damaged))
    Path("folder").mkdir()
    Path("out.safetensors").touch()
    sharded(state(), "lost")
    Path("lost/model-1.safetensors").unlink()
    sharded(state(), "wrong")
    save_file({"other": torch.ones(1)}, "wrong/model-1.safetensors")
    sharded(state(), "outside")
    index = Path("outside/model.safetensors.index.json")
    index.write_text(index.read_text().replace("model-1", "../a"))
    _write("bad.index.json", b'{"weight_map": 3}')


AB = ("a.safetensors", "b.safetensors")
BAD_INPUT: list[tuple[tuple[object, ...], str]] = [
    (("a.safetensors",), "an average needs at least two files, got 1; name more"),
    ((*AB, "no.pt"), "no.pt is not there; name a file that is"),
    (("a.safetensors", "turned.safetensors"), "'fc.weight' has shape (5, 3) in a.safetensors and (3, 5) in turned"),
    (("a.safetensors", "less.safetensors"), "less.safetensors does not hold the tensors of a.safetensors (missing: fc"),
    (("less.safetensors", "a.safetensors"), "(unexpected: fc.bias); name checkpoints of the same model"),
    (("a.safetensors", "half.safetensors"), "choose the type of the average with dtype (--dtype float32)"),
    (("a.safetensors", "int.safetensors", "--dtype", "float32"), "is torch.float32 in a.safetensors and torch.int32"),
    (("a.safetensors", "cut.safetensors"), "cut.safetensors is no whole safetensors file"),
    (("a.safetensors", "words.safetensors"), "words.safetensors is no whole safetensors file"),
    (("a.safetensors", "damaged.safetensors"), "damaged.safetensors does not match its checksum"),
    (("words.pt", "words.pt"), "words.pt is no whole torch checkpoint"),
    (("empty.pt", "empty.pt"), "empty.pt is no whole torch checkpoint"),
    (("a.txt", "a.txt"), "a.txt is no checkpoint by its name; name a .safetensors file"),
    (("two.pt", "two.pt"), "two.pt holds several state dicts ('model', 'ema'); choose with key (--key)"),
    (("two.pt", "two.pt", "--key", "emma"), "has no state dict at key 'emma'; write one of: 'model', 'ema'"),
    (("mixed.pt", "mixed.pt"), "no state dict, a mapping of names to tensors only ('epoch' is a int; 'w' is a Tensor)"),
    (("tensor.pt", "tensor.pt"), "tensor.pt holds no state dict"),
    (("object.pt", "object.pt"), "object.pt holds a torch.nn.modules.linear.Linear, which only running code"),
    (("sparse.pt", "sparse.pt"), "sparse.pt: tensor 'w' is sparse or quantized; convert it with .to_dense()"),
    (("complex.pt", "complex.pt"), "complex.pt: tensor 'w' is of type complex128, which safetensors has not"),
    (("folder", "folder"), "folder holds no safetensors file and no index of shards"),
    ((".", "."), ". holds several checkpoints (a.safetensors, b.safetensors, c.safetensors, ...); name one"),
    (("lost", "lost"), "names 'model-1.safetensors' as a shard, which is no file beside it; put it there"),
    (("wrong", "wrong"), "wrong/model.safetensors.index.json does not agree with its shards (missing: fc.bias; unexp"),
    (("outside", "outside"), "names '../a.safetensors' as a shard, which is no file beside it"),
    (("bad.index.json", "bad.index.json"), "bad.index.json is no index of shards"),
    ((*AB, "--weights", "1,2,3"), "3 weights for 2 files; write one for each"),
    ((*AB, "--weights", "1,x"), "--weights '1,x' is not a list of numbers; write e.g. --weights 1,2,3"),
    ((*AB, "--weights", "1,nan"), "a weight is a number, got nan"),
    ((*AB, "--weights", "1,inf"), "a weight is a number, got inf"),
    ((*AB, "--weights", "1,-1"), "the weights add up to 0, and must add up to more than 0"),
    ((*AB, "--weights", "0,0"), "the weights add up to 0"),
    ((*AB, "--weights", "1,-3"), "the weights add up to -2"),
    ((*AB, "--decay", "1.5"), "a number in [0, 1], got 1.5; write e.g. 0.999"),
    ((*AB, "--decay", "-0.1"), "a number in [0, 1], got -0.1"),
    ((*AB, "--decay", "nan"), "a number in [0, 1], got nan"),
    ((*AB, "--half-life", "0"), "half-life must be a number above 0, got 0.0"),
    ((*AB, "--recipe", "sqrt"), "there is no recipe 'sqrt'; write one of 1-sqrt, linear, cosine"),
    ((*AB, "--tail", "3,2"), "the smaller first, got 3, 2; write e.g. 100,300"),
    ((*AB, "--tail", "0,2"), "the smaller first, got 0, 2"),
    ((*AB, "--tail", "many"), "--tail 'many' is no pair of counts; write e.g. --tail 100,300, or --tail saved"),
    ((*AB, "c.safetensors", "--tail", "1,2"), "tail needs two counts and two files, got (1, 2) and 3"),
    ((*AB, "c.safetensors", "--tail", "saved"), "tail needs two files, got 3"),
    ((*AB, "--tail", "saved"), "a.safetensors is no plain mean saved by save_averaged (SWA)"),
    ((*AB, "--last", "1"), "last is how many of the 2 files are used, at least 2, got 1"),
    ((*AB, "--last", "3"), "last is how many of the 2 files are used, at least 2, got 3"),
    ((*AB, "--decay", "0.9", "--recipe", "linear"), "decay and recipe are different ways to weight the files"),
    ((*AB, "--dtype", "int8"), "dtype 'int8' is not one of float64, float32, bfloat16, float16"),
    ((*AB, "-o", "new.pt"), "the output is a safetensors file, got 'new.pt'; write a name ending in .safetensors"),
    ((*AB, "-o", "no/new.safetensors"), "the folder no is not there; make it first"),
    ((*AB, "-o", "out.safetensors"), "out.safetensors is there already; write another name, or force (--force)"),
    ((*AB, "-o", "b.safetensors", "--force"), "b.safetensors is one of the inputs; write another name"),
    (("lost", "wrong", "-o", "wrong/model-0.safetensors"), "wrong/model-0.safetensors is there already"),
    ((), "Missing argument 'FILE...'"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT, ids=[" ".join(map(str, a)) for a, _ in BAD_INPUT])
def test_bad_input_gets_one_line_and_exit_code_2(sema: Sema, arguments: tuple[object, ...], words: str) -> None:
    _prepare()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    output = () if "-o" in arguments else ("-o", "new.safetensors")
    answer = sema("average", *arguments, *output)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("sema: ")
    assert words in answer.err
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_a_shard_is_not_replaced_by_the_average() -> None:
    folder = sharded(state(), "folder")
    with pytest.raises(ValueError, match=r"model-0\.safetensors is one of the inputs"):
        average_checkpoints([folder, folder], folder / "model-0.safetensors", force=True)


def test_a_sharded_tensor_in_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such files need a process group to be read; a plain tensor stands in for one here."""
    monkeypatch.setattr(sources, "is_sharded", lambda tensor: True)
    torch.save(state(), "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: tensor 'fc.weight' is sharded; gather it with \.full_tensor\(\)"):
        average_checkpoints(["a.pt", "a.pt"], "out.safetensors")


def test_one_name_is_no_list_of_names() -> None:
    with pytest.raises(ValueError, match=r"inputs is a list of files, got 'a.pt'; write e.g. \['a.pt', 'b.pt'\]"):
        average_checkpoints("a.pt", "out.safetensors")


def test_the_command_averages(sema: Sema) -> None:
    states = [state() for _ in range(3)]
    answer = sema("average", *files(states), "-o", "out.safetensors", "--weights", "1,1,2")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "out.safetensors: a.safetensors 0.25, b.safetensors 0.25, c.safetensors 0.5\n"
    assert close(load_file("out.safetensors"), mean(states, [0.25, 0.25, 0.5]))
    for options in ("--decay 0.5", "--half-life 2", "--recipe 1-sqrt", "--last 2", "--dtype bfloat16"):
        assert sema("average", *files(states), "-o", "out.safetensors", "--force", *options.split()).code == 0
    assert sema("average", *files(states[:2]), "-o", "tail.safetensors", "--tail", "1,3").code == 0
    assert close(load_file("tail.safetensors"), mean(states[:2], [-0.5, 1.5]))


def test_refusals_do_not_wait_for_torch() -> None:
    script = (
        "import sys; from switch_ema import cli\n"
        "sys.argv = ['sema', 'average', 'a.pt', 'b.pt', '-o', 'c.safetensors']\n"
        "try: cli.main()\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "sema: a.pt is not there; name a file that is\n"
    assert done.stdout == "False\n"

"""Averaged weights in a file: whole, checked, and the same bit for bit when they come back."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import switch_ema
from switch_ema import EMA, SWA, SwitchEMA, average_checkpoints, load_averaged, save_averaged
from switch_ema.averaging import safewriter
from switch_ema.averaging.files import write_atomically

from .cases import METHODS, batchnorm, mlp


class Tied(nn.Module):
    """Two names for one weight, and a weight whose memory is not in order."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.turned = nn.Parameter(torch.randn(3, 5).t())


class Kinds(nn.Module):
    """A tensor of each kind that a model may save."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("octets", torch.arange(5, dtype=torch.uint8))
        self.register_buffer("empty", torch.zeros(0, 4))
        self.register_buffer("waves", torch.randn(3, dtype=torch.complex64))
        self.register_buffer("wide", torch.randn(2, dtype=torch.float64))
        self.register_buffer("short", torch.randn(3).to(torch.bfloat16))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "batchnorm": batchnorm,
    "tied": Tied,
    "kinds": Kinds,
    "bfloat16": lambda: mlp(torch.bfloat16),
    "float16": lambda: mlp(torch.float16),
    "float64": lambda: mlp(torch.float64),
}


def trained(model: nn.Module, make: Callable[[nn.Module], switch_ema.Averager] | None = None) -> switch_ema.Averager:
    """Return the averager of a model that wandered for a while."""
    averager = make(model) if make else EMA(model, decay=0.7)
    averager.attach(torch.optim.SGD(model.parameters()))  # never steps; some methods reset its state
    with torch.no_grad():
        for _ in range(6):
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            averager.update()
            averager.end_epoch()
    return averager


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).tolist())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and bits(one[name]) == bits(other[name])
        for name in one
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "averaged.safetensors"
    save_averaged(trained(batchnorm()), path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_what_was_saved_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    averager = trained(MODELS[name]())
    save_averaged(averager, tmp_path / "a.safetensors")
    fresh = MODELS[name]()
    load_averaged(tmp_path / "a.safetensors", fresh)
    assert same(averager.averaged_state_dict(), fresh.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_saved_and_described(name: str, tmp_path: Path) -> None:
    averager = trained(batchnorm(), METHODS[name].make)
    save_averaged(averager, tmp_path / "a.safetensors")
    fresh = batchnorm()
    about = load_averaged(tmp_path / "a.safetensors", fresh)
    assert same(averager.averaged_state_dict(), fresh.state_dict())
    assert (about["n_averaged"], about["n_switches"]) == (averager.n_averaged, averager.n_switches)
    assert (about["steps"], about["epochs"]) == (6, 6)


def test_the_file_says_what_made_it(tmp_path: Path) -> None:
    save_averaged(trained(mlp(), lambda model: SwitchEMA(model, decay=0.7)), tmp_path / "a.safetensors")
    about = load_averaged(tmp_path / "a.safetensors", mlp())
    assert about["method"]["fold"] == "Decayed(rule=Constant(decay=0.7), per_unit=True)"
    assert (about["method"]["update"], about["method"]["switch"]) == ("1 step", "1 epoch")
    assert about["decay"] == 0.7
    assert about["version"] == switch_ema.__version__
    assert about["format"] == 1
    assert len(about["checksum"]) == len(about["header_checksum"]) == 64
    save_averaged(trained(mlp(), SWA), tmp_path / "a.safetensors")
    assert load_averaged(tmp_path / "a.safetensors", mlp())["decay"] is None


def test_other_libraries_read_the_file(saved: Path) -> None:
    model = batchnorm()
    load_averaged(saved, model)
    assert same(safetensors.torch.load_file(saved), model.state_dict())
    with safetensors.safe_open(saved, framework="pt") as file:
        assert file.metadata()["format"] == "pt"  # what transformers asks for


def test_the_file_is_laid_out_as_the_reference_library_does(saved: Path, tmp_path: Path) -> None:
    with safetensors.safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        names = file.offset_keys()
    safetensors.torch.save_file(safetensors.torch.load_file(saved), tmp_path / "theirs.safetensors", metadata)
    with safetensors.safe_open(tmp_path / "theirs.safetensors", framework="pt") as file:
        assert file.offset_keys() == names
    load_averaged(tmp_path / "theirs.safetensors", batchnorm())  # the checksum is one of content


def test_the_same_average_gives_the_same_bytes(tmp_path: Path) -> None:
    averager = trained(Kinds())
    save_averaged(averager, tmp_path / "a.safetensors")
    save_averaged(averager, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tied_weights_are_saved_once_and_are_tied_again(tmp_path: Path) -> None:
    averager = trained(Tied())
    save_averaged(averager, tmp_path / "a.safetensors")
    assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == {"embed.weight", "turned"}
    fresh = Tied()
    about = load_averaged(tmp_path / "a.safetensors", fresh)
    assert about["aliases"] == {"head.weight": "embed.weight"}
    assert fresh.head.weight is fresh.embed.weight
    assert torch.equal(fresh.head.weight, averager.averaged_state_dict()["head.weight"])


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safewriter, "BLOCK", 7)
    averager = trained(Kinds())
    save_averaged(averager, tmp_path / "a.safetensors")
    fresh = Kinds()
    load_averaged(tmp_path / "a.safetensors", fresh)
    assert same(averager.averaged_state_dict(), fresh.state_dict())


def test_a_compiled_model_and_a_plain_one_are_the_same(tmp_path: Path) -> None:
    averager = trained(torch.compile(mlp()))  # type: ignore[arg-type]
    save_averaged(averager, tmp_path / "a.safetensors")
    plain, wrapped = mlp(), torch.compile(mlp())
    load_averaged(tmp_path / "a.safetensors", plain)
    load_averaged(tmp_path / "a.safetensors", wrapped)  # type: ignore[arg-type]
    for model in (plain, wrapped):
        values = list(model.state_dict().values())  # type: ignore[attr-defined]
        assert all(map(torch.equal, values, averager.averaged_state_dict().values()))


def test_floats_take_the_types_of_the_model(saved: Path) -> None:
    model = batchnorm().to(torch.bfloat16)
    load_averaged(saved, model)
    for name, value in safetensors.torch.load_file(saved).items():
        assert torch.equal(model.state_dict()[name], value.to(model.state_dict()[name].dtype))


def test_saving_inside_a_swap_is_refused(tmp_path: Path) -> None:
    averager = trained(mlp())
    with averager.average_parameters(), pytest.raises(RuntimeError, match="leave the block first"):
        save_averaged(averager, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


class WithWords(nn.Linear):
    def get_extra_state(self) -> dict[str, str]:
        return {"note": "words"}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'_extra_state', a dict, and a safetensors file holds tensors only"):
        save_averaged(trained(WithWords(2, 1)), tmp_path / "a.safetensors")


def test_types_that_the_format_has_not_are_refused(tmp_path: Path) -> None:
    model = mlp()
    model.register_buffer("wide", torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match="'wide' is of type complex128, which safetensors has not"):
        save_averaged(trained(model), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


# what is written is whole


@contextmanager
def no_file_beyond_300_bytes() -> Iterator[None]:
    """Limit what this process can write to a file; nothing may be reported inside, for a report can be a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    averager = trained(mlp())
    with pytest.raises(OSError, match="too large"), no_file_beyond_300_bytes():
        save_averaged(averager, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_averaged(trained(mlp()), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_data_is_on_disk_before_the_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(tmp_path / "a", lambda file: file.write(b"new"))
    assert done == ["file", "replace", "folder"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_new_file_has_the_usual_permissions_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "usual").stat().st_mode


# what is read is checked


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def file_of(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _overlapping(data: bytes) -> bytes:
    header, body = header_of(data)
    header["0.weight"]["data_offsets"] = header["3.weight"]["data_offsets"]
    return file_of(header, body)


def _reshaped(data: bytes) -> bytes:
    header, body = header_of(data)
    header["0.weight"]["shape"].reverse()
    return file_of(header, body)


def _renamed(data: bytes) -> bytes:
    return data.replace(b'"3.bias"', b'"3.bois"')


def _exchanged(data: bytes) -> bytes:
    """Exchange the names of two tensors of one type and shape."""
    header, body = header_of(data)
    header["1.running_mean"], header["1.running_var"] = header["1.running_var"], header["1.running_mean"]
    return file_of(header, body)


def _retold(data: bytes) -> bytes:
    return data.replace(b'\\"n_averaged\\": 6', b'\\"n_averaged\\": 9')


def _without_checksum(data: bytes) -> bytes:
    header, body = header_of(data)
    del header["__metadata__"]
    return file_of(header, body)


def _of_the_future(data: bytes) -> bytes:
    return data.replace(b'\\"format\\": 1', b'\\"format\\": 2')


def _tied_to_nothing(data: bytes) -> bytes:
    """Tie a name to one that is not there, and make the checksum of the header right."""
    header, body = header_of(data)
    about = json.loads(header["__metadata__"]["switch_ema"]) | {"aliases": {"a": "b"}}
    checksums = {name: about.pop(name) for name in safewriter.CHECKSUMS}
    entries = {
        name: safewriter.Entry(safewriter.DTYPES[told["dtype"]], tuple(told["shape"]))
        for name, told in header.items()
        if name != "__metadata__"
    }
    checksums["header_checksum"] = safewriter.header_checksum(about, entries)
    header["__metadata__"]["switch_ema"] = json.dumps(about | checksums)
    return file_of(header, body)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is no whole safetensors file"),
    "three bytes": (lambda data: data[:3], "is no whole safetensors file"),
    "half": (lambda data: data[: len(data) // 2], "is no whole safetensors file"),
    "last byte missing": (lambda data: data[:-1], "is no whole safetensors file"),
    "a byte too many": (lambda data: data + b"\0", "is no whole safetensors file"),
    "header beyond the file": (lambda data: (1 << 62).to_bytes(8, "little") + data[8:], "is no whole safetensors"),
    "header of 2**64": (lambda data: b"\xff" * 8 + data[8:], "is no whole safetensors file"),
    "header of nothing": (lambda data: bytes(8) + data[8:], "is no whole safetensors file"),
    "header is a list": (lambda data: file_of([], b""), "is no whole safetensors file"),
    "header nested deeply": (lambda data: (100000).to_bytes(8, "little") + b"[" * 100000, "is no whole safetensors"),
    "offsets overlap": (_overlapping, "is no whole safetensors file"),
    "text": (lambda data: b"<html>not found</html>", "is no whole safetensors file"),
    "pickle": (lambda data: pickle.dumps({"a": 1}), "is a pickle or torch file, which is not opened"),
    "other shapes": (_reshaped, "does not match its checksum"),
    "another name": (_renamed, "does not match its checksum"),
    "names exchanged": (_exchanged, "does not match its checksum"),
    "metadata changed": (_retold, "does not match its checksum"),
    "no checksum": (_without_checksum, "has no checksum"),
    "format of the future": (_of_the_future, "has format 2, this version reads 1; update switch-ema"),
    "tied to nothing": (_tied_to_nothing, "names tied tensors that it does not hold"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_and_the_model_is_unchanged(case: str, saved: Path) -> None:
    change, reason = HOSTILE[case]
    data = saved.read_bytes()
    assert change(data) != data
    saved.write_bytes(change(data))
    model = batchnorm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=reason) as refused:
        load_averaged(saved, model)
    assert str(refused.value).startswith(str(saved))
    assert "; " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert same(before, model.state_dict())


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Trap()}, "a.safetensors")
    with pytest.raises(ValueError, match=r"a pickle or torch file.*ending \.pt"):
        load_averaged("a.safetensors", mlp())
    torch.save({"0.weight": Trap()}, "a.pt")
    with pytest.raises(ValueError, match=r"mkdir, which only running code from it could read"):
        average_checkpoints(["a.pt", "a.pt"], "b.safetensors")
    assert not Path("trapped").exists()


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Return data with some bits flipped (half the time in the header), cut, grown, or with a run of bytes gone bad."""
    changed = bytearray(data)
    header_end = 8 + int.from_bytes(data[:8], "little")
    kind = chance.choice(["flip", "flip", "flip header", "flip header", "cut", "grow", "zero", "move"])
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "grow":
        return data + chance.randbytes(chance.randrange(1, 20))
    end = header_end if kind == "flip header" else len(data)
    at = chance.randrange(end)
    if kind == "zero":
        changed[at : at + 16] = bytes(len(changed[at : at + 16]))
    elif kind == "move":
        changed[at : at + 8] = data[:8][: len(changed[at : at + 8])]
    else:
        for _ in range(chance.choice([1, 1, 1, 3])):
            changed[at] ^= 1 << chance.randrange(8)
            at = chance.randrange(end)
    return bytes(changed)


def test_no_random_damage_is_loaded_in_silence(saved: Path) -> None:
    """400 seeded mutations: refused with a reason, or harmless (then what is loaded is what was saved)."""
    chance = random.Random(0)
    data = saved.read_bytes()
    right = batchnorm()
    about = load_averaged(saved, right)
    model = batchnorm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refused = 0
    for _ in range(400):
        damaged = _mutated(data, chance)
        if damaged == data:
            continue
        saved.write_bytes(damaged)
        reason, found = "", {}
        try:
            found = load_averaged(saved, model)
        except ValueError as error:
            reason = str(error)
        if reason:
            refused += 1
            assert reason.startswith(str(saved))
            assert same(before, model.state_dict())
        else:
            assert found == about
            assert same(right.state_dict(), model.state_dict())
            model.load_state_dict(before)
    assert refused > 350


# what is read fits the model


class MaskOfFloats(Kinds):
    def __init__(self) -> None:
        super().__init__()
        self.mask = torch.ones(3)


def _late() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.Linear(5, 2))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (mlp, batchnorm, r"does not fit the model \(missing: 1.bias, 1.num_batches_tracked, 1.running_mean and"),
        (batchnorm, mlp, r"does not fit the model \(missing: 0.bias, 2.bias, 2.weight; unexpected: 1.bias"),
        (mlp, lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), r"'2.weight' of shape \(2, 5\)"),
        (Kinds, MaskOfFloats, "'mask' of type torch.bool, the model's is torch.float32, a type of another kind"),
        (mlp, _late, "'0.weight' has no shape yet"),
        (mlp, lambda: mlp().to("meta"), "on the meta device"),
        (lambda: nn.Linear(2, 1), lambda: WithWords(2, 1), "missing: _extra_state"),
    ],
)
def test_another_model_is_refused_and_unchanged(
    source: Callable[[], nn.Module], target: Callable[[], nn.Module], reason: str, tmp_path: Path
) -> None:
    save_averaged(trained(source()), tmp_path / "a.safetensors")
    model = target()
    before = [p.detach().clone() for p in model.parameters() if not nn.parameter.is_lazy(p)]
    with pytest.raises(ValueError, match=reason):
        load_averaged(tmp_path / "a.safetensors", model)
    after = [p for p in model.parameters() if not nn.parameter.is_lazy(p)]
    assert all(a.is_meta or torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_state_dict_is_no_model(saved: Path) -> None:
    with pytest.raises(TypeError, match=r"got OrderedDict; pass the model itself"):
        load_averaged(saved, batchnorm().state_dict())  # type: ignore[arg-type]


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_averaged(tmp_path / "no.safetensors", mlp())


def test_a_missing_library_is_named_with_the_cure(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "switch-ema\[files\]"'):
        load_averaged(saved, batchnorm())

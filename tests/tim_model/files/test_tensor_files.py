"""Files of tensors: formats, prefixes, values, and writing whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tim_model.files import tensor_files as files
from tim_model.files.errors import CheckpointError
from tim_model.files.tensor_files import read_state_dict

WEIGHTS = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3).half(), "b": torch.randn(2).bfloat16()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == expected[name].dtype for name in found)
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("ending", [".safetensors", ".sft"])
def test_safetensors_with_metadata(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    save_file(WEIGHTS, path, {"author": "me"})
    weights, metadata = read_state_dict(path)
    assert_same(weights, WEIGHTS)
    assert metadata == {"author": "me"}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("ending", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickles_have_no_metadata(tmp_path, ending, zipped):
    path = tmp_path / f"model{ending}"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    weights, metadata = read_state_dict(str(path))
    assert_same(weights, WEIGHTS)
    assert metadata == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, dtype=torch.int64), "w has dtype torch.int64, expected floating-point"),
        (torch.tensor([1.0, float("nan")]), "w holds NaN or infinite weights"),
        (torch.tensor([1.0, float("-inf")]).half(), "w holds NaN or infinite weights"),
        (torch.tensor([float("nan")]).to(torch.float8_e5m2), "w holds NaN or infinite weights"),
        (torch.ones(2, device="meta"), "w has a shape but no values"),
        (torch.ones(2).to_sparse(), "w has layout torch.sparse_coo, expected dense"),
    ],
)
def test_check_values(value, message):
    with pytest.raises(CheckpointError, match=message):
        files.check_values({"good": torch.ones(2), "w": value})


def test_meta_tensors_pass_where_shapes_are_enough():
    files.check_values({"w": torch.ones(2, device="meta")}, allow_meta=True)


def test_atomic_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with files.atomic(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path and path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", ["old", None])
def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path, old):
    path = tmp_path / "out.txt"
    if old:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
        temporary.write_text("half of it")
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == [old] * bool(old)


@pytest.mark.parametrize(("name", "message"), [("no/out.txt", "the folder .* does not exist"), ("", "is a folder")])
def test_atomic_refuses_bad_targets(tmp_path, name, message):
    with pytest.raises(CheckpointError, match=message), files.atomic(tmp_path / name):
        pass


def test_write_safetensors(tmp_path):
    path = tmp_path / "out.safetensors"
    files.write_safetensors(WEIGHTS, path, {"author": "me"})
    with safe_open(path, "pt") as file:
        assert_same({name: file.get_tensor(name) for name in file.keys()}, WEIGHTS)  # noqa: SIM118
        assert file.metadata() == {"author": "me"}
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644  # others may read it


def test_leftovers_of_a_killed_process(tmp_path):
    """Only the temporary files of these paths go: a running process may be writing the others."""
    paths = [tmp_path / name / "x.png" for name in ("a", "b", "missing")]
    for folder in "ab":
        (tmp_path / folder).mkdir()
        for name in ("x.png", ".x.png.12.tmp", ".y.png.12.tmp", ".x.png", "x.png.12.tmp"):
            (tmp_path / folder / name).touch()
    files.remove_leftovers(paths)
    for folder in "ab":
        left = {path.name for path in (tmp_path / folder).iterdir()}
        assert left == {"x.png", ".y.png.12.tmp", ".x.png", "x.png.12.tmp"}
    with pytest.raises(KeyboardInterrupt), files.atomic(paths[0]) as temporary:  # that is how they are named
        temporary.touch()
        files.remove_leftovers(paths)
        assert not temporary.exists()
        raise KeyboardInterrupt


@pytest.mark.parametrize(("most", "text"), [(2, "a, b and 2 more"), (3, "a, b, c and 1 more"), (4, "a, b, c, d")])
def test_abbreviated(most, text):
    assert files.abbreviated(iter("abcd"), most) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("\nfirst\nsecond"), "first"), (EOFError(), "EOFError"), (OSError("x" * 500), "x" * 160)],
)
def test_one_line(error, text):
    assert files.one_line(error) == text

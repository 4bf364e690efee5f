"""States on disk: whole or absent, refused in one line when damaged; logs continue where the run does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

from tests.tim_model.rights import without_rights
from tim_model.files.tensor_files import CheckpointError
from training.run.logs import Logs, read_csv
from training.states.states import States, read_state


def test_keeps_the_newest_and_every_mth(tmp_path):
    states = States(tmp_path / "states", keep_last=2, keep_every=4)
    for step in range(1, 8):
        states.save({"step": step, "value": torch.full((2,), float(step))})
    assert states.steps() == [4, 6, 7]
    assert read_state(states.newest())["value"].tolist() == [7.0, 7.0]


def test_full_disk_leaves_the_older_state(tmp_path, monkeypatch):
    states = States(tmp_path, 1, 0)
    states.save({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"2\.pt: cannot be written .*No space.*state is .*step-00000001"):
        states.save({"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_leftovers_of_a_kill_go(tmp_path):
    (tmp_path / ".step-00000001.pt.99.tmp").write_bytes(b"half")
    states = States(tmp_path, 1, 0)
    assert states.newest() is None
    states.save({"step": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


CONTENTS = {"cut": "cut", "empty": b"", "text": b"text", "other": {"a": 1}, "list": [1], "code": Evil()}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_damaged_and_foreign_states_are_one_line(tmp_path, content):
    path = tmp_path / "step-00000001.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"format": 1, "x": torch.zeros(999)} if content == "cut" else content, path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"step-00000001\.pt: is no ") as error:
        read_state(path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_state_without_the_right_to_read_is_not_set_aside():
    """It is whole: to go on from the state before it would train its steps again."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        states = States(Path(folder) / "states", 2, 0)
        for step in (1, 2):
            states.save({"step": step})
        states.folder.chmod(0o755)
        states.path(1).chmod(0o644)
        states.path(2).chmod(0)
        with without_rights(), pytest.raises(CheckpointError) as error:
            states.read_newest()
        said = "cannot be read (Permission denied); give yourself the right to read it"
        assert str(error.value) == f"{states.path(2)}: {said}"
        with without_rights(), pytest.raises(CheckpointError, match="Permission denied"):
            read_state(states.path(2))


def test_missing_state(tmp_path):
    with pytest.raises(CheckpointError, match="no such state"):
        read_state(tmp_path / "none.pt")


def test_log_is_cut_where_the_run_goes_on(tmp_path):
    logs = Logs(tmp_path, 0, tensorboard=False)
    for step in (2, 4, 6):
        logs.write(step, {"loss": step / 2})
    with open(tmp_path / "log.csv", "a") as file:
        file.write("8,0.1")  # a kill in the middle of a line
    Logs(tmp_path, 4, tensorboard=False).write(6, {"loss": 9.0})
    rows = [(row["step"], row["loss"]) for row in read_csv(tmp_path / "log.csv")]
    assert rows == [("2", "1.0"), ("4", "2.0"), ("6", "9.0")]


def test_tensorboard_has_no_later_steps_after_a_resume(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, steps in ((0, (2, 4, 6)), (4, (6, 8))):
        logs = Logs(tmp_path, start, tensorboard=True)
        for step in steps:
            logs.write(step, {"loss": float(start + step)})
        logs.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 2), (4, 4), (6, 10), (8, 12)]

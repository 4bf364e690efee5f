"""Several processes: they share the work before the first step, agree on what they train on, and end together."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from training.components.parts import build_net, build_parts
from training.config.load import load_config
from training.config.schema import RunConfig
from training.data import image_dataset
from training.processes.processes import Processes
from training.processes.share import Share, exchange, share_by, share_of_folder, together
from training.run.logs import read_csv
from training.run.sample_sheet import make_sheet
from training.train import main

from ..ranks import Ranks, errors, run_ranks, train_ranks
from ..refusal import error_of
from ..tiny import last_state, train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"))


def check(folder: str, failing: int) -> int:
    dist.init_process_group("gloo")
    share = share_of_folder(Path(folder))
    print("share", share.rank, share.world, share.of(range(7)), share.gather(10 * dist.get_rank()))
    with together():
        if dist.get_rank() == failing:
            raise ValueError("first\nsecond")
        exchange("waiting")
    return 0


def test_one_process_needs_no_others(tmp_path):
    assert exchange("a") == ["a"]
    assert share_of_folder(tmp_path / "none") == Share()
    assert not (tmp_path / "none").exists()
    assert share_by("key").gather("b") == ["b"]
    with pytest.raises(ValueError, match="as it is"), together():
        raise ValueError("as it is")


@pytest.mark.parametrize("failing", [0, 2])
def test_shares_of_a_folder_and_one_error(tmp_path, failing):
    """The first two processes see one folder, the third another; what fails in one ends all, and the first says it."""
    folders = [tmp_path / "a", tmp_path / "a", tmp_path / "b"]
    results = run_ranks(check, [(str(folder), failing) for folder in folders])
    lines = [[line for line in output.splitlines() if line.startswith("share ")] for _, output in results]
    assert lines[0] == ["share 0 2 [0, 2, 4, 6] [0, 10]"]
    assert lines[1] == ["share 1 2 [1, 3, 5] [0, 10]"]
    assert lines[2] == ["share 0 1 [0, 1, 2, 3, 4, 5, 6] [20]"]
    assert [status for status, _ in results] == [99, 1, 1]
    assert ["ValueError: first", "", "PeerError: rank 2: first"][failing] in results[0][1]
    assert not any("Traceback" in output for _, output in results[1:])
    assert list(tmp_path.rglob("*.tmp")) == []


def train_and_count(*arguments: str) -> int:
    """The training command, which names each file that it checks."""
    inspect = image_dataset.inspect_image

    def counting(path: Path):
        print("inspects", path.parent.name, path.name)
        return inspect(path)

    image_dataset.inspect_image = counting
    return main(list(arguments))


@pytest.mark.parametrize("caches", [("cache", "cache", "cache"), ("cache", "own", "own")], ids=["shared", "own"])
def test_each_file_is_checked_once(data, tmp_path, caches):
    """In shares, wherever the processes remember it; afterwards each cache remembers all files."""
    recipe = write_recipe(tmp_path, data)
    commands = [(str(recipe), "run.steps=1", f"data.cache={tmp_path / cache}") for cache in caches]
    results = run_ranks(train_and_count, commands)
    assert [status for status, _ in results] == [0, 0, 0], results
    own = [{line for line in output.splitlines() if line.startswith("inspects ")} for _, output in results]
    assert [len(lines) for lines in own] == [6, 5, 5]
    assert len(set.union(*own)) == 16
    for cache in set(caches):
        (index,) = (tmp_path / cache).rglob("files.json")
        assert len(json.loads(index.read_text())) == 16
    assert not any("inspects" in output for _, output in run_ranks(train_and_count, commands))


def test_machines_with_other_data(data, tmp_path):
    other = write_classes(tmp_path / "other")
    write_picture(other / "dog" / "new.png", seed=9)
    results = train_ranks(write_recipe(tmp_path, data), [], [f"data.path={other}"], [])
    (line,) = errors(results)
    assert line.startswith("error: rank 1 has data.path 17 samples ") and ", rank 0 16 samples " in line
    assert "copy the same files to all machines" in line
    assert not (tmp_path / "run").exists()


def test_machines_with_other_states(data, tmp_path):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2", f"run.folder={tmp_path / 'ahead'}") == 0
    results = train_ranks(recipe, [f"run.folder={tmp_path / 'ahead'}"], [])
    (line,) = errors(results)
    assert "rank 1 has step 0, rank 0 2: expected the same" in line and "run.folder=" in line


def test_machines_with_other_settings(data, tmp_path):
    (line,) = errors(train_ranks(write_recipe(tmp_path, data), [], ["optimizer.lr=0.5"]))
    assert "rank 1 has optimizer.lr 0.5, rank 0 0.001: expected the same in all processes" in line


def test_folders_of_their_own(data, tmp_path):
    """Machines that share no disk: each has its data, and the first one alone writes the run."""
    copy = write_classes(tmp_path / "copy")
    recipe = write_recipe(tmp_path, data)
    own = [f"data.path={copy}", f"data.cache={tmp_path / 'own'}", f"run.folder={tmp_path / 'elsewhere'}"]
    results = train_ranks(recipe, ["run.steps=2"], ["run.steps=2", *own])
    assert [status for status, _ in results] == [0, 0], results
    assert last_state(tmp_path / "run")["step"] == 2
    assert not (tmp_path / "elsewhere").exists()


def test_all_validate_and_draw(data, tmp_path):
    """Three processes have the held-out loss and the sheet of one; three sheets of a column each make the whole."""
    options = ["run.steps=2", "data.held_out=5", "run.validate_every=1", "run.log_every=1", "data.batch_size=4"]
    options += ["sampling.every=2", "sampling.steps=[1, 2]", "sampling.classes=[0, 1, 1, 0]", "optimizer.eps=1e-3"]
    assert train(write_recipe(tmp_path, data, "one"), *options) == 0
    results = train_ranks(write_recipe(tmp_path, data, "three"), options, options, options)
    assert [status for status, _ in results] == [0, 0, 0], results
    logs = [read_csv(tmp_path / name / "log.csv") for name in ("one", "three")]
    losses = [[float(row["held_out_loss"]) for row in rows] for rows in logs]
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    one, three = (Image.open(tmp_path / name / "samples" / "step-00000002.png") for name in ("one", "three"))
    assert np.abs(np.asarray(one, int) - np.asarray(three, int)).max() <= 1


def test_each_process_draws_its_columns(data, tmp_path):
    config = load_config(write_recipe(tmp_path, data), ["sampling.every=1", "sampling.classes=[0, 1, 1]"])
    parts = build_parts(config)
    sheet, net = make_sheet(parts, config), build_net(parts)
    pictures = [sheet.draw(net, torch.device("cpu"), Share(k, 2)) for k in range(2)]
    assert [{column for _, column in part} for part in pictures] == [{0, 2}, {1}]
    whole = sheet.compose(sheet.draw(net, torch.device("cpu")))
    assert sheet.compose(pictures[0] | pictures[1]).tobytes() == whole.tobytes()


def wait_for_another(given_up: Path) -> int:
    """The first process waits for the second one, which comes only after the first has given up."""
    processes = Processes(RunConfig(cpu=True, precision="fp32", timeout_minutes=0.03))
    if processes.is_main:
        try:
            exchange(None)
        except RuntimeError:
            given_up.touch()
            return 3
        return 0
    end = time.monotonic() + 60
    while not given_up.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return 4 if given_up.exists() else 5


def test_processes_wait_for_each_other_as_long_as_the_config_says(tmp_path):
    ranks = Ranks(wait_for_another, [(tmp_path / "given_up",)] * 2)
    assert [status for status, _ in ranks.wait()] == [3, 4]


def test_longer_than_any_clock_is_refused(data, tmp_path, capsys):
    error = error_of(capsys, train(write_recipe(tmp_path, data), "run.timeout_minutes=1e30"))
    assert "run.timeout_minutes=1e+30: expected at most a few days" in error


def test_killed_process_ends_the_others(data, tmp_path):
    """They say in one line each that another process has gone; the same command goes on with what was saved."""
    recipe = write_recipe(tmp_path, data)
    ranks = Ranks(main, [([str(recipe), "run.steps=100000"],)] * 2)
    while not list((tmp_path / "run" / "states").glob("*.pt")):
        assert all(process.is_alive() for process in ranks.processes)
        time.sleep(0.05)
    ranks.processes[1].kill()
    (status, output), _ = ranks.wait()
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert status == 1 and "where another process has ended" in line
    assert "Traceback" not in output
    step = last_state(tmp_path / "run")["step"]
    results = train_ranks(recipe, *[[f"run.steps={step + 1}"]] * 2)
    assert [status for status, _ in results] == [0, 0], results

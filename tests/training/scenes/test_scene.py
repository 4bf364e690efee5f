"""FashionScenes: what is drawn is what captions say, evenly and reproducibly, and training reads what is written."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config.data_schema import DataConfig
from training.data.open_dataset import open_dataset
from training.scenes.__main__ import main
from training.scenes.captions import COLORS, ITEMS, PAIRS, TASKS
from training.scenes.folder import make_prompts, write_images
from training.scenes.scene import BACKGROUND, SHAPES, Items, Scene, Thing, draw_scene, render, satisfies

TRAINED = [draw_scene(0, index) for index in range(3000)]
UNSEEN = [draw_scene(0, index, "unseen") for index in range(400)]
LARGE = [draw_scene(0, index, shape=(4, 4)) for index in range(60)]


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files like Fashion-MNIST's: noise instead of clothes, three pictures of each label."""
    folder = tmp_path_factory.mktemp("items")
    for seed, split in enumerate(["train", "t10k"]):
        images = np.random.default_rng(seed).integers(0, 256, (30, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", np.arange(30, dtype=np.uint8) % 10)
    return folder


@pytest.fixture(scope="module")
def items(folder) -> Items:
    return Items(folder)


def test_scenes_are_a_function_of_seed_and_index():
    assert [draw_scene(0, index) for index in range(50)] == TRAINED[:50]
    assert [draw_scene(0, index, task=scene.task) for index, scene in enumerate(TRAINED[:50])] == TRAINED[:50]
    others = [draw_scene(1, index) for index in range(50)]
    assert sum(a.caption == b.caption for a, b in zip(TRAINED, others, strict=False)) < 10


@pytest.mark.parametrize("scenes", [TRAINED, UNSEEN, LARGE], ids=["trained", "unseen", "large"])
def test_scenes_are_what_they_require(scenes):
    for scene in scenes:
        assert satisfies(scene.things, scene.requirement), scene
        assert satisfies(scene.things[::-1], json.loads(json.dumps(scene.requirement))), scene
        cells = {(thing.column, thing.row) for thing in scene.things}
        assert len(cells) == len(scene.things)
        assert cells <= set(product(range(scene.columns), range(scene.rows)))


def other(names: dict, name: str) -> str:
    return next(n for n in names if n != name)


def swapped(scene: Scene) -> list[Thing]:
    first, second = scene.things
    return [replace(first, column=second.column, row=second.row), replace(second, column=first.column, row=first.row)]


CHANGES: dict[str, Callable[[Scene], list[Thing]]] = {
    "other item": lambda scene: [replace(scene.things[0], item=other(ITEMS, scene.things[0].item)), *scene.things[1:]],
    "one more": lambda scene: [*scene.things, Thing(scene.things[0].item, scene.things[0].color, 9, 9)],
    "one more of another item": lambda scene: [*scene.things, Thing(other(ITEMS, scene.things[0].item), "red", 9, 9)],
    "one less": lambda scene: list(scene.things[1:]),
    "nothing": lambda scene: [],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_scenes_are_refused(change):
    for scene in TRAINED + UNSEEN:
        assert not satisfies(change(scene), scene.requirement), scene


def test_color_matters_where_it_is_named():
    for scene in TRAINED + UNSEEN:
        recolored = [replace(scene.things[0], color=other(COLORS, scene.things[0].color)), *scene.things[1:]]
        assert satisfies(recolored, scene.requirement) != TASKS[scene.task].names_colors, scene


def test_place_matters_where_it_is_named():
    for scene in TRAINED:
        if len(scene.things) == 2:
            assert satisfies(swapped(scene), scene.requirement) == (scene.task != "position"), scene
        if scene.task == "position":
            column, row = scene.things[1].column, scene.things[1].row
            same_line = {"row": row} if scene.requirement["relation"] in ("above", "below") else {"column": column}
            assert not satisfies([replace(scene.things[0], **same_line), scene.things[1]], scene.requirement)


def test_colors_of_two_things_are_not_mixed_up():
    for scene in TRAINED:
        if scene.task == "color_attribution":
            first, second = scene.things
            mixed = [replace(first, color=second.color), replace(second, color=first.color)]
            assert not satisfies(mixed, scene.requirement)


def test_unseen_combinations_are_nowhere_in_training():
    assert {(t.item, t.color) for scene in TRAINED for t in scene.things} == set(PAIRS["seen"])
    assert {(t.item, t.color) for scene in UNSEEN for t in scene.things} == set(PAIRS["unseen"])
    assert {scene.task for scene in UNSEEN} == {"colors", "color_attribution"}


def even(counts: Counter, size: int, tolerance: float = 0.25) -> bool:
    """Whether `size` things turn up, each about as often as any other."""
    mean = counts.total() / size
    return len(counts) == size and all(abs(n - mean) <= tolerance * mean for n in counts.values())


def test_scenes_are_balanced():
    assert Counter(scene.task for scene in TRAINED) == dict.fromkeys(TASKS, 500)
    assert even(Counter(thing.item for scene in TRAINED for thing in scene.things), len(ITEMS))
    assert even(Counter(thing.color for scene in TRAINED for thing in scene.things), len(COLORS))
    assert even(Counter(len(scene.things) for scene in TRAINED if scene.task == "counting"), 3)
    assert even(Counter(scene.requirement["relation"] for scene in TRAINED if scene.task == "position"), 4)


@pytest.mark.parametrize(
    ("task", "shapes"), [("single_object", SHAPES), ("colors", SHAPES), ("two_object", SHAPES[1:])]
)
def test_canvases_and_cells_are_balanced(task, shapes):
    scenes = [draw_scene(1, index, task=task) for index in range(1500)]
    assert {(scene.columns, scene.rows) for scene in scenes} == set(shapes)
    assert even(Counter((scene.columns, scene.rows) for scene in scenes), len(shapes))
    cells = [(thing.column, thing.row) for s in scenes if (s.columns, s.rows) == (3, 3) for thing in s.things]
    assert even(Counter(cells), 9, tolerance=0.6)


def test_shapes_never_trained():
    assert {(scene.columns, scene.rows) for scene in LARGE} == {(4, 4)}
    assert draw_scene(0, 0, shape=(1, 4)).size == (32, 128)
    assert {draw_scene(0, i, task="position", shape=(1, 4)).requirement["relation"] for i in range(30)} == {
        "above", "below",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "counting", "shape": (1, 1)}, "counting does not fit into 1x1 cells"),
        ({"task": "poetry"}, "task poetry with seen combinations: expected single_object, two_object"),
        ({"task": "counting", "combinations": "unseen"}, "expected colors, color_attribution"),
        ({"combinations": "odd"}, "odd combinations: expected seen or unseen"),
    ],
)
def test_scenes_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(0, 0, **arguments)


def test_rendering_puts_tinted_items_into_their_cells(items):
    for scene in TRAINED[:60]:
        picture = render(scene, items)
        assert picture.dtype == np.uint8 and picture.shape == (32 * scene.rows, 32 * scene.columns, 3)
        for thing in scene.things:
            x, y = 32 * thing.column + 2, 32 * thing.row + 2
            found = picture[y : y + 28, x : x + 28].copy()
            gray = items.images[thing.item][..., None] / 255
            tinted = 255 * (BACKGROUND + gray * (np.array(COLORS[thing.color]) - BACKGROUND))
            assert np.abs(tinted - found).max((1, 2, 3)).min() < 0.51, thing  # one of the item's pictures, rounded
            picture[y : y + 28, x : x + 28] = (15, 15, 20)
        assert (picture == (15, 15, 20)).all()


def test_pictures_are_a_function_of_the_scene(items):
    scene = next(scene for scene in TRAINED if len(scene.things) == 4)
    assert np.array_equal(render(scene, items), render(replace(scene), items))
    drawn = {render(replace(scene, index=index), items).tobytes() for index in range(20)}
    assert len(drawn) > 10


def test_splits_show_other_items(folder, items):
    held_out = Items(folder, "test")
    assert all(len(held_out.images[item]) == 3 for item in ITEMS)
    assert not np.array_equal(held_out.images["bag"], items.images["bag"])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_training_reads_what_is_written(tmp_path, items):
    write_images(tmp_path / "scenes", items, 120)
    config = DataConfig(path=str(tmp_path / "scenes"), resolution=96, max_aspect=3, workers=0)
    dataset = open_dataset(config, 16, 1)
    assert dataset.layout == "metadata" and not dataset.dropped
    assert [(s.bucket, s.captions) for s in dataset.samples] == [(s.size, (s.caption,)) for s in TRAINED[:120]]
    lines = [json.loads(line) for line in (tmp_path / "scenes" / "metadata.jsonl").read_text().splitlines()]
    for line, scene in zip(lines, TRAINED, strict=False):
        assert (line["task"], line["requirement"]) == (scene.task, scene.requirement)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "scenes" / line["file_name"])), render(scene, items))


def test_a_folder_appears_when_it_is_whole(tmp_path, items, monkeypatch):
    write_images(tmp_path / "whole", items, 20)

    def interrupted(scene, items):
        if scene.index == 25:
            raise KeyboardInterrupt
        return render(scene, items)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.scenes.folder.render", interrupted)
        write_images(tmp_path / "scenes", items, 30)
    assert not (tmp_path / "scenes").exists()
    write_images(tmp_path / "scenes", items, 20)
    assert contents(tmp_path / "scenes") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes", "whole"]


def test_prompts_for_evaluation():
    prompts = make_prompts(6, seed=3)
    assert prompts == make_prompts(6, seed=3) != make_prompts(6, seed=4)
    assert Counter((prompt.task, prompt.unseen) for prompt in prompts) == {
        **{(task, False): 6 for task in TASKS}, ("colors", True): 6, ("color_attribution", True): 6,
    }  # fmt: skip
    assert all((prompt.width // 32, prompt.height // 32) in SHAPES for prompt in prompts)
    asked = {(t["item"], t["color"]) for prompt in prompts if prompt.unseen for t in prompt.requirement["things"]}
    assert asked <= set(PAIRS["unseen"])


def test_prompts_of_one_shape():
    prompts = make_prompts(3, shape=(4, 1))
    assert {(prompt.width, prompt.height) for prompt in prompts} == {(128, 32)}
    assert {prompt.requirement["relation"] for prompt in prompts} <= {None, "left of", "right of"}
    assert {prompt.task for prompt in make_prompts(3, shape=(1, 1))} == {"single_object", "colors"}


def test_commands(tmp_path, folder, capsys):
    scenes, tasks = tmp_path / "scenes", tmp_path / "tasks.jsonl"
    assert main(["--out", str(scenes), "--items", str(folder), "--count", "5", "--split", "test"]) == 0
    assert len(list(scenes.rglob("*.png"))) == 5
    assert main(["--tasks", str(tasks), "--per-task", "2", "--shape", "4x3", "--seed", "1"]) == 0
    lines = [json.loads(line) for line in tasks.read_text().splitlines()]
    assert lines == [prompt.to_line() for prompt in make_prompts(2, 1, (4, 3))]
    assert list(lines[0]) == ["task", "prompt", "width", "height", "requirement", "unseen"]
    assert capsys.readouterr().out == f"wrote {scenes}\nwrote {tasks}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "new"], "train-images-idx3-ubyte.gz: is no whole idx file"),
        (["--out", "new", "--items", "ITEMS", "--count", "0"], "new: 0 images wanted, expected at least 1"),
        (["--out", ".", "--items", "ITEMS"], "exists, expected the name of a folder to make"),
        (["--tasks", "tasks.jsonl", "--shape", "0x2"], "no prompts: 100 for each task on (0, 2) cells"),
        (["--tasks", "tasks.jsonl", "--shape", "4 3"], "--shape '4 3': expected columns x rows, such as 4x3"),
        (["--tasks", "tasks.jsonl", "--per-task", "0"], "no prompts: 0 for each task"),
        (["--tasks", "nowhere/tasks.jsonl"], "the folder nowhere does not exist"),
    ],
)
def test_commands_that_cannot_be_done(tmp_path, folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main([str(folder) if a == "ITEMS" else a for a in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_items_must_be_those_of_fashion_mnist(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((4, 20, 20), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match=r"images \(4, 20, 20\) and 4 labels, expected Fashion-MNIST's"):
        Items(tmp_path)

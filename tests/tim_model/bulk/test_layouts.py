"""Files of every layout as evaluators read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tim_model.bulk.layouts import (
    DEFAULT_COUNTS,
    Sample,
    Target,
    check_sizes,
    class_targets,
    is_whole,
    prompt_targets,
    write_image,
    write_metadata,
)
from tim_model.bulk.prompts import Prompt, read_prompts

from .readers import prompt_files, read_dpg, read_geneval, read_mjhq

PROMPTS = ["a fox", "two hats", "a red fox"]
COLORS = [(10 * k, 255 - 20 * k, 128) for k in range(12)]


def image_of(sample: Sample) -> Image.Image:
    """An image that is one color, another for each sample."""
    return Image.new("RGB", (32, 32), COLORS[4 * sample.prompt + sample.image])


def write(layout: str, tmp_path: Path, count: int) -> Path:
    prompts, folder = read_prompts(prompt_files(tmp_path, PROMPTS)[layout]), tmp_path / "out"
    targets = prompt_targets(layout, prompts, count)
    write_metadata(layout, prompts, targets, folder)
    for target in targets:
        write_image(folder / target.path, list(map(image_of, target.samples)), {"prompt": "雪"})
    return folder


def color(array: np.ndarray) -> tuple[int, ...]:
    assert array.shape == (32, 32, 3) and (array == array[0, 0]).all()
    return tuple(map(int, array[0, 0]))


def test_geneval(tmp_path):
    found = read_geneval(write("geneval", tmp_path, 4))
    assert sorted(found) == [0, 1, 2]
    for k, (metadata, images) in found.items():
        assert metadata["prompt"] == PROMPTS[k] and metadata["tag"] == "single_object"
        assert [color(image) for image in images] == COLORS[4 * k : 4 * k + 4]
    lines = (tmp_path / "metadata.jsonl").read_text().splitlines()
    assert (tmp_path / "out" / "00002" / "metadata.jsonl").read_text() == lines[2] + "\n"
    assert (tmp_path / "out" / "00002" / "samples" / "0003.png").is_file()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_dpg(tmp_path, count):
    found = read_dpg(write("dpg", tmp_path, count), 32, count)
    assert sorted(found) == ["partiprompts0", "partiprompts1", "partiprompts2"]
    for k, images in enumerate(found[name] for name in sorted(found)):
        assert [color(image) for image in images] == COLORS[4 * k : 4 * k + count]


def test_mjhq(tmp_path):
    found = read_mjhq(write("mjhq", tmp_path, 1), tmp_path / "meta_data.json")
    assert list(found) == [f"animals/{1:040x}.jpg", f"logo/{0:040x}.jpg", f"logo/{2:040x}.jpg"]
    for k, name in ((1, 0), (0, 1), (2, 2)):
        image = list(found.values())[name].astype(int)
        assert image.shape == (32, 32, 3) and np.abs(image - COLORS[4 * k]).max() <= 3  # JPEG
    comment = Image.open(next((tmp_path / "out").rglob("*.jpg"))).info["comment"]
    assert comment.decode() == "tim.prompt: 雪"


def test_plain(tmp_path):
    names = sorted(path.name for path in write("plain", tmp_path, 2).iterdir())
    assert names == [f"{k:06}-{j:02}.png" for k in range(3) for j in range(2)]


def test_classes_are_balanced():
    targets = class_targets(1000, 50_000)
    assert len({target.path for target in targets}) == 50_000
    assert len({target.samples for target in targets}) == 50_000
    counts = np.bincount([target.prompt for target in targets])
    assert counts.tolist() == [50] * 1000
    assert np.bincount([target.prompt for target in class_targets(10, 23)]).tolist() == [3] * 3 + [2] * 7


def test_counts_are_those_of_evaluation():
    assert DEFAULT_COUNTS == {"plain": 1, "geneval": 4, "dpg": 4, "mjhq": 1}


@pytest.mark.parametrize(
    ("layout", "form", "count", "says"),
    [
        ("geneval", "plain", 4, "FILE.jsonl"),
        ("dpg", "geneval", 4, "FOLDER with a .txt file"),
        ("dpg", "mjhq", 4, "FOLDER with a .txt file"),
        ("mjhq", "dpg", 1, "meta_data.json"),
        ("mjhq", "mjhq", 2, "expected 1"),
        ("dpg", "dpg", 5, "expected 1 to 4"),
        ("npz", "plain", 1, "expected --classes"),
    ],
)
def test_prompts_that_a_layout_cannot_hold(tmp_path, layout, form, count, says):
    prompts = read_prompts(prompt_files(tmp_path, PROMPTS)[form])
    with pytest.raises(ValueError, match=says):
        prompt_targets(layout, prompts, count)


def test_sizes_that_a_reader_would_cut_wrongly():
    check_sizes("dpg", [(64, 64)])
    check_sizes("geneval", [(64, 32), (32, 64)])
    for layout, sizes in (("dpg", [(64, 32)]), ("dpg", [(64, 64), (32, 32)]), ("npz", [(64, 64), (32, 32)])):
        with pytest.raises(ValueError, match="expected one"):
            check_sizes(layout, sizes)


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_whole_files(tmp_path, name):
    path, noise = tmp_path / name, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert not is_whole(path, (32, 32))
    write_image(path, [Image.fromarray(noise)], {"prompt": "x"})
    assert is_whole(path, (32, 32)) and not is_whole(path, (64, 32))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:40], b"", bytes(len(content))):
        path.write_bytes(damaged)
        assert not is_whole(path, (32, 32))


def test_size_of_a_file():
    samples = tuple(Sample(0, j) for j in range(4))
    sizes = [Target(Path("x"), samples[:count]).size((32, 16)) for count in (1, 2, 3, 4)]
    assert sizes == [(32, 16), (64, 16), (64, 32), (64, 32)]


def test_metadata_is_written_once(tmp_path):
    prompts = [Prompt("a", line=json.dumps({"prompt": "a"}))]
    targets = prompt_targets("geneval", prompts, 2)
    write_metadata("geneval", prompts, targets, tmp_path)
    path = tmp_path / "00000" / "metadata.jsonl"
    before = path.stat().st_mtime_ns
    write_metadata("geneval", prompts, targets, tmp_path)
    assert path.stat().st_mtime_ns == before
    path.write_text("{")
    write_metadata("geneval", prompts, targets, tmp_path)
    assert json.loads(path.read_text()) == {"prompt": "a"}

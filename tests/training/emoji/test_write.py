"""python -m training.emoji scenes and words: folders that trainings read, whole or not at all."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from training.emoji.__main__ import main
from training.emoji.render import render
from training.emoji.scene import crowded_scene, draw_scene
from training.emoji.words import replacements
from training.language_model.word_tokenizer import read_captions, read_replaced

from .stand_ins import stand_ins, write_stand_ins


def scenes(folder, tmp_path, *options: str) -> int:
    return main(["scenes", str(folder), "--drawings", str(tmp_path / "drawings"), *options])


def test_scenes_become_a_folder_with_captions(tmp_path):
    write_stand_ins(tmp_path / "drawings")
    assert scenes(tmp_path / "made", tmp_path, "--count", "5", "--seed", "3") == 0
    lines = [json.loads(line) for line in (tmp_path / "made" / "metadata.jsonl").read_text().splitlines()]
    drawn = [draw_scene(3, index) for index in range(5)]
    assert [(line["text"], line["task"], line["requirement"]) for line in lines] == [
        (scene.caption, scene.task, scene.requirement) for scene in drawn
    ]
    assert sorted(read_captions(tmp_path / "made")) == sorted(scene.caption for scene in drawn)
    for line, scene in zip(lines, drawn, strict=True):
        image = Image.open(tmp_path / "made" / line["file_name"])
        assert image.size == scene.size
        np.testing.assert_array_equal(np.asarray(image), render(scene, stand_ins()))


def test_crowded_scenes_are_all_of_one_size(tmp_path):
    write_stand_ins(tmp_path / "drawings")
    assert scenes(tmp_path / "made", tmp_path, "--count", "3", "--crowded") == 0
    paths = sorted((tmp_path / "made").glob("*/*.png"))
    assert [Image.open(path).size for path in paths] == [(128, 128)] * 3
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), render(crowded_scene(0, 1), stand_ins()))


def test_folders_in_the_way_and_missing_drawings_are_one_line(tmp_path, capsys):
    for said in ("missing or damaged", "exists, expected the name of a folder to make", "0 images wanted"):
        count = "0" if said.startswith("0") else "2"
        folder = tmp_path if "exists" in said else tmp_path / "made"
        assert scenes(folder, tmp_path, "--count", count) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert not (tmp_path / "made").exists()
        write_stand_ins(tmp_path / "drawings")


def test_words_are_what_the_text_encoder_reads(tmp_path):
    assert main(["words", str(tmp_path / "words.json")]) == 0
    assert list(read_replaced(str(tmp_path / "words.json"))) == replacements()

"""Prompts of every kind of file, and one line for what holds none."""

from __future__ import annotations

import json

import pytest

from tim_model.bulk.prompts import Prompt, read_prompts


def test_lines_of_text(tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffa red fox\r\n\n  雪 in the snow \n".encode())
    assert read_prompts(tmp_path / "prompts.txt") == [Prompt("a red fox"), Prompt("雪 in the snow")]


def test_lines_of_json_keep_the_line_and_may_state_a_size(tmp_path):
    lines = ['{"tag": "colors",  "prompt": "a red fox"}', '{"prompt": "a hat", "width": 96, "height": 64}']
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n\n")
    first, second = read_prompts(tmp_path / "prompts.jsonl")
    assert first == Prompt("a red fox", line=lines[0])
    assert second == Prompt("a hat", (96, 64), line=lines[1])


def test_a_folder_of_text_files(tmp_path):
    for name, text in (("drawtext7.txt", "a hat\n"), ("1.txt", "a fox"), ("notes.md", "no prompt")):
        (tmp_path / name).write_text(text)
    assert read_prompts(tmp_path) == [Prompt("a fox", name="1"), Prompt("a hat", name="drawtext7")]


def test_meta_data_of_mjhq(tmp_path):
    (tmp_path / "meta_data.json").write_text(json.dumps({"0a": {"category": "animals", "prompt": "a fox"}}))
    assert read_prompts(tmp_path / "meta_data.json") == [Prompt("a fox", name="animals/0a")]


BAD = {
    "empty.txt": ("\n", "holds no prompt"),
    "line.jsonl": ('{"prompt": "a"}\n\n{"prompt": 3}', 'line 3: expected an object with a "prompt"'),
    "text.jsonl": ("a fox", "line 1 is no JSON"),
    "side.jsonl": ('{"prompt": "a", "width": 64}', "line 1: width and height 64 and None"),
    "area.jsonl": ('{"prompt": "a", "width": 64, "height": 0}', "line 1: width and height 64 and 0"),
    "list.json": ("[1]", "expected an object of names"),
    "leaves.json": ('{"../x": {"category": "a", "prompt": "b"}}', "expected an object of names"),
    "also.json": ('{"x": {"category": "..", "prompt": "b"}}', "expected an object of names"),
    "cut.json": ('{"x": ', "is no JSON"),
    "latin.txt": (b"\xff\xfe\xe9", "latin.txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_without_prompts_are_one_line(tmp_path, name):
    content, says = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=name) as error:
        read_prompts(tmp_path / name)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_prompts(tmp_path / "prompts.txt")

"""`generate --prompts` and `--classes`: the same images whatever the batch, the processes and interruptions."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tim_model import TiM, save_checkpoint
from tim_model import __main__ as command
from tim_model.__main__ import main
from tim_model.bulk.share import Share
from tim_model.text.encoder import TextEncoder

from .broken_files import TINY
from .bulk.readers import files_below, pixels, prompt_files, read_adm, read_dpg, read_geneval, read_mjhq

PROMPTS = ["a fox", "a red fox in the snow", "a hat", "a fox", "two hats on a bench"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def prompts(tmp_path) -> dict[str, Path]:
    (tmp_path / "prompts").mkdir()
    return prompt_files(tmp_path / "prompts", PROMPTS)


@pytest.fixture
def model(tmp_path) -> Path:
    """A small class model in pixel space."""
    torch.manual_seed(0)
    save_checkpoint(TiM(TINY), tmp_path / "tiny.safetensors", metadata={"class_names": '["a", "b", "c", "d", "e"]'})
    return tmp_path / "tiny.safetensors"


def generate(stack, *arguments: object) -> int:
    files = ["--model", stack.model, "--text-encoder", stack.text_encoder, "--vae", stack.vae]
    return main([str(word) for word in ["generate", *files, "--device", "cpu", *arguments]])


def draw(stack, prompts: Path, out: str, *arguments: object) -> int:
    return generate(stack, "--prompts", prompts, "--out", out, "--size", "64x64", "--steps", 1, *arguments)


def draw_classes(model: Path, out: str, *arguments: object) -> int:
    words = ["generate", "--model", model, "--out", out, "--device", "cpu", "--size", "16x12", "--steps", 2, *arguments]
    return main(list(map(str, words)))


def settings(path: Path | str) -> dict[str, str]:
    return {name.removeprefix("tim."): value for name, value in Image.open(path).text.items()}


def largest_difference(a: Path | str, b: Path | str) -> int:
    return int(np.abs(pixels(Path(a)).astype(int) - pixels(Path(b))).max())


# ----------------------------------------------------------------------------------------------------- images


def test_each_image_is_that_of_generate_with_its_own_seed(stack, prompts):
    """One by one to the bit; drawn together they differ by rounding alone."""
    options = ("--steps", 2, "--stochasticity", 0.3, "--images-per-prompt", 2)
    assert draw(stack, prompts["plain"], "alone", *options) == 0
    assert draw(stack, prompts["plain"], "together", *options, "--batch", 4) == 0
    names = [f"{k:06}-{j:02}.png" for k in range(5) for j in range(2)]
    assert sorted(os.listdir("alone")) == sorted(os.listdir("together")) == names
    assert len({settings(f"alone/{name}")["seed"] for name in names}) == 10
    assert max(largest_difference(f"alone/{name}", f"together/{name}") for name in names) <= 1
    for name in names[1::4]:
        stated = settings(f"alone/{name}")
        assert settings(f"together/{name}") == stated
        options = ["--prompt", stated["prompt"], "--seed", stated["seed"], "--stochasticity", 0.3, "--out", "one.png"]
        assert generate(stack, "--size", stated["size"], "--steps", stated["steps"], *options) == 0
        assert largest_difference("one.png", f"alone/{name}") == 0


def test_restarts_have_noise_of_each_image_s_own(stack, prompts):
    options = ("--steps", 2, "--restart", 0.5)
    assert draw(stack, prompts["plain"], "alone", *options) == draw(
        stack, prompts["plain"], "b", *options, "--batch", 3
    )
    for name in os.listdir("alone"):
        assert largest_difference(f"alone/{name}", f"b/{name}") <= 1


@pytest.mark.parametrize("options", [("--solver", "sada"), ("--strategy", "progressive", "--size", "576x576")])
def test_what_decides_for_a_batch_draws_one_by_one(stack, prompts, monkeypatch, options):
    drawn = []
    original = command.TiMPipeline.generate

    def note(self, request, condition):
        drawn.append(len(condition.context))
        return original(self, request, condition)

    monkeypatch.setattr(command.TiMPipeline, "generate", note)
    (prompts["plain"]).write_text("a fox\na hat\n")
    assert draw(stack, prompts["plain"], "out", "--batch", 2, *options) == 0
    assert drawn == [1, 1]


def test_sizes_of_prompts(stack, tmp_path):
    lines = [{"prompt": "a fox", "width": 96, "height": 64}, {"prompt": "a hat"}, {"prompt": "a fox"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert draw(stack, tmp_path / "p.jsonl", "out", "--batch", 8) == 0
    sizes = [Image.open(f"out/{k:06}-00.png").size for k in range(3)]
    assert sizes == [(96, 64), (64, 64), (64, 64)]
    assert settings("out/000000-00.png")["size"] == "96x64"


def test_layouts_of_prompts(stack, prompts, tmp_path):
    """Every layout with two numbers of steps holds the images of the plain one, as its evaluator reads them."""
    common = ("--batch", 2, "--steps", "1,2")
    assert draw(stack, prompts["plain"], "plain", "--images-per-prompt", 4, *common) == 0
    for layout in ("geneval", "dpg", "mjhq"):
        assert draw(stack, prompts[layout], layout, "--layout", layout, *common) == 0
    for folder in ("steps-1", "steps-2"):
        rows = [[pixels(Path("plain", folder, f"{k:06}-{j:02}.png")) for j in range(4)] for k in range(5)]
        assert len({image.tobytes() for row in rows for image in row}) == 20
        geneval = read_geneval(Path("geneval", folder))
        assert [geneval[k][0]["prompt"] for k in range(5)] == PROMPTS
        assert all((np.array(geneval[k][1]) == rows[k]).all() for k in range(5))
        dpg = read_dpg(Path("dpg", folder), 64, 4)
        assert all((np.array(dpg[f"partiprompts{k}"]) == rows[k]).all() for k in range(5))
        mjhq = read_mjhq(Path("mjhq", folder), prompts["mjhq"])
        assert len(mjhq) == 5 and all(image.shape == (64, 64, 3) for image in mjhq.values())
    assert sorted(path.name for path in Path("dpg").iterdir()) == ["steps-1", "steps-1.json", "steps-2", "steps-2.json"]


def test_features_of_a_text_are_computed_once(stack, prompts, monkeypatch):
    texts, encode = [], TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, prompts: texts.extend(prompts) or encode(self, prompts))
    assert draw(stack, prompts["plain"], "out", "--images-per-prompt", 2, "--batch", 4, "--steps", "1,2") == 0
    assert sorted(texts) == sorted(["", *set(PROMPTS)])


# ---------------------------------------------------------------------------------------------------- classes


def test_classes_as_an_array(model):
    assert draw_classes(model, "out", "--classes", "all", "--count", 12, "--batch", 5) == 0
    (images,) = read_adm(Path("out.npz"))
    assert images.shape == (12, 12, 16, 3)
    assert all((images[k] == pixels(Path(f"out/{k:06}.png"))).all() for k in range(12))
    assert np.load("out.npz")["arr_1"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert len({image.tobytes() for image in images}) == 12
    stated = settings("out/000011.png")
    words = ["--class", stated["class"], "--seed", stated["seed"], "--out", "one.png"]
    assert draw_classes(model, *words[-1:], *words[:-2]) == 0
    assert stated["class"] == "1" and largest_difference("one.png", "out/000011.png") <= 1


def test_classes_of_a_list(model):
    """By name and number, and more of them later: the images that are there stay."""
    assert draw_classes(model, "out", "--classes", "e,1", "--count", 3, "--layout", "plain") == 0
    before = files_below(Path("out"))
    assert [settings(f"out/{k:06}.png")["class"] for k in range(3)] == ["4", "1", "4"]
    assert draw_classes(model, "out", "--classes", "4,b", "--count", 5, "--layout", "plain") == 0
    after = files_below(Path("out"))
    assert len(after) == 5 and before.items() <= after.items()
    assert not Path("out.npz").exists()


# ------------------------------------------------------------------------------- processes and interruptions


def test_processes_share_the_images_of_one(stack, prompts, monkeypatch):
    options = ("--images-per-prompt", 3, "--batch", 4, "--steps", "1,2")
    assert draw(stack, prompts["plain"], "one", *options) == 0
    counts = []
    for rank in range(2):
        monkeypatch.setattr(command, "join", lambda rank=rank: Share(rank, 2))
        assert draw(stack, prompts["plain"], "two", *options) == 0
        counts.append(len(list(Path("two").rglob("*.png"))))
    assert 0 < counts[0] < counts[1] == 30
    one, two = (files_below(Path(name)) for name in ("one", "two"))
    assert {n: c for n, c in one.items() if n.endswith("png")} == {n: c for n, c in two.items() if n.endswith("png")}


@pytest.mark.parametrize("layout", ["geneval", "dpg"])
def test_what_was_interrupted_goes_on(stack, prompts, monkeypatch, capsys, layout):
    """The bytes are those of one go, although batches were cut apart; only what lacks or is damaged is written."""
    options = ("--layout", layout, "--batch", 3, "--images-per-prompt", 2)
    assert draw(stack, prompts[layout], "whole", *options) == 0
    written, write = [], command.generate_bulk.__globals__["write_image"]
    lost = sorted(Path("whole").rglob("*.png"))[1:2]

    def write_most(path, *arguments):
        if lost and path.relative_to(Path("cut").absolute()) == lost[0].relative_to("whole"):
            raise KeyboardInterrupt
        write(path, *arguments)
        written.append(path)

    monkeypatch.setitem(command.generate_bulk.__globals__, "write_image", write_most)
    assert draw(stack, prompts[layout], "cut", *options) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped"
    there = written.copy()
    assert 1 <= len(there) < len(list(Path("whole").rglob("*.png"))) - 1  # some, and later batches lack too
    damaged = min(there)
    damaged.write_bytes(damaged.read_bytes()[:-30])
    leftover = damaged.with_name(f".{damaged.name}.123.tmp")  # of a process that was killed
    leftover.touch()
    lost.clear()
    assert draw(stack, prompts[layout], "cut", *options) == 0
    captured = capsys.readouterr()
    images = 2 if layout == "dpg" else 1
    assert f"{images * (len(there) - 1)} were there" in captured.out
    assert captured.err.count("is damaged or of another size, it is drawn again") == 1
    assert len(set(written)) == 10 // images and len(written) == 10 // images + 1 and written.count(damaged) == 2
    assert files_below(Path("cut")) == files_below(Path("whole"))
    count = len(written)
    assert draw(stack, prompts[layout], "cut", *options) == 0 and len(written) == count
    assert "0 drawn, 10 were there" in capsys.readouterr().out


def test_a_failed_write_is_one_line_and_loses_nothing(stack, prompts, monkeypatch, capsys):
    save, full = Image.Image.save, [True]

    def save_some(self, path, **options):
        if full and "000003-00" in Path(path).name:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", save_some)
    assert draw(stack, prompts["plain"], "out", "--batch", 4) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "cannot be written (No space left on device)" in error
    there = os.listdir("out")
    assert 0 < len(there) < 5 and all(Image.open(Path("out", name)).load() for name in there)
    full.clear()
    assert draw(stack, prompts["plain"], "out", "--batch", 4) == 0
    assert f"{5 - len(there)} drawn, {len(there)} were there" in capsys.readouterr().out
    assert len(os.listdir("out")) == 5


def test_other_settings_are_refused(stack, prompts, capsys):
    assert draw(stack, prompts["plain"], "out") == 0
    before = files_below(Path("out"))
    for other in (("--seed", 1), ("--cfg", 3), ("--steps", 2), ("--size", "96x64"), ("--dtype", "bfloat16")):
        assert draw(stack, prompts["plain"], "out", *other) == 1
        assert f"the images there are of {other[0][2:]}" in capsys.readouterr().err.replace("times", "steps")
    prompts["plain"].write_text("a fox\n")
    assert draw(stack, prompts["plain"], "out") == 1
    assert "of prompts" in capsys.readouterr().err
    assert files_below(Path("out")) == before


@pytest.mark.parametrize("layout", ["plain", "npz"])
def test_torchrun(root, model, tmp_path, layout):
    """Two real processes draw the images of one, and one of them writes the array."""
    options = ["--classes", "all", "--count", "9", "--batch", "2", "--layout", layout]
    assert draw_classes(model, "one", *options) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["-m", "tim_model", "generate", "--model", model, "--out", "two", "--device", "cpu", "--size", "16x12"]
    variables = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launcher, *words, "--steps", "2", *options], env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "process 1 of 2: 5 drawn" in result.stdout and "process 2 of 2: 4 drawn" in result.stdout
    assert files_below(Path("one")) == files_below(Path("two"))
    assert Path("two.npz").exists() == (layout == "npz")
    if layout == "npz":
        assert (np.load("one.npz")["arr_0"] == np.load("two.npz")["arr_0"]).all()


# ----------------------------------------------------------------------------------------------------- refusals

WRONG = {
    "a file": (["--out", "out.png"], "expected a folder for the images"),
    "layout": (["--layout", "geneval"], "expected --prompts FILE.jsonl"),
    "count": (["--count", "3"], "--count with --prompts"),
    "npz": (["--layout", "npz"], "expected --classes"),
    "size": (["--size", "100x64"], "multiples of 32"),
    "room": (["--batch", str(10**12)], "draw fewer at once"),
    "number": (["--images-per-prompt", "0"], "expected a number from 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line(stack, prompts, tmp_path, capsys, case):
    arguments, says = WRONG[case]
    try:
        status = draw(stack, prompts["plain"], "out", *arguments)
    except SystemExit as stop:
        status = stop.code
    assert status != 0 and says in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out").exists() and not Path("out.json").exists()


def test_wrong_kinds_of_model(stack, model, prompts, capsys):
    assert draw(stack, prompts["plain"], "out", "--steps", 1) == 0
    assert draw_classes(model, "x", "--prompts", prompts["plain"]) == 1
    assert "expected --classes" in capsys.readouterr().err
    assert generate(stack, "--classes", "all", "--out", "x") == 1
    assert "expected --prompts" in capsys.readouterr().err
    for wrong, says in (("1,1", "each class once"), ("5", "from 0 to 4"), ("1,", "class ''")):
        assert draw_classes(model, "x", "--classes", wrong) == 1
        assert says in capsys.readouterr().err
    assert draw_classes(model, "x", "--classes", "1", "--layout", "dpg") == 1
    assert draw_classes(model, "x", "--classes", "1", "--images-per-prompt", 2) == 1
    assert not Path("x").exists()


@pytest.mark.parametrize("option", ["--layout plain", "--images-per-prompt 2", "--count 3"])
def test_options_of_many_images_alone(model, capsys, option):
    assert draw_classes(model, "x.png", "--class", "1", *option.split()) == 1
    assert "is for --prompts or --classes" in capsys.readouterr().err
    assert not Path("x.png").exists()


def test_seeds_of_a_request_are_one_for_each_image():
    request = command.Request(prompts=("a", "b"), seed=(1, 2))
    with pytest.raises(ValueError, match="3 seeds: expected one for each of 2 images"):
        replace(request, seed=(1, 2, 3))

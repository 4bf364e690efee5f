"""`python -m tim_model generate --prompt`: pictures of the pipeline, with their settings inside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tim_model import TiMPipeline, make_times
from tim_model.__main__ import main
from tim_model.vae import tiled_vae
from tim_model.vae.autoencoder import VAE

PROMPT = "a red fox\nin \u96ea"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def generate(stack, *arguments: str, size: tuple[str, ...] = ("--size", "96x64")) -> int:
    files = ["--model", stack.model, "--text-encoder", stack.text_encoder, "--vae", stack.vae]
    return main([str(part) for part in ["generate", *files, "--device", "cpu", *size, *arguments]])


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def expected_pixels(stack, prompts: list[str], negative: str = "", steps: int = 4, **options) -> list[np.ndarray]:
    pipe = TiMPipeline.from_files(*stack, device="cpu")
    images = pipe(prompts, negative, times=make_times("uniform", steps), size=(96, 64), **{"cfg": 2.5, **options})
    return list(((images.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy())


def test_one_picture(stack, tmp_path):
    arguments = ["--prompt", PROMPT, "--negative", "blurry", "--seed", "3", "--cfg", "3", "--out", "fox.png"]
    assert generate(stack, *arguments) == 0
    (expected,) = expected_pixels(stack, [PROMPT], "blurry", seed=3, cfg=3.0)
    assert np.abs(pixels("fox.png") - expected).max() <= 0.52  # rounded to 8 bits
    assert [path.name for path in tmp_path.iterdir()] == ["fox.png"]


def test_settings_make_the_picture_again(stack):
    assert generate(stack, "--prompt", PROMPT, "--negative", "blurry", "--seed", "3", "--out", "first.png") == 0
    settings = {name.removeprefix("tim."): value for name, value in Image.open("first.png").text.items()}
    assert settings["model"] == "t2i_model.bin"
    assert settings["prompt"] == PROMPT and settings["negative"] == "blurry"
    assert (settings["size"], settings["steps"], settings["cfg"], settings["seed"]) == ("96x64", "4", "2.5", "3")
    names = ["prompt", "negative", "times", "cfg", "seed", "stochasticity"]
    options = [part for name in names for part in (f"--{name}", settings[name])]
    guidance = ["--guidance", *settings["guidance"].split()]
    assert generate(stack, *options, *guidance, "--out", "again.png") == 0
    assert (pixels("again.png") == pixels("first.png")).all()


def test_grid_of_steps_and_batch(stack, tmp_path):
    assert generate(stack, "--prompt", PROMPT, "--steps", "1,4", "--batch", "2", "--out", "fox.png") == 0
    singles = [f"fox-{steps}steps-{i}.png" for steps in (1, 4) for i in (0, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*singles, "fox.png"])
    assert {Image.open(name).size for name in singles} == {(96, 64)}
    assert Image.open("fox.png").size > (2 * 96, 2 * 64)
    for steps in (1, 4):
        for i, expected in enumerate(expected_pixels(stack, [PROMPT] * 2, steps=steps)):
            assert np.abs(pixels(f"fox-{steps}steps-{i}.png") - expected).max() <= 0.52
            assert Image.open(f"fox-{steps}steps-{i}.png").text["tim.steps"] == str(steps)
    sheet = pixels("fox.png")
    corners = sheet[-64:, :96], sheet[-64:, -96:]  # the row of 4 steps
    for i, corner in enumerate(corners):
        assert (corner == pixels(f"fox-4steps-{i}.png")).all()


def test_empty_prompt(stack):
    """It is a prompt, and no missing one."""
    assert generate(stack, "--prompt", "", "--out", "empty.png") == 0
    (expected,) = expected_pixels(stack, [""])
    assert np.abs(pixels("empty.png") - expected).max() <= 0.52


def test_progress_is_shown(stack, capsys):
    assert generate(stack, "--prompt", PROMPT, "--steps", "2") == 0
    assert "steps: 2" in capsys.readouterr().err


def test_size_of_an_aspect_and_an_area(stack):
    """The area is that of the default size, 256x256, where none is given."""
    for out, size in (("a.png", ("--aspect", "2:1")), ("b.png", ("--aspect", "2:1", "--megapixels", "0.125"))):
        assert generate(stack, "--prompt", PROMPT, "--steps", "1", "--out", out, size=size) == 0
    assert Image.open("a.png").size == (352, 192) and Image.open("b.png").size == (512, 256)
    assert Image.open("b.png").text["tim.size"] == "512x256"


def test_progressive_in_tiles(stack, monkeypatch, capsys):
    """Where memory runs out, smaller tiles still make the picture, and one line says so."""
    decode = VAE.decode

    def decode_what_fits(vae, latents):
        if latents.shape[-1] > 16:
            raise RuntimeError("out of memory")
        return decode(vae, latents)

    monkeypatch.setattr(VAE, "decode", decode_what_fits)
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: 2**40)
    arguments = ["--prompt", PROMPT, "--strategy", "progressive", "--steps", "1", "--large-steps", "1"]
    assert generate(stack, *arguments, "--out", "fox.png", size=("--size", "640x128")) == 0
    assert Image.open("fox.png").size == (640, 128)
    assert Image.open("fox.png").text["tim.stages"] == "576x128, 640x128"
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert lines.count("Out of memory with tiles of 640 pixels, going on with 512.") == 1
    assert lines.count("Out of memory with tiles of 576 pixels, going on with 512.") == 1


WRONG = {
    "no text encoder": (["--prompt", "x"], {"--text-encoder"}, "google/gemma-3-1b-it"),
    "no VAE": (["--prompt", "x"], {"--vae"}, "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers"),
    "a class": (["--class", "3"], set(), "prompts instead of classes"),
    "a bad size": (["--prompt", "x", "--size", "100x64"], set(), "multiples of 32"),
    "no folder": (["--prompt", "x", "--out", "nowhere/fox.png"], set(), "nowhere"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line(stack, tmp_path, capsys, case):
    arguments, left_out, says = WRONG[case]
    files = {"--model": stack.model, "--text-encoder": stack.text_encoder, "--vae": stack.vae}
    files = [str(part) for name, path in files.items() if name not in left_out for part in (name, path)]
    assert main(["generate", *files, "--device", "cpu", "--size", "96x64", "--steps", "1", *arguments]) != 0
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and says in error
    assert list(tmp_path.iterdir()) == []

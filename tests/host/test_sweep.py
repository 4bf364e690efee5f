"""TiM Step Sweep: the pictures of TiM Sampler at each number of steps, in one batch and one labeled grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from devtools.client import PromptFailed
from devtools.random_stack import VAE_FILE
from devtools.server import Host
from tests.host.graphs import CONDITIONED, PIXELS, SEED, Graph, class_model, node, run_floats, tim_sampler
from tests.host.text_graphs import text_model
from tim_model.images import FONT_SIZE, GAP, LABEL_HEIGHT

CELL = 128  # pixels of one 32x32 picture in the grid


def sweep(**changes: Any) -> dict[str, Any]:
    settings = {"seed": SEED, "steps": "1, 2, 5", "schedule": "uniform", "cfg": 2.5, "guidance_low": 0.0}
    settings |= {"guidance_high": 1.0, "stochasticity": 0.0}
    links = {"vae": ["vae", 0], "latent_image": ["latent", 0]}
    return node("TiMStepSweep", **{**CONDITIONED, **links, **settings, **changes})


def graph(batch: int = 1, **changes: Any) -> Graph:
    return {**class_model(batch=batch), "vae": PIXELS, "sweep": sweep(**changes)}


def sampled(steps: int, **settings: Any) -> Graph:
    """TiM Sampler and VAE Decode: "decoded"."""
    decoded = node("VAEDecode", samples=["sample", 0], vae=["vae", 0])
    return {"sample": tim_sampler(steps=steps, **settings), "decoded": decoded}


def save(output: int) -> Graph:
    return {"saved": node("SaveImage", images=["sweep", output], filename_prefix="sweep")}


SETTINGS = {
    "defaults": {},
    "every step guided": {"guidance_high": 2.0, "cfg": 4.0},
    "stochastic": {"stochasticity": 0.3},
    "shifted": {"schedule": "shifted", "seed": 0xFFFFFFFFFFFFFFFF},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_run_is_that_of_the_sampler(host, settings):
    """Bit for bit, the batch of the first number of steps first."""
    found = run_floats(host, graph(batch=2, **settings), "sweep")
    alone = [run_floats(host, {**graph(batch=2), **sampled(n, **settings)}, "decoded") for n in (1, 2, 5)]
    assert torch.equal(found, torch.cat(alone))
    assert not torch.equal(alone[0], alone[1])


def test_strong_guidance_is_noted_once(host):
    told = host.log.count("cfg 7.5 is far above")
    host.run({**graph(cfg=7.5), **save(0)})
    assert host.log.count("cfg 7.5 is far above") == told + 1


def test_vae_with_latents(host, stack):
    """The same for a text model with its own VAE."""
    links = {"positive": ["positive", 0], "negative": ["negative", 0], "cfg": 2.5}
    text = text_model(width=96, height=64)
    found = run_floats(host, {**text, "sweep": sweep(steps="3, 1", **links)}, "sweep")
    alone = [run_floats(host, {**text, **sampled(n, **links)}, "decoded") for n in (3, 1)]
    assert torch.equal(found, torch.cat(alone))


def to_array(image: Any) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_grid_has_a_labeled_column_for_each_number_of_steps(host):
    made = graph(batch=2, seed=31)
    singles = [to_array(image) for image in host.images(host.run({**made, **save(0)}))]
    (image,) = host.images(host.run({**made, **save(1)}))
    sheet = to_array(image)
    top = 3 * LABEL_HEIGHT  # the title, and two lines above each column
    assert sheet.shape == (top + 2 * CELL + GAP, 3 * CELL + 2 * GAP, 3)
    for k, single in enumerate(singles):
        column, row = divmod(k, 2)
        x, y = column * (CELL + GAP), top + row * (CELL + GAP)
        shown = sheet[y : y + CELL, x : x + CELL]
        assert abs(shown[::4, ::4] - single).max() <= 1  # the host rounds down, the grid to the nearest
        assert (shown == shown[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)).all()
    assert_written(sheet, "TiM", whole=True)
    for k, (steps, calls) in enumerate({"1 step": "1 call,", "2 steps": "3 calls,", "5 steps": "9 calls,"}.items()):
        assert_written(sheet, steps, 1, k, whole=True)
        width = assert_written(sheet, calls, 2, k)
        seconds = dark(sheet[2 * LABEL_HEIGHT : top, k * (CELL + GAP) :][:, :CELL])
        assert width < seconds.max() < CELL - 2, "seconds stand behind the calls"


def dark(line: np.ndarray) -> np.ndarray:
    """Columns of a line that have dark pixels."""
    return (line.min(axis=(0, 2)) < 100).nonzero()[0]


def assert_written(sheet: np.ndarray, text: str, line: int = 0, column: int = 0, whole: bool = False) -> int:
    """The line of a column of cells begins with the text, and is white after it if that is the whole; its width."""
    font = ImageFont.load_default(FONT_SIZE)
    width = math.ceil(font.getlength(text)) + 1
    expected = Image.new("RGB", (width, LABEL_HEIGHT), "white")
    ImageDraw.Draw(expected).text((1, 1), text, "black", font)
    found = sheet[line * LABEL_HEIGHT : (line + 1) * LABEL_HEIGHT, column * (CELL + GAP) :]
    assert (found[:, :width] == to_array(expected)).all(), f"not written: {text}"
    assert not whole or (found[:, width:CELL] == 255).all()
    return width


@pytest.mark.parametrize("settings,calls", [({"cfg": 1.0}, "5 calls,"), ({"guidance_high": 2.0}, "10 calls,")])
def test_calls_are_those_of_one_image(host, settings, calls):
    """Two in a guided step, whatever the batch."""
    (image,) = host.images(host.run({**graph(batch=2, steps="5", seed=36, **settings), **save(1)}))
    assert_written(to_array(image), calls, 2)


def test_name_is_the_title(host):
    (image,) = host.images(host.run({**graph(steps="1", seed=35, name="  by equal steps "), **save(1)}))
    assert_written(to_array(image), "by equal steps", whole=True)


def test_one_progress_for_all_runs_and_a_preview_of_each_step(host):
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue({**graph(seed=32), **save(1)}, stream.client_id)))
    assert events[-1].type == "execution_success"
    steps = [(event.data["value"], event.data["max"]) for event in events if event.type == "progress"]
    assert steps == [(i, 8) for i in range(1, 9)]
    assert len([event for event in events if event.type == "preview"]) == 8


def test_interruption(host):
    with host.listen() as stream:
        prompt_id = host.queue({**graph(steps="1, 2, 10000", seed=33), **save(0)}, stream.client_id)
        for event in stream.until_finished(prompt_id):
            if event.type == "progress" and event.data["value"] == 5:
                host.interrupt()
    assert event.type == "execution_interrupted"
    assert len(host.images(host.run({**graph(seed=34), **save(0)}))) == 3


def refuses(host: Host, graph: Graph, *words: str, by: str = "TiMStepSweep", output: tuple = ("sweep", 0)) -> None:
    """The sweep fails with a ValueError of its own making, in one line that has all the words."""
    with pytest.raises(PromptFailed) as caught:
        host.run({**graph, "saved": node("SaveImage", images=list(output), filename_prefix="sweep")})
    assert caught.value.node_type == by
    assert caught.value.details["exception_type"].rpartition(".")[2] == "ValueError"
    message = caught.value.exception_message
    assert "\n" not in message and [word for word in words if word not in message] == []


BAD_STEPS = {
    "": ["0 entries", "1 to 16"],
    " , ;": ["0 entries", "1 to 16"],
    ", ".join("1" * 17): ["17 entries", "1 to 16"],
    "0": ["'0'", "1 to 10000"],
    "1, -2": ["'-2'", "1 to 10000"],
    "1; 2.5; 4": ["'2.5'", "whole numbers"],
    "1 four": ["'four'", "whole numbers"],
    "4, 10001": ["'10001'", "1 to 10000"],
}


@pytest.mark.parametrize("steps", BAD_STEPS)
def test_bad_list_of_steps(host, steps):
    refuses(host, graph(steps=steps), "steps has", *BAD_STEPS[steps])


BAD_NAMES = {"": ["name is empty"], " \t": ["name is empty"], "W" * 81: ["one line", "80"], "two\nlines": ["one line"]}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name(host, name):
    refuses(host, graph(name=name), *BAD_NAMES[name])


def test_ends_of_the_list(host):
    """Sixteen entries, in any order and more than once, apart by commas, semicolons or spaces."""
    images = host.images(host.run({**graph(steps="3;1 1,2," + " 1" * 12), **save(0)}))
    assert len(images) == 16
    assert images[1].tobytes() == images[2].tobytes() != images[0].tobytes()


def test_vae_of_another_model(host, stack):
    other = {**graph(), "vae": node("TiMVAELoader", vae_name=VAE_FILE)}
    refuses(host, other, "vae decodes 32 channels", "draws 3")


def test_empty_guidance_interval(host):
    refuses(host, graph(guidance_low=0.8, guidance_high=0.2), "guidance_low=0.8", "guidance_high=0.2")

"""Caches of latents and text features: keyed by content, incremental, and a run that uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tim_model.gemma import write_gemma
from tim_model import load_text_encoder, load_vae
from tim_model.text.encoder import pad_features
from training.components.parts import build_parts
from training.config.data_schema import DataConfig
from training.config.load import load_config
from training.data.encoded import Latents, Share
from training.data.image_dataset import ImageDataset
from training.data.open_dataset import open_dataset
from training.data.order import Copy
from training.data.tensor_cache import TensorCache

from ..tiny import last_state, train, write_classes, write_picture, write_recipe

diffusers = pytest.importorskip("diffusers")
KL = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "scaling_factor": 0.5,
}


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    diffusers.AutoencoderKL(**KL).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    return write_gemma(tmp_path_factory.mktemp("gemma"))


def write_captions(folder: Path) -> Path:
    for i, caption in enumerate(["a fox", "two oxen on a fen, one waxen", "a fox", "no ox"]):
        write_picture(folder / f"{i}.png", (16, 16 + 16 * (i % 2)), seed=i).with_suffix(".txt").write_text(caption)
    return folder


def cached(folder: Path) -> set[Path]:
    return set((folder / "cache").rglob("*.safetensors"))


def test_latents_are_made_once_for_each_content(tmp_path, vae):
    data = write_classes(tmp_path / "data", 2)
    config = load_config(write_recipe(tmp_path, data), [f"model.vae={vae}", "model.patch_size=2", "data.mirror=true"])
    parts = build_parts(config)
    assert (parts.params.in_channels, parts.space.ratio) == (4, 4)
    parts.data.encode([], torch.device("cpu"), Share())
    first = {path: path.stat().st_mtime_ns for path in cached(tmp_path)}
    assert len(first) == 8  # four pictures and their mirror images
    expected = load_vae(vae).encode(parts.dataset.read(1, True)[None])[0]
    assert torch.equal(parts.data.latents.read(1, True), expected)
    write_picture(data / "cat" / "new.png", seed=77)
    again = build_parts(config)
    again.data.encode([], torch.device("cpu"), Share())
    assert len(cached(tmp_path) - first.keys()) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first  # not made again


def test_equal_pictures_are_encoded_once(tmp_path, vae, monkeypatch):
    data = write_classes(tmp_path / "data", 2)
    (data / "cat" / "copy.png").write_bytes((data / "cat" / "0.png").read_bytes())
    dataset = open_dataset(DataConfig(path=str(data)), 4, 2)
    read, opened = ImageDataset.read, []
    monkeypatch.setattr(ImageDataset, "read", lambda self, *copy: opened.append(copy) or read(self, *copy))
    copies = [(i, False) for i in range(len(dataset.samples))] * 3
    Latents(dataset, str(vae), TensorCache(tmp_path / "cache")).encode(copies, torch.device("cpu"), Share())
    assert len(opened) == len({sample.digest for sample in dataset.samples}) == len(dataset.samples) - 1


def test_latents_of_another_dtype_are_others(tmp_path, vae):
    dataset, cache = (
        open_dataset(DataConfig(path=str(write_classes(tmp_path / "data", 1))), 4, 1),
        TensorCache(tmp_path),
    )
    for dtype in (torch.float32, torch.bfloat16):
        latents = Latents(dataset, str(vae), cache, dtype)
        latents.encode([(0, False)], torch.device("cpu"), Share())
        expected = load_vae(vae, "cpu", dtype).encode(dataset.read(0, False)[None])[0]
        assert torch.equal(latents.read(0, False), expected)


def test_captions_of_a_batch_are_padded_to_its_longest(tmp_path, gemma):
    config = load_config(write_recipe(tmp_path, write_captions(tmp_path / "data")), [f"model.text_encoder={gemma}"])
    parts = build_parts(config)
    assert parts.params.context_dim == 64 and parts.params.num_classes is None
    parts.data.encode(["a prompt"], torch.device("cpu"), Share())
    assert len(cached(tmp_path)) == 6  # three captions, the prompt, the empty one and the pad feature
    rows = [Copy(3), Copy(1)]
    whole = parts.data.batch(rows, 0, range(2))
    encoder = load_text_encoder(gemma)
    features = encoder.encode(["no ox", "two oxen on a fen, one waxen", ""])
    expected = pad_features(features, encoder.pad_feature)
    torch.testing.assert_close(whole.context, expected[:2], rtol=0, atol=0)
    torch.testing.assert_close(whole.null_context, expected[2:].expand(2, -1, -1), rtol=0, atol=0)
    part = parts.data.batch(rows, 0, range(1))  # another process gets the same length
    assert torch.equal(part.context, whole.context[:1])


def test_text_run_with_sheets(tmp_path, vae, gemma):
    recipe = write_recipe(tmp_path, write_captions(tmp_path / "data"))
    options = [f"model.vae={vae}", "model.patch_size=2", f"model.text_encoder={gemma}", "data.held_out=1"]
    options += ["run.steps=3", "data.workers=1"]
    sheet = ["sampling.every=3", "sampling.steps=[1, 2]", "sampling.prompts=[a fox, an ox]", "sampling.cfg=2"]
    assert train(recipe, *options, *sheet) == 0
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 1
    assert '"ratio": 4' in last_state(tmp_path / "run")["metadata"]["latent_space"]


REFUSALS = {
    "model.vae=": "model.text_encoder: is not set, but the data has captions",
    "model.preset=tim-t2i-xl-p1": "the model has 32 channels, the data 3: expected a VAE that makes them",
    "model.preset=tim-c2i-b-p4-256": "the model has 4 channels, the data 3: expected a VAE that makes them",
    "model.vae=nowhere": "nowhere: no such file",
    "model.checkpoint=nowhere.safetensors": "nowhere.safetensors: no such file",
    "model.text_encoder=nowhere": "nowhere",
    "model.num_heads=3": "hidden_size=32 over num_heads=3: expected a whole head size",
    "data.held_out=4": "data.held_out=4: expected fewer than the 4 samples",
    "objective.repa=no_such_encoder": "timm",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_parts_that_do_not_fit_are_one_line(tmp_path, gemma, capsys, override):
    recipe = write_recipe(tmp_path, write_captions(tmp_path / "data"))
    encoder = [] if override == "model.vae=" else [f"model.text_encoder={gemma}"]
    assert train(recipe, *encoder, override) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and REFUSALS[override] in lines[0]
    assert not (tmp_path / "run").exists()

"""Files in the forms that users have them, and prompts in the forms that they write them."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from devtools.client import PromptFailed
from tests.host.graphs import MODEL_FILE, class_model, loader, node, run_latent, shown, texts, tim_sampler
from tests.host.test_demo_stack import STACK
from tests.host.text_graphs import CONDITIONED, decoded, loaders, prompt, text_model

GREEN_BAG = "a green bag and a white dress"


def drawn(**changes) -> dict:
    """The graph of a picture by the bundled stack, with other loaders or prompts."""
    graph = {**text_model(GREEN_BAG, "", 64, 64), **STACK, **changes}
    return {**graph, "sample": tim_sampler(**CONDITIONED, steps=2), **decoded()}


def test_saved_checkpoint_gives_the_same_bits(host):
    """Save Checkpoint writes model, text encoder and VAE into one file, which all three loaders read."""
    (before,) = host.images(host.run(drawn()))
    parts = {name: [name, 0] for name in ("model", "clip", "vae")}
    host.run({**STACK, "save": node("CheckpointSave", filename_prefix="whole/saved", **parts)})
    (saved,) = (host.base / "output" / "whole").glob("saved*.safetensors")
    (host.base / "models" / "checkpoints").mkdir(exist_ok=True)
    shutil.move(saved, host.base / "models" / "checkpoints" / "whole.safetensors")
    assert "whole.safetensors" in host.object_info()["TiMVAELoader"]["input"]["required"]["vae_name"][1]["options"]
    (after,) = host.images(host.run(drawn(**loaders(*["whole.safetensors"] * 3))))
    assert after.tobytes() == before.tobytes()


def test_part_that_a_file_lacks_is_named(host):
    host.run({**STACK, "save": node("CheckpointSave", filename_prefix="two/saved", model=["model", 0], vae=["vae", 0],
                                    clip=["clip", 0])})  # fmt: skip
    (saved,) = (host.base / "output" / "two").glob("saved*.safetensors")
    kept = {name: value for name, value in load_file(saved).items() if not name.startswith("cond_stage_model.")}
    save_file(kept, host.base / "models" / "text_encoders" / "without.safetensors")
    clip = node("TiMTextEncoderLoader", text_encoder_name="without.safetensors")
    with pytest.raises(PromptFailed, match="holds a VAE and a network, expected a text encoder"):
        run_latent(host, drawn(clip=clip))


@pytest.mark.parametrize("name", ["sub folder/deep/tim model.safetensors", "sub folder\\deep\\tim model.safetensors"])
def test_names_with_the_separators_of_either_system(host, name):
    """A workflow saved on Windows runs on Linux."""
    target = host.base / "models" / "diffusion_models" / "sub folder" / "deep" / "tim model.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL_FILE, target)
    graph = {**class_model(), "sample": tim_sampler()}
    assert torch.equal(run_latent(host, {**graph, "model": loader(name)}), run_latent(host, graph))


@pytest.mark.parametrize("key", ["state_dict", "ema"])
def test_weights_in_a_container(host, key):
    weights = {f"module.{name}": value for name, value in load_file(MODEL_FILE).items()}
    torch.save({key: weights, "epoch": 3}, host.base / "models" / "diffusion_models" / f"{key}.pt")
    graph = {**class_model("5"), "sample": tim_sampler()}
    assert torch.equal(run_latent(host, {**graph, "model": loader(f"{key}.pt")}), run_latent(host, graph))


def test_scaled_8_bit_weights(host):
    """They sample as the same numbers in bfloat16 do."""
    weights = load_file(MODEL_FILE)
    name = "blocks.1.mlp.fc2"
    scale = weights[f"{name}.weight"].float().abs().max() / 448
    quantized = (weights[f"{name}.weight"].float() / scale).to(torch.float8_e4m3fn)
    scaled = {**weights, f"{name}.weight": quantized, f"{name}.scale_weight": scale}
    rounded = {**weights, f"{name}.weight": (quantized.float() * scale).bfloat16()}
    folder = host.base / "models" / "diffusion_models"
    save_file(scaled, folder / "scaled.safetensors")
    save_file(rounded, folder / "rounded.safetensors")
    latents = [
        run_latent(host, {**class_model("5"), "model": loader(f"{kind}.safetensors"), "sample": tim_sampler()})
        for kind in ("scaled", "rounded")
    ]
    assert torch.equal(*latents)


TILES = {"tile_size": 64, "overlap": 0}
ENCODERS = {"VAEEncode": {}, "VAEEncodeTiled": {**TILES, "temporal_size": 64, "temporal_overlap": 8},
            "TiMVAEEncodeHighRes": TILES}  # fmt: skip


@pytest.mark.parametrize("encoder", ENCODERS)
def test_picture_below_one_cell(host, encoder):
    image = node("EmptyImage", width=15, height=40, batch_size=1, color=0)
    encoded = node(encoder, pixels=["image", 0], vae=["vae", 0], **ENCODERS[encoder])
    with pytest.raises(PromptFailed, match="image of 15x40 pixels: this VAE expects 16x16 or more") as error:
        run_latent(host, {"vae": STACK["vae"], "image": image, "encoded": encoded}, "encoded")
    assert len(error.value.exception_message.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a green bag, a white dress",
        "A green bag. A white dress.",
        "a (green bag:1.3) a [white] ((dress:0.9))",
        "a green_bag\na white\tdress!",
    ],
)
def test_punctuation_and_weights_change_nothing(host, text):
    graph = drawn()
    plain = run_latent(host, {**graph, "positive": prompt("a green bag a white dress")})
    assert torch.equal(run_latent(host, {**graph, "positive": prompt(text)}), plain)


def test_unknown_words_are_left_out_and_it_says_so(host):
    graph = drawn()
    plain = run_latent(host, graph)
    graph["positive"] = prompt(f"masterpiece, {GREEN_BAG}, boat")
    assert torch.equal(run_latent(host, graph), plain)
    graph["positive"] = prompt(f"masterpiece, {GREEN_BAG}, boat, boat")  # another text: the first one is cached
    ((node_id, text),) = shown(host, graph)
    assert node_id == "positive"
    line = "this demo does not know: masterpiece, boat (left out); did you mean coat? it knows 52 words: a, above"
    assert text.startswith(line)


def test_what_no_longer_holds_leaves_the_node(host):
    """The line of an earlier run, once the prompt has known words alone."""
    graph = drawn()
    told = []
    for word in ("fjord", "dress", "coat"):
        graph["positive"] = prompt(f"a green bag and a yellow {word}")
        told.append([text[:31] for name, text in texts(host, graph) if name == "positive"][-1:])
    assert told == [["this demo does not know: fjord "], [""], []]

"""`TiMPipeline`: its parts put together by hand give the same pictures, and wrong parts are told in one line."""

from __future__ import annotations

import re

import pytest
import torch

from devtools.random_stack import DC_AE, GEMMA, SMALL_DC_AE, SMALL_GEMMA, randomize, write_gemma
from tim_model import (
    TiM,
    TiMParams,
    TiMPipeline,
    load_checkpoint,
    load_text_encoder,
    load_vae,
    make_times,
    pipeline,
    sample,
    save_checkpoint,
)
from tim_model.network.labels import label_index
from tim_model.network.latent_space import LATENT_SPACES
from tim_model.network.memory import DECODE_BYTES
from tim_model.network.rope import RopeScaling
from tim_model.sampling.noise import draw_noise
from tim_model.sampling.progressive import Stage, renoise, stage_seed, upscale
from tim_model.text.encoder import pad_features
from tim_model.vae import tiled_vae
from tim_model.vae.autoencoder import VAE

SHORT, LONG = "fox", "a red fox that sleeps under an old tree"
TIMES = make_times("uniform", 3)
SIZE = 96, 64


@pytest.fixture(scope="module")
def pipe(stack) -> TiMPipeline:
    return TiMPipeline.from_files(*stack, device="cpu")


@pytest.fixture(scope="module")
def class_pipe(root) -> TiMPipeline:
    """The class model that ships with the pack; it draws pixels."""
    return TiMPipeline.from_files(
        root / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors", device="cpu"
    )


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance


def test_parts_by_hand(stack, pipe):
    """A batch of prompts of different lengths and a negative: every step of the way written out."""
    net, encoder, vae = load_checkpoint(stack.model), load_text_encoder(stack.text_encoder), load_vae(stack.vae)
    texts = encoder.encode([SHORT, LONG, "blurry"])
    length = max(map(len, texts))
    short, long, negative = (pad_features([text], encoder.pad_feature, length) for text in texts)
    noise = torch.randn(2, 32, 2, 3, generator=torch.Generator().manual_seed(5))
    latents = sample(net, noise, TIMES, torch.cat([short, long]), negative.expand(2, -1, -1), cfg=3.0)
    assert_close(pipe([SHORT, LONG], "blurry", times=TIMES, size=SIZE, seed=5, cfg=3.0), vae.decode(latents))


def test_folders_and_files_are_the_same(stack, pipe):
    folders = TiMPipeline.from_files(stack.model, stack.text_encoder.parent, stack.vae.parent, device="cpu")
    arguments = {"times": TIMES, "size": SIZE, "cfg": 2.5}
    assert torch.equal(folders([LONG], **arguments), pipe([LONG], **arguments))


def test_pictures_of_a_batch_are_pictures_alone(pipe):
    """Each with its own part of the noise; a negative as long as the longest keeps the padding the same."""
    both = pipe([SHORT, LONG], LONG, times=TIMES, size=SIZE, cfg=2.5)
    noise = pipe.noise(SIZE, 2, 0)
    for i, prompt in enumerate([SHORT, LONG]):
        latents = sample(pipe.net, noise[i : i + 1], TIMES, *pipe.text([prompt], LONG), cfg=2.5)
        assert_close(both[i : i + 1], pipe.decode(latents), 5e-5)


def test_seeds(pipe):
    arguments = {"times": TIMES, "size": SIZE, "cfg": 2.5, "stochasticity": 0.3}
    first = pipe([SHORT], seed=1, **arguments)
    assert torch.equal(pipe([SHORT], seed=1, **arguments), first)
    assert (pipe([SHORT], seed=2, **arguments) - first).abs().max() > 0.01


def test_negative_is_what_guidance_leans_away_from(pipe):
    """From the prompt itself it cannot lean away; the default is the empty prompt."""
    arguments = {"times": TIMES, "size": SIZE}
    plain = pipe([LONG], LONG, **arguments, cfg=1.0)
    assert_close(pipe([LONG], LONG, **arguments, cfg=5.0), plain, 1e-4)
    assert torch.equal(pipe([LONG], **arguments, cfg=5.0), pipe([LONG], "", **arguments, cfg=5.0))
    assert (pipe([LONG], **arguments, cfg=5.0) - plain).abs().max() > 0.01


def test_unused_negative_pads_nothing(pipe):
    """Without guidance the negative is not there, as in a node graph."""
    arguments = {"times": TIMES, "size": SIZE, "cfg": 1.0}
    assert torch.equal(pipe([SHORT], LONG, **arguments), pipe([SHORT], **arguments))


def test_a_text_is_encoded_once(pipe, monkeypatch):
    encoded = []
    encode = pipe.text_encoder.encode
    monkeypatch.setattr(pipe.text_encoder, "encode", lambda texts: encoded.extend(texts) or encode(texts))
    context, null = pipe.text(["a red fox", "a cat", "a red fox", "a red fox"], negative="a cat")
    assert encoded == ["a red fox", "a cat"]
    alone = pipe.text(["a red fox", "a cat"], negative="a cat")
    assert torch.equal(context, alone.context[[0, 1, 0, 0]])
    assert torch.equal(null, alone.null_context[[0, 0, 0, 0]])


def test_room_is_made_and_the_encoder_comes_back(stack, monkeypatch):
    pipe = TiMPipeline.from_files(*stack, device="cpu")
    arguments = {"times": TIMES, "size": SIZE, "cfg": 2.5}
    expected = pipe([LONG], **arguments)
    assert pipe.text_encoder is not None  # there was room
    monkeypatch.setattr(pipeline, "free_memory", lambda device: 0)
    for _ in range(2):
        assert torch.equal(pipe([LONG], **arguments), expected)
        assert pipe.text_encoder is None


def test_given_encoder_stays(stack, monkeypatch):
    """A pipeline that cannot load its encoder again keeps it."""
    loaded = TiMPipeline.from_files(*stack, device="cpu")
    pipe = TiMPipeline(loaded.net, loaded.space, loaded.text_encoder, loaded.vae)
    monkeypatch.setattr(pipeline, "free_memory", lambda device: 0)
    pipe([SHORT], times=TIMES, size=SIZE)
    assert pipe.text_encoder is loaded.text_encoder


def test_dtypes(stack, pipe):
    """bfloat16 is close; the text encoder keeps the dtype of its file."""
    small = TiMPipeline.from_files(*stack, device="cpu", dtype=torch.bfloat16)
    assert next(small.net.parameters()).dtype == torch.bfloat16 and small.text_encoder.model.dtype == torch.float32
    arguments = {"times": TIMES, "size": SIZE, "cfg": 2.5}
    found, expected = small([SHORT], **arguments), pipe([SHORT], **arguments)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - expected).norm() / expected.norm() < 0.2


def test_class_model(class_pipe):
    """By name or number, in pixel space without a VAE."""
    arguments = {"times": TIMES, "size": (32, 32), "seed": 3, "cfg": 2.5}
    pictures = class_pipe(classes=["sandal", "9"], **arguments)
    assert torch.equal(class_pipe(classes=["5", "Ankle boot"], **arguments), pictures)
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([5, 9])
    assert_close(pictures, sample(class_pipe.net, noise, TIMES, labels, torch.full((2,), 10), cfg=2.5))


def refused(words: str, function, *arguments, **options) -> None:
    """ValueError of one line with all the words, in any order."""
    with pytest.raises(ValueError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(re.search(word, message) for word in words.split()), message


def test_missing_parts(stack, pipe):
    refused("google/gemma-3-1b-it", TiMPipeline, pipe.net, pipe.space, None, pipe.vae)
    refused("mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers", TiMPipeline, pipe.net, pipe.space, pipe.text_encoder)
    refused("google/gemma-3-1b-it", TiMPipeline.from_files, stack.model, vae=stack.vae, device="cpu")
    refused("mit-han-lab", TiMPipeline.from_files, stack.model, stack.text_encoder, device="cpu")
    missing = stack.model.with_name("nothing.bin")
    refused(f"{missing} no such file", TiMPipeline.from_files, missing, *stack[1:], device="cpu")
    refused(
        "folder license google/gemma-3-1b-it", TiMPipeline.from_files, stack.model, missing, stack.vae, device="cpu"
    )
    refused(f"{missing} mit-han-lab", TiMPipeline.from_files, *stack[:2], missing, device="cpu")


def test_parts_that_do_not_fit(tmp_path, pipe):
    write_gemma(tmp_path, {**GEMMA, **SMALL_GEMMA, "hidden_size": 48})
    refused("48 features expects 32", TiMPipeline, pipe.net, pipe.space, load_text_encoder(tmp_path), pipe.vae)
    refused("32 channels 1/32 expects 4 1/8", TiMPipeline, pipe.net, LATENT_SPACES[4], pipe.text_encoder, pipe.vae)


def test_sd_vae_is_named_for_its_models(tmp_path):
    params = TiMParams(
        in_channels=4, patch_size=2, hidden_size=32, depth=1, num_heads=2, mlp_hidden=32, adaln_hidden=8, num_classes=3
    )
    save_checkpoint(TiM(params), tmp_path / "model.safetensors")
    refused("stabilityai/sd-vae-ft-ema", TiMPipeline.from_files, tmp_path / "model.safetensors", device="cpu")


def test_wrong_calls(pipe, class_pipe):
    arguments = {"times": TIMES, "size": SIZE}
    refused("prompts instead of classes", pipe, classes=["3"], **arguments)
    refused("classes instead of prompts", class_pipe, [SHORT], **arguments)
    refused("prompts classes", pipe, **arguments)
    refused("prompts classes", pipe, [SHORT], classes=["3"], **arguments)
    refused("100x64 multiples of 32", pipe, [SHORT], times=TIMES, size=(100, 64))


def test_one_text_is_one_picture(pipe, class_pipe):
    """Not one for each of its letters."""
    arguments = {"times": TIMES, "size": SIZE}
    assert torch.equal(pipe(SHORT, **arguments), pipe([SHORT], **arguments))
    assert torch.equal(class_pipe(classes="bag", times=TIMES), class_pipe(classes=["8"], times=TIMES, size=(32, 32)))


def test_defaults_are_four_guided_steps(pipe):
    expected = pipe(SHORT, times=[1.0, 0.75, 0.5, 0.25, 0.0], size=SIZE, cfg=2.5)
    assert torch.equal(pipe(SHORT, size=SIZE), expected)
    assert torch.equal(pipe(SHORT, size=SIZE, steps=2), pipe(SHORT, size=SIZE, times=[1.0, 0.5, 0.0]))


@pytest.mark.parametrize("what", ["prompts", "classes"])
def test_no_texts(pipe, class_pipe, what):
    with pytest.raises(ValueError, match="expected a text"):
        (pipe if what == "prompts" else class_pipe)(**{what: []}, times=TIMES, size=SIZE)


LARGE = 128, 96  # pixels, for the class model of 32x32


def test_progressive_pictures_have_the_size_asked_for(class_pipe, pipe):
    """From the size that the model is made for; the same seed makes the same picture."""
    stages = class_pipe.plan(LARGE, steps=2, large_steps=1)
    assert [(stage.width, stage.height) for stage in stages] == [(36, 28), (68, 52), LARGE]
    first = class_pipe(classes=["bag", "coat"], stages=stages, seed=1)
    assert first.shape == (2, 3, 96, 128)
    assert torch.equal(class_pipe(classes=["bag", "coat"], stages=stages, seed=1), first)
    assert not torch.allclose(class_pipe(classes=["bag", "coat"], stages=stages, seed=2), first)
    assert [(stage.width, stage.height) for stage in pipe.plan((384, 320))] == [(288, 224), (384, 320)]


def test_pixels_or_latents_grow(pipe):
    stages = [Stage(64, 32, (1.0, 0.0)), Stage(96, 64, (0.5, 0.0))]
    by_pixels, by_latents = (pipe(SHORT, stages=stages, enlarge=what) for what in ("pixels", "latents"))
    assert torch.equal(pipe(SHORT, stages=stages), by_pixels)
    assert by_pixels.shape == by_latents.shape == (1, 3, 64, 96)
    assert not torch.allclose(by_pixels, by_latents)


def test_images_of_pixel_space_are_clamped_before_they_grow(class_pipe):
    """As those of a VAE, which every host and file clamps; as latents they are not."""
    stages = [Stage(32, 24, (1.0, 0.0)), Stage(64, 48, (0.5, 0.0))]
    by_pixels, by_latents = (
        class_pipe(classes="sandal", stages=stages, enlarge=what, cfg=1.0) for what in ("pixels", "latents")
    )
    labels = torch.tensor([label_index("sandal", 10, class_pipe.class_names)])
    small = sample(class_pipe.net, class_pipe.noise((32, 24), 1, 0), [1, 0], labels)
    assert small.abs().max() > 1.01
    noise = draw_noise((1, 3, 48, 64), stage_seed(0, 1))
    for found, image in ((by_pixels, small.clamp(-1, 1)), (by_latents, small)):
        grown = upscale(image, 64, 48) if image is small else upscale(image, 64, 48).clamp(-1, 1)
        assert_close(found, sample(class_pipe.net, renoise(grown, noise, 0.5), [0.5, 0], labels))


def test_one_stage_is_the_native_picture(class_pipe, pipe):
    """Up to the size that the model is made for a plan has one stage: the same picture to the last bit."""
    settings = {"seed": 4, "cfg": 3.0, "stochasticity": 0.2}
    for model, what in ((class_pipe, {"classes": "bag"}), (pipe, {"prompts": LONG})):
        size = model.default_size
        stages = model.plan(size, steps=3)
        assert stages == [Stage(*size, tuple(TIMES))]
        assert torch.equal(model(**what, stages=stages, **settings), model(**what, times=TIMES, size=size, **settings))


@pytest.fixture
def local_pipe(pipe) -> TiMPipeline:
    """With a VAE of convolutions alone, which see less far than tiles overlap."""
    diffusers = pytest.importorskip("diffusers")
    blocks = {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"}
    vae = VAE(randomize(diffusers.AutoencoderDC(**DC_AE | SMALL_DC_AE | blocks), seed=3))
    return TiMPipeline(pipe.net, pipe.space, pipe.text_encoder, vae)


def test_tiles_where_memory_is_short(local_pipe, monkeypatch):
    """About the same picture; where all fits it is that of the VAE to the last bit."""
    pipe, noise = local_pipe, torch.Generator().manual_seed(0)
    latents, images = torch.randn(2, 32, 1, 40, generator=noise), torch.rand(2, 3, 32, 1280, generator=noise) * 2 - 1
    whole = pipe.vae.decode(latents), pipe.vae.encode(images)
    assert torch.equal(pipe.decode(latents), whole[0]) and torch.equal(pipe.encode(images), whole[1])
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: 32 * 640 * 4 * DECODE_BYTES)
    for found, expected in zip((pipe.decode(latents), pipe.encode(images)), whole, strict=True):
        assert 0 < (found - expected).norm() / expected.norm() < 1e-3


def test_stages_in_tiles(local_pipe, monkeypatch):
    """On the way to the next stage and at the end."""
    vae, sides = local_pipe.vae, []
    stages = [Stage(320, 32, (1.0, 0.0)), Stage(768, 64, (0.5, 0.0))]
    expected = local_pipe(SHORT, stages=stages)
    decode, encode = vae.decode, vae.encode
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: 0)
    monkeypatch.setattr(vae, "decode", lambda x: sides.append(x.shape[-1] * 32) or decode(x))
    monkeypatch.setattr(vae, "encode", lambda x: sides.append(x.shape[-1]) or encode(x))
    found = local_pipe(SHORT, stages=stages)
    assert sides == [320, 512, 512, 512, 512]
    assert (found - expected).norm() / expected.norm() < 0.01


def test_room_is_made_for_the_largest_stage(stack, monkeypatch):
    """Memory for the first stage alone is too little."""
    pipe = TiMPipeline.from_files(*stack, device="cpu")
    stages = [Stage(64, 64, (1.0, 0.0)), Stage(128, 64, (0.5, 0.0))]
    monkeypatch.setattr(pipeline, "free_memory", lambda device: 64 * 64 * 4 * DECODE_BYTES)
    pipe(SHORT, stages=stages[:1])
    assert pipe.text_encoder is not None
    pipe(SHORT, stages=stages)
    assert pipe.text_encoder is None


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_rope_is_scaled_for_the_run(class_pipe, kind):
    """Beyond the trained size alone, in every call of the network, and of no other run."""
    for size, same in (((32, 32), True), ((64, 32), False)):
        plain = class_pipe(classes="bag", size=size)
        assert torch.equal(class_pipe(classes="bag", size=size, rope=kind), plain) == same
        assert torch.equal(class_pipe(classes="bag", size=size), plain)
    seen = []
    hook = class_pipe.net.register_forward_pre_hook(
        lambda net, args, options: seen.append(options["rope_scaling"]), with_kwargs=True
    )
    class_pipe(classes="bag", rope=kind)
    hook.remove()
    assert len(seen) == 4 and set(seen) == {RopeScaling(kind, 8)}


def test_wrong_stages(class_pipe):
    stages = class_pipe.plan(LARGE, large_steps=1)
    refused("stages size times", class_pipe, classes="bag", stages=stages, size=LARGE)
    refused("stages size times", class_pipe, classes="bag", stages=stages, times=TIMES)
    refused("no stages", class_pipe, classes="bag", stages=[])
    refused("enlarge='paper' pixels latents", class_pipe, classes="bag", stages=stages, enlarge="paper")
    refused("RoPE 'rubber' linear", class_pipe, classes="bag", rope="rubber")
    refused("130x96 multiples of 4", class_pipe.plan, (130, 96))
    refused("66x64 multiples of 4", class_pipe, classes="bag", stages=[*stages, Stage(66, 64, (0.5, 0.0))])

"""The text-to-image graph gives the pictures of `TiMPipeline`: from noise, from a picture, in a mask, with LoRA."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.host.graphs import EVERY_STEP, SEED, ksampler, node, tim_sampler
from tests.host.text_graphs import (
    CONDITIONED,
    FOX,
    HEIGHT,
    UGLY,
    WIDTH,
    assert_same_latents,
    assert_same_pictures,
    decoded,
    gradient,
    load_image,
    run_text_latent,
    text_model,
    text_reference,
    to_tensor,
)
from tim_model import TiM, make_times, sample
from tim_model.sampling.noise import noise_stream

pytestmark = pytest.mark.usefixtures("stack")
SAMPLERS = {"TiM Sampler": (tim_sampler, (0.0, 1.0)), "KSampler": (ksampler, EVERY_STEP)}

each_sampler = pytest.mark.parametrize("sampler,interval", SAMPLERS.values(), ids=SAMPLERS)


@each_sampler
def test_graph_is_the_pipeline(host, pipeline, sampler, interval):
    graph = {**text_model(), "sample": sampler(**CONDITIONED)}
    latents = run_text_latent(host, graph, pipeline)
    assert_same_latents(latents, text_reference(pipeline, guidance_interval=interval))
    options = {"cfg": 2.5, "guidance_interval": interval, "times": make_times("uniform", 4)}
    expected = pipeline([FOX], UGLY, size=(WIDTH, HEIGHT), seed=SEED, **options)
    assert_same_pictures(host.images(host.run({**graph, **decoded()})), expected)


CASES = {  # positive, negative, width, height, batch, changes to the sampler
    "one step": (FOX, "", 128, 128, 1, {"steps": 1}),
    "batch": (FOX, UGLY, 64, 64, 3, {}),
    "tall": (FOX, UGLY, 64, 160, 2, {"steps": 7}),
    "long prompt": ("a small red fox that sleeps under a tree", "", 64, 64, 1, {"cfg": 4.0}),
    "stochastic": (FOX, "", 64, 64, 2, {"stochasticity": 0.3}),
}


@pytest.mark.parametrize("case", CASES)
def test_prompts_sizes_and_batches(host, pipeline, case):
    positive, negative, width, height, batch, changes = CASES[case]
    graph = {**text_model(positive, negative, width, height, batch), "sample": tim_sampler(**CONDITIONED, **changes)}
    options = {"cfg": 2.5, **changes}
    times = make_times("uniform", options.pop("steps", 4))
    expected = pipeline([positive] * batch, negative, size=(width, height), times=times, seed=SEED, **options)
    assert_same_pictures(host.images(host.run({**graph, **decoded()})), expected)


def test_prompt_and_negative_matter(pipeline):
    """Else the other tests would prove little."""
    base = text_reference(pipeline)
    for changed in (pipeline.text(["a blue cat"], UGLY), pipeline.text([FOX], "green")):
        assert (text_reference(pipeline, changed) - base).abs().max() > 1e-2


@each_sampler
def test_image_to_image(host, pipeline, sampler, interval):
    """For denoise 0.6 KSampler takes the last 3 of 5 steps, which are those of TiM Sampler."""
    start = {**text_model(), **load_image(host, gradient(), "gradient")}
    sampling = sampler(**CONDITIONED, latent_image=["encoded", 0], steps=3, denoise=0.6)
    found = run_text_latent(host, {**start, "sample": sampling}, pipeline)
    state = 0.6 * pipeline.noise((WIDTH, HEIGHT), 1, SEED) + 0.4 * pipeline.vae.encode(to_tensor(gradient()))
    assert_same_latents(found, text_reference(pipeline, state=state, steps=3, start=0.6, guidance_interval=interval))


def test_batch_of_pictures(host, pipeline):
    flipped = gradient().transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    host.upload_image(flipped, "flipped.png")
    graph = {
        **text_model(),
        **load_image(host, gradient(), "gradient"),
        "flipped": node("LoadImage", image="flipped.png"),
    }
    graph["both"] = node("ImageBatch", image1=["image", 0], image2=["flipped", 0])
    graph["encoded"] = node("VAEEncode", pixels=["both", 0], vae=["vae", 0])
    graph["sample"] = tim_sampler(**CONDITIONED, latent_image=["encoded", 0], denoise=0.5)
    pictures = pipeline.vae.encode(torch.cat([to_tensor(gradient()), to_tensor(flipped)]))
    state = 0.5 * pipeline.noise((WIDTH, HEIGHT), 2, SEED) + 0.5 * pictures
    assert_same_latents(run_text_latent(host, graph, pipeline), text_reference(pipeline, state=state, start=0.5))


def inpaint(pipeline, picture: Tensor, mask: Tensor, noise: Tensor, **options) -> Tensor:
    """Where `mask` is 0 the network sees the picture with its noise, and its answer leads straight to the picture.

    Steps are velocities.
    """

    def field(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        time = t[:, None, None, None]
        mixed = mask * x + (1 - mask) * ((1 - time) * picture + time * noise)
        denoised = mask * (mixed - time * pipeline.net(mixed, t, r, context)) + (1 - mask) * picture
        return (x - denoised) / time

    condition = pipeline.text([FOX], UGLY)
    return sample(field, noise, make_times("uniform", 4), *condition, cfg=2.5, velocity=True, **options)


@each_sampler
def test_inpainting(host, pipeline, sampler, interval):
    half = Image.new("L", (WIDTH, HEIGHT), 255)
    half.paste(0, (0, 0, WIDTH // 2, HEIGHT))  # transparent pixels are masked
    masked = gradient().copy()
    masked.putalpha(half)
    graph = {**text_model(), **load_image(host, masked, "masked")}
    graph["noisy"] = node("SetLatentNoiseMask", samples=["encoded", 0], mask=["image", 1])
    graph["sample"] = sampler(**CONDITIONED, latent_image=["noisy", 0])
    found, picture = run_text_latent(host, graph, pipeline), pipeline.vae.encode(to_tensor(gradient()))
    kept, drawn = found[..., WIDTH // 64 :], found[..., : WIDTH // 64]
    assert_same_latents(kept, picture[..., WIDTH // 64 :])
    assert (drawn - picture[..., : WIDTH // 64]).abs().min() > 0
    mask = torch.zeros_like(picture)
    mask[..., : WIDTH // 64] = 1
    noise = pipeline.noise((WIDTH, HEIGHT), 1, SEED)
    options = {"redraw": sampler is tim_sampler, "noise_fn": noise_stream(SEED), "guidance_interval": interval}
    assert_same_latents(found, inpaint(pipeline, picture, mask, noise, **options), 5e-4)


def lora(net: TiM) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rank 2 for every linear layer of the first block: factors under the host's names, and the sums of weights."""
    generator = torch.Generator().manual_seed(5)
    factors, changes = {}, {}
    for name, weight in net.state_dict().items():
        if name.startswith("blocks.0.") and weight.ndim == 2:
            layer = name.removesuffix(".weight")
            down = torch.randn(2, weight.shape[1], generator=generator) * 0.1
            up = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
            factors |= {f"diffusion_model.{layer}.lora_A.weight": down, f"diffusion_model.{layer}.lora_B.weight": up}
            changes[name] = up @ down
    return factors, changes


def test_lora_on_the_text_model(host, pipeline, stack):
    factors, changes = lora(pipeline.net)
    save_file(factors, stack / "loras" / "text.safetensors")
    graph = text_model()
    graph["adapted"] = node("LoraLoaderModelOnly", model=["model", 0], lora_name="text.safetensors", strength_model=0.7)
    graph["sample"] = tim_sampler(**{**CONDITIONED, "model": ["adapted", 0]})
    merged = TiM(pipeline.net.params)
    weights = pipeline.net.state_dict()
    merged.load_state_dict({name: value + 0.7 * changes.get(name, 0.0) for name, value in weights.items()})
    noise, condition = pipeline.noise((WIDTH, HEIGHT), 1, SEED), pipeline.text([FOX], UGLY)
    expected = sample(merged, noise, make_times("uniform", 4), *condition, cfg=2.5)
    assert_same_latents(run_text_latent(host, graph, pipeline), expected)
    assert (expected - text_reference(pipeline)).abs().max() > 1e-2


def test_previews(host, stack):
    """One for each step, in color, of 32-channel latents."""
    graph = {**text_model(), "sample": tim_sampler(**CONDITIONED, seed=12), **decoded()}
    with host.listen() as stream:
        prompt_id = host.queue(graph, stream.client_id)
        previews = [event.data for event in stream.until_finished(prompt_id) if event.type == "preview"]
    assert len(previews) >= 4
    assert all(preview.width * HEIGHT == preview.height * WIDTH for preview in previews)
    red, green, _ = previews[0].convert("RGB").split()
    assert red.tobytes() != green.tobytes()

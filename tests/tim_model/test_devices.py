"""Everything that draws, on devices that this machine need not have: the same pictures as on the CPU, on the device.

Whatever is made on the CPU by mistake, in float64 or by another device's generator, stops there; see `pretended`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from devtools.random_stack import DC_AE, GEMMA
from tests.pretended import DeviceTensor, PretendedDevice
from tim_model import OFFICIAL, TRANSPORTS, TiM, TiMPipeline, load_text_encoder, load_vae, make_times, sample
from tim_model.images import to_pictures
from tim_model.network.latent_space import LATENT_SPACES
from tim_model.network.rope import ROPE_SCALINGS, RopeScaling
from tim_model.request import ENLARGE
from tim_model.sampling.noise import noise_stream
from tim_model.sampling.progressive import sample_progressively, upscale
from tim_model.sampling.schedule import next_times
from tim_model.text.encoder import compute_pad_feature, pad_features
from tim_model.vae.tiled_vae import decode_in_tiles, encode_in_tiles

KINDS = ("cuda", "mps")  # to our code others are like the second
FREE = 8 * 2**30  # bytes of memory on the device


@pytest.fixture(params=KINDS)
def device(request, monkeypatch) -> Iterator[PretendedDevice]:
    """A device of each kind; what CUDA is asked about its memory has an answer."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (FREE, FREE))
    with PretendedDevice(request.param) as pretended:
        yield pretended


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def on(device: PretendedDevice, net: TiM) -> TiM:
    """The same network on the device."""
    moved = TiM(net.params).requires_grad_(False).to(device.device)
    moved.load_state_dict(net.state_dict())
    return moved


def assert_same(found: Tensor, expected: Tensor, device: PretendedDevice) -> None:
    """The device's own result is the CPU's."""
    assert isinstance(found, DeviceTensor) and found.device == device.device
    assert found.dtype == expected.dtype and expected.isfinite().all()
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-4)


def contexts(net: TiM, batch: int) -> tuple[Tensor, Tensor]:
    """Conditions of a network and what guidance leans away from."""
    if net.params.num_classes is not None:
        return torch.arange(batch) % net.params.num_classes, torch.full((batch,), net.params.num_classes)
    return normal(batch, 5, net.params.context_dim, seed=1), normal(batch, 5, net.params.context_dim, seed=2)


@pytest.fixture(params=["text_net", "class_net"])
def net(request) -> TiM:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("scaling", ROPE_SCALINGS)
def test_network_and_its_rope_scalings(net, scaling, device):
    x, t, r = normal(2, net.params.in_channels, 8, 12), torch.tensor([0.9, 0.5]), torch.tensor([0.3, 0.5])
    inputs = x, t, r, contexts(net, 2)[0]
    moved = on(device, net)
    scaled = {"rope_scaling": RopeScaling(scaling, 4)}
    assert_same(moved(*map(device.put, inputs), **scaled), net(*inputs, **scaled), device)
    assert device.copied == []


@pytest.mark.parametrize("velocity", [False, True])
def test_sampling_with_guidance_and_stochasticity(net, velocity, device):
    noise, (context, null) = normal(2, net.params.in_channels, 4, 6), contexts(net, 2)
    options = {"cfg": 2.5, "guidance_interval": (0.2, 0.9), "stochasticity": 0.2, "velocity": velocity}

    def run(net: TiM, *inputs: Tensor) -> Tensor:
        return sample(net, inputs[0], make_times("shifted", 4), *inputs[1:], noise_fn=noise_stream(1), **options)

    found = run(on(device, net), *map(device.put, (noise, context, null)))
    assert device.copied == []  # never waits for the device to have the state on the CPU
    assert net.params.num_classes is not None or device.read == 0  # labels are checked by their values
    assert_same(found, run(net, noise, context, null), device)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sampling_along_every_transport(class_net, transport, device):
    noise, (labels, _) = normal(2, class_net.params.in_channels, 4, 4), contexts(class_net, 2)
    path = TRANSPORTS[transport]
    times = [path.T_max, (path.T_max + path.T_min) / 2, path.T_min]
    options = {"cfg": 1.5, "transport": transport}
    found = sample(on(device, class_net), device.put(noise), times, device.put(labels), **options)
    assert_same(found, sample(class_net, noise, times, labels, **options), device)


def test_times_of_a_schedule(device):
    t, schedule = torch.tensor([1.0, 0.6, 0.3]), torch.tensor([1.0, 0.6, 0.25, 0.0])
    assert_same(next_times(device.put(t), device.put(schedule)), next_times(t, schedule), device)
    assert_same(next_times(device.put(t), schedule), next_times(t, schedule), device)


def test_text_encoder_and_its_padding(stack, device):
    prompts = ["a red fox", "", "a fox in the snow at dusk"]

    def run(encoder) -> Tensor:
        return pad_features(encoder.encode(prompts), encoder.pad_feature)

    found = run(load_text_encoder(stack.text_encoder, device.device))
    assert_same(found, run(load_text_encoder(stack.text_encoder)), device)


def test_vae(stack, device):
    vae, expected = load_vae(stack.vae, device.device), load_vae(stack.vae)
    images, latents = normal(1, 3, 64, 96).clamp(-1, 1), normal(2, 32, 2, 3)
    assert_same(vae.encode(device.put(images)), expected.encode(images), device)
    assert_same(vae.decode(device.put(latents)), expected.decode(latents), device)
    assert device.copied == [] and device.read == 0


def test_vae_in_tiles(stack, device):
    vae, expected = load_vae(stack.vae, device.device), load_vae(stack.vae)
    latents = normal(1, 32, 3, 20)
    tiles = {"tile": 512, "overlap": 128}
    images = expected.decode(latents)
    assert_same(decode_in_tiles(vae, device.put(latents), **tiles), decode_in_tiles(expected, latents, **tiles), device)
    assert_same(encode_in_tiles(vae, device.put(images), **tiles), encode_in_tiles(expected, images, **tiles), device)
    assert_same(decode_in_tiles(vae, device.put(latents)), images, device)  # as memory allows: whole
    assert device.copied == []


@pytest.mark.parametrize("shape", [(16, 24), (4, 6)])
def test_enlarging(shape, device):
    assert_same(upscale(device.put(normal(1, 3, 8, 12)), *shape), upscale(normal(1, 3, 8, 12), *shape), device)


@pytest.fixture(scope="module")
def on_cpu(stack) -> TiMPipeline:
    return TiMPipeline.from_files(*stack, device="cpu")


@pytest.mark.parametrize("enlarge", ENLARGE)
def test_pipeline_in_stages(stack, on_cpu, enlarge, device):
    """From files to pictures; every kind of scaling, guidance and fresh noise on the way."""

    def run(pipeline: TiMPipeline) -> Tensor:
        stages = pipeline.plan((128, 64), base_pixels=64 * 32, steps=2)
        assert len(stages) == 2
        prompts = ["a red fox", "two foxes"]
        return pipeline(prompts, "blurry", stages=stages, rope="yarn", enlarge=enlarge, stochasticity=0.1, seed=3)

    found = run(TiMPipeline.from_files(*stack, device=device.device, dtype=torch.float32))
    assert device.copied == []
    assert_same(found, run(on_cpu), device)
    assert [picture.size for picture in to_pictures(found)] == [(128, 64)] * 2


def test_pipeline_of_classes(class_net, device):
    def run(net: TiM) -> Tensor:
        space = LATENT_SPACES[net.params.in_channels]
        condition = TiMPipeline.classes(pipeline := TiMPipeline(net, space, vae=NoVAE(space)), ["0", "1"])
        shape = {"space": space, "seed": 2}
        stages = pipeline.plan((4 * pipeline.unit, 2 * pipeline.unit), base_pixels=(2 * pipeline.unit) ** 2, steps=1)
        return sample_progressively(net, stages, *condition, cfg=2.0, guidance_interval=(0.0, 2.0), **shape)

    assert_same(run(on(device, class_net)), run(class_net), device)


class NoVAE:
    """Stands where a pipeline in a latent space wants a VAE; nothing is decoded here."""

    def __init__(self, space):
        self.channels, self.ratio, self.scaling_factor = space.channels, space.ratio, space.scaling_factor


# ------------------------------------------------------------------ PyTorch's own fake tensors, at published sizes


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Inside, whatever is made is on a CUDA device that needs none, with shapes and no values."""
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        yield


def test_published_width_draws_16_megapixels_on_fake_cuda():
    """Two of its blocks."""
    params = replace(OFFICIAL["tim-t2i-xl-p1"].without_projector(), depth=2, encoder_depth=None)
    with FakeTensorMode():
        net = TiM(params, device="cuda", dtype=torch.bfloat16)
        net = partial(net, rope_scaling=RopeScaling("yarn", 32))
        noise, context = torch.randn(1, 32, 128, 128, device="cuda"), torch.randn(1, 256, 1152, device="cuda")
        found = sample(net, noise, [1, 0.5, 0], context, context, cfg=2.5, stochasticity=0.2)
    assert found.device.type == "cuda" and found.shape == noise.shape and found.dtype == torch.float32


def test_published_vae_on_fake_cuda():
    diffusers = pytest.importorskip("diffusers")
    from tim_model.vae.autoencoder import VAE

    with fake_cuda():
        vae = VAE(diffusers.AutoencoderDC(**DC_AE))
        latents = vae.encode(torch.randn(1, 3, 1024, 1024))
        images = vae.decode(latents)
    assert latents.shape == (1, 32, 32, 32) and images.shape == (1, 3, 1024, 1024)
    assert latents.device.type == images.device.type == "cuda"


def test_published_text_encoder_pads_on_fake_cuda():
    from transformers import Gemma3TextConfig, Gemma3TextModel

    with fake_cuda():
        model = Gemma3TextModel(Gemma3TextConfig(**GEMMA))
        pad = compute_pad_feature(model)
    assert pad.shape == (1152,) and pad.device.type == "cuda" and pad.dtype == torch.float32

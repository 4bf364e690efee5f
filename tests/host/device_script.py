"""Runs in a process of its own: text to image in the host on a pretended device, and the same on the CPU.

Arguments: the host's folder, this pack's, the models folder with the small random stack. Prints JSON: for each case,
how far its picture is from that of the CPU, and what lay where. The host believes that it has MPS, and the memory that
each case gives it; all its own management and casting follow from that.
"""

import importlib.util
import json
import sys
from pathlib import Path

HOST, PACK, MODELS = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, HOST)
import comfy.options

comfy.options.enable_args_parsing()
import comfy.model_management as management
import torch


def load_module(name: str, path: Path, **options):
    spec = importlib.util.spec_from_file_location(name, path, **options)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    return spec, sys.modules[name]


load_module("pack", Path(PACK, "__init__.py"), submodule_search_locations=[PACK])
spec, pretended = load_module("pretended", Path(PACK, "tests", "pretended.py"))
spec.loader.exec_module(pretended)

from pack.nodes.host import clip, guider, model, tiled_vae, transition_sampler, vae
from pack.nodes.latents import empty_latents

FILES = {
    "model": Path(MODELS, "diffusion_models", "t2i_model.bin"),
    "clip": Path(MODELS, "text_encoders", "gemma-3-1b-it", "model.safetensors"),
    "vae": Path(MODELS, "vae", "dc-ae-f32c32-sana-1.1", "diffusion_pytorch_model.safetensors"),
}
PLENTY, STATES = 2**33, management.VRAMState
# bytes that the host finds free, its state, dtype of the weights (None lets the host choose)
CASES = {
    "bf16": (PLENTY, STATES.SHARED, torch.bfloat16),
    "half of it fits, fp8": (0, STATES.LOW_VRAM, torch.float8_e4m3fn),
    "--novram": (PLENTY, STATES.NO_VRAM, torch.float32),
}


def patched(patcher):
    """With a change of weights as LoRA nodes make it, which on weights left on the CPU the casting operations add."""
    patcher = patcher.clone()
    weights = patcher.model.diffusion_model.state_dict()
    names = [name for name in weights if name.endswith(("attn.qkv.weight", "mlp.fc2.weight", "mlp.fc2.bias"))]
    generator = torch.Generator().manual_seed(5)
    shapes = {f"diffusion_model.{name}": weights[name].shape for name in names}
    patches = {key: ("diff", (0.05 * torch.randn(shape, generator=generator),)) for key, shape in shapes.items()}
    assert len(patcher.add_patches(patches, 0.5)) == len(patches)
    return patcher


@torch.no_grad()
def run(dtype: torch.dtype | None):
    """A picture (B,H,W,3), its latent, the patcher that sampled it and where its weights lay, from files."""
    encoder, codec = clip.load_clip(FILES["clip"]), vae.load_vae(FILES["vae"])
    positive, negative = (
        encoder.encode_from_tokens_scheduled(encoder.tokenize(text)) for text in ("a red fox in the snow", "")
    )
    patcher = patched(model.load_model(FILES["model"], dtype))
    tim = model.tim_model_of(patcher)
    latent = empty_latents.empty_latent(tim.params, tim.space, 64, 96, 2)
    own = guider.build_guider(patcher, positive, negative, 2.5, 0.0, 1.0)
    sigmas = transition_sampler.schedule_sigmas([1.0, 0.5, 0.0])
    ours, euler = transition_sampler.build_sampler(0.2), guider.comfy.samplers.sampler_object("euler")
    latent = transition_sampler.sample_latent(own, ours, sigmas, latent, 7)
    stock = guider.comfy.samplers.CFGGuider(patcher)
    stock.set_conds(positive, negative)
    stock.set_cfg(2.0)
    latent = transition_sampler.sample_latent(stock, euler, sigmas * 0.5, latent, 8)
    where = places(patcher)  # before the VAE takes their room
    images = tiled_vae.decode_in_tiles(codec, latent["samples"])
    return codec.decode(tiled_vae.encode_in_tiles(codec, images)), latent["samples"], patcher, where


def places(patcher) -> dict[str, int]:
    """How many weights of the network lie where."""
    found = [value.device.type for value in patcher.model.diffusion_model.parameters()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def pretend(free: int, state: management.VRAMState) -> None:
    """The host's view of the machine from here on."""
    management.cpu_state, management.vram_state = management.CPUState.MPS, state
    management.mac_version = lambda: (15, 0)
    management.soft_empty_cache = lambda force=False: None  # asks the real device

    def free_memory(dev=None, torch_free_too=False):
        bytes_free = FREE_CPU if dev is not None and dev.type == "cpu" else free
        return (bytes_free, bytes_free) if torch_free_too else bytes_free

    management.get_free_memory = free_memory
    # the least that the host keeps for computing, so that little memory can mean little
    management.minimum_inference_memory = lambda: 0 if free < PLENTY else 2**30
    management.extra_reserved_memory = lambda: 0


FREE_CPU = management.get_free_memory(torch.device("cpu"))
expected, expected_latent, *_ = run(torch.float32)
results = {}
for name, (free, state, dtype) in CASES.items():
    management.unload_all_models()
    size = sum(value.numel() * (dtype or torch.float32).itemsize for value in torch.load(FILES["model"]).values())
    pretend(free or size // 2, state)
    with pretended.PretendedDevice("mps") as device:
        try:
            images, latent, patcher, where = run(dtype)
            results[name] = {
                "error": float((images - expected).abs().mean()),
                "latent error": float((latent - expected_latent).abs().mean()),
                "finite": bool(images.isfinite().all()),
                "places": where,
                "device": str(patcher.load_device),
                "dtype": str(patcher.model.get_dtype()),
                "cast": str(patcher.model.manual_cast_dtype),
            }
        finally:
            management.unload_all_models()
print(json.dumps({"size": float(expected.std()), "cases": results}))

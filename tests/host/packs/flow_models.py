"""Small models of other families with random weights, conditioning for them, and a count of network calls."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.supported_models
import folder_paths
import torch
from comfy.ldm.flux.model import FluxParams
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.patcher_extension import WrappersMP
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file

SD3_FILE = "small-sd3.safetensors"
CALLS: dict[str, int] = {}


def fill(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random weights of the size that keeps activations as they are; the host's layers leave theirs uninitialized."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(value.shape, generator=generator) / max(value[0].numel() if value.ndim > 1 else 1, 1) ** 0.5
        if value.ndim > 1 else torch.ones(value.shape) * name.endswith(("scale", "ln_q.weight", "ln_k.weight"))
        for name, value in state_dict.items()
    }  # fmt: skip


def fill_vae(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same for the VAE, but for its own scale and shift of latents."""
    own = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    return fill({name: value for name, value in state_dict.items() if name not in own}) | own


class WriteSmallSD3:
    """A network in SD3's layout, two blocks deep, for the stock loaders: alone, and in a checkpoint with a VAE."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self):
        network = MMDiT(
            input_size=None, in_channels=16, depth=2, adm_in_channels=2048, pos_embed_max_size=16, num_patches=256,
            context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
            operations=comfy.ops.disable_weight_init, dtype=torch.float32,
        )  # fmt: skip
        weights, vae = fill(network.state_dict()), fill_vae(TAESD(latent_channels=16).state_dict())
        checkpoint = {f"model.diffusion_model.{name}": value for name, value in weights.items()}
        checkpoint |= {f"first_stage_model.{name}": value for name, value in vae.items()}
        for kind, content in {"diffusion_models": weights, "checkpoints": checkpoint}.items():
            folder = Path(folder_paths.get_folder_paths(kind)[0])
            folder.mkdir(parents=True, exist_ok=True)
            save_file(content, folder / SD3_FILE)
        return {"ui": {"text": [SD3_FILE]}}


class SmallFlux:
    """FLUX.1 schnell of one double and one single block, by a config below what the loaders recognize."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self):
        config = comfy.supported_models.FluxSchnell({
            "image_model": "flux", "guidance_embed": False, "in_channels": 16, "out_channels": 16, "patch_size": 2,
            "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 128, "mlp_ratio": 4.0, "num_heads": 1, "depth": 1,
            "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True,
            **({"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__dataclass_fields__ else {}),  # in newer hosts
        })  # fmt: skip
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "")
        model.diffusion_model.load_state_dict(fill(model.diffusion_model.state_dict()))
        device = comfy.model_management.get_torch_device()
        return (comfy.model_patcher.ModelPatcher(model, device, comfy.model_management.unet_offload_device()),)


class TextLikeConditioning:
    """What CLIP-L, CLIP-G and T5 make together: (1,77,4096) and pooled (1,2048)."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"seed": ("INT", {"default": 0})}})
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, seed):
        generator = torch.Generator().manual_seed(seed)
        pooled = torch.randn(1, 2048, generator=generator)
        return ([[torch.randn(1, 77, 4096, generator=generator), {"pooled_output": pooled}]],)


class CountCalls:
    """The model, whose network calls are counted under a name."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",), "name": ("STRING", {})}})
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, model, name):
        CALLS[name] = 0

        def wrapper(executor, *args, **kwargs):
            CALLS[name] += 1
            return executor(*args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, name, wrapper)
        return (model,)


class Calls:
    """How many there were before these latents, as a latent of that number."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"samples": ("LATENT",), "name": ("STRING", {})}})
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, samples, name):
        return ({"samples": torch.full((1, 4, 1, 1), float(CALLS[name]))},)


class DescribeModel:
    """What the loader took a model for: its class, and its configuration."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",)}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, model):
        return {"ui": {"text": [type(model.model).__name__, type(model.model.model_config).__name__]}}


class ShowSigmas:
    """Sigmas as numbers."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"sigmas": ("SIGMAS",)}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, sigmas):
        return {"ui": {"numbers": sigmas.tolist()}}


class OneStep:
    """x - F of the bare network, from the noise of a seed, as a latent."""

    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"model": ("MODEL",), "positive": ("CONDITIONING",), "latent": ("LATENT",),
                                  "seed": ("INT", {"default": 0})}}
    )  # fmt: skip
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, model, positive, latent, seed):
        comfy.model_management.load_models_gpu([model])
        x = comfy.sample.prepare_noise(latent["samples"], seed)
        ((context, options),) = positive
        time = model.get_model_object("model_sampling").timestep(torch.ones(len(x)))
        many = (len(x), *[-1] * (context.ndim - 1))
        y = options["pooled_output"].expand(len(x), -1)
        with torch.no_grad():
            F = model.model.diffusion_model(x, time, context=context.expand(many), y=y)
        return ({"samples": model.model.process_latent_out(x - F)},)


NODE_CLASS_MAPPINGS = {
    f"Test{node.__name__}": node
    for node in (WriteSmallSD3, SmallFlux, TextLikeConditioning, CountCalls, Calls, DescribeModel, ShowSigmas, OneStep)
}

"""Load TiM Model, Load TiM Text Encoder, Load TiM VAE."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..tim_model.files.published import CHECKPOINTS, DC_AE, TEXT_ENCODER
from .aliases import search_aliases
from .host.clip import load_clip
from .host.model import load_model
from .host.vae import load_vae

BUNDLED = Path(__file__).parent.parent / "models"  # demo models that ship with the pack, unless the user removed them
TEXT_DEMO = (
    "tim-fashion-scenes-t2i.safetensors", "gemma-fashion-scenes.safetensors", "dc-ae-fashion-scenes.safetensors"
)  # fmt: skip
BUNDLED_KINDS = ("diffusion_models", "text_encoders", "vae")
WEIGHT_DTYPES = {"default": None, "bf16": torch.bfloat16, "fp32": torch.float32}

for kind in BUNDLED_KINDS:
    if (BUNDLED / kind).is_dir():
        folder_paths.add_model_folder_path(kind, str(BUNDLED / kind))


# Where the other published files come from, for whoever lacks one.
TEXT_ENCODERS = f"{TEXT_ENCODER}: model.safetensors, config.json and tokenizer.json in one folder"
VAES = f"{DC_AE} on Hugging Face: diffusion_pytorch_model.safetensors and config.json"


def file_names(kind: str) -> list[str]:
    """Files of a kind of model, and behind them checkpoints, since Save Checkpoint writes all kinds into one file.

    The text demo comes first, so that new loaders start with files that fit together.
    """
    names = folder_paths.get_filename_list(kind)
    demo = [name for name in names if name in TEXT_DEMO]
    return list(dict.fromkeys([*demo, *names, *folder_paths.get_filename_list("checkpoints")]))


def find(kind: str, name: str) -> str | None:
    """The path of a file that `file_names` lists, whichever system's separators its name has."""
    candidates = ((folder, n) for folder in (kind, "checkpoints") for n in (name, name.replace("\\", "/")))
    return next(filter(None, (folder_paths.get_full_path(folder, n) for folder, n in candidates)), None)


def present(kind: str, name: str, source: str) -> bool | str:
    """True if the host finds the file, else the message for the user: file, folder and published source."""
    if find(kind, name):
        return True
    paths = folder_paths.get_folder_paths(kind)  # the host's own come first, older names before newer ones
    path = next((path for path in paths if Path(path).name == kind), paths[0])
    return f"{name} is not in {path}, expected there; published in {source}"


def path_of(kind: str, name: str, source: str) -> str:
    """The path of a file; ValueError, as from `present`, where it is gone."""
    if path := find(kind, name):
        return path
    raise ValueError(present(kind, name, source))


class TiMModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMModelLoader",
            display_name="Load TiM Model",
            category="TiM",
            **search_aliases("transition model", "any step", "unet", "checkpoint"),
            description="Loads a TiM checkpoint as a MODEL that stock samplers, LoRA and merge nodes work on.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=file_names("diffusion_models"),
                    tooltip="TiM checkpoint in models/diffusion_models, or a demo that ships with this pack: "
                    ".safetensors, or .bin as published. The architecture is read from its shapes.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    tooltip="Precision of the weights in memory: default lets the host choose, bf16 halves the memory "
                    "of fp32.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="TiM model for KSampler (euler), TiM Sampler, LoRA and merge nodes.")],
        )

    @classmethod
    def validate_inputs(cls, model_name: str) -> bool | str:
        return present("diffusion_models", model_name, CHECKPOINTS)

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        path = path_of("diffusion_models", model_name, CHECKPOINTS)
        if weight_dtype not in WEIGHT_DTYPES:  # hosts with `validate_inputs` may leave the check to us
            raise ValueError(f"weight_dtype {weight_dtype!r}: expected one of {', '.join(WEIGHT_DTYPES)}")
        return io.NodeOutput(load_model(path, WEIGHT_DTYPES[weight_dtype]))


class TiMTextEncoderLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMTextEncoderLoader",
            display_name="Load TiM Text Encoder",
            category="TiM",
            **search_aliases("gemma", "clip", "transition model"),
            description="Loads Gemma-3-1b-it as the CLIP of TiM's text models, for the stock text nodes.",
            inputs=[
                io.Combo.Input(
                    "text_encoder_name",
                    options=file_names("text_encoders"),
                    tooltip="model.safetensors of google/gemma-3-1b-it, in a folder of models/text_encoders together "
                    "with its config.json and tokenizer.json, or one file with all of them (python -m tim_model "
                    "convert), such as the demo that ships with this pack.",
                ),
            ],
            outputs=[io.Clip.Output(tooltip="For CLIP Text Encode and other stock text nodes.")],
        )

    @classmethod
    def validate_inputs(cls, text_encoder_name: str) -> bool | str:
        return present("text_encoders", text_encoder_name, TEXT_ENCODERS)

    @classmethod
    def execute(cls, text_encoder_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_clip(path_of("text_encoders", text_encoder_name, TEXT_ENCODERS)))


class TiMVAELoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMVAELoader",
            display_name="Load TiM VAE",
            category="TiM",
            **search_aliases("dc-ae", "dcae", "sana vae", "transition model"),
            description="Loads a DC-AE, the VAE of TiM's text and 512 models, for the stock VAE nodes.",
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=file_names("vae"),
                    tooltip="diffusion_pytorch_model.safetensors of mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers in "
                    "models/vae, or any DC-AE in the layout of diffusers, such as the demo that ships with this pack. "
                    "SD-VAE files go into the stock Load VAE.",
                ),
            ],
            outputs=[io.Vae.Output(tooltip="For VAE Decode, VAE Encode and other stock VAE nodes.")],
        )

    @classmethod
    def validate_inputs(cls, vae_name: str) -> bool | str:
        return present("vae", vae_name, VAES)

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(path_of("vae", vae_name, VAES)))

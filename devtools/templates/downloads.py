"""The published files, as templates name them for the host's list of missing models, and as links of notes."""

from __future__ import annotations

from tim_model.files.published import DC_AE as DC_AE_REPOSITORY
from tim_model.files.published import GEMMA as GEMMA_REPOSITORY
from tim_model.files.published import SD_VAE as SD_VAE_REPOSITORY

HUGGING_FACE = "https://huggingface.co"


def published(repository: str, file: str, directory: str, folder: str = "") -> dict[str, str]:
    """A file of a repository, to be put into models/`directory`/`folder`."""
    return {"name": folder + file, "url": f"{HUGGING_FACE}/{repository}/resolve/main/{file}", "directory": directory}


def link(model: dict[str, str]) -> str:
    """The file's name within its folder of models, linked to the page of its repository."""
    return f"[{model['name']}]({model['url'].partition('/resolve/')[0]})"


T2I = published("GoodEnough/TiM-T2I", "t2i_model.bin", "diffusion_models")
C2I_256 = published("GoodEnough/TiM-C2I", "c2i_model_256.safetensors", "diffusion_models")
C2I_512 = published("GoodEnough/TiM-C2I", "c2i_model_512.safetensors", "diffusion_models")
GEMMA = published(GEMMA_REPOSITORY, "model.safetensors", "text_encoders", "gemma-3-1b-it/")
DC_AE = published(DC_AE_REPOSITORY, "diffusion_pytorch_model.safetensors", "vae", "dc-ae-f32c32-sana-1.1/")
SD_VAE = published(SD_VAE_REPOSITORY, "diffusion_pytorch_model.safetensors", "vae", "sd-vae-ft-ema/")

"""VAE files in the layout of diffusers: reading them, and inferring the architecture from names and shapes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..files.errors import CheckpointError, abbreviated, metadata_json, parse_json, prefix_errors
from ..files.published import VAES
from ..files.tensor_files import check_values, read_state_dict
from ..network.latent_space import is_factor
from .dcae import Shapes, indices, infer_dcae_config, known_scaling, shape_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
# names in the attention of SD-VAE files of 2022
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class VAEFile:
    """What a file holds: a class of diffusers, its arguments, and weights under the names it gives them."""

    class_name: str
    config: dict[str, object]
    state_dict: dict[str, Tensor]


def read_vae(path: str | os.PathLike) -> VAEFile:
    """The weights of a VAE and its architecture, without diffusers.

    The architecture follows from names and shapes. Where it does not, the "config" (JSON) in the file's metadata
    counts, else a config.json beside the file, else the published models. What is stated there takes
    precedence over what is inferred.

    Args:
        path: a folder as diffusers saves it, or a file in its layout.

    Raises:
        CheckpointError: no VAE in that layout, a broken or incomplete file, or no known scaling factor.
    """
    path = Path(path)
    with cite_source():
        file = path / WEIGHTS if path.is_dir() else path
        if path.is_dir() and not file.is_file():
            found = abbreviated(sorted(entry.name for entry in path.iterdir())) or "nothing"
            raise CheckpointError(f"{path}: the folder holds {found}, expected {WEIGHTS} and config.json")
        state_dict, metadata = read_state_dict(file, "VAE")
        with prefix_errors(file):
            state_dict = modern_names(state_dict)
            shapes = {name: tuple(value.shape) for name, value in state_dict.items()}
            class_name, config = find_architecture(shapes, file, metadata)
            check_values({name: value for name, value in state_dict.items() if value.is_floating_point()})
    return VAEFile(class_name, config, state_dict)


def find_architecture(shapes: Shapes, file: Path, metadata: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """The class of diffusers that a file's weights belong to, and its arguments: as inferred, then as stated.

    Args:
        shapes: of the weights, by their names of today.
        metadata: of the file.

    Raises:
        CheckpointError: no VAE, a config of another class, or no known scaling factor.
    """
    class_name, inferred = infer_config(shapes)
    stated = read_config(file, metadata)
    if stated.get("_class_name", class_name) != class_name:
        raise CheckpointError(f"holds an {class_name}, but its config is of {stated['_class_name']}")
    config = {**inferred, **{name: value for name, value in stated.items() if not name.startswith("_")}}
    check_config(config)
    return class_name, config


def infer_config(shapes: Shapes) -> tuple[str, dict[str, object]]:
    """The class of diffusers that has these names, and its arguments."""
    if "decoder.conv_in.weight" in shapes and indices(shapes, "encoder.down_blocks"):
        if indices(shapes, "decoder.mid_block.resnets"):
            return "AutoencoderKL", infer_kl_config(shapes)
        return "AutoencoderDC", infer_dcae_config(shapes)
    raise CheckpointError(
        f"is no VAE in diffusers' layout: found {len(shapes)} tensors ({abbreviated(shapes) or 'none'}), "
        "expected decoder.conv_in.weight and encoder.down_blocks.* among them"
    )


def infer_kl_config(shapes: Shapes) -> dict[str, object]:
    """The arguments of diffusers' AutoencoderKL behind the names and shapes of a state dict."""
    stages = indices(shapes, "encoder.down_blocks")
    latent_channels = shape_of(shapes, "decoder.conv_in.weight", 4)[1]
    return {
        "in_channels": shape_of(shapes, "encoder.conv_in.weight", 4)[1],
        "out_channels": shape_of(shapes, "decoder.conv_out.weight", 4)[0],
        "down_block_types": ("DownEncoderBlock2D",) * len(stages),
        "up_block_types": ("UpDecoderBlock2D",) * len(stages),
        "block_out_channels": tuple(
            shape_of(shapes, f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 4)[0] for i in stages
        ),
        "layers_per_block": len(indices(shapes, "encoder.down_blocks.0.resnets")),
        "latent_channels": latent_channels,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": bool(indices(shapes, "decoder.mid_block.attentions")),
        **known_scaling(latent_channels, 2 ** (len(stages) - 1)),
    }


def modern_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Today's names for the attention of an SD-VAE file of 2022; others stay as they are."""

    def renamed(name: str) -> str:
        *module, part, kind = name.split(".")
        return ".".join([*module, OLD_ATTENTION.get(part, part), kind]) if "attentions" in module else name

    return {renamed(name): value for name, value in state_dict.items()}


def read_config(file: Path, metadata: Mapping[str, str]) -> dict[str, object]:
    """What the file's metadata says about the model, else a config.json of diffusers beside it, else {}."""
    if stated := metadata_json(metadata, "config", {}):
        return stated
    path = file.with_name("config.json")
    if not path.is_file():
        return {}
    try:
        stated = parse_json(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"the config.json beside it {error}") from None
    return stated if isinstance(stated, dict) and "_class_name" in stated else {}  # others belong to other files


def check_config(config: Mapping[str, object]) -> None:
    """Raise CheckpointError unless latents are the model's output times one known number."""
    factor = config.get("scaling_factor")
    if not is_factor(factor):
        raise CheckpointError(
            f"has {config['latent_channels']} latent channels and scaling_factor {factor!r}, expected a "
            "positive number in a config.json beside it or in its metadata"
        )
    for name in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(name):
            raise CheckpointError(f"has {name}={config[name]!r}, expected latents that are only scaled")


@contextmanager
def cite_source() -> Iterator[None]:
    """Append the source of the published files to every CheckpointError raised inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{error}; the published VAEs are {VAES}") from None

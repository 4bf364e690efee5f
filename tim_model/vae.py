"""Images to latents and back: DC-AE and SD-VAE files in the layout of diffusers, which does the computing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .dcae import Shapes, indices, infer_dcae_config, known_scaling, shape_of
from .errors import CheckpointError, abbreviated, metadata_json, naming, one_line, parse_json
from .files import check_layout, check_values, read_state_dict
from .latents import is_factor

WEIGHTS = "diffusion_pytorch_model.safetensors"
PUBLISHED = "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers (or stabilityai/sd-vae-ft-ema) on Hugging Face"
# SD-VAE files of 2022 call the parts of their attention so
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class VAE:
    """A frozen autoencoder of images (B,3,H,W) in [-1, 1].

    Latents are (B,channels,H/ratio,W/ratio) and carry the scaling factor already.

    Args:
        model: diffusers' AutoencoderDC or AutoencoderKL.
    """

    def __init__(self, model: nn.Module):
        self.model = model.requires_grad_(False).eval()

    @property
    def ratio(self) -> int:
        """Pixels per latent cell and side."""
        config = self.model.config
        widths = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return 2 ** (len(widths) - 1)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.model.config["latent_channels"]

    @property
    def scaling_factor(self) -> float:
        """What the model's raw latents are multiplied by."""
        return self.model.config["scaling_factor"]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in; images and latents are float32."""
        return next(self.model.parameters()).dtype

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents, float32, of images; of an SD-VAE the mode of its posterior, not a sample.

        Raises:
            ValueError: not (B,3,H,W), or sides that are no multiples of `ratio`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (B, 3, H, W)")
        height, width = images.shape[-2:]
        if not height or not width or height % self.ratio or width % self.ratio:
            near = "x".join(str(max(1, side // self.ratio) * self.ratio) for side in (width, height))
            raise ValueError(
                f"images of {width}x{height} pixels: expected multiples of {self.ratio} for this VAE; "
                f"resize or crop them, for example to {near}"
            )
        (encoded,) = self.model.encode(self._cast(images), return_dict=False)
        latents = encoded if isinstance(encoded, Tensor) else encoded.mode()
        return latents.float() * self.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images, float32, of scaled latents: about [-1, 1], not clamped.

        Raises:
            ValueError: not (B,channels,h,w).
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ValueError(f"latents have shape {tuple(latents.shape)}, expected (B, {self.channels}, h, w)")
        (images,) = self.model.decode(self._cast(latents.float() / self.scaling_factor), return_dict=False)
        return images.float()

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)


@dataclass(frozen=True)
class VAEFile:
    """What a file holds: a class of diffusers, its arguments, and weights under the names it gives them."""

    class_name: str
    config: dict[str, object]
    state_dict: dict[str, Tensor]


def load_vae(path: str | os.PathLike, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> VAE:
    """The VAE in a file or folder; see `read_vae` for what is read.

    Args:
        device, dtype: where the weights go; dtype is that of the file by default.

    Raises:
        CheckpointError: the file is anything else, or broken; the message is one line.
        ValueError: diffusers is not installed.
    """
    model = build_vae(path)
    dtype = dtype or model.dtype
    return VAE(nn.Module.to(model, device, dtype))  # the `to` of diffusers logs a needless warning


def build_vae(path: str | os.PathLike) -> nn.Module:
    """The model of diffusers in a file or folder, on the CPU; its weights are those read, not copies."""
    file = read_vae(path)
    model_class = diffusers_class(file.class_name)
    with citing(), naming(path):
        try:
            with torch.device("meta"):
                model = model_class.from_config(file.config)
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"has a config that makes no {file.class_name} ({one_line(error)})") from None
        check_layout(file.state_dict, model)
    model.load_state_dict(file.state_dict, assign=True)
    return model


def read_vae(path: str | os.PathLike) -> VAEFile:
    """The weights of a VAE and its architecture, without diffusers.

    Names and shapes tell the architecture. Where they cannot, the "config" (JSON) in the file's metadata
    does, else a config.json beside the file, else the published models. What is told wins over what is
    inferred.

    Args:
        path: a folder as diffusers saves it, or a file in its layout.

    Raises:
        CheckpointError: no VAE in that layout, a broken or incomplete file, or no known scaling factor.
    """
    path = Path(path)
    with citing():
        file = path / WEIGHTS if path.is_dir() else path
        if path.is_dir() and not file.is_file():
            found = abbreviated(sorted(entry.name for entry in path.iterdir())) or "nothing"
            raise CheckpointError(f"{path}: the folder holds {found}, expected {WEIGHTS} and config.json")
        state_dict, metadata = read_state_dict(file, "VAE")
        with naming(file):
            state_dict = modern_names(state_dict)
            shapes = {name: tuple(value.shape) for name, value in state_dict.items()}
            class_name, inferred = infer_config(shapes)
            told = read_config(file, metadata)
            if told.get("_class_name", class_name) != class_name:
                raise CheckpointError(f"holds an {class_name}, but its config is of {told['_class_name']}")
            config = {**inferred, **{name: value for name, value in told.items() if not name.startswith("_")}}
            check_config(config)
            check_values({name: value for name, value in state_dict.items() if value.is_floating_point()})
    return VAEFile(class_name, config, state_dict)


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
    if told := metadata_json(metadata, "config", {}):
        return told
    path = file.with_name("config.json")
    if not path.is_file():
        return {}
    try:
        told = parse_json(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"the config.json beside it {error}") from None
    return told if isinstance(told, dict) and "_class_name" in told else {}  # others belong to other files


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
def citing() -> Iterator[None]:
    """Put where the published files are behind every CheckpointError raised inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{error}; the published VAEs are {PUBLISHED}") from None


def diffusers_class(name: str) -> type:
    """A class of diffusers, which is optional; ValueError where it cannot be imported."""
    try:
        import diffusers

        return getattr(diffusers, name)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"a VAE outside ComfyUI needs a current diffusers ({one_line(error)}): "
            'pip install "comfyui-tim[standalone]" or pip install -U diffusers'
        ) from None

"""The latent space of a VAE, from the names and shapes in its file, without reading weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tim_model.files.errors import CheckpointError, one_line, prefix_errors
from tim_model.files.state_dicts import part, strip_prefix
from tim_model.files.tensor_files import SAFETENSORS, opened
from tim_model.network.latent_space import LatentSpace
from tim_model.vae.files import WEIGHTS, cite_source, find_architecture, modern_names, read_vae


def vae_space(path: str) -> LatentSpace:
    """Channels, ratio and scaling factor of a VAE; for safetensors, only the header is read.

    Args:
        path: a folder as diffusers saves it, or a file in its layout.

    Raises:
        CheckpointError: no VAE, a broken header, or no known scaling factor. Weights are checked when they are loaded.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    with_header = file.suffix.lower() in SAFETENSORS and file.is_file() and file.stat().st_size > 0
    config = header_config(file) if with_header else read_vae(path).config
    with cite_source(), prefix_errors(path):
        try:
            widths = config.get("encoder_block_out_channels") or config["block_out_channels"]
            return LatentSpace(int(config["latent_channels"]), 2 ** (len(widths) - 1), config["scaling_factor"])
        except (LookupError, TypeError) as error:
            raise CheckpointError(f"has a config of no VAE ({one_line(error)})") from None


def header_config(file: Path) -> Mapping[str, object]:
    """The arguments of a VAE's class, as `read_vae` finds them."""
    with cite_source(), prefix_errors(file):
        with opened(file) as header:
            shapes = {name: tuple(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
            metadata = header.metadata() or {}
        return find_architecture(modern_names(strip_prefix(part(shapes, "VAE"))), file, metadata)[1]

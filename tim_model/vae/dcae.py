"""DC-AE, the deep compression autoencoder (arXiv 2410.10733): its architecture from names and shapes alone.

Names are those of diffusers' AutoencoderDC. Stage i of the encoder, `encoder.down_blocks.i`, holds blocks and
then a conv that halves the sides; stage i of the decoder, `decoder.up_blocks.i`, a conv that doubles them and
then blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..files.tensor_files import CheckpointError
from ..network.latent_space import LATENT_SPACES

Shapes = Mapping[str, tuple[int, ...]]

HEAD_DIM = 32  # of every published DC-AE
HOST_LACKS = {"encoder_out_shortcut": True, "decoder_in_shortcut": True, "decoder_conv_act_fn": "relu"}
HOST_ACTIVATIONS = {"relu", "silu"}
HOST_ARGUMENTS = (
    "in_channels",
    "latent_channels",
    "attention_head_dim",
    "encoder_block_types",
    "decoder_block_types",
    "encoder_block_out_channels",
    "decoder_block_out_channels",
    "encoder_layers_per_block",
    "decoder_layers_per_block",
    "encoder_qkv_multiscales",
    "decoder_qkv_multiscales",
    "upsample_block_type",
    "downsample_block_type",
    "decoder_norm_types",
    "decoder_act_fns",
)


@dataclass(frozen=True)
class Stage:
    """The blocks of one resolution; `resampled` is the width of its conv from or to the next one, if any."""

    layers: int
    width: int
    block_type: str = "ResBlock"
    qkv_multiscales: tuple[int, ...] = ()
    head_dim: int | None = None
    resampled: int | None = None


def infer_dcae_config(shapes: Shapes) -> dict[str, object]:
    """The arguments of diffusers' AutoencoderDC behind the names and shapes of a state dict.

    What does not follow from shapes is as in dc-ae-f32c32-sana-1.1: RMS norms, SiLU, and a head_dim of 32 where no
    attention is multi-scale. The scaling factor is that of the known latent space of this size, and left out
    for others.

    Raises:
        CheckpointError: names or shapes that no DC-AE has.
    """
    encoder, decoder = read_stages(shapes, "encoder.down_blocks"), read_stages(shapes, "decoder.up_blocks")
    if len(encoder) != len(decoder):
        raise CheckpointError(f"has {len(encoder)} stages down and {len(decoder)} up, expected as many of both")
    conv_in = "encoder.conv_in.weight" if encoder[0].layers else "encoder.conv_in.conv.weight"
    latent_channels = shape_of(shapes, "decoder.conv_in.weight", 4)[1]
    unshuffle = any(a.resampled and 4 * a.resampled == b.width for a, b in pairwise(encoder))
    shuffle = any(stage.resampled == 4 * stage.width for stage in decoder)
    return {
        "in_channels": shape_of(shapes, conv_in, 4)[1],
        "latent_channels": latent_channels,
        "attention_head_dim": head_dim([*encoder, *decoder]),
        **side_config("encoder", encoder),
        **side_config("decoder", decoder),
        "downsample_block_type": "pixel_unshuffle" if unshuffle else "conv",
        "upsample_block_type": "pixel_shuffle" if shuffle else "interpolate",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        **known_scaling(latent_channels, 2 ** (len(encoder) - 1)),
    }


def side_config(side: str, stages: Sequence[Stage]) -> dict[str, tuple]:
    return {
        f"{side}_block_types": tuple(stage.block_type for stage in stages),
        f"{side}_block_out_channels": tuple(stage.width for stage in stages),
        f"{side}_layers_per_block": tuple(stage.layers for stage in stages),
        f"{side}_qkv_multiscales": tuple(stage.qkv_multiscales for stage in stages),
    }


def read_stages(shapes: Shapes, blocks: str) -> list[Stage]:
    """All stages of one side. Only the first may be empty: the outermost conv then resamples in its stead."""
    found = indices(shapes, blocks)
    if not found:
        raise CheckpointError(f"holds no {blocks}.0, expected the blocks of a DC-AE")
    first = min(found[0], 1)
    stages = [read_stage(shapes, f"{blocks}.{i}") for i in range(first, found[-1] + 1)]
    return [Stage(layers=0, width=stages[0].width)] * first + stages


def read_stage(shapes: Shapes, stage: str) -> Stage:
    modules = [f"{stage}.{j}" for j in indices(shapes, stage)]
    convs = [module for module in modules if f"{module}.conv.weight" in shapes]
    blocks = [module for module in modules if module not in convs]
    types = {"EfficientViTBlock" if f"{block}.attn.to_q.weight" in shapes else "ResBlock" for block in blocks}
    if len(types) != 1:
        found = " and ".join(sorted(types)) or "no block"
        raise CheckpointError(f"holds {found} in {stage}, expected blocks of one type")
    (block_type,) = types
    attention = f"{blocks[0]}.attn"
    scales = [f"{attention}.to_qkv_multiscale.{k}" for k in indices(shapes, f"{attention}.to_qkv_multiscale")]
    norm = f"{attention}.norm_out" if block_type == "EfficientViTBlock" else f"{blocks[0]}.norm"
    return Stage(
        layers=indices(shapes, stage)[-1] + 1 - len(convs),  # a lost block counts: loading then misses it
        width=shape_of(shapes, f"{norm}.weight", 1)[0],
        block_type=block_type,
        qkv_multiscales=tuple(shape_of(shapes, f"{scale}.proj_in.weight", 4)[-1] for scale in scales),
        # that conv is grouped by heads, of q, k and v each
        head_dim=shape_of(shapes, f"{scales[0]}.proj_out.weight", 4)[1] if scales else None,
        resampled=shape_of(shapes, f"{convs[0]}.conv.weight", 4)[0] if convs else None,
    )


def head_dim(stages: Sequence[Stage]) -> int:
    found = {stage.head_dim for stage in stages} - {None}
    if len(found) > 1:
        raise CheckpointError(f"has attention heads of {sorted(found)} features, expected one size")
    return found.pop() if found else HEAD_DIM


def known_scaling(channels: int, ratio: int) -> dict[str, float]:
    """The scaling factor of the known latent space of that size, as part of a config; {} for others."""
    space = LATENT_SPACES.get(channels)
    return {"scaling_factor": space.scaling_factor} if space and space.ratio == ratio else {}


def host_dcae_config(config: Mapping[str, object]) -> dict[str, object]:
    """The arguments of ComfyUI's own AutoencoderDC for a config of diffusers' one.

    That class is in `comfy/ldm/ace/vae/autoencoder_dc.py`; its scaling factor is 1: latent formats scale.

    Raises:
        CheckpointError: an architecture that ComfyUI's class does not have.
    """
    for name, only in HOST_LACKS.items():
        if config.get(name, only) != only:
            raise CheckpointError(f"has {name}={config[name]!r}, expected {only!r}: ComfyUI's DC-AE has no other")
    stated = config["decoder_act_fns"]
    if others := sorted(({stated} if isinstance(stated, str) else set(stated)) - HOST_ACTIVATIONS):
        known = " or ".join(sorted(HOST_ACTIVATIONS))
        raise CheckpointError(
            f"has decoder_act_fns {', '.join(others)}, expected {known}: ComfyUI's DC-AE has no other"
        )
    return {**{name: config[name] for name in HOST_ARGUMENTS}, "scaling_factor": 1.0}


def indices(shapes: Shapes, prefix: str) -> list[int]:
    """The numbers i of all names "<prefix>.<i>.…", in order."""
    rest = (name.removeprefix(f"{prefix}.").split(".")[0] for name in shapes if name.startswith(f"{prefix}."))
    return sorted({int(number) for number in rest if number.isdecimal()})


def shape_of(shapes: Shapes, name: str, ndim: int) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(f"lacks {name}")
    if len(shapes[name]) != ndim or 0 in shapes[name]:
        raise CheckpointError(f"{name} has shape {tuple(shapes[name])}, expected {ndim} dimensions, none of them 0")
    return tuple(shapes[name])

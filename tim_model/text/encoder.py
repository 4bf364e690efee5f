"""Text features of TiM: the last hidden state of Gemma-3's decoder stack, and the vector that pads it.

The released pipeline runs the encoder on right-padded captions with an attention that drops padding and
writes zeros back, and TiM attends to the padded positions. Every attention output there is 0, so what remains
is one vector, the same at every such position of every caption: the pad feature. Real tokens never see
padding (attention is causal), so they are encoded alone here and padded afterwards.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ..files.tensor_files import CheckpointError, check_layout, one_line, prefix_errors
from .files import read_text_encoder_files, write_text_encoder
from .tokenizer import TiMTokenizer

logger = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class TextEncoder:
    """Encodes captions as text features.

    Args:
        tokenizer: see `TiMTokenizer`.
        model: see `build_text_model`.
    """

    def __init__(self, tokenizer: TiMTokenizer, model: nn.Module):
        self.tokenizer = tokenizer
        self.model = model

    @property
    def width(self) -> int:
        """D, the size of a feature."""
        return self.model.config.hidden_size

    @cached_property
    def pad_feature(self) -> Tensor:
        """The feature (D,) of every padded position, float32."""
        return compute_pad_feature(self.model)

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """Features of each prompt's real tokens, (L_i, D) in float32 on the model's device, L_i <= 256.

        An empty prompt, the null condition, is <bos> alone: L_i = 1.

        Raises:
            ValueError: see `TiMTokenizer.tokenize` and `encode_tokens`.
        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts is the text {prompts[:60]!r}, expected a list of texts")
        for notice in dict.fromkeys(map(self.tokenizer.unknown_notice, prompts)):
            if notice:
                logger.warning(notice)
        return [encode_tokens(self.model, self.tokenizer.tokenize(prompt)) for prompt in prompts]


def load_text_encoder(
    path: str | os.PathLike, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> TextEncoder:
    """The text encoder of `path`; see `read_text_encoder_files` for the files.

    Args:
        device, dtype: where the weights go; the default dtype is that of the file.

    Raises:
        CheckpointError: missing, damaged or other files; the message is one line.
    """
    files = read_text_encoder_files(path)
    with prefix_errors(path):
        return TextEncoder(files.tokenizer, build_text_model(files.config, files.state_dict, device, dtype))


def pack_text_encoder(folder: str | os.PathLike, out_path: str | os.PathLike) -> None:
    """Write a text encoder as one safetensors that holds config and tokenizer too, in the dtype it has.

    The file is written atomically.

    Raises:
        CheckpointError: as for `load_text_encoder`.
    """
    files = read_text_encoder_files(folder)
    with prefix_errors(folder):
        build_text_model(files.config, files.state_dict)  # fails for files that could not be loaded again
    write_text_encoder(files, out_path)


def build_text_model(
    config: Mapping[str, object],
    state_dict: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """transformers' Gemma3TextModel of a config.json and its weights, in eval mode and without gradients.

    Weights that have the device and dtype are taken as they are: memory-mapped ones stay in their file.

    Args:
        state_dict: names without a prefix ("embed_tokens.weight", ...).
        dtype: default is that of the embedding.

    Raises:
        CheckpointError: another kind of model, or weights that do not fit the config.
    """
    model = empty_model(config)
    check_layout(state_dict, model)
    check_dtypes(state_dict)
    dtype = dtype or state_dict["embed_tokens.weight"].dtype
    weights = {name: value.to(device=device, dtype=dtype) for name, value in state_dict.items()}
    model.load_state_dict(weights, assign=True)
    fill_buffers(model, device, dtype)
    return model.requires_grad_(False).train(False)


def empty_model(config: Mapping[str, object]) -> nn.Module:
    """transformers' Gemma3TextModel of a config.json on the meta device: shapes without values."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    try:
        settings = {**config, **old_names(config), "attn_implementation": "sdpa"}
        with torch.device("meta"):
            return Gemma3TextModel(Gemma3TextConfig(**settings))
    except Exception as error:  # noqa: BLE001, each version of transformers raises its own kinds
        raise CheckpointError(f"config.json is no working Gemma-3 config ({one_line(error)})") from None


def old_names(config: Mapping[str, object]) -> dict[str, object]:
    """Settings that transformers 5 writes under new names, under those that both 4 and 5 read."""
    old = {}
    if rope := config.get("rope_parameters"):
        full, sliding = dict(rope["full_attention"]), rope["sliding_attention"]
        old["rope_theta"] = full.pop("rope_theta")
        old["rope_local_base_freq"] = sliding["rope_theta"]
        old["rope_scaling"] = full if full.get("rope_type", "default") != "default" else None
    if types := config.get("layer_types"):
        old["sliding_window_pattern"] = pattern = [*types, "full_attention"].index("full_attention") + 1
        regular = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(len(types))]
        if list(types) != regular:
            raise ValueError("irregular layer_types, expected full_attention in every n-th layer")
    return old


def check_dtypes(state_dict: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for quantized weights."""
    for name, value in state_dict.items():
        if value.dtype not in DTYPES:
            raise CheckpointError(f"{name} has dtype {value.dtype}, expected one of {', '.join(map(str, DTYPES))}")


def fill_buffers(model: nn.Module, device: torch.device | str, dtype: torch.dtype) -> None:
    """Give a model from the meta device the buffers that no file holds: rotary frequencies and the scale of embeddings.

    They are taken from a model without layers and with a single word. In bfloat16 they are rounded too: the released
    pipeline casts its encoder whole, rotary frequencies included, and that is what TiM was trained with.
    """
    config = copy.deepcopy(model.config)
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = 0, 1, 0
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # its random weights are discarded
        small = type(model)(config)
    for name, buffer in small.named_buffers():
        owner, _, attribute = name.rpartition(".")
        buffer = buffer.to(device, torch.bfloat16 if dtype == torch.bfloat16 else None)
        setattr(model.get_submodule(owner), attribute, buffer)


@torch.no_grad()
def encode_tokens(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Features (L, D) of L token ids: the last hidden state after the final norm, in float32.

    Raises:
        ValueError: features that are not finite.
    """
    input_ids = torch.tensor([ids], device=model.device)
    features = model(input_ids=input_ids, use_cache=False).last_hidden_state[0].float()
    if not features.isfinite().all():
        raise ValueError(
            f"the text encoder gave NaN or infinite features in {model.dtype}, expected finite ones; "
            "load it in bfloat16 or float32"
        )
    return features


@torch.no_grad()
def compute_pad_feature(model: nn.Module) -> Tensor:
    """The hidden state (D,) of <pad> after the final norm when every attention output is 0, in float32."""
    x = model.embed_tokens(torch.tensor([model.config.pad_token_id], device=model.device))
    for layer in model.layers:
        projection = layer.self_attn.o_proj
        x = x + layer.post_attention_layernorm(projection(x.new_zeros(1, projection.in_features)))
        x = x + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(x)))
    return model.norm(x)[0].float()


def pad_features(features: Sequence[Tensor], pad_feature: Tensor, length: int | None = None) -> Tensor:
    """Features of different lengths as one batch (B, L, D).

    Args:
        features: (L_i, D) each.
        pad_feature: (D,), for the positions behind the last token.
        length: L, to which longer features are cut; default is the longest L_i.

    Raises:
        ValueError: nothing to join, a length below 1, or features of another width.
    """
    if not features or (length is not None and length < 1):
        raise ValueError(f"got {len(features)} features and length {length}, expected at least one and 1")
    if odd := [tuple(feature.shape) for feature in features if feature.shape[1:] != pad_feature.shape]:
        raise ValueError(f"got features of shape {odd[0]}, expected the width {len(pad_feature)} of the padding")
    length = length or max(len(feature) for feature in features)
    batch = pad_feature.to(features[0]).repeat(len(features), length, 1)
    for row, feature in zip(batch, features):
        row[: len(feature)] = feature[:length]
    return batch

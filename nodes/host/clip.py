"""Gemma-3 as a real CLIP of the host, so that stock text nodes work on it."""

from __future__ import annotations

import os
from functools import partial

import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import comfy.utils
from torch import Tensor, nn

from ...tim_model.files.tensor_files import prefix_errors
from ...tim_model.text.encoder import build_text_model, compute_pad_feature, encode_tokens
from ...tim_model.text.files import TextEncoderFiles, packed_files, read_text_encoder_files
from ...tim_model.text.tokenizer import TiMTokenizer
from ..graph.notices import renew, warn
from ..run.keys import PAD_FEATURE
from .lora import reading_loras
from .prompts import OWN, Prompts, chosen_prompt, warn_of_ignored_inputs


class HostTokenizer:
    """The tokenizer as the host calls it. Weights stay 1: Gemma reads "(word:1.2)" as it is written."""

    def __init__(self, files: TextEncoderFiles, embedding_directory=None, tokenizer_data=None):
        self.tokenizer: TiMTokenizer = files.tokenizer
        self.packed = packed_files(files)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **others) -> Prompts:
        renew()
        if notice := self.tokenizer.unknown_notice(text):
            warn(notice)
        warn_of_ignored_inputs(others)
        tail = (0,) if return_word_ids else ()
        return Prompts({OWN: [[(token, 1.0, *tail) for token in self.tokenizer.tokenize(text)]]})

    def untokenize(self, token_weight_pair: list) -> list:
        return [(pair, self.tokenizer.decode([pair[0]])) for pair in token_weight_pair]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return self.tokenizer.decode(token_ids)

    def state_dict(self) -> dict[str, Tensor]:
        """Config and tokenizer, which CLIP Save writes with the weights, so that the file is complete."""
        return self.packed


class HostTextEncoder(nn.Module):
    """The text model as the host calls it."""

    # Plain layers of transformers cannot stay behind on the CPU one by one: the host moves them as a whole.
    disable_offload = True

    def __init__(self, files: TextEncoderFiles, device="cpu", dtype=None, model_options=None):
        super().__init__()
        self.model = build_text_model(files.config, files.state_dict, device)  # the file's dtype, as released
        self.dtypes = {self.model.dtype}
        self.execution_device = None

    def set_clip_options(self, options: dict) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def load_sd(self, sd: dict) -> tuple[list, list]:
        return self.load_state_dict(sd, strict=False)

    def encode_token_weights(self, tokens: dict[str, list]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features (1,L,D) of the real tokens, and the feature (D,) that pads them, also as pooled output (1,D)."""
        # older hosts do not say where to run; a model that did not fit stayed where it was
        device = self.execution_device or comfy.model_management.text_encoder_device()
        model = self.model.to(device)
        ids = [token for token, *_ in chosen_prompt(tokens)]
        output_device = comfy.model_management.intermediate_device()
        features, pad_feature = encode_tokens(model, ids), compute_pad_feature(model).to(output_device)
        return features[None].to(output_device), pad_feature[None], {PAD_FEATURE: pad_feature}

    def generate(self, *args, **kwargs) -> None:
        """Newer hosts write text with some encoders."""
        raise ValueError(
            "TiM's text encoder reads prompts, it writes none: give the prompt itself in place of the generated text"
        )


def load_clip(path: str | os.PathLike) -> comfy.sd.CLIP:
    """The CLIP in a Gemma-3 file or folder; CheckpointError in one line."""
    files = read_text_encoder_files(path)
    target = comfy.supported_models_base.ClipTarget(partial(HostTokenizer, files), partial(HostTextEncoder, files))
    with prefix_errors(path):
        clip = comfy.sd.CLIP(target, parameters=comfy.utils.calculate_parameters(files.state_dict))
    reading_loras(clip.patcher).cached_patcher_init = (load_clip_patcher, (path,))
    return clip


def load_clip_patcher(path: str | os.PathLike, disable_dynamic: bool = False):
    """Called by newer hosts to load the same CLIP again; it never loads dynamically."""
    return load_clip(path).patcher

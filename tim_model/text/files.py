"""The files of a text encoder: a Hugging Face folder, or one safetensors with config and tokenizer inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..files.errors import CheckpointError, parse_json, prefix_errors
from ..files.published import GEMMA, TEXT_ENCODER
from ..files.state_dicts import dequantize, part
from ..files.tensor_files import SAFETENSORS, read_safetensors, write_safetensors
from .tokenizer import VOCABULARIES, TiMTokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # names the files of sharded weights
TOKENIZERS = tuple(VOCABULARIES)
EMBEDDING = "embed_tokens.weight"
PACKED = (CONFIG, *TOKENIZERS)  # in one file, besides the weights


class TextEncoderFiles(NamedTuple):
    """A config.json, the weights by transformers' names without a prefix, and the tokenizer."""

    config: dict[str, object]
    state_dict: dict[str, Tensor]
    tokenizer: TiMTokenizer


def read_text_encoder_files(path: str | os.PathLike) -> TextEncoderFiles:
    """The config, weights (memory-mapped) and tokenizer of a Gemma-3 text encoder.

    Args:
        path: a folder with config.json, model.safetensors (or its shards and their index) and tokenizer.json
            or tokenizer.model; a safetensors file with the others beside it; a file of `pack_text_encoder`.

    Raises:
        CheckpointError: a file that is missing, damaged or of another model; the message is one line.
    """
    with prefix_errors(path):
        contents = read_contents(Path(path))
        config = parse_config(contents.config)
        return TextEncoderFiles(config, dequantize(bare_names(contents.tensors)), parse_tokenizer(contents, config))


def read_text_encoder_config(path: str | os.PathLike) -> dict[str, object]:
    """The config alone; raises as `read_text_encoder_files`, but does not look into weights and tokenizer."""
    with prefix_errors(path):
        return parse_config(read_contents(Path(path)).config)


def read_text_encoder_tokenizer(path: str | os.PathLike) -> TiMTokenizer:
    """The tokenizer alone; raises as `read_text_encoder_files`, but does not look into weights."""
    with prefix_errors(path):
        contents = read_contents(Path(path))
        return parse_tokenizer(contents, parse_config(contents.config))


class Contents(NamedTuple):
    """The unparsed contents of a text encoder's files: bytes of config.json and tokenizer, memory-mapped weights."""

    config: bytes
    tensors: dict[str, Tensor]
    tokenizer_file: str
    tokenizer: bytes


def read_contents(path: Path) -> Contents:
    """The contents of a folder or file, as `read_text_encoder_files` describes them."""
    if not path.exists():
        raise CheckpointError(f"no such file or folder, expected the files of {TEXT_ENCODER}")
    if path.is_dir():
        return read_folder(path)
    if path.suffix not in SAFETENSORS:
        raise CheckpointError(f"has the ending {path.suffix!r}, expected a folder or a .safetensors file")
    return read_file(path)


def read_folder(folder: Path) -> Contents:
    require(folder, (CONFIG,), (WEIGHTS, INDEX), TOKENIZERS)
    shards = [WEIGHTS] if (folder / WEIGHTS).is_file() else read_index(folder)
    tensors = {}
    for shard in shards:
        with prefix_errors(shard):
            tensors.update(read_safetensors(folder / shard)[0])
    return Contents((folder / CONFIG).read_bytes(), tensors, *read_tokenizer(folder))


def read_file(path: Path) -> Contents:
    tensors = part(read_safetensors(path)[0], "text encoder")
    packed = {name: tensors.pop(tensor_name(name)).numpy().tobytes() for name in PACKED if tensor_name(name) in tensors}
    for name in TOKENIZERS:
        if name in packed:
            return Contents(packed.get(CONFIG, b""), tensors, name, packed[name])
    require(path.parent, (CONFIG,), TOKENIZERS)
    return Contents((path.parent / CONFIG).read_bytes(), tensors, *read_tokenizer(path.parent))


def parse_config(content: bytes) -> dict[str, object]:
    """The config of a text-only, causal Gemma-3; CheckpointError for others."""
    with prefix_errors(CONFIG):
        config = parse_object(content)
        check_config(config)
    return config


def parse_tokenizer(contents: Contents, config: Mapping[str, object]) -> TiMTokenizer:
    """The tokenizer, which must agree with the config."""
    ids = {name: config[name] for name in ("bos_token_id", "pad_token_id", "vocab_size") if name in config}
    return TiMTokenizer(contents.tokenizer_file, contents.tokenizer, **ids)


def write_text_encoder(files: TextEncoderFiles, path: str | os.PathLike) -> None:
    """Write one safetensors: weights by their published names, with config and tokenizer inside."""
    tensors = {f"model.{name}": value.contiguous() for name, value in files.state_dict.items()}
    write_safetensors(tensors | packed_files(files), path, {"format": "pt"})


def packed_files(files: TextEncoderFiles) -> dict[str, Tensor]:
    """The bytes of config and tokenizer as tensors of uint8.

    They are not metadata: readers parse all of it, tokenizer.json has 33 MB, and programs that resave weights drop it.
    """
    contents = {CONFIG: json.dumps(files.config).encode(), files.tokenizer.name: files.tokenizer.content}
    return {
        tensor_name(name): torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in contents.items()
    }


def tensor_name(file: str) -> str:
    """The name of the tensor that holds a file: "config_json", "tokenizer_json" or "tokenizer_model"."""
    return file.replace(".", "_")


def require(folder: Path, *choices: tuple[str, ...]) -> None:
    """Raise CheckpointError unless `folder` has one file of each choice."""
    missing = [names[0] for names in choices if not any((folder / name).is_file() for name in names)]
    if missing:
        raise CheckpointError(f"found no {', no '.join(missing)} in {folder}, expected the files of {TEXT_ENCODER}")


def read_index(folder: Path) -> list[str]:
    """The names of the files that hold the weights."""
    with prefix_errors(INDEX):
        weight_map = parse_object((folder / INDEX).read_bytes()).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(map(is_file_name, weight_map.values())):
            raise CheckpointError(
                f"has weight_map {str(weight_map)[:80]}, expected names of tensors and of the files beside it"
            )
    shards = sorted(set(weight_map.values()))
    require(folder, *((shard,) for shard in shards))
    return shards


def is_file_name(value: object) -> bool:
    """Whether `value` names a file of the same folder."""
    return isinstance(value, str) and value not in ("", "..") and not set("/\\\0") & set(value)


def read_tokenizer(folder: Path) -> tuple[str, bytes]:
    """The name and content of the tokenizer that `require` found."""
    name = next(name for name in TOKENIZERS if (folder / name).is_file())
    return name, (folder / name).read_bytes()


def parse_object(content: str | bytes) -> dict[str, object]:
    value = parse_json(content)
    if not isinstance(value, dict):
        raise CheckpointError(f"is a JSON {type(value).__name__}, expected an object; download it again")
    return value


def check_config(config: Mapping[str, object]) -> None:
    """Raise CheckpointError unless it is the config of a text-only, causal Gemma-3."""
    expected = f"expected 'gemma3_text', as {GEMMA} has"
    if (found := config.get("model_type")) == "gemma3":
        raise CheckpointError(f"has model_type 'gemma3', which reads images too, {expected}")
    if found != "gemma3_text":
        raise CheckpointError(f"has model_type {found!r}, {expected}")
    if config.get("use_bidirectional_attention"):
        raise CheckpointError(f"has use_bidirectional_attention, expected the causal {GEMMA}")
    for name in ("bos_token_id", "pad_token_id", "vocab_size"):
        if not isinstance(config.get(name, 0), int):
            raise CheckpointError(f"has {name} {config[name]!r}, expected a whole number")


def bare_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the prefix that "embed_tokens.weight" has, and without the head that predicts words."""
    prefix = next((name for name in tensors if name.endswith(EMBEDDING)), EMBEDDING).removesuffix(EMBEDDING)
    kept = [name for name in tensors if not name.endswith("lm_head.weight")]
    return {name.removeprefix(prefix): tensors[name] for name in kept}

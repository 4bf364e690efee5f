"""Every kind of file that is no usable TiM checkpoint: how to make it, and a word that its refusal must say."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from tim_model import TiM, TiMParams

TINY = TiMParams(
    in_channels=3, patch_size=2, hidden_size=16, depth=2, num_heads=2, mlp_hidden=24, adaln_hidden=8, num_classes=5,
    z_dim=6, projector_dim=10, encoder_depth=1,
)  # fmt: skip

Weights = dict[str, Tensor]


def tiny_weights() -> Weights:
    torch.manual_seed(0)
    return TiM(TINY).state_dict()


def pickled(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class Broken:
    """`make` puts the file at the path that it is given, `name` in some folder."""

    kind: str
    name: str
    make: Callable[[Path], object]
    says: str


def from_bytes(content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content())


def from_weights(
    change: Callable[[Weights], Weights] = dict, metadata: dict[str, str] | None = None
) -> Callable[[Path], object]:
    return lambda path: save_file(change(tiny_weights()), path, metadata)


def from_object(content: Callable[[], object], **options) -> Callable[[Path], object]:
    return lambda path: torch.save(content(), path, **options)


def replaced(**tensors: Tensor) -> Callable[[Weights], Weights]:
    """Weights with some of them replaced; "__" stands for "." in names."""
    return lambda weights: weights | {name.replace("__", "."): value for name, value in tensors.items()}


def without(start: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if not name.startswith(start)}


def with_value(value: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights["blocks.1.mlp.fc2.weight"][3, 4] = value
        return weights

    return change


def cast(dtype: torch.dtype) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value.to(dtype) for name, value in weights.items()}


def foreign(*names: str) -> Callable[[Weights], Weights]:
    return lambda _: {name: torch.randn(8, 4) for name in names}


def header(content: dict[str, object] | str) -> bytes:
    """A safetensors file of that header and 64 bytes of weights."""
    text = content if isinstance(content, str) else json.dumps(content)
    return struct.pack("<Q", len(text)) + text.encode() + bytes(64)


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/readme.txt", text)
    return buffer.getvalue()


def renamed_storage(legacy: bytes) -> bytes:
    """The first tensor looks for weights that the file does not have."""
    return re.sub(rb"\d{12,}", lambda key: b"0" * len(key[0]), legacy, count=1)


class RunsCode:
    """Unpickled without care, it makes a file named `SENTINEL` in the current folder."""

    def __reduce__(self):
        return os.system, (f"echo > {SENTINEL}",)


SCALED = "blocks.1.mlp.fc2"


def fp8(weights: Weights) -> Weights:
    """Weights with a layer in scaled 8-bit floats, as ComfyUI's converters write them."""
    weight = weights[f"{SCALED}.weight"]
    scale = weight.abs().max() / 448  # the largest number of that format
    hints = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn), f"{SCALED}.scale_input": torch.ones(1)}
    quantized = {f"{SCALED}.weight": (weight / scale).to(torch.float8_e4m3fn), f"{SCALED}.scale_weight": scale[None]}
    return {**weights, **quantized, **hints}


SENTINEL = "pickle-ran-code"
LEGACY = {"_use_new_zipfile_serialization": False}
HTML = b"<!DOCTYPE html>\n<html>\n<body>Not Found</body>\n</html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f1e2d\nsize 1048576\n"
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 291, 24) + bytes(200)
ONNX = b"\x08\x07\x12\x07pytorch\x1a\x052.4.0:\x80\x01" + bytes(200)
NOT_WHOLE, NOT_TIM, NOT_RUN = "no whole", "is not a TiM checkpoint", "not run"
UNET = ("input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", "time_embed.0.weight")
LORA = ("lora_unet_blocks_0_attn_qkv.lora_down.weight", "lora_unet_blocks_0_attn_qkv.lora_up.weight")
DIT = ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "t_embedder.mlp.0.weight")


def contradicting() -> dict[str, str]:
    return {"config": json.dumps(TINY.to_dict() | {"depth": 3})}


BROKEN = [
    # no file, or one that was cut or overwritten
    Broken("missing", "model.safetensors", lambda path: None, "no such file"),
    Broken("folder", "model.safetensors", Path.mkdir, "is a folder"),
    Broken("empty", "model.safetensors", Path.touch, "is empty"),
    Broken("empty pickle", "model.bin", Path.touch, "is empty"),
    Broken("truncated length", "model.safetensors", from_bytes(lambda: save(tiny_weights())[:5]), NOT_WHOLE),
    Broken("truncated header", "model.safetensors", from_bytes(lambda: save(tiny_weights())[:300]), NOT_WHOLE),
    Broken("truncated body", "model.safetensors", from_bytes(lambda: save(tiny_weights())[:-100]), NOT_WHOLE),
    Broken("surplus bytes", "model.safetensors", from_bytes(lambda: save(tiny_weights()) + bytes(9)), NOT_WHOLE),
    Broken("truncated zip", "model.bin", from_bytes(lambda: pickled(tiny_weights())[:-3000]), NOT_WHOLE),
    Broken(
        "truncated legacy pickle", "model.pt",
        from_bytes(lambda: pickled(tiny_weights(), **LEGACY)[:-3000]), NOT_WHOLE,
    ),
    Broken(
        "legacy pickle without its weights", "model.pt",
        from_bytes(lambda: renamed_storage(pickled(tiny_weights(), **LEGACY))), NOT_WHOLE,
    ),
    Broken("huge header", "model.safetensors", from_bytes(lambda: struct.pack("<Q", 2**62) + b"{}"), NOT_WHOLE),
    Broken("header is no JSON", "model.safetensors", from_bytes(lambda: header("{'x': 1}")), NOT_WHOLE),
    Broken(
        "unknown dtype", "model.safetensors",
        from_bytes(lambda: header({"x": {"dtype": "F12", "shape": [16], "data_offsets": [0, 64]}})), NOT_WHOLE,
    ),
    # something else under a checkpoint's name
    Broken("wrong ending", "model.gguf", from_bytes(lambda: GGUF), "ending '.gguf'"),
    Broken("text as safetensors", "model.safetensors", from_bytes(lambda: b"my notes\n" * 9), NOT_WHOLE),
    Broken("text as pickle", "model.bin", from_bytes(lambda: b"my notes\n" * 9), "pickle"),
    Broken("text that reads as pickle", "model.bin", from_bytes(lambda: b"the model has moved\n"), "pickle"),
    Broken("html as safetensors", "model.safetensors", from_bytes(lambda: HTML), NOT_WHOLE),
    Broken("html as pickle", "model.bin", from_bytes(lambda: HTML), "pickle"),
    Broken("git-lfs pointer", "model.safetensors", from_bytes(lambda: POINTER), NOT_WHOLE),
    Broken("gguf as safetensors", "model.safetensors", from_bytes(lambda: GGUF), NOT_WHOLE),
    Broken("onnx as pickle", "model.bin", from_bytes(lambda: ONNX), "pickle"),
    Broken("zip of documents", "model.bin", from_bytes(lambda: zipped("hello\nworld")), NOT_WHOLE),
    Broken("pickle as safetensors", "model.safetensors", from_object(tiny_weights), NOT_WHOLE),
    Broken("safetensors as pickle", "model.bin", from_weights(), "pickle"),
    # pickles of more than named tensors
    Broken("pickle with code", "model.bin", from_object(RunsCode), NOT_RUN),
    Broken("plain pickle with code", "model.pt", from_bytes(lambda: pickle.dumps(RunsCode())), NOT_RUN),
    Broken("pickled module", "model.pt", from_object(lambda: nn.Linear(2, 2)), NOT_RUN),
    Broken("pickled params", "model.pt", from_object(lambda: {"params": TINY}), NOT_RUN),
    Broken(
        "state dict beside other tensors", "model.bin",
        from_object(lambda: {"weights": tiny_weights(), "bias": torch.ones(2)}), "entries weights, bias",
    ),
    Broken(
        "state of a training run", "model.pt",
        from_object(lambda: {"format": 1, "net": tiny_weights(), "ema": {"net": tiny_weights()}}), "training.export",
    ),
    Broken("pickled list", "model.bin", from_object(lambda: list(tiny_weights().values())), "a list"),
    Broken("pickled tensor", "model.bin", from_object(lambda: torch.ones(3)), "a Tensor"),
    Broken("no tensors", "model.bin", from_object(dict), NOT_TIM),
    # tensors of another network
    Broken("foreign U-Net", "model.safetensors", from_weights(foreign(*UNET)), NOT_TIM),
    Broken("LoRA", "model.safetensors", from_weights(foreign(*LORA)), "LoRA"),
    Broken("foreign DiT", "model.safetensors", from_weights(foreign(*DIT)), "expected 4 dimensions"),
    Broken("missing first block", "model.safetensors", from_weights(without("blocks.0.")), "blocks.0"),
    Broken("missing tensor", "model.safetensors", from_weights(without("blocks.1.mlp.fc2.bias")), "lacks 1"),
    Broken("missing embedder", "model.safetensors", from_weights(without("t_embedder.")), "lacks 4"),
    Broken("missing half of projector", "model.safetensors", from_weights(without("projector.2.")), "lacks 2"),
    Broken(
        "missing last block", "model.safetensors",
        from_weights(without("blocks.1."), {"config": json.dumps(TINY.to_dict())}), "depth=1",
    ),
    Broken("unexpected tensor", "model.safetensors", from_weights(replaced(pos_embed=torch.ones(4))), "pos_embed"),
    Broken(
        "wrong shape", "model.safetensors",
        from_weights(replaced(final_layer__linear__bias=torch.ones(13))), "(13,), expected (12,)",
    ),
    Broken(
        "transposed", "model.safetensors",
        from_weights(replaced(blocks__1__mlp__fc2__weight=torch.ones(24, 16))), "(24, 16), expected (16, 24)",
    ),
    Broken(
        "dimension of size 0", "model.safetensors",
        from_weights(replaced(x_embedder__proj__weight=torch.ones(16, 0, 2, 2))), "none of them 0",
    ),
    Broken(
        "heads that do not divide", "model.safetensors",
        from_weights(replaced(blocks__0__attn__q_norm__weight=torch.ones(5))), "heads of 5",
    ),
    Broken(
        "heads without rotary pairs", "model.safetensors",
        from_weights(replaced(blocks__0__attn__q_norm__weight=torch.ones(2))), "multiple of 4",
    ),
    Broken(
        "table without a class", "model.safetensors",
        from_weights(replaced(y_embedder__embedding_table__weight=torch.ones(1, 16))), "num_classes=0",
    ),
    Broken(
        "name of two lines", "model.safetensors", from_weights(replaced(**{"pos\nembed": torch.ones(4)})), "has 1",
    ),
    # the right names with the wrong values
    Broken("integer weights", "model.safetensors", from_weights(cast(torch.int8)), "torch.int8"),
    Broken("boolean weights", "model.safetensors", from_weights(cast(torch.bool)), "torch.bool"),
    Broken("complex weights", "model.bin", from_object(lambda: cast(torch.complex64)(tiny_weights())), "complex64"),
    Broken("NaN weights", "model.safetensors", from_weights(with_value(float("nan"))), "blocks.1.mlp.fc2.weight"),
    Broken("infinite weights", "model.safetensors", from_weights(with_value(float("inf"))), "blocks.1.mlp.fc2.weight"),
    Broken(
        "scale without its weight", "model.safetensors",
        from_weights(lambda weights: {**fp8(weights), "blocks.9.mlp.fc2.scale_weight": torch.ones(1)}),
        "scales without an 8-bit weight",
    ),
    Broken(
        "scale of another shape", "model.safetensors",
        from_weights(lambda weights: {**fp8(weights), f"{SCALED}.scale_weight": torch.ones(3)}),
        "shape (3,), expected one number",
    ),
    # metadata that is wrong
    Broken("contradicting metadata", "model.safetensors", from_weights(metadata=contradicting()), "depth=2"),
    Broken("config is no JSON", "model.safetensors", from_weights(metadata={"config": "{"}), "JSON"),
    Broken("config is a list", "model.safetensors", from_weights(metadata={"config": "[]"}), "JSON"),
    Broken("config is nested deeply", "model.safetensors", from_weights(metadata={"config": "[" * 100_000}), "JSON"),
    Broken(
        "encoder depth out of range", "model.safetensors",
        from_weights(metadata={"config": '{"encoder_depth": 3}'}), "encoder_depth=3",
    ),
    Broken(
        "encoder depth is text", "model.safetensors",
        from_weights(metadata={"config": '{"encoder_depth": "1"}'}), "encoder_depth",
    ),
    Broken(
        "encoder depth is a fraction", "model.safetensors",
        from_weights(metadata={"config": '{"encoder_depth": 1.5}'}), "encoder_depth=1.5",
    ),
]  # fmt: skip

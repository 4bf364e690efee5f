"""Files that lie: headers, metadata, pickles and LoRAs of any content are read, or refused in one line."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from tests.fuzz.strategies import fuzz, json_values, numbers, refused_in_one_line, texts
from tests.tim_model.broken_files import tiny_weights
from tim_model.checkpoint import Checkpoint, check_config, describe, infer_params, read_checkpoint
from tim_model.files.errors import CheckpointError, metadata_json, prefix_errors
from tim_model.lora.updates import parse_lora
from tim_model.network.latent_space import latent_shape
from tim_model.text.files import read_text_encoder_files
from tim_model.vae.files import read_vae

WEIGHTS = tiny_weights()
WHOLE = save(WEIGHTS)
HEADER_BYTES = 8 + struct.unpack("<Q", WHOLE[:8])[0]
DTYPES = st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "F64", "X9", ""])
LAYERS = ["blocks.0.attn.qkv", "blocks.1.mlp.fc2", "x_embedder.proj", "layers.3.self_attn.q_proj", "blocks.9", "a.b"]
PREFIXES = ["", "diffusion_model.", "lora_unet_", "transformer.", "base_model.model.", "lora_te_", "lycoris_", "\n"]
PARTS = [".lora_A.weight", ".lora_B.weight", ".lora_down.weight", ".lora_up.weight", ".alpha", ".hada_w1_a", ""]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.safetensors"


def read_all(path: Path) -> None:
    """Whatever a user may try on a file."""
    for read in (read_checkpoint, describe, read_vae, read_text_encoder_files):
        with refused_in_one_line(CheckpointError):
            read(path)


def offsets() -> st.SearchStrategy:
    return st.lists(st.integers(0, 64) | st.sampled_from([2**31, 2**63, 2**64 - 1]), min_size=0, max_size=3)


def entries() -> st.SearchStrategy:
    shapes = st.lists(st.integers(0, 5) | st.sampled_from([2**31, 2**62]), max_size=5)
    return st.fixed_dictionaries({"dtype": DTYPES, "shape": shapes, "data_offsets": offsets()}) | json_values


@fuzz(1000)
@given(
    header=st.dictionaries(st.sampled_from([*WEIGHTS, "__metadata__"]) | texts, entries(), max_size=4),
    length=st.none() | st.integers(0, 2**64 - 1),
    body=st.binary(max_size=80),
)
@example(header={"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 2**64 - 1]}}, length=None, body=b"")
@example(
    header={"x_embedder.proj.weight": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, length=None, body=bytes(4)
)
def test_headers_of_any_content(path, header, length, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    read_all(path)


@fuzz(1000)
@given(
    cut=st.integers(0, len(WHOLE)), changes=st.lists(st.tuples(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255)))
)
def test_damaged_headers(path, cut, changes):
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    path.write_bytes(content[:cut] if cut % 3 == 0 else content)
    read_all(path)


@fuzz(1500)
@given(
    key=st.sampled_from(["config", "class_names", "latent_space", "resolution"]),
    value=json_values.map(json.dumps)
    | texts
    | st.fixed_dictionaries({"ratio": json_values, "scaling_factor": json_values}).map(json.dumps)
    | st.fixed_dictionaries({"encoder_depth": json_values, "depth": json_values}).map(json.dumps),
)
@example(key="config", value="[" * 100_000)
@example(key="latent_space", value='{"ratio": 1e999, "scaling_factor": NaN}')
def test_metadata_of_any_content(key, value):
    """A checkpoint with it has a size that can be drawn, and names that can be shown."""
    params = infer_params({name: tuple(weight.shape) for name, weight in WEIGHTS.items()})
    checkpoint = Checkpoint(params, WEIGHTS, {key: value})
    with refused_in_one_line(CheckpointError), prefix_errors("model.safetensors"):
        check_config(metadata_json(checkpoint.metadata, "config", {}), params)
    with refused_in_one_line(CheckpointError), prefix_errors("model.safetensors"):
        assert all(isinstance(name, str) for name in checkpoint.class_names)
    with refused_in_one_line(CheckpointError):
        width, height = checkpoint.default_size
        assert latent_shape(checkpoint.latent_space, params.patch_size, width, height, 1)[2] > 0


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value for name, value in list(WEIGHTS.items())[:3]}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


PICKLE = pickled()


@fuzz(600)
@given(st.lists(st.tuples(st.integers(0, len(PICKLE) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_damaged_pickles(path, changes, plain):
    content = bytearray(PICKLE)
    for position, value in changes:
        content[position % (200 if plain else len(content))] = value
    pickle = path.with_suffix(".pt")
    pickle.write_bytes(content)
    with refused_in_one_line(CheckpointError):
        read_checkpoint(pickle)


@fuzz(1000)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(PREFIXES), st.sampled_from(LAYERS) | texts, st.sampled_from(PARTS)).map("".join),
        st.lists(st.integers(0, 4), max_size=4),
        max_size=6,
    ),
    numbers,
)
def test_loras_of_any_keys(shapes, value):
    tensors = {name: torch.full(shape, float(min(max(value, -1e30), 1e30))) for name, shape in shapes.items()}
    with refused_in_one_line(CheckpointError):
        lora = parse_lora(tensors)
        assert all(update.delta().isfinite().all() for update in [*lora.network.values(), *lora.text_encoder.values()])

"""Every form in which the text encoder's files come, and why other files are refused."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from tim_model.files.tensor_files import CheckpointError
from tim_model.text.encoder import build_text_model, load_text_encoder, pack_text_encoder, read_text_encoder_files
from tim_model.text.files import read_text_encoder_config, read_text_encoder_tokenizer

from ..gemma import CONFIG, PROMPTS, published_weights, write_gemma


@pytest.fixture(scope="module")
def weights():
    return published_weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gemma(tmp_path_factory.mktemp("encoder") / "gemma")


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder(folder)


@pytest.fixture
def writable(tmp_path):
    return write_gemma(tmp_path / "gemma")


def assert_same(found, encoder):
    """The same weights, buffers and tokens bit for bit.

    Features may differ in the last bit: how tensors lie in a memory-mapped file decides on CPU kernels.
    """
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(found.model, kind)()), dict(getattr(encoder.model, kind)())
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
        assert [name for name in ours if ours[name].dtype != theirs[name].dtype] == []
    for prompt in PROMPTS:
        assert found.tokenizer.tokenize(prompt) == encoder.tokenizer.tokenize(prompt)
    torch.testing.assert_close(found.encode(PROMPTS), encoder.encode(PROMPTS), atol=1e-5, rtol=0)


def test_file_with_the_others_beside_it(folder, encoder):
    assert_same(load_text_encoder(str(folder / "model.safetensors")), encoder)


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "model.language_model."])
def test_names_in_use(weights, encoder, tmp_path, prefix):
    named = {name.replace("model.", prefix, 1): value for name, value in weights.items()}
    named["lm_head.weight"] = torch.zeros(290, 64)
    assert_same(load_text_encoder(write_gemma(tmp_path / "gemma", named)), encoder)


def test_tokenizer_json_is_preferred(encoder, writable):
    (writable / "tokenizer.model").write_bytes(b"never read")
    assert_same(load_text_encoder(writable), encoder)


def test_shards(weights, encoder, writable):
    (writable / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for shard, part in shards.items():
        save_file({name: weights[name] for name in part}, writable / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (writable / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(load_text_encoder(writable), encoder)
    (writable / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match="found no b.safetensors in .*google/gemma-3-1b-it"):
        load_text_encoder(writable)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_file_is_the_folder_bit_for_bit(weights, tmp_path, dtype):
    half = {name: value.to(dtype) for name, value in weights.items()}
    folder = write_gemma(tmp_path / "gemma", half)
    packed = tmp_path / "gemma.safetensors"
    pack_text_encoder(folder, packed)
    assert_same(load_text_encoder(packed), load_text_encoder(folder))
    written = load_file(packed)
    assert written.pop("tokenizer_json").numpy().tobytes() == (folder / "tokenizer.json").read_bytes()
    assert json.loads(written.pop("config_json").numpy().tobytes()) == CONFIG
    assert written.keys() == half.keys()
    assert all(torch.equal(written[name], half[name]) and written[name].dtype == dtype for name in half)
    pack_text_encoder(packed, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == packed.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "gemma", packed.name]


def test_refused_folder_leaves_no_file(writable, tmp_path):
    (writable / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 6}))
    with pytest.raises(CheckpointError, match="tensors too many"):
        pack_text_encoder(writable, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["gemma"]


def test_weights_stay_memory_mapped(folder):
    config, state_dict, _ = read_text_encoder_files(folder)
    model = build_text_model(config, state_dict)
    for name, weight in model.named_parameters():
        assert weight.data_ptr() == state_dict[name].data_ptr(), name


def test_config_and_tokenizer_alone(folder, encoder, tmp_path):
    """Of a folder and of a packed file; neither looks at the values of the weights."""
    pack_text_encoder(folder, tmp_path / "packed.safetensors")
    for path in (folder, tmp_path / "packed.safetensors"):
        assert read_text_encoder_config(path) == read_text_encoder_files(path).config
        tokenizer = read_text_encoder_tokenizer(path)
        assert [tokenizer.tokenize(prompt) for prompt in PROMPTS] == [encoder.tokenizer.tokenize(p) for p in PROMPTS]


def test_config_alone_refuses_what_is_no_encoder(writable):
    (writable / "tokenizer.json").write_text("{}")
    assert read_text_encoder_config(writable)["hidden_size"] == CONFIG["hidden_size"]
    (writable / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="is no whole safetensors file"):
        read_text_encoder_config(writable)


def test_dtype_is_that_of_the_file(weights, tmp_path):
    half = {name: value.bfloat16() for name, value in weights.items()}
    encoder = load_text_encoder(write_gemma(tmp_path / "gemma", half))
    assert {weight.dtype for weight in encoder.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file(writable, name):
    (writable / name).unlink()
    with pytest.raises(CheckpointError) as refusal:
        load_text_encoder(writable)
    message = str(refusal.value)
    assert f"found no {name} in {writable}, expected the files of google/gemma-3-1b-it" in message
    assert "license must be accepted" in message
    assert "\n" not in message


def test_all_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no config.json, no model.safetensors, no tokenizer.json in"):
        load_text_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder, expected .*google/gemma-3-1b-it"):
        load_text_encoder(tmp_path / "nothing")


def test_file_alone(writable):
    (writable / "config.json").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors: found no config.json in"):
        load_text_encoder(writable / "model.safetensors")
    with pytest.raises(CheckpointError, match="has the ending '.json', expected a folder or a .safetensors"):
        load_text_encoder(writable / "tokenizer.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json: is no JSON"),
        ("[]", "config.json: is a JSON list, expected an object"),
        ("{}", "has model_type None, expected 'gemma3_text'"),
    ],
)
def test_no_config(writable, content, message):
    (writable / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(writable))}: .*{message}") as refusal:
        load_text_encoder(writable)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "has model_type 'llama', expected 'gemma3_text'"),
        ({"model_type": "gemma3"}, "has model_type 'gemma3', which reads images too, expected 'gemma3_text'"),
        ({"use_bidirectional_attention": True}, "expected the causal google/gemma-3-1b-it"),
        ({"pad_token_id": None}, "has pad_token_id None, expected a whole number"),
        ({"hidden_size": "wide"}, "config.json is no working Gemma-3 config"),
        ({"rope_parameters": {"full_attention": {}}}, "config.json is no working Gemma-3 config"),
        ({"layer_types": ["full_attention"] + 6 * ["sliding_attention"]}, "irregular layer_types"),
        ({"hidden_size": 32}, r"embed_tokens.weight has shape \(290, 64\), expected \(290, 32\)"),
        ({"num_hidden_layers": 8}, r"lacks 13 of 106 tensors: layers.7.self_attn.q_proj.weight"),
        ({"bos_token_id": 1}, "tokenizer.json has <bos> as 2, expected 1"),
        ({"vocab_size": 400}, "tokens, expected 400; take the tokenizer that came"),
    ],
)
def test_other_config(writable, changes, message):
    (writable / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(writable))}: .*{message}") as refusal:
        load_text_encoder(writable)
    assert "\n" not in str(refusal.value)


def test_truncated_weights(writable):
    path = writable / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="model.safetensors: is no whole safetensors file") as refusal:
        load_text_encoder(writable)
    assert "\n" not in str(refusal.value)


def test_other_weights(weights, tmp_path):
    other = {**weights, "vision_tower.patch.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="1 tensors too many: vision_tower.patch.weight"):
        load_text_encoder(write_gemma(tmp_path / "gemma", other))
    quantized = {name: value.to(torch.float8_e4m3fn) for name, value in weights.items()}
    with pytest.raises(CheckpointError, match="embed_tokens.weight has dtype torch.float8_e4m3fn, expected"):
        load_text_encoder(write_gemma(tmp_path / "gemma", quantized), dtype=torch.float32)


def test_broken_index(writable):
    (writable / "model.safetensors").unlink()
    for found in ("3", "{}", '{"a": 1}', '{"a": ["b"]}', '{"a": null}', '{"a": "../b"}', '{"a": "c:\\\\b"}'):
        (writable / "model.safetensors.index.json").write_text(f'{{"weight_map": {found}}}')
        with pytest.raises(CheckpointError, match="index.json: has weight_map .*, expected names of tensors"):
            load_text_encoder(writable)


def test_json_that_is_nested_too_deeply(writable):
    (writable / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="config.json: is JSON that is nested too deeply"):
        load_text_encoder(writable)


def test_scaled_8_bit_weights(weights, tmp_path):
    """They are the bfloat16 that they stand for."""
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    scale = weights[name].abs().max() / 448
    quantized = (weights[name] / scale).to(torch.float8_e4m3fn)
    rounded = {key: value.bfloat16() for key, value in weights.items()} | {name: (quantized.float() * scale).bfloat16()}
    scaled = {**rounded, name: quantized, name.replace(".weight", ".scale_weight"): scale}
    found = load_text_encoder(write_gemma(tmp_path / "scaled", scaled))
    assert_same(found, load_text_encoder(write_gemma(tmp_path / "rounded", rounded)))

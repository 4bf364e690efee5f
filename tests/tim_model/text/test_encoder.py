"""Text features against transformers' own Gemma-3, run as the released pipeline runs it."""

from __future__ import annotations

import socket

import pytest
import torch

from tim_model.text.encoder import load_text_encoder, pad_features

from ..gemma import CONFIG, PROMPTS, build_gemma, published_weights, write_gemma


@pytest.fixture(scope="module")
def gemma():
    return build_gemma()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gemma(tmp_path_factory.mktemp("encoder") / "gemma")


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder(folder)


@torch.no_grad()
def run_padded(model, tokens: list[list[int]], zero_padding: bool = False):
    """A masked, right-padded run (B,L,D), and its mask.

    Args:
        zero_padding: let attention give zeros at padded positions, as FlashAttention-2 in transformers does.
    """
    length = max(map(len, tokens)) + 3
    ids = torch.tensor([row + [0] * (length - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in tokens])

    def drop_padding(_module, _arguments, output):
        return (output[0] * mask[..., None], *output[1:])

    layers = model.layers if zero_padding else []
    hooks = [layer.self_attn.register_forward_hook(drop_padding) for layer in layers]
    features = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    for hook in hooks:
        hook.remove()
    return features, mask.bool()


def real_rows(features, mask):
    return [row[keep] for row, keep in zip(features, mask)]


def assert_close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def test_features_of_real_tokens_are_those_of_a_masked_run(encoder, gemma):
    tokens = [encoder.tokenizer.tokenize(prompt) for prompt in PROMPTS]
    expected = real_rows(*run_padded(gemma, tokens))
    assert_close(encoder.encode(PROMPTS), expected)
    assert all(feature.dtype == torch.float32 for feature in encoder.encode(PROMPTS))
    assert encoder.width == 64
    assert torch.cat(expected).std() > 0.2


def test_the_comparison_sees_window_and_frequencies(encoder):
    """The proof above would not hold if these settings were lost on the way."""
    tokens = [encoder.tokenizer.tokenize(PROMPTS[0])]
    features = encoder.encode(PROMPTS[:1])[0]
    for setting in ({"sliding_window": 512}, {"sliding_window_pattern": 3}, {"query_pre_attn_scalar": 32}):
        other = real_rows(*run_padded(build_gemma(**setting), tokens))[0]
        assert (features - other).abs().max() > 1e-2, setting


def test_batch_equals_single_runs(encoder):
    assert_close(encoder.encode(PROMPTS), [encoder.encode([prompt])[0] for prompt in PROMPTS])


def test_pad_feature_is_what_zeroed_attention_leaves(encoder, gemma):
    tokens = [encoder.tokenizer.tokenize(prompt) for prompt in PROMPTS]
    features, mask = run_padded(gemma, tokens, zero_padding=True)
    assert (~mask).sum() > 300
    padding = features[~mask]
    assert_close(encoder.pad_feature.expand_as(padding), padding)
    plain, _ = run_padded(gemma, tokens)
    assert (plain[~mask] - encoder.pad_feature).abs().amax(-1).min() > 0.1


def test_padded_batch_is_the_released_conditioning(encoder, gemma):
    """All prompts and the null prompt, cut to the longest positive prompt."""
    positive = ["a fox", PROMPTS[0]]
    tokens = [encoder.tokenizer.tokenize(prompt) for prompt in [*positive, ""]]
    length = max(map(len, tokens))
    expected, _ = run_padded(gemma, tokens, zero_padding=True)
    found = pad_features(encoder.encode([*positive, ""]), encoder.pad_feature, length)
    assert_close(found, expected[:, :length])


def test_pad_features():
    a = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    b = torch.tensor([[3.0, 30.0], [4.0, 40.0], [5.0, 50.0]])
    pad = torch.tensor([7.0, 70.0])
    assert pad_features([a, b], pad)[..., 0].tolist() == [[1, 2, 7], [3, 4, 5]]
    assert pad_features([a, b], pad, 2)[..., 0].tolist() == [[1, 2], [3, 4]]
    assert pad_features([a], pad, 4)[..., 1].tolist() == [[10, 20, 70, 70]]
    assert pad_features([a.bfloat16()], pad, 3).dtype == torch.bfloat16


@pytest.mark.parametrize(("features", "length"), [([], None), ([torch.ones(2, 3)], 0), ([torch.ones(2, 4)], None)])
def test_pad_features_refuses(features, length):
    with pytest.raises(ValueError, match="^got .*expected"):
        pad_features(features, torch.zeros(3), length)


def test_long_caption_is_cut(encoder):
    (features,) = encoder.encode(["a fox " * 200])
    assert features.shape == (256, 64)


def test_one_text_is_no_list(encoder):
    with pytest.raises(TypeError, match="expected a list"):
        encoder.encode("a fox")


NEW_NAMES = {
    "rope_parameters": {
        "full_attention": {"rope_theta": 5000.0, "rope_type": "linear", "factor": 4.0},
        "sliding_attention": {"rope_theta": 300.0, "rope_type": "default"},
    },
    "layer_types": ["sliding_attention", "full_attention"] * 3 + ["sliding_attention"],
}
OLD_NAMES = {
    "rope_theta": 5000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "rope_local_base_freq": 300.0,
    "sliding_window_pattern": 2,
}


@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES], ids=["transformers 4", "transformers 5"])
def test_configs_of_every_version(gemma, tmp_path, names):
    kept = {name: value for name, value in CONFIG.items() if name not in OLD_NAMES}
    encoder = load_text_encoder(write_gemma(tmp_path / "gemma", None, {**kept, **names}))
    tokens = [encoder.tokenizer.tokenize(prompt) for prompt in PROMPTS]
    expected = real_rows(*run_padded(build_gemma(**OLD_NAMES), tokens))
    assert_close(encoder.encode(PROMPTS), expected)
    usual = real_rows(*run_padded(gemma, tokens))
    assert (expected[0] - usual[0]).abs().max() > 1e-2


def test_bfloat16_is_the_whole_encoder_cast_as_released(encoder, folder):
    half = load_text_encoder(folder, dtype=torch.bfloat16)
    released = build_gemma().to(torch.bfloat16)
    assert_close(dict(half.model.named_buffers()), dict(released.named_buffers()), atol=0)
    tokens = [half.tokenizer.tokenize(prompt) for prompt in PROMPTS]
    expected = real_rows(*run_padded(released, tokens))
    assert_close(half.encode(PROMPTS), [row.float() for row in expected], atol=0.05)


def test_bfloat16_is_close_to_float32(encoder, folder):
    half = load_text_encoder(folder, dtype=torch.bfloat16)
    found = torch.cat([*half.encode(PROMPTS), half.pad_feature[None]])
    expected = torch.cat([*encoder.encode(PROMPTS), encoder.pad_feature[None]])
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected).mean() > 0.99


def test_non_finite_features_are_refused(tmp_path):
    bad = {**published_weights(), "model.norm.weight": torch.full((64,), torch.nan)}
    encoder = load_text_encoder(write_gemma(tmp_path / "gemma", bad))
    with pytest.raises(ValueError, match="NaN or infinite features in torch.float32.*bfloat16 or float32"):
        encoder.encode(["a fox"])


def test_no_network_and_no_global_state(folder, monkeypatch):
    def refuse(*_arguments, **_settings):
        raise AssertionError("tried to reach the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    before = torch.random.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    encoder = load_text_encoder(folder)
    encoder.encode(["a fox"])
    after = torch.random.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_inference_mode_changes_nothing(folder, encoder):
    """A host loads and runs inside torch.inference_mode."""
    with torch.inference_mode():
        features = load_text_encoder(folder).encode(PROMPTS)
    assert_close(features, encoder.encode(PROMPTS))


def test_features_can_be_trained_on(encoder):
    weight = torch.ones(64, requires_grad=True)
    features = [*encoder.encode(["a fox"]), encoder.pad_feature[None]]
    sum((feature * weight).sum() for feature in features).backward()
    assert weight.grad.isfinite().all()

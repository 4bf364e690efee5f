"""The ids must be those of transformers' own tokenizer on the same files, for any text."""

from __future__ import annotations

import io
import json
import logging
import random
import sys

import pytest
import torch

from tim_model.files.tensor_files import CheckpointError
from tim_model.text.encoder import load_text_encoder, pack_text_encoder
from tim_model.text.tokenizer import MAX_TOKENS, TiMTokenizer, escape_caption

from ..gemma import CONFIG, published_weights, write_gemma

spm = pytest.importorskip("sentencepiece")

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")
USER_DEFINED = ("<mask>", "<start_of_turn>", "<end_of_turn>", "\n\n")
TEXT = [
    r"A photo of a red fox\n in the snow, 35 mm film.  Two  spaces, 1234567 and 3.5%",
    r"The quick brown fox jumps over the lazy dog; it's \xe9\u4e2d\u6587 \U0001f98a \\",
    " leading and trailing spaces, a fox and a dog in front of the house ",
]
PROMPTS = [
    "", " ", "a fox", " a fox ", "  two  spaces  ", "\n", "a\nb\n\nc\n", "\ttab\t", "it's 3.5% of 1234567",
    "é", "中文, кириллица, العربية", "🦊👩‍👩‍👧", "back\\slash \\n \\x41", "<bos>", "<bos><bos> twice",
    "a <eos> b", "<pad>", "x<unk>y", "<start_of_turn>user\na fox<end_of_turn>\n", "<mask>", "< bos>", "<bos",
    "<start_of_turn", "▁a▁▁b", "'\"",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer_model() -> bytes:
    """A small sentencepiece model with the flags of Gemma's."""
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20), model_writer=written, model_type="bpe", vocab_size=420,
        hard_vocab_limit=False, normalization_rule_name="identity", add_dummy_prefix=False,
        byte_fallback=True, remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, minloglevel=2, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        user_defined_symbols=list(USER_DEFINED),
    )  # fmt: skip
    return written.getvalue()


@pytest.fixture(scope="module")
def vocab(tokenizer_model) -> dict[str, int]:
    processor = spm.SentencePieceProcessor(model_proto=tokenizer_model)
    return {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}


@pytest.fixture(scope="module")
def tokenizer_json(vocab) -> bytes:
    """The same tokenizer in the form that Gemma publishes, with a post-processor that adds <bos>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    merges = []
    for piece in vocab:  # in the order of their scores
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        splits = [(left, right) for left, right in splits if left in vocab and right in vocab]
        merges += sorted(splits, key=lambda split: (vocab[split[0]], vocab[split[1]]))
    bpe = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    spaces, pieces = decoders.Replace("▁", " "), decoders.ByteFallback()
    tokenizer.decoder = decoders.Sequence([spaces, pieces, decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in USER_DEFINED])
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def transformers_tokenizer(tokenizer_json, tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    tokens = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GemmaTokenizer", **tokens}))
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["tokenizer.json", "tokenizer.model"])
def tokenizer(request, vocab) -> TiMTokenizer:
    content = request.getfixturevalue(request.param.replace(".", "_"))
    return TiMTokenizer(request.param, content, vocab_size=len(vocab))


def random_texts(count: int) -> list[str]:
    rng = random.Random(0)
    parts = [*"abcdefghijklmnopqrstuvwxyz  \n\t0123456789.,\\<>é中🦊", " the", "fox", *CONTROL, *USER_DEFINED]
    return ["".join(rng.choices(parts, k=rng.randrange(40))) for _ in range(count)]


@pytest.mark.parametrize(
    ("caption", "escaped"),
    [
        ("a fox, 100%", "a fox, 100%"),
        ("", ""),
        ("two\nlines\tand\r", r"two\nlines\tand\r"),
        ("café", r"caf\xe9"),
        ("中", r"\u4e2d"),
        ("🦊", r"\U0001f98a"),
        ("a\\b", r"a\\b"),
        ("'\"", "'\""),
        ("\x00\x7f", r"\x00\x7f"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escape(caption, escaped):
    assert escape_caption(caption) == escaped


def test_ids_are_those_of_transformers(tokenizer, transformers_tokenizer):
    for text in PROMPTS + random_texts(500):
        expected = transformers_tokenizer(text)["input_ids"]
        assert [2, *tokenizer.vocabulary.encode(text)] == expected, repr(text)


def test_caption_is_escaped_and_cut_as_transformers_cuts(tokenizer, transformers_tokenizer):
    for caption in [*PROMPTS, *random_texts(100), "a fox, " * 200, "🦊" * 200]:
        settings = {"truncation": True, "max_length": 256}
        expected = transformers_tokenizer(escape_caption(caption), **settings)["input_ids"]
        assert tokenizer.tokenize(caption) == expected, repr(caption)


def test_decode_reads_the_ids_back(tokenizer):
    for text in ("a fox", " two  spaces ", "it's 3.5%", "é 中文 🦊"):
        assert tokenizer.decode([2, *tokenizer.vocabulary.encode(text)]) == text


def test_empty_caption_is_bos_alone(tokenizer):
    assert tokenizer.tokenize("") == [2]


def test_warns_how_many_tokens_are_dropped(tokenizer, caplog):
    assert len(tokenizer.vocabulary.encode("<mask>")) == 1
    with caplog.at_level(logging.WARNING):
        assert len(tokenizer.tokenize("<mask>" * (MAX_TOKENS - 1))) == MAX_TOKENS
        assert caplog.records == []
        ids = tokenizer.tokenize("<mask>" * (MAX_TOKENS + 6))
    assert len(ids) == MAX_TOKENS
    assert ids[0] == 2
    assert "of 263 tokens cut to 256, the last 7 were dropped" in caplog.text


def test_settings_saved_in_the_file_do_not_matter(tokenizer_json, vocab):
    content = json.loads(tokenizer_json)
    content["truncation"] = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    plain = TiMTokenizer("tokenizer.json", tokenizer_json, vocab_size=len(vocab))
    odd = TiMTokenizer("tokenizer.json", json.dumps(content).encode(), vocab_size=len(vocab))
    for prompt in ("", "a fox in the snow"):
        assert odd.tokenize(prompt) == plain.tokenize(prompt)


def test_token_beyond_the_embedding_is_refused(tokenizer_json, vocab):
    """As <image_soft_token>, which Gemma-3's tokenizer knows and the embedding of the 1B model does not."""
    content = json.loads(tokenizer_json)
    image = {"id": len(vocab), "content": "<image_soft_token>", "special": True, "normalized": False}
    content["added_tokens"].append(image | {"single_word": False, "lstrip": False, "rstrip": False})
    tokenizer = TiMTokenizer("tokenizer.json", json.dumps(content).encode(), vocab_size=len(vocab))
    with pytest.raises(ValueError, match=f"^caption '<image_soft_token>': token {len(vocab)} is beyond"):
        tokenizer.tokenize("<image_soft_token>")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"", "tokenizer.json is damaged"),
        ("tokenizer.json", b'{"version": "1.0"}', "tokenizer.json is damaged"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer.json is damaged"),
        ("tokenizer.model", b"", "tokenizer.model "),
        ("tokenizer.model", b"no sentencepiece", "tokenizer.model is damaged"),
    ],
)
def test_damaged_file_is_refused_in_one_line(name, content, message):
    with pytest.raises(CheckpointError, match=f"^{message}") as refusal:
        TiMTokenizer(name, content)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bos_token_id": 1}, "<bos> as 2, expected 1"),
        ({"pad_token_id": 3}, "<pad> as 0, expected 3"),
        ({"vocab_size": 262144}, "tokens, expected 262144"),
        ({"vocab_size": 100}, "tokens, expected 100"),
    ],
)
def test_tokenizer_of_another_encoder_is_refused(tokenizer, vocab, settings, message):
    with pytest.raises(CheckpointError, match=f"^{tokenizer.name} .*{message}; take"):
        TiMTokenizer(tokenizer.name, tokenizer.content, **{"vocab_size": len(vocab), **settings})


def test_says_when_sentencepiece_is_not_installed(tokenizer_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(CheckpointError, match="needs the package sentencepiece.*tokenizer.json"):
        TiMTokenizer("tokenizer.model", tokenizer_model)


def test_encoder_with_tokenizer_model_alone(tokenizer_model, vocab, tmp_path):
    weights = {**published_weights(), "model.embed_tokens.weight": torch.rand(len(vocab), 64)}
    folder = write_gemma(tmp_path / "gemma", weights, {**CONFIG, "vocab_size": len(vocab)})
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    pack_text_encoder(folder, tmp_path / "gemma.safetensors")
    expected = TiMTokenizer("tokenizer.model", tokenizer_model, vocab_size=len(vocab)).tokenize("a red fox")
    for path in (folder, tmp_path / "gemma.safetensors"):
        encoder = load_text_encoder(path)
        assert encoder.tokenizer.tokenize("a red fox") == expected
        assert encoder.encode(["a red fox"])[0].shape == (len(expected), 64)

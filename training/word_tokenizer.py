"""Captions to ids of words, for an encoder that knows the captions of one data set alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import pad

from tim_model.tokenizer import TiMTokenizer, escape_caption

from .buckets import held_out
from .layouts import read_layout

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")  # as Gemma has them
PAD, EOS, BOS, UNK = range(len(CONTROL))
WORD = r"\w+(?:-\w+)*"  # t-shirt is one word; punctuation marks are none
ESCAPED = r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"  # what `escape_caption` makes of all but ASCII
WEIGHT = r":\s*[-+]?\d*\.?\d+(?=\s*[)\]}>])"  # of "(green bag:1.3)"


def read_captions(folder: Path) -> list[str]:
    """All captions of a folder in any layout that has captions; no picture is opened.

    Raises:
        ValueError: no such folder, or one without captions.
    """
    captions = [caption for entry in read_layout(folder).entries for caption in entry.captions]
    if not captions:
        raise ValueError(f"data.path={folder}: has no captions, expected a metadata.jsonl with file_name and text")
    return captions


def make_tokenizer(captions: Iterable[str]) -> TiMTokenizer:
    """The tokenizer of the words in captions, without punctuation and weights; other words are left out of prompts."""
    content = tokenizer_json(escape_caption(caption) for caption in captions)
    vocabulary = json.loads(content)["model"]["vocab"]
    return TiMTokenizer("tokenizer.json", content, BOS, PAD, len(vocabulary))


def tokenizer_json(captions: Iterable[str]) -> bytes:
    """The tokenizer.json of all words in escaped captions, in lower case and sorted behind `CONTROL`."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    spaces = [normalizers.Replace(Regex(pattern), " ") for pattern in (ESCAPED, WEIGHT, "_")]
    tokenizer.normalizer = normalizers.Sequence([*spaces, normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    normalized = map(tokenizer.normalizer.normalize_str, captions)
    words = {word for text in normalized for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    vocabulary = {token: i for i, token in enumerate((*CONTROL, *sorted(words)))}
    tokenizer.model = models.WordLevel(vocabulary, unk_token="<unk>")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    return tokenizer.to_str(pretty=True).encode()


def split_captions(
    tokenizer: TiMTokenizer, captions: Sequence[str], wanted: int, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids, <eos> last, of captions to train on, as often as they occur, and of `wanted` others that are held out.

    Raises:
        ValueError: too few different captions.
    """
    different = sorted(set(captions))
    if len(different) <= wanted:
        raise ValueError(f"data.held_out={wanted}: expected fewer than the {len(different)} different captions")
    held = [different[i] for i in held_out(different, wanted, seed)]
    ids = {caption: [*tokenizer.tokenize(caption), EOS] for caption in different}
    trained = ids.keys() - set(held)
    return [ids[caption] for caption in captions if caption in trained], [ids[caption] for caption in held]


def with_strays(row: Sequence[int], chance: float, vocab_size: int, random: Random) -> list[int]:
    """The ids with a random word, which may be <unk>, put before some of them, but not before <bos>."""
    result = [row[0]]
    for token in row[1:]:
        if random.random() < chance:
            result.append(random.randrange(UNK, vocab_size))
        result.append(token)
    return result


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one tensor (B,L)."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows])


def last_words(ids: Tensor, count: int) -> Tensor:
    """Each word and those before it as (B,L,count), its own last; <pad> where there is none."""
    words = ids.where(ids > BOS, PAD)  # <unk> counts as a word, <bos> and <eos> do not
    windows = pad(words, (count - 1, 0)).unfold(1, count, 1)
    return windows.where(words[..., None] != PAD, PAD)

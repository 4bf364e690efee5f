"""Tokenizes captions into words, for an encoder of one dataset's captions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import pad

from tim_model.files.errors import one_line
from tim_model.text.tokenizer import TiMTokenizer, escape_caption

from ..data.buckets import held_out
from ..data.layouts.find_layout import read_layout

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")  # as in Gemma
PAD, EOS, BOS, UNK = range(len(CONTROL))
WORD = r"\w+(?:-\w+)*"  # t-shirt is one word; punctuation marks are not words
ESCAPED = r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"  # how `escape_caption` writes non-ASCII characters
WEIGHT = r":\s*[-+]?\d*\.?\d+(?=\s*[)\]}>])"  # of "(green bag:1.3)"

Replaced = Sequence[tuple[str, str]]  # words of prompts and their replacements


def read_captions(folder: Path) -> list[str]:
    """All captions of a folder in any layout with captions; images are not opened.

    Raises:
        ValueError: no such folder, or one without captions.
    """
    captions = [caption for entry in read_layout(folder).entries for caption in entry.captions]
    if not captions:
        raise ValueError(f"data.path={folder}: has no captions, expected a metadata.jsonl with file_name and text")
    return captions


def make_tokenizer(captions: Iterable[str], replaced: Replaced = ()) -> TiMTokenizer:
    """The tokenizer of the words in captions, without punctuation and weights; other words are removed from prompts.

    Args:
        replaced: see `tokenizer_json`.
    """
    content = tokenizer_json((escape_caption(caption) for caption in captions), replaced)
    vocabulary = json.loads(content)["model"]["vocab"]
    return TiMTokenizer("tokenizer.json", content, BOS, PAD, len(vocabulary))


def read_replaced(path: str) -> Replaced:
    """The pairs of a JSON file; none for "".

    Raises:
        ValueError: no such file, or anything but a list of pairs of texts.
    """
    if not path:
        return ()
    try:
        pairs = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"data.replaced={path}: {one_line(error)}, expected a JSON file") from None
    lists = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not lists or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise ValueError(f'data.replaced={path}: expected a list of pairs, such as [["bunny", "rabbit"], ["an", ""]]')
    return [(text, by) for text, by in pairs]


def tokenizer_json(captions: Iterable[str], replaced: Replaced = ()) -> bytes:
    """The tokenizer.json of all words in escaped captions, in lower case and sorted behind `CONTROL`.

    Args:
        replaced: words in lower case, or several separated by blanks, and their replacements, applied in this order.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    spaces = [normalizers.Replace(Regex(pattern), " ") for pattern in (ESCAPED, WEIGHT, "_")]
    words = [normalizers.Replace(Regex(whole_words(text)), by) for text, by in replaced]
    tokenizer.normalizer = normalizers.Sequence([*spaces, normalizers.Lowercase(), *words])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    normalized = map(tokenizer.normalizer.normalize_str, captions)
    known = {word for text in normalized for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    vocabulary = {token: i for i, token in enumerate((*CONTROL, *sorted(known)))}
    tokenizer.model = models.WordLevel(vocabulary, unk_token="<unk>")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    return tokenizer.to_str(pretty=True).encode()


def whole_words(text: str) -> str:
    """A pattern of the words of a text, with any white space between them, but not inside longer words."""
    words = r"\s+".join(map(re.escape, text.split()))
    return rf"(?<![\w-]){words}(?![\w-])"


def split_captions(
    tokenizer: TiMTokenizer, captions: Sequence[str], wanted: int, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids, <eos> last, of training captions, as often as they occur, and of `wanted` held-out captions.

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
    """The ids with random words, possibly <unk>, inserted before some of them, but not before <bos>."""
    result = [row[0]]
    for token in row[1:]:
        if random.random() < chance:
            result.append(random.randrange(UNK, vocab_size))
        result.append(token)
    return result


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one padded tensor (B,L)."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows])


def last_words(ids: Tensor, count: int) -> Tensor:
    """Each word and its predecessors as (B,L,count), the word itself last; <pad> if there are too few."""
    words = ids.where(ids > BOS, PAD)  # <unk> counts as a word, <bos> and <eos> do not
    windows = pad(words, (count - 1, 0)).unfold(1, count, 1)
    return windows.where(words[..., None] != PAD, PAD)

"""Tokenizes captions for Gemma-3 by tokenizer.json or tokenizer.model, as in training."""

from __future__ import annotations

import logging
import re
from difflib import get_close_matches

from ..files.errors import CheckpointError, abbreviated, one_line

MAX_TOKENS = 256  # of a caption, <bos> included
MAX_SHOWN = 150  # words in a notice

logger = logging.getLogger(__name__)


def escape_caption(caption: str) -> str:
    r"""The caption as training saw it: a newline is the characters \n, é is \xe9, backslashes double."""
    return caption.encode("unicode-escape").decode("ascii")


class TiMTokenizer:
    """The tokenizer of a Gemma-3 text encoder.

    Args:
        name: "tokenizer.json" or "tokenizer.model" (sentencepiece), the file that `content` is.
        content: the whole file.
        bos_token_id, pad_token_id, vocab_size: of the encoder's config, which the tokenizer must agree with.

    Raises:
        CheckpointError: an unreadable file, or the tokenizer of another encoder.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        bos_token_id: int = 2,
        pad_token_id: int = 0,
        vocab_size: int = 262_144,
    ):
        self.name = name
        self.content = content
        self.bos_token_id = bos_token_id
        self.vocab_size = vocab_size
        self.vocabulary = VOCABULARIES[name](content)
        self.check({"<bos>": bos_token_id, "<pad>": pad_token_id})

    def check(self, ids: dict[str, int]) -> None:
        """Raise CheckpointError where tokens have other ids, or their number is not the encoder's."""
        fix = "take the tokenizer that came with these weights"
        for token, expected in ids.items():
            if (found := self.vocabulary.id_of(token)) != expected:
                raise CheckpointError(f"{self.name} has {token} as {found}, expected {expected}; {fix}")
        size = self.vocabulary.size
        # published files differ by a few: tokens of images, tables padded to a multiple of 64
        if abs(size - self.vocab_size) >= 64:
            raise CheckpointError(f"{self.name} has {size} tokens, expected {self.vocab_size}; {fix}")

    def length(self, caption: str) -> int:
        """Tokens of a caption, <bos> included, before it is cut."""
        return 1 + len(self.vocabulary.encode(escape_caption(caption)))

    def tokenize(self, caption: str) -> list[int]:
        """Ids of the escaped caption, <bos> first, at most `MAX_TOKENS`; more are cut with a warning.

        Words that a vocabulary of whole words lacks are left out, see `unknown_words`.

        Raises:
            ValueError: a literal token such as <image_soft_token> that the encoder has no embedding for.
        """
        ids = [self.bos_token_id, *self.vocabulary.encode(escape_caption(caption))]
        if max(ids) >= self.vocab_size:
            raise ValueError(
                f"caption {caption[:60]!r}: token {max(ids)} is beyond the encoder's {self.vocab_size}, "
                "expected no special token of another model in it"
            )
        if len(ids) > MAX_TOKENS:
            logger.warning(
                "caption of %d tokens cut to %d, the last %d were dropped: %r",
                len(ids), MAX_TOKENS, len(ids) - MAX_TOKENS, caption[:60],
            )  # fmt: skip
        return ids[:MAX_TOKENS]

    def unknown_words(self, caption: str) -> list[str]:
        """The words of a caption that are left out because the encoder does not know them, each once.

        Only a small encoder with a vocabulary of whole words has some: Gemma's own writes any text in pieces.
        """
        return list(dict.fromkeys(self.vocabulary.unknown_words(caption)))

    def unknown_notice(self, caption: str) -> str:
        """A line for the user on `unknown_words`, "" if there are none."""
        unknown = self.unknown_words(caption)
        if not unknown:
            return ""
        known = sorted(self.vocabulary.words())
        near = dict.fromkeys(close for word in unknown for close in get_close_matches(word, known, 1))
        hint = f"did you mean {', '.join(near)}? " if near else ""
        return (
            f"this demo does not know: {', '.join(unknown)} (left out); {hint}"
            f"it knows {len(known)} words: {abbreviated(known, MAX_SHOWN)}"
        )

    def decode(self, ids: list[int]) -> str:
        """The escaped caption that ids stand for, without control tokens such as <bos>."""
        return self.vocabulary.decode(ids)


class JsonVocabulary:
    """The tokenizer in a tokenizer.json."""

    def __init__(self, content: bytes):
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # noqa: BLE001, tokenizers raises nothing narrower
            raise CheckpointError(f"tokenizer.json is damaged ({one_line(error)}); download it again") from None
        self.tokenizer.no_truncation()  # a file saved after training may carry both
        self.tokenizer.no_padding()
        self.size = self.tokenizer.get_vocab_size()
        whole_words = type(self.tokenizer.model).__name__ == "WordLevel"
        self.left_out = self.tokenizer.token_to_id(self.tokenizer.model.unk_token) if whole_words else None

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: the file's own post-processor, which may add <bos>, stays out of it."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids if self.left_out is None else [i for i in ids if i != self.left_out]

    def unknown_words(self, text: str) -> list[str]:
        if self.left_out is None:
            return []
        normalized = self.tokenizer.normalizer.normalize_str(text) if self.tokenizer.normalizer else text
        words = [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]
        return [word for word in words if self.tokenizer.token_to_id(word) is None]

    def words(self) -> list[str]:
        special = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        return [word for word in self.tokenizer.get_vocab() if word not in special]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


class SentencePieceVocabulary:
    """The tokenizer in a tokenizer.model.

    Sentencepiece never reads control pieces such as <bos> from text, but tokenizer.json does. Splitting the
    text at those pieces first makes both give the same ids.
    """

    def __init__(self, content: bytes):
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise CheckpointError(
                "tokenizer.model needs the package sentencepiece; install it, or put tokenizer.json beside it"
            ) from None
        try:
            self.processor = SentencePieceProcessor()
            self.processor.LoadFromSerializedProto(content)
        except RuntimeError as error:
            raise CheckpointError(f"tokenizer.model is damaged ({one_line(error)}); download it again") from None
        self.size = self.processor.get_piece_size()
        self.special = {self.processor.id_to_piece(i): i for i in range(self.size) if self.is_special(i)}
        self.splitter = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")

    def is_special(self, i: int) -> bool:
        return self.processor.is_control(i) or self.processor.is_unknown(i)

    def id_of(self, token: str) -> int | None:
        return self.special.get(token)

    def encode(self, text: str) -> list[int]:
        ids = []
        for part in self.splitter.split(text):
            ids += [self.special[part]] if part in self.special else self.processor.encode(part)
        return ids

    def unknown_words(self, text: str) -> list[str]:
        return []

    def words(self) -> list[str]:
        return []

    def decode(self, ids: list[int]) -> str:
        return self.processor.decode(ids)


# the first is preferred where both are there
VOCABULARIES = {"tokenizer.json": JsonVocabulary, "tokenizer.model": SentencePieceVocabulary}

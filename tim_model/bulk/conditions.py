"""Conditions of batches: each text is encoded once, and batches hold texts of one length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..sampling.sampler import Condition
from ..text.encoder import TextEncoder, pad_features
from ..text.tokenizer import MAX_TOKENS


class TextConditions:
    """Conditions of prompts, which as prompts alone are padded to their own length, whatever the others are.

    Features stay for the next batch, no longer: those of all prompts may not fit into memory.

    Args:
        encoder: gives the text encoder.
        negative: the negative prompt; None where nothing is guided.
    """

    def __init__(self, encoder: Callable[[], TextEncoder], negative: str | None):
        self.encoder = encoder
        self.negative = negative
        self.features: dict[str, Tensor] = {}
        self.pad_feature: Tensor | None = None

    def length(self, text: str) -> int:
        """Tokens that a prompt is padded to: its own, or those of a longer negative prompt."""
        texts = [text] if self.negative is None else [text, self.negative]
        return min(MAX_TOKENS, max(self.encoder().tokenizer.length(text) for text in texts))

    def of(self, texts: Sequence[str], device: object) -> Condition:
        """The condition of a batch of prompts of one length."""
        wanted = dict.fromkeys([*texts, *([] if self.negative is None else [self.negative])])
        new = [text for text in wanted if text not in self.features]
        if new:
            encoder = self.encoder()
            self.features |= zip(new, encoder.encode(new), strict=True)
            self.pad_feature = encoder.pad_feature
        self.features = {text: self.features[text] for text in wanted}
        padded = pad_features(list(self.features.values()), self.pad_feature).to(device)
        rows = {text: k for k, text in enumerate(self.features)}
        context = padded[[rows[text] for text in texts]]
        return Condition(context, None if self.negative is None else padded[rows[self.negative]].expand_as(context))

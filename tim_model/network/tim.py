"""The TiM network F(x_t, t, r, context), text- and class-conditioned (arXiv 2509.04394, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import Attention, attention
from .compiled import compiled_trunk
from .layers import (
    Block,
    FinalLayer,
    KeysValues,
    LabelEmbedder,
    PatchEmbedder,
    TextEmbedder,
    TimeEmbedder,
    layer_norm,
    sinusoid,
)
from .params import TiMParams
from .rope import UNSCALED, RopeScaling, RopeTables


class EncodedText(NamedTuple):
    """What a text network makes of its context alone; no state, time or size changes it."""

    tokens: Tensor  # (B,L,D), normalized
    keys_values: tuple[KeysValues, ...]  # of every block


class TiM(nn.Module):
    """Predicts the transition from time t to any earlier time r; parameter names are those of the released files.

    Args:
        params: the architecture.
        operations: where layers with weights come from, anything with torch.nn's Linear, Conv2d, LayerNorm, Embedding.
        **factory: `dtype` and `device` of the weights.
    """

    def __init__(self, params: TiMParams, operations: ModuleType = nn, **factory):
        super().__init__()
        self.params = p = params
        d = p.hidden_size
        self.x_embedder = PatchEmbedder(p.in_channels, p.patch_size, d, operations, **factory)
        self.t_embedder = TimeEmbedder(d, operations, **factory)
        self.delta_embedder = TimeEmbedder(d, operations, **factory)
        if p.num_classes is None:
            self.y_embedder = TextEmbedder(p.context_dim, d, operations, **factory)
        else:
            self.y_embedder = LabelEmbedder(p.num_classes, d, operations, **factory)
        cross = p.num_classes is None
        self.blocks = nn.ModuleList(
            Block(d, p.num_heads, p.mlp_hidden, p.adaln_hidden, cross, operations, **factory) for _ in range(p.depth)
        )
        if p.z_dim is not None:
            self.projector = build_projector(d, p.projector_dim, p.z_dim, operations, **factory)
        self.final_layer = FinalLayer(d, p.patch_size**2 * p.in_channels, operations, **factory)
        self.rope_tables = RopeTables(p.head_dim)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        r: Tensor,
        context: Tensor | EncodedText,
        return_projection: bool = False,
        attention: Attention = attention,
        rope_scaling: RopeScaling = UNSCALED,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The transition F of states x (B,C,H,W) at times t to times r, r <= t, both (B,), or (1,) for all samples.

        Args:
            context: text features (B,L,context_dim), or what `encode_text` has made of them, or integer labels (B,)
                in which num_classes means "no class". Values of labels are not looked at, since that would wait for
                the device: `check_label_values` does it once where they come from.
            return_projection: also return the REPA features (B, N, z_dim) of the N tokens.
            attention: any function with the shapes of `tim_model.network.attention.Attention`.
            rope_scaling: how rotations adapt to images beyond the trained size.

        Returns:
            F like x, computed in the dtype of the weights. One step is x - (t - r) F for the transport ot_fm.

        Raises:
            ValueError: shapes or the kind of context do not fit this network.
        """
        self.check_inputs(x, t, r, context)
        dtype = self.x_embedder.proj.weight.dtype
        inner = x.to(dtype, memory_format=torch.channels_last)  # so that tokens come out contiguous
        F, h = self.predict(inner, t, r, context, attention, rope_scaling=rope_scaling)
        F = F.to(x.dtype, memory_format=torch.contiguous_format)
        if not return_projection:
            return F
        if self.params.z_dim is None:
            raise ValueError("return_projection=True: this network has no REPA head (z_dim is None)")
        return F, self.projector(h)

    def encode_text(self, context: Tensor) -> EncodedText:
        """What `forward` makes of text features (B,L,context_dim), all in their dtype, for many calls with the same."""
        tokens = layer_norm(self.y_embedder(context))  # the same for every block
        pairs = (block.cross_attn.keys_values(tokens) for block in self.blocks)
        return EncodedText(tokens, tuple((k, v.clone()) for k, v in pairs))  # v alone, without what k was made of

    def predict(
        self, x: Tensor, t: Tensor, r: Tensor, context: Tensor | EncodedText, attention: Attention,
        blocks: Iterable[Callable[..., Tensor]] | None = None, rope_scaling: RopeScaling = UNSCALED,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`forward` without checks or casts of x: all in its dtype. Returns F and the tokens for the REPA head.

        `blocks` run in place of the network's own, each with the arguments of `Block.forward`.
        """
        h, w = (size // self.params.patch_size for size in x.shape[-2:])
        rope = self.rope_tables(h, w, x.device, rope_scaling, x.dtype)
        patches, encoded = self.trunk(self.x_embedder(x), t, r, context, rope, attention, blocks)
        return self.unpatchify(patches, h, w), encoded

    def trunk(
        self, tokens: Tensor, t: Tensor, r: Tensor, context: Tensor | EncodedText, rope: Tensor, attention: Attention,
        blocks: Iterable[Callable[..., Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """From embedded tokens (B,N,D) to patches (B,N,p*p*C) and the tokens for the REPA head: what is compiled."""
        features_t, features_delta = sinusoid(torch.stack([t, t - r]))[:, :, None].to(tokens.dtype).unbind()
        delta = self.delta_embedder(features_delta)
        c = self.t_embedder(features_t) + delta
        if self.params.num_classes is not None:
            c, contexts = c + self.y_embedder(context).to(c.dtype), [None] * len(self.blocks)
        elif isinstance(context, EncodedText):
            contexts = context.keys_values
        else:
            contexts = [layer_norm(self.y_embedder(context.to(tokens.dtype)))] * len(self.blocks)
        for i, (block, own) in enumerate(zip(blocks or self.blocks, contexts, strict=True), start=1):
            tokens = block(tokens, c, delta, own, rope, attention)
            if i == self.params.encoder_depth:
                encoded = tokens
        return self.final_layer(tokens, c), encoded

    def compile(self, backend: str | Callable = "inductor") -> None:
        """Compile the network in place, for all sizes, times, prompts and scalings of RoPE alike; names stay.

        What depends on the size alone, RoPE, is computed outside; see `compiled_trunk` for the graphs inside.
        """
        self.trunk = compiled_trunk(self.trunk, backend)

    def unpatchify(self, patches: Tensor, h: int, w: int) -> Tensor:
        """Patches (B, h*w, p*p*C) of row-major tokens -> (B, C, h*p, w*p)."""
        p = self.params.patch_size
        return patches.unflatten(-1, (p, p, -1)).unflatten(1, (h, w)).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    def check_inputs(self, x: Tensor, t: Tensor, r: Tensor, context: Tensor | EncodedText) -> None:
        """Raise ValueError, in one line, for inputs that this network cannot take."""
        p = self.params
        if x.ndim != 4 or x.shape[1] != p.in_channels or x.shape[2] % p.patch_size or x.shape[3] % p.patch_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}: expected (batch, {p.in_channels}, H, W) with H and W "
                f"multiples of the patch size {p.patch_size}"
            )
        if t.shape != r.shape or t.shape not in (x.shape[:1], (1,)):
            raise ValueError(
                f"t and r have shapes {tuple(t.shape)} and {tuple(r.shape)}: expected one time per sample, ({len(x)},)"
            )
        if p.num_classes is not None:
            check_labels(context, len(x))
        elif isinstance(context, EncodedText):
            check_encoded(context, len(x), p)
        else:
            check_text(context, len(x), p.context_dim)

    def init_weights(self) -> TiM:
        """Fresh weights as in the released training: the untrained network predicts F = 0. Returns itself."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        narrow = [self.t_embedder] + ([self.y_embedder.mlp] if self.params.num_classes is None else [])
        for module in (m for part in narrow for m in part.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(module.weight, std=0.02)
        if self.params.num_classes is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        modulations = [part.adaLN_modulation.fc2 for part in (*self.blocks, self.final_layer)]
        for module in (*modulations, self.final_layer.linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        return self


def build_projector(hidden_size: int, projector_dim: int, z_dim: int, operations: ModuleType, **factory) -> nn.Module:
    """The REPA head: tokens (B,N,D) -> features (B,N,z_dim)."""
    return nn.Sequential(
        operations.Linear(hidden_size, projector_dim, **factory),
        nn.SiLU(),
        operations.Linear(projector_dim, projector_dim, **factory),
        nn.SiLU(),
        operations.Linear(projector_dim, z_dim, **factory),
    )


def check_text(context: Tensor, batch: int, context_dim: int) -> None:
    """Raise ValueError unless context is text features (batch, L, context_dim)."""
    if context.ndim != 3 or not context.is_floating_point() or context.shape[::2] != (batch, context_dim):
        raise ValueError(
            f"context has shape {tuple(context.shape)} and dtype {context.dtype}: this network expects text features "
            f"({batch}, length, {context_dim}) from its text encoder"
        )


def check_encoded(text: EncodedText, batch: int, params: TiMParams) -> None:
    """Raise ValueError unless the text is of that batch and was encoded by a network of these sizes."""
    if text.tokens.shape[::2] != (batch, params.hidden_size) or len(text.keys_values) != params.depth:
        raise ValueError(
            f"context is encoded text {tuple(text.tokens.shape)} of {len(text.keys_values)} blocks: expected "
            f"({batch}, length, {params.hidden_size}) of {params.depth}, from encode_text of this network"
        )


def check_labels(labels: Tensor, batch: int) -> None:
    """Raise ValueError unless labels are integers (batch,)."""
    is_tensor = isinstance(labels, Tensor)
    if not is_tensor or labels.shape != (batch,) or labels.is_floating_point():
        found = f"shape {tuple(labels.shape)} and dtype {labels.dtype}" if is_tensor else "been encoded as text"
        raise ValueError(f"context has {found}: this network expects integer class labels ({batch},)")


def check_label_values(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless labels are in 0 .. num_classes. It waits for the device: once for each run, or where
    labels are read, never in a step."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= num_classes:
        raise ValueError(
            f"class labels {labels.tolist()}: expected 0 to {num_classes - 1}, or {num_classes} for no class"
        )

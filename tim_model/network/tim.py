"""The TiM network F(x_t, t, r, context), text- and class-conditioned (arXiv 2509.04394, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType

from einops import rearrange
from torch import Tensor, nn

from .attention import Attention, attention
from .layers import Block, FinalLayer, LabelEmbedder, PatchEmbedder, TextEmbedder, TimeEmbedder, layer_norm
from .params import TiMParams
from .rope import UNSCALED, RopeScaling, rope_table


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

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        r: Tensor,
        context: Tensor,
        return_projection: bool = False,
        attention: Attention = attention,
        rope_scaling: RopeScaling = UNSCALED,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The transition F of states x (B,C,H,W) at times t to times r, both (B,), r <= t.

        Args:
            context: text features (B,L,context_dim), or integer labels (B,) in which num_classes means "no class".
            return_projection: also return the REPA features (B, N, z_dim) of the N tokens.
            attention: any function with the shapes of `tim_model.network.attention.Attention`.
            rope_scaling: how rotations adapt to images beyond the trained size.

        Returns:
            F like x, computed in the dtype of the weights. One step is x - (t - r) F for the transport ot_fm.

        Raises:
            ValueError: shapes, labels or the kind of context do not fit this network.
        """
        self.check_inputs(x, t, r, context)
        dtype = self.x_embedder.proj.weight.dtype
        context = context if self.params.num_classes is not None else context.to(dtype)
        F, h = self.predict(x.to(dtype), t, r, context, attention, rope_scaling=rope_scaling)
        if not return_projection:
            return F.to(x.dtype)
        if self.params.z_dim is None:
            raise ValueError("return_projection=True: this network has no REPA head (z_dim is None)")
        return F.to(x.dtype), self.projector(h)

    def predict(
        self, x: Tensor, t: Tensor, r: Tensor, context: Tensor, attention: Attention,
        blocks: Iterable[Callable[..., Tensor]] | None = None, rope_scaling: RopeScaling = UNSCALED,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`forward` without checks or casts: all in the dtype of x. Returns F and the tokens for the REPA head.

        `blocks` run in place of the network's own, each with the arguments of `Block.forward`.
        """
        h, w = (size // self.params.patch_size for size in x.shape[-2:])
        rope = rope_table(h, w, self.params.head_dim, x.device, rope_scaling)
        delta = self.delta_embedder(t - r, x.dtype)
        c = self.t_embedder(t, x.dtype) + delta
        if self.params.num_classes is None:
            context = layer_norm(self.y_embedder(context))  # the same for every block
        else:
            c, context = c + self.y_embedder(context).to(c.dtype), None
        tokens = self.x_embedder(x)
        for i, block in enumerate(blocks or self.blocks, start=1):
            tokens = block(tokens, c, delta, context, rope, attention)
            if i == self.params.encoder_depth:
                encoded = tokens
        patches = self.final_layer(tokens, c)
        p = self.params.patch_size
        return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=p, q=p), encoded

    def check_inputs(self, x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> None:
        """Raise ValueError, in one line, for inputs that this network cannot take."""
        p = self.params
        if x.ndim != 4 or x.shape[1] != p.in_channels or x.shape[2] % p.patch_size or x.shape[3] % p.patch_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}: expected (batch, {p.in_channels}, H, W) with H and W "
                f"multiples of the patch size {p.patch_size}"
            )
        if t.shape != x.shape[:1] or r.shape != x.shape[:1]:
            raise ValueError(
                f"t and r have shapes {tuple(t.shape)} and {tuple(r.shape)}: expected one time per sample, ({len(x)},)"
            )
        if p.num_classes is None:
            check_text(context, len(x), p.context_dim)
        else:
            check_labels(context, len(x), p.num_classes)

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


def check_labels(labels: Tensor, batch: int, num_classes: int) -> None:
    """Raise ValueError unless labels are integers (batch,) in 0 .. num_classes."""
    if labels.shape != (batch,) or labels.is_floating_point():
        raise ValueError(
            f"context has shape {tuple(labels.shape)} and dtype {labels.dtype}: this network expects integer class "
            f"labels ({batch},)"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= num_classes:
        raise ValueError(
            f"class labels {labels.tolist()}: expected 0 to {num_classes - 1}, or {num_classes} for no class"
        )

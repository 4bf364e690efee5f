"""The architecture of a TiM network as one small record, and the published ones by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial


@dataclass(frozen=True)
class TiMParams:
    """Everything that names and shapes of a checkpoint say about a network, plus `encoder_depth`, which they don't.

    Exactly one of `context_dim` (text features) and `num_classes` (labels) is set. `z_dim` and `projector_dim`
    describe the REPA head that only training uses; None means that the network has none.

    Raises:
        ValueError: the values contradict each other or no rotary embedding fits the head.
    """

    in_channels: int
    patch_size: int
    hidden_size: int
    depth: int
    num_heads: int
    mlp_hidden: int  # SwiGLU width of a block, 2/3 * 4 * hidden_size in the released networks
    adaln_hidden: int  # SwiGLU width of a block's modulation
    context_dim: int | None = None  # width of the text features
    num_classes: int | None = None  # labels 0 .. num_classes - 1; num_classes itself means "no class"
    z_dim: int | None = None  # features of the REPA image encoder
    projector_dim: int | None = None
    encoder_depth: int | None = None  # blocks in front of the REPA head

    def __post_init__(self):
        for name, value in self.to_dict().items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value}: expected a whole number from 1")
        if (self.context_dim is None) == (self.num_classes is None):
            raise ValueError(
                f"context_dim={self.context_dim} and num_classes={self.num_classes}: set exactly one, "
                "context_dim for text features or num_classes for labels"
            )
        if self.hidden_size % self.num_heads or self.head_dim % 4:
            raise ValueError(
                f"hidden_size={self.hidden_size} over num_heads={self.num_heads}: expected a whole head size that is "
                "a multiple of 4, two rotary axes of pairs"
            )
        if self.encoder_depth is None:
            object.__setattr__(self, "encoder_depth", default_encoder_depth(self.depth))
        if not 0 < self.encoder_depth <= self.depth:
            raise ValueError(f"encoder_depth={self.encoder_depth}: expected 1 to depth={self.depth}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    def without_projector(self) -> TiMParams:
        """The same network for inference, without the REPA head."""
        return replace(self, z_dim=None, projector_dim=None, encoder_depth=None)

    def to_dict(self) -> dict[str, int]:
        """The fields that are set, for the metadata of a file."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def default_encoder_depth(depth: int) -> int:
    """Blocks in front of the REPA head when nothing says: 8 of 28 and 4 of 12 as published, else a third."""
    return 8 if depth == 28 else max(1, depth // 3)


_REPA = {"z_dim": 768, "projector_dim": 2048}
_xl = partial(TiMParams, hidden_size=1152, depth=28, num_heads=16, mlp_hidden=3072, adaln_hidden=384, **_REPA)
_b = partial(TiMParams, hidden_size=768, depth=12, num_heads=12, mlp_hidden=2048, adaln_hidden=256, **_REPA)

OFFICIAL: dict[str, TiMParams] = {
    "tim-t2i-xl-p1": _xl(in_channels=32, patch_size=1, context_dim=1152),
    "tim-c2i-xl-p2-256": _xl(in_channels=4, patch_size=2, num_classes=1000),
    "tim-c2i-xl-p1-512": _xl(in_channels=32, patch_size=1, num_classes=1000),
    "tim-c2i-b-p4-256": _b(in_channels=4, patch_size=4, num_classes=1000),
}


def layout_name(params: TiMParams) -> str:
    """The published layout that `params` describes, REPA head aside, or "custom"."""
    bare = params.without_projector()
    return next((name for name, official in OFFICIAL.items() if official.without_projector() == bare), "custom")

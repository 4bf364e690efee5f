"""Describes a graph node by node, as the API format does, and lays it out in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOTE = "MarkdownNote"  # of the browser, unknown to the host
TITLE = 30  # units above a node's position
GAP = 14  # units between the nodes of a column, and twice that between columns
PREVIEW = 230  # units that a sampler needs for the preview of what it draws
FRAME = 100  # units of a node with an image, besides the image
MISSING_FILE = 24  # units of the line in a loader about a file that is missing
# Units below the title that a node needs in Nodes 2.0, which needs more than the classic rendering does.
HEIGHTS = {
    "CLIPTextEncode": 104,
    "ImageScaleBy": 92,
    "LatentFromBatch": 92,
    "MaskComposite": 140,
    "PrimitiveInt": 90,
    "SetLatentNoiseMask": 56,
    "SolidMask": 120,
    "TiMClassConditioning": 116,
    "TiMEmptyLatent": 144,
    "TiMHighResSampler": 596 + PREVIEW,
    "TiMModelLoader": 116,
    "TiMNativeResolution": 310,
    "TiMNumberedGrid": 60,
    "TiMSampler": 392 + PREVIEW,
    "TiMStepSweep": 370 + PREVIEW,
    "TiMTextEncoderLoader": 88,
    "TiMVAELoader": 88,
    "VAEDecode": 56,
    "VAEEncode": 56,
    "VAELoader": 88,
}


@dataclass(frozen=True)
class Node:
    """A node at its place; `node[0]` is its first output, as other nodes' inputs take it.

    Attributes:
        inputs: values of its widgets and outputs of other nodes; widgets that are not named keep their default.
        models: files that it needs and that are to be downloaded, each with name, url and directory.
    """

    id: int
    kind: str
    inputs: dict[str, Any]
    position: tuple[int, int]
    size: tuple[int, int]
    title: str | None = None
    models: tuple[dict[str, str], ...] = ()

    def __getitem__(self, slot: int) -> Output:
        return Output(self.id, slot)

    @property
    def bottom(self) -> int:
        return self.position[1] + self.size[1]

    @property
    def right(self) -> int:
        return self.position[0] + self.size[0]


@dataclass(frozen=True)
class Output:
    """An output of a node."""

    node: int
    slot: int


class Graph:
    """Nodes in columns of these widths: `add` puts one at the end of `column`."""

    def __init__(self, *widths: int):
        self.nodes: list[Node] = []
        self.column = 0
        self._lefts = [sum(widths[:k]) + 2 * GAP * k for k in range(len(widths))]
        self._widths = widths

    def add(self, kind: str, units: int = 0, title: str | None = None, models=(), **inputs: Any) -> Node:
        """A node of HEIGHTS[kind] or `units` below its title, and some more with files to download."""
        size = self._widths[self.column], (units or HEIGHTS[kind]) + (MISSING_FILE if models else 0)
        position = self._lefts[self.column], self._top(self._lefts[self.column], size[0])
        return self._put(Node(len(self.nodes) + 1, kind, inputs, position, size, title, tuple(models)))

    def image(self, kind: str, title: str | None = None, aspect: float = 1.0, **inputs: Any) -> Node:
        """A node that shows an image of this height to width, as wide as the column."""
        return self.add(kind, round(self._widths[self.column] * aspect) + FRAME, title, **inputs)

    def note(self, units: int, *lines: str, columns: tuple[int, int]) -> Node:
        """A note of these lines below all that these columns have, from the first to the last."""
        left = self._lefts[columns[0]]
        width = self._lefts[columns[1]] + self._widths[columns[1]] - left
        text = {"text": "\n\n".join(lines)}
        return self._put(Node(len(self.nodes) + 1, NOTE, text, (left, self._top(left, width)), (width, units), "About"))

    def _top(self, left: int, width: int) -> int:
        """Where a node can begin below all others between these sides."""
        above = [node for node in self.nodes if node.position[0] < left + width and left < node.right]
        return max((node.bottom + TITLE + GAP for node in above), default=0)

    def _put(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

"""Areas of conditions in cells of the model."""

from __future__ import annotations

from .keys import IN_CELLS

STOCK_RATIO = 8  # pixels a unit of Conditioning (Set Area), whatever the model


def areas_in_cells(conditions: dict[str, list[dict]], ratio: int, height: int, width: int) -> None:
    """Turn the pixel areas of a run's conditions into areas in cells, in place and once.

    Areas in percent are left to the host, which measures them by the latent.

    Args:
        ratio: pixels of a cell and side.
        height, width: of the latent, in cells.

    Raises:
        ValueError: an area that begins outside of the image.
    """
    for condition in (c for group in conditions.values() for c in group if len(c.get("area") or ()) in (4, 5)):
        area = condition["area"]
        if area[0] == "percentage":
            top, left = round(area[3] * height), round(area[4] * width)
        else:
            if IN_CELLS not in condition:
                area = condition["area"] = to_cells(area, ratio)
                condition[IN_CELLS] = True
            top, left = area[2:]
        if top >= height or left >= width:
            raise ValueError(
                f"a conditioning area begins at x={left * ratio}, y={top * ratio}, outside of the image of "
                f"{width * ratio}x{height * ratio} pixels: move it inside"
            )


def to_cells(area: tuple[int, int, int, int], ratio: int) -> tuple[int, int, int, int]:
    """(height, width, y, x) in cells from units of 8 pixels; edges that touch stay together, no side is empty."""
    height, width, y, x = area

    def cell(units: int) -> int:
        return round(units * STOCK_RATIO / ratio)

    top, left = cell(y), cell(x)
    return max(1, cell(y + height) - top), max(1, cell(x + width) - left), top, left

"""TiM Numbered Grid: the images of a batch in one, each with its number."""

from __future__ import annotations

import math

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..tim_model.images import grid, to_pictures
from .aliases import search_aliases

READABLE = 128  # pixels: smaller images are enlarged, so that their numbers can be read
LINE = 6  # a number takes 1/LINE of the height of its image


def numbered(picture: Image.Image, number: int) -> Image.Image:
    """The image below its number."""
    line = picture.height // LINE
    sheet = Image.new("RGB", (picture.width, line + picture.height), "white")
    font = ImageFont.load_default(0.8 * line)
    ImageDraw.Draw(sheet).text((line // 4, line // 2), str(number), "black", font, anchor="lm")
    sheet.paste(picture, (0, line))
    return sheet


def numbered_grid(images: Tensor) -> Tensor:
    """IMAGE (B,H,W,C) -> (1,H',W',3): as many columns as rows or one more, numbers from 0 from left to right."""
    factor = math.ceil(READABLE / min(images.shape[1:3]))
    enlarged = images[..., :3].repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    cells = [numbered(picture, i) for i, picture in enumerate(to_pictures(enlarged.movedim(-1, 1) * 2 - 1))]
    columns = math.ceil(math.sqrt(len(cells)))
    sheet = grid([cells[i : i + columns] for i in range(0, len(cells), columns)])
    return torch.from_numpy(np.array(sheet)).to(images)[None] / 255


class TiMNumberedGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMNumberedGrid",
            display_name="TiM Numbered Grid",
            category="TiM",
            **search_aliases("transition model", "contact sheet", "drafts", "label images"),
            description="All images of a batch in one, each below its number, which Latent From Batch takes.",
            inputs=[io.Image.Input("images", tooltip="A batch of images, such as drafts in one step.")],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="One image; numbers from 0, rows from left to right.")
            ],
        )

    @classmethod
    def execute(cls, images) -> io.NodeOutput:
        return io.NodeOutput(numbered_grid(images))

"""TiM Numbered Grid: each image of a batch below its number, from 0, in rows."""

from __future__ import annotations

import numpy as np

from tests.host.graphs import PIXELS, class_model, node, tim_sampler

SIDE, LINE, GAP = 128, 21, 4  # pixels of an enlarged 32x32 image, of the line with its number, between cells


def test_images_are_in_rows_below_their_numbers(host):
    graph = {**class_model(batch=5), "vae": PIXELS, "sample": tim_sampler(steps=1)}
    graph["images"] = node("VAEDecode", samples=["sample", 0], vae=["vae", 0])
    graph["grid"] = node("TiMNumberedGrid", images=["images", 0])
    graph |= {f"saved {name}": node("SaveImage", images=[name, 0], filename_prefix=name) for name in ("images", "grid")}
    outputs = host.run(graph)
    images, (sheet,) = (host.images({"saved": outputs[f"saved {name}"]}) for name in ("images", "grid"))
    assert sheet.size == (3 * SIDE + 2 * GAP, 2 * (LINE + SIDE) + GAP)
    lines = []
    for i, image in enumerate(images):
        x, y = i % 3 * (SIDE + GAP), i // 3 * (LINE + SIDE + GAP)
        cell = sheet.crop((x, y + LINE, x + SIDE, y + LINE + SIDE))
        enlarged = np.array(image.convert("RGB")).repeat(4, 0).repeat(4, 1)
        # the host cuts where it saves, the grid rounds
        assert np.abs(np.array(cell, dtype=int) - enlarged).max() <= 1
        lines.append(sheet.crop((x, y, x + SIDE, y + LINE)).tobytes())
    assert len(set(lines)) == len(images)
    vacant = sheet.crop((2 * (SIDE + GAP), LINE + SIDE + GAP, *sheet.size))
    assert vacant.getcolors() == [(SIDE * (LINE + SIDE), (255, 255, 255))]

"""Templates that change an image, which they draw themselves, on the models that ship with this pack."""

from __future__ import annotations

from devtools.templates.demo import PAPER, SIDE, decode, empty, enlarge, loaders, negative, prompt, sampler
from devtools.templates.graph import Graph

START = "a trouser to the left of a coat"
FIRST = {"title": "TiM Sampler: start image", "seed": 8, "steps": 8}


def image_to_image() -> Graph:
    graph = Graph(300, 290, 290, 340, 340)
    model, text_encoder, vae = loaders(graph)
    start_prompt = prompt(graph, text_encoder, START, "Prompt of the start image")
    positive = prompt(graph, text_encoder, "a dress to the left of a t-shirt")
    none = negative(graph, text_encoder)
    graph.column = 1
    first = sampler(graph, model, start_prompt, none, empty(graph, model), **FIRST)
    graph.column = 2
    start = decode(graph, first, vae, "Start image")
    encoded = graph.add("VAEEncode", pixels=start[0], vae=vae[0])
    drawn = sampler(graph, model, positive, none, encoded, seed=0, steps=8, denoise=0.6)
    graph.column = 3
    graph.image("PreviewImage", "Before", images=enlarge(graph, start)[0])
    graph.column = 4
    image = enlarge(graph, decode(graph, drawn, vae))
    graph.image("SaveImage", "After", images=image[0], filename_prefix="tim-image-to-image")
    graph.note(
        140,
        "**Run** draws a start image, then changes it to the prompt. **denoise** is how much is new: 0.3 keeps shapes "
        "and colors, 1 keeps nothing.",
        "For an image of your own, connect *Load Image* to *VAE Encode* in place of *Start image*.",
        f"How noise leads back to any time, and on from there: {PAPER}.",
        columns=(3, 4),
    )
    return graph


def inpainting() -> Graph:
    graph = Graph(300, 290, 290, 270, 270)
    model, text_encoder, vae = loaders(graph)
    start_prompt = prompt(graph, text_encoder, START, "Prompt of the start image")
    positive = prompt(graph, text_encoder, "a sneaker to the left of a coat")
    none = negative(graph, text_encoder)
    graph.column = 1
    start = sampler(graph, model, start_prompt, none, empty(graph, model), **FIRST)
    graph.column = 3
    keep = graph.add("SolidMask", title="Black: kept", value=0.0, width=SIDE, height=SIDE)
    before = enlarge(graph, decode(graph, start, vae, "Start image"))
    graph.image("PreviewImage", "Before", images=before[0])
    graph.column = 4
    new = graph.add("SolidMask", title="White: replaced", value=1.0, width=SIDE // 2, height=SIDE)
    graph.column = 2
    mask = graph.add("MaskComposite", destination=keep[0], source=new[0], x=0, y=0, operation="add")
    masked = graph.add("SetLatentNoiseMask", samples=start[0], mask=mask[0])
    drawn = sampler(graph, model, positive, none, masked, seed=0, steps=8, denoise=0.9)
    graph.column = 4
    after = enlarge(graph, decode(graph, drawn, vae))
    graph.image("SaveImage", "After", images=after[0], filename_prefix="tim-inpainting")
    graph.note(
        100,
        "**Run** draws a start image and replaces its left half, white in the mask.",
        "Your own: *Load Image* and its mask, through *VAE Encode* and *Set Latent Noise Mask*.",
        f"What the model does in a step: {PAPER}.",
        columns=(3, 4),
    )
    return graph

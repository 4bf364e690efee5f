"""The template of the official text model."""

from __future__ import annotations

from devtools.templates.demo import negative, prompt
from devtools.templates.downloads import DC_AE, GEMMA, T2I, link
from devtools.templates.graph import Graph


def official_text() -> Graph:
    graph = Graph(350, 350, 340, 560)
    model = graph.add("TiMModelLoader", model_name=T2I["name"], models=[T2I])
    text_encoder = graph.add("TiMTextEncoderLoader", text_encoder_name=GEMMA["name"], models=[GEMMA])
    vae = graph.add("TiMVAELoader", vae_name=DC_AE["name"], models=[DC_AE])
    graph.column = 1
    fox = "A red fox sitting on a mossy rock in a misty forest, soft morning light, photograph"
    positive = prompt(graph, text_encoder, fox)
    none = negative(graph, text_encoder)
    size = graph.add("TiMNativeResolution", model=model[0], aspect="1:1", megapixels=1.0)
    graph.note(
        190,
        f"Files: {link(T2I)} into diffusion_models; {link(GEMMA)} into text_encoders, with config.json and "
        f"tokenizer.json beside it, after you accepted its license there; {link(DC_AE)} with config.json into vae.",
        "**megapixels** 1 is 1024×1024. For 4, which is 2048×2048, and 16, 4096×4096, set **strategy** to progressive: "
        "it draws small, enlarges, and draws details.",
        "The same file draws in any number of **steps**; cfg 2.5 is as published.",
        columns=(0, 1),
    )
    graph.column = 2
    drawn = graph.add(
        "TiMHighResSampler", model=model[0], positive=positive[0], negative=none[0], width=size[0], height=size[1],
        vae=vae[0], seed=0, steps=8, strategy="native", renoise=0.5, large_steps=2,
    )  # fmt: skip
    graph.column = 3
    graph.image("SaveImage", images=drawn[1], filename_prefix="tim-official")
    return graph

"""Templates that draw from text as they are, on the models that ship with this pack."""

from __future__ import annotations

from devtools.templates.graph import Graph, Node
from training.evaluation.bundled import BUNDLED

SIDE = 64  # pixels of the text demo's images
ENLARGE = 8.0  # makes them 512
SUBJECT = "clothes"
PAPER = "[Transition Models](https://arxiv.org/abs/2509.04394)"
OFFICIAL = "[official model](https://huggingface.co/GoodEnough/TiM-T2I)"
NUMBERED = 1.16  # height to width of a square number of square images with their numbers


def loaders(graph: Graph) -> tuple[Node, Node, Node]:
    """Model, text encoder and VAE of the text demo."""
    model = graph.add("TiMModelLoader", model_name=BUNDLED["model"].name)
    text_encoder = graph.add("TiMTextEncoderLoader", text_encoder_name=BUNDLED["text_encoder"].name)
    return model, text_encoder, graph.add("TiMVAELoader", vae_name=BUNDLED["vae"].name)


def prompt(graph: Graph, text_encoder: Node, text: str, title: str = "Prompt") -> Node:
    return graph.add("CLIPTextEncode", title=title, text=text, clip=text_encoder[0])


def negative(graph: Graph, text_encoder: Node) -> Node:
    return prompt(graph, text_encoder, "", "Negative prompt (empty)")


def empty(graph: Graph, model: Node, batch_size: int = 1) -> Node:
    return graph.add("TiMEmptyLatent", model=model[0], width=SIDE, height=SIDE, batch_size=batch_size)


def sampler(graph: Graph, model: Node, positive: Node, negative: Node, latent: Node, **settings) -> Node:
    inputs = {"model": model[0], "positive": positive[0], "negative": negative[0], "latent_image": latent[0]}
    return graph.add("TiMSampler", **inputs, **settings)


def decode(graph: Graph, latent: Node, vae: Node, title: str | None = None) -> Node:
    return graph.add("VAEDecode", title=title, samples=latent[0], vae=vae[0])


def enlarge(graph: Graph, image: Node) -> Node:
    return graph.add("ImageScaleBy", title="Enlarge", image=image[0], upscale_method="nearest-exact", scale_by=ENLARGE)


def text_to_image() -> Graph:
    graph = Graph(340, 340, 320, 520)
    model, text_encoder, vae = loaders(graph)
    graph.column = 1
    positive = prompt(graph, text_encoder, "a green bag and a white dress")
    none = negative(graph, text_encoder)
    latent = empty(graph, model)
    graph.note(
        150,
        "**Run** draws the prompt in 8 steps. The same weights draw it in any number: try **steps** 1, 4 or 32.",
        "*Run (On Change)*, in the menu beside *Run*, draws again whenever you change a word or a number.",
        f"The demo model that ships with this pack draws {SUBJECT}; the {OFFICIAL} draws photographs, in template 7.",
        columns=(0, 1),
    )
    graph.column = 2
    drawn = sampler(graph, model, positive, none, latent, seed=0, steps=8)
    graph.column = 3
    image = enlarge(graph, decode(graph, drawn, vae))
    graph.image("SaveImage", images=image[0], filename_prefix="tim-text-to-image")
    return graph


def step_sweep() -> Graph:
    graph = Graph(340, 340, 320, 620)
    model, text_encoder, vae = loaders(graph)
    graph.column = 1
    positive = prompt(graph, text_encoder, "a blue dress and a yellow boot")
    none = negative(graph, text_encoder)
    latent = empty(graph, model, batch_size=4)
    graph.note(
        150,
        "**Run** draws four images in 1, 2, 4 and 16 steps each, from the same noise and by the same weights.",
        "A row is one image, a column one number of steps. **steps** takes any list of up to 16 numbers.",
        f"Why one model can do this: {PAPER}.",
        columns=(0, 1),
    )
    graph.column = 2
    sweep = graph.add(
        "TiMStepSweep", model=model[0], positive=positive[0], negative=none[0], vae=vae[0], latent_image=latent[0],
        seed=0, steps="1, 2, 4, 16",
    )  # fmt: skip
    graph.column = 3
    graph.image("SaveImage", "Grid", 1.12, images=sweep[1], filename_prefix="tim-step-sweep")
    return graph


def drafts_and_refine() -> Graph:
    graph = Graph(320, 290, 290, 350, 350)
    model, text_encoder, vae = loaders(graph)
    positive = prompt(graph, text_encoder, "a picture of three boots")
    none = negative(graph, text_encoder)
    latent = empty(graph, model, batch_size=16)
    graph.column = 1
    seed = graph.add("PrimitiveInt", title="Seed", value=0)
    drafts = sampler(graph, model, positive, none, latent, seed=seed[0], steps=1, title="TiM Sampler: drafts")
    graph.column = 2
    chosen = graph.add("LatentFromBatch", title="Chosen draft", samples=latent[0], batch_index=0, length=1)
    refined = sampler(graph, model, positive, none, chosen, seed=seed[0], steps=32, title="TiM Sampler: the chosen one")
    graph.column = 3
    numbered = graph.add("TiMNumberedGrid", images=decode(graph, drafts, vae)[0])
    graph.image("SaveImage", "Drafts", NUMBERED, images=numbered[0], filename_prefix="tim-drafts")
    graph.column = 4
    image = enlarge(graph, decode(graph, refined, vae))
    graph.image("SaveImage", "The chosen one", images=image[0], filename_prefix="tim-refined")
    graph.note(
        120,
        "**Run** draws 16 drafts in one step each, then the chosen one in 32 steps from the same noise.",
        "Write the number of the draft that you like into **batch_index** and run again: only that one is drawn.",
        f"Drafts and finished images come from one model: {PAPER}.",
        columns=(3, 4),
    )
    return graph

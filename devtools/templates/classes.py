"""Templates of class models: the one that ships with this pack, and the official ones."""

from __future__ import annotations

from devtools.templates.demo import NUMBERED, decode
from devtools.templates.downloads import C2I_256, C2I_512, DC_AE, SD_VAE, link
from devtools.templates.graph import Graph, Node

FASHION_MNIST = "[Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist)"
# Of the released code, for both sizes but cfg and the time above which steps are not guided.
PUBLISHED = {"seed": 0, "steps": 250, "stochasticity": 0.2}
RETRIEVER = "207"  # of ImageNet's classes


def class_sampler(graph: Graph, model: Node, label: Node, latent: Node, **settings) -> Node:
    drawn = {"positive": label[0], "negative": label[1], "latent_image": latent[0], "model": model[0]}
    return graph.add("TiMSampler", **drawn, **settings)


def classes() -> Graph:
    graph = Graph(340, 340, 320, 480)
    model = graph.add("TiMModelLoader", model_name="tim-fashion-mnist-c2i.safetensors")
    vae = graph.add("VAELoader", vae_name="pixel_space")
    graph.column = 1
    label = graph.add("TiMClassConditioning", model=model[0], label="sneaker")
    latent = graph.add("TiMEmptyLatent", model=model[0], width=32, height=32, batch_size=16)
    graph.note(
        150,
        "**Run** draws sixteen sneakers in 8 steps. Set **steps** to 1 or 32: the same sixteen come back.",
        "**label**: t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot, or its number.",
        f"The model ships with this pack, draws 32×32 pixels and was trained on {FASHION_MNIST}.",
        columns=(0, 1),
    )
    graph.column = 2
    drawn = class_sampler(graph, model, label, latent, seed=0, steps=8)
    graph.column = 3
    numbered = graph.add("TiMNumberedGrid", images=decode(graph, drawn, vae)[0])
    graph.image("SaveImage", aspect=NUMBERED, images=numbered[0], filename_prefix="tim-fashion-mnist")
    return graph


def official_classes() -> Graph:
    graph = Graph(290, 270, 280, 280, 240, 240)
    small = graph.add("TiMModelLoader", model_name=C2I_256["name"], models=[C2I_256])
    small_vae = graph.add("VAELoader", vae_name=SD_VAE["name"], models=[SD_VAE])
    large = graph.add("TiMModelLoader", model_name=C2I_512["name"], models=[C2I_512])
    large_vae = graph.add("TiMVAELoader", vae_name=DC_AE["name"], models=[DC_AE])
    rows = [
        (small, small_vae, 256, {"cfg": 2.5, "guidance_high": 0.6}),
        (large, large_vae, 512, {"cfg": 3.0, "guidance_high": 0.7}),
    ]
    for k, (model, vae, side, settings) in enumerate(rows):
        graph.column = 1
        label = graph.add("TiMClassConditioning", model=model[0], label=RETRIEVER)
        latent = graph.add("TiMEmptyLatent", model=model[0], width=side, height=side)
        graph.column = 2 + k
        title = f"TiM Sampler: {side}×{side}"
        drawn = class_sampler(graph, model, label, latent, title=title, **settings, **PUBLISHED)
        graph.column = 4 + k
        image = decode(graph, drawn, vae)
        graph.image("SaveImage", f"{side}×{side}", images=image[0], filename_prefix=f"tim-imagenet-{side}")
    graph.note(
        150,
        f"Files: {link(C2I_256)} and {link(C2I_512)} into diffusion_models, {link(SD_VAE)} and {link(DC_AE)} into vae.",
        "**label** is a class of ImageNet by its number, from 0 to 999: 207 is a golden retriever.",
        "Steps, cfg, guidance_high and stochasticity are the published ones; one step works, too.",
        columns=(0, 1),
    )
    return graph

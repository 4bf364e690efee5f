"""Templates that put TiM beside accelerated samplers of ordinary flow matching, and beside other models."""

from __future__ import annotations

from devtools.templates.demo import PAPER, empty, loaders, negative, prompt
from devtools.templates.downloads import DC_AE, GEMMA, T2I, link, published
from devtools.templates.graph import PREVIEW, Graph, Node, Output

FOX = "A red fox sitting on a mossy rock in a misty forest, soft morning light, photograph"
SD3_TURBO = published("stabilityai/stable-diffusion-3.5-large-turbo", "sd3.5_large_turbo.safetensors", "checkpoints")
FLUX_SCHNELL = published("Comfy-Org/flux1-schnell", "flux1-schnell-fp8.safetensors", "checkpoints")
CLIP_L = published("comfyanonymous/flux_text_encoders", "clip_l.safetensors", "text_encoders")
T5 = published("comfyanonymous/flux_text_encoders", "t5xxl_fp8_e4m3fn.safetensors", "text_encoders")
CLIP_G = published("Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_g.safetensors", "text_encoders")
CLIP_G |= {"name": "clip_g.safetensors"}
# Units of nodes that no other template has, as in `graph.HEIGHTS`.
SWEEP = 400 + PREVIEW
STRING, CHECKPOINT, ENCODERS, SIZE = 90, 140, 212, 140
AB2, A_FLOPS, SADA, TRANSITIONS, JOIN, ZERO_OUT = 56, 90, 140, 164, 236, 56
Texts = tuple[Output, Output]  # positive and negative


def sweep(graph: Graph, model: Output, texts: Texts, vae: Output, latent: Node, **settings) -> Node:
    """TiM Model Step Sweep under the name of its row; with a schedule, TiM Step Sweep."""
    kind = "TiMStepSweep" if "schedule" in settings else "TiMModelStepSweep"
    positive, none = texts
    return graph.add(
        kind, SWEEP, settings["name"], model=model, positive=positive, negative=none, vae=vae, latent_image=latent[0],
        **settings,
    )  # fmt: skip


def join(graph: Graph, rows: list[Node]) -> Node:
    return graph.add("TiMJoinGrids", JOIN, **{f"grid_{k}": row[1] for k, row in enumerate(rows, 1)})


def beside_samplers() -> Graph:
    graph = Graph(205, 225, 225, 225, 225, 225, 240)
    model, text_encoder, vae = loaders(graph)
    positive = prompt(graph, text_encoder, "a green bag and a white dress")
    texts = positive[0], negative(graph, text_encoder)[0]
    seed = graph.add("PrimitiveInt", title="Seed", value=0)
    graph.column = 3
    steps = graph.add("PrimitiveString", STRING, "Steps", value="1, 2, 4, 8, 16")
    shared = {"seed": seed[0], "steps": steps[0], "cfg": 1.0}
    graph.column = 1
    latent = empty(graph, model)
    rows = [sweep(graph, model[0], texts, vae[0], latent, schedule="uniform", name="TiM's transitions", **shared)]
    samplers = {
        "Euler": ("TiMTransitionSampler", TRANSITIONS, {"velocity": True}),
        "AB2": ("TiMSamplerAB2", AB2, {}),
        "A-FloPS": ("TiMSamplerAFloPS", A_FLOPS, {}),
        "SADA": ("TiMSamplerSADA", SADA, {"rule": "alternate"}),
    }
    for name, (kind, units, settings) in samplers.items():
        graph.column += 1
        sampler, title = graph.add(kind, units, **settings), f"{name} on velocities"
        rows.append(sweep(graph, model[0], texts, vae[0], latent, sampler=sampler[0], name=title, **shared))
    graph.column += 1
    joined = join(graph, rows)
    graph.note(
        170,
        "**Run** draws one image by TiM's transitions, and by four solvers of the same network's velocities.",
        f"Compare equal calls: SADA spares some. Why transitions need few: {PAPER}.",
        columns=(graph.column, graph.column),
    )
    graph.add("SaveImage", 420, "Rows", images=joined[0], filename_prefix="tim-beside-samplers")
    return graph


def peers(graph: Graph) -> tuple[Node, Node, Node]:
    """The checkpoint of SD3.5, its text encoders, and the checkpoint of FLUX.1, which has its own."""

    def checkpoint(title: str, file: dict[str, str]) -> Node:
        return graph.add("CheckpointLoaderSimple", CHECKPOINT, title, [file], ckpt_name=file["name"])

    turbo = checkpoint("SD3.5 Large Turbo", SD3_TURBO)
    files = [CLIP_L, CLIP_G, T5]
    chosen = {f"clip_name{k}": file["name"] for k, file in enumerate(files, 1)}
    encoders = graph.add("TripleCLIPLoader", ENCODERS, "Text encoders of SD3.5", files, **chosen)
    return turbo, encoders, checkpoint("FLUX.1 schnell", FLUX_SCHNELL)


def encoded(graph: Graph, clip: Output, text: Node, title: str) -> Texts:
    """The prompt, and zeros in place of a negative one."""
    positive = graph.add("CLIPTextEncode", title=title, text=text[0], clip=clip)
    return positive[0], graph.add("ConditioningZeroOut", ZERO_OUT, f"None for {title}", conditioning=positive[0])[0]


def beside_models() -> Graph:
    graph = Graph(215, 215, 225, 225, 225, 225, 240)
    model = graph.add("TiMModelLoader", model_name=T2I["name"], models=[T2I])
    text_encoder = graph.add("TiMTextEncoderLoader", text_encoder_name=GEMMA["name"], models=[GEMMA])
    vae = graph.add("TiMVAELoader", vae_name=DC_AE["name"], models=[DC_AE])
    latent = graph.add("EmptySD3LatentImage", SIZE, "Size of all", width=1024, height=1024)
    seed = graph.add("PrimitiveInt", title="Seed", value=0)
    steps = graph.add("PrimitiveString", STRING, "Steps", value="1, 2, 4, 8, 16, 32")
    shared = {"seed": seed[0], "steps": steps[0]}
    graph.column = 1
    text = graph.add("PrimitiveStringMultiline", 140, "Prompt", value=FOX)
    turbo, encoders, schnell = peers(graph)
    graph.column = 2
    positive = graph.add("CLIPTextEncode", title="TiM", text=text[0], clip=text_encoder[0])
    texts = positive[0], negative(graph, text_encoder)[0]
    turbo_texts = encoded(graph, encoders[0], text, "SD3.5")
    schnell_texts = encoded(graph, schnell[1], text, "FLUX.1")
    graph.column = 3
    rows = [sweep(graph, model[0], texts, vae[0], latent, schedule="uniform", name="TiM", **shared)]
    graph.column = 4
    rows.append(sweep(graph, turbo[0], turbo_texts, turbo[2], latent, name="SD3.5 Large Turbo", **shared))
    graph.column = 5
    rows.append(sweep(graph, schnell[0], schnell_texts, schnell[2], latent, name="FLUX.1 schnell", **shared))
    graph.column = 6
    joined = join(graph, rows)
    graph.add("SaveImage", 560, "Rows", images=joined[0], filename_prefix="tim-beside-models")
    graph.note(
        190,
        f"Missing files are listed with their links; {link(GEMMA)} and {link(SD3_TURBO)} want their licenses accepted "
        f"first, and {link(T2I)} is downloaded by hand, into diffusion_models.",
        "Compare equal calls. SD3.5 Turbo (8 billion parameters) and FLUX.1 schnell (12) are distilled for about 4 "
        "steps, with guidance built in, so their cfg is 1; TiM (0.9) takes any number of steps.",
        "One seed is not one noise in different latents, and each model spreads its steps by its own shift.",
        columns=(3, 5),
    )
    return graph

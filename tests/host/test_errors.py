"""What cannot work is told in one line: by the node that fails, or before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from devtools.client import Client, PromptFailed, PromptRejected
from tests.host.graphs import (
    MODEL_FILE,
    Graph,
    class_model,
    guider,
    ksampler,
    load_latent,
    loader,
    node,
    schedule,
    tim_sampler,
)
from tim_model import TiM, TiMParams, save_checkpoint

TEXT = TiMParams(
    in_channels=4, patch_size=1, hidden_size=64, depth=2, num_heads=2, mlp_hidden=64, adaln_hidden=16, context_dim=48
)  # fmt: skip


@pytest.fixture(scope="module")
def diffusion_models(host) -> Path:
    return host.base / "models" / "diffusion_models"


@pytest.fixture(scope="module")
def text_model(diffusion_models) -> str:
    """A small text model with fresh weights."""
    save_checkpoint(TiM(TEXT).init_weights(), diffusion_models / "text.safetensors")
    return "text.safetensors"


@pytest.fixture(scope="module")
def foreign_model(diffusion_models) -> str:
    """A file that the host takes for a Wan model: loaders do not mind missing weights."""
    shapes = {"head.modulation": (1, 2, 128), "head.head.weight": (64, 128), "blocks.0.ffn.0.weight": (128, 128)}
    shapes["patch_embedding.weight"] = (128, 16, 1, 2, 2)
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, diffusion_models / "wan.safetensors")
    return "wan.safetensors"


def failure(host: Client, graph: Graph, output: str = "sample") -> PromptFailed:
    """How a graph fails whose node `output` makes a latent. Its message must be one line."""
    with pytest.raises(PromptFailed) as caught:
        host.run({**graph, "saved": node("SaveLatent", samples=[output, 0], filename_prefix="failure")})
    message = caught.value.exception_message
    assert message and "\n" not in message and len(message) < 400
    return caught.value


def refuses(host: Client, graph: Graph, node_type: str, *words: str, output: str = "sample") -> None:
    """The node fails with a ValueError of its own making that has all the words."""
    error = failure(host, graph, output)
    assert error.node_type == node_type
    assert error.details["exception_type"].rpartition(".")[2] in ("ValueError", "CheckpointError")
    assert [word for word in words if word not in error.exception_message] == []


SAMPLERS = {"KSampler": ksampler, "TiMSampler": tim_sampler}


@pytest.mark.parametrize("node_type", SAMPLERS)
def test_class_conditioning_on_a_text_model(host, text_model, node_type):
    graph = {**class_model(), "text": loader(text_model)}
    graph["latent"] = node("TiMEmptyLatent", model=["text", 0], width=64, height=64, batch_size=1)
    graph["sample"] = SAMPLERS[node_type](model=["text", 0])
    refuses(host, graph, node_type, "knows text, not classes", "CLIP Text Encode in place of TiM Class")


@pytest.mark.parametrize("node_type", SAMPLERS)
def test_wrong_channels(host, node_type):
    latent = load_latent(host.base, "four_channels", torch.ones(1, 4, 8, 8))
    graph = {**class_model(), "latent": latent, "sample": SAMPLERS[node_type]()}
    refuses(host, graph, node_type, "4 channels", "expects 3", "TiM Empty Latent")


@pytest.mark.parametrize("node_type", SAMPLERS)
def test_latent_not_divisible(host, node_type):
    latent = load_latent(host.base, "odd_size", torch.ones(1, 3, 30, 32))
    graph = {**class_model(), "latent": latent, "sample": SAMPLERS[node_type]()}
    refuses(host, graph, node_type, "32x30", "multiples of 4")


def test_empty_latent_not_divisible(host):
    refuses(host, class_model(width=34), "TiMEmptyLatent", "34x32", "multiples of 4", "32x32", output="latent")


@pytest.mark.parametrize("label", ["10", "-1", "sandals", "", "2.5"])
def test_unknown_class(host, label):
    graph = {**class_model(label=label), "sample": tim_sampler()}
    refuses(host, graph, "TiMClassConditioning", repr(label), "0 to 9", "ankle boot")


@pytest.mark.parametrize(
    "times", ["1, 0.5, 0.5, 0", "0, 0.5, 1", "1.2, 0", "1, -0.5", "1", "", "1; half; 0", "1, nan, 0"]
)
def test_bad_list_of_times(host, times):
    graph = {**class_model(), "sigmas": schedule(schedule="custom", times=times)}
    refuses(host, {**graph, "sample": tim_sampler(sigmas=["sigmas", 0])}, "TiMTransitionSchedule", "times")


@pytest.mark.parametrize("ends", [{"start": 0.4, "end": 0.4}, {"start": 0.2, "end": 0.6}])
def test_schedule_that_does_not_fall(host, ends):
    graph = {**class_model(), "sigmas": schedule(**ends), "sample": tim_sampler(sigmas=["sigmas", 0])}
    refuses(host, graph, "TiMTransitionSchedule", f"start={ends['start']:g} and end={ends['end']:g}")


FOREIGN_SIGMAS = {  # sigmas of another kind of model; the same backwards
    "14.6": {"sigmas": node("KarrasScheduler", steps=4, sigma_max=14.6, sigma_min=0.03, rho=7.0)},
    "decreasing": {"falling": schedule(), "sigmas": node("FlipSigmas", sigmas=["falling", 0])},
}


@pytest.mark.parametrize("word", FOREIGN_SIGMAS)
def test_foreign_sigmas(host, word):
    graph = {**class_model(), **FOREIGN_SIGMAS[word], "sample": tim_sampler(sigmas=["sigmas", 0])}
    refuses(host, graph, "TiMSampler", "times", word)


def sampled_with_guider(**guidance: object) -> Graph:
    graph = {**class_model(), "guider": guider(**guidance), "noise": node("RandomNoise", noise_seed=0)}
    graph |= {"sigmas": schedule(), "sampler": node("KSamplerSelect", sampler_name="euler")}
    links = {name: [name, 0] for name in ("noise", "guider", "sampler", "sigmas")}
    return {**graph, "sample": node("SamplerCustomAdvanced", latent_image=["latent", 0], **links)}


@pytest.mark.parametrize("low,high", [(0.5, 0.5), (0.8, 0.2)])
def test_empty_guidance_interval(host, low, high):
    guidance = {"guidance_low": low, "guidance_high": high}
    words = f"guidance_low={low:g}", f"guidance_high={high:g}"
    refuses(host, {**class_model(), "sample": tim_sampler(**guidance)}, "TiMSampler", *words)
    refuses(host, sampled_with_guider(**guidance), "TiMGuider", *words)


@pytest.mark.parametrize("node_type", SAMPLERS)
def test_text_features_for_a_class_model(host, node_type):
    sampler = SAMPLERS[node_type](positive=["text", 0], negative=["text", 0])
    graph = {**class_model(), "text": node("LotusConditioning"), "sample": sampler}
    refuses(host, graph, node_type, "classes, not text", "TiM Class")


@pytest.mark.parametrize("node_type", SAMPLERS)
def test_features_of_another_text_encoder(host, text_model, node_type):
    sampler = SAMPLERS[node_type](positive=["text", 0], negative=["text", 0])
    text = {"text": node("LotusConditioning"), "model": loader(text_model)}
    latent = {"latent": load_latent(host.base, "text_model", torch.ones(1, 4, 4, 4))}
    graph = {**text, **latent, "sample": sampler}
    refuses(host, graph, node_type, "1024 features", "expects 48")


def test_class_for_a_text_model(host, text_model):
    graph = {**class_model(label="1", name=text_model), "sample": tim_sampler()}
    refuses(host, graph, "TiMClassConditioning", "text, not classes")


MODEL_TAKERS = {
    "TiMClassConditioning": node("TiMClassConditioning", model=["foreign", 0], label="1"),
    "TiMEmptyLatent": node("TiMEmptyLatent", model=["foreign", 0], width=32, height=32, batch_size=1),
    "TiMGuider": guider(model=["foreign", 0]),
    "TiMSampler": tim_sampler(model=["foreign", 0]),
}


@pytest.mark.parametrize("node_type", MODEL_TAKERS)
def test_model_that_is_no_tim(host, foreign_model, node_type):
    foreign = node("UNETLoader", unet_name=foreign_model, weight_dtype="default")
    names = {"TiMClassConditioning": "class", "TiMEmptyLatent": "latent", "TiMGuider": "guider", "TiMSampler": "sample"}
    graph = {**sampled_with_guider(), "foreign": foreign, names[node_type]: MODEL_TAKERS[node_type]}
    refuses(host, graph, node_type, "WAN21", "Load TiM Model")


def truncated(path: Path) -> None:
    path.write_bytes(MODEL_FILE.read_bytes()[:100_000])


def empty(path: Path) -> None:
    path.touch()


def foreign(path: Path) -> None:
    save_file({"transformer.weight": torch.ones(4, 4)}, path)


def without_block(path: Path) -> None:
    weights: dict[str, Tensor] = TiM(TEXT).init_weights().state_dict()
    save_file({name: value for name, value in weights.items() if not name.startswith("blocks.0.mlp")}, path)


BROKEN = {truncated: "download it again", empty: "is empty", foreign: "not a TiM", without_block: "blocks.0.mlp"}


@pytest.mark.parametrize("write", BROKEN)
def test_broken_checkpoint(host, diffusion_models, write):
    name = f"{write.__name__}.safetensors"
    write(diffusion_models / name)
    refuses(host, class_model(name=name), "TiMModelLoader", name, BROKEN[write], output="latent")


BAD_VALUES = {
    "no steps": ("sample", tim_sampler(steps=0), "steps"),
    "cfg below 1": ("sample", tim_sampler(cfg=0.5), "cfg"),
    "too much stochasticity": ("sample", tim_sampler(stochasticity=1.5), "stochasticity"),
    "no latent": ("sample", tim_sampler(latent_image=["model", 0]), "LATENT"),
    "a missing file": ("model", loader("missing.safetensors"), "missing.safetensors"),
    "an unknown schedule": ("sample", tim_sampler(schedule="linear"), "linear"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values_are_told(host, case):
    """Before anything runs; but older hosts leave choices from a list to the node."""
    name, bad, word = BAD_VALUES[case]
    graph = {**class_model(), "sample": tim_sampler(), name: bad}
    with pytest.raises((PromptRejected, PromptFailed)) as caught:
        host.run({**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="rejected")})
    if isinstance(caught.value, PromptRejected):
        (error,) = caught.value.node_errors[name]["errors"]
        message = error["details"]
    else:
        assert caught.value.node_type == bad["class_type"] and case.split()[0] in ("a", "an")
        message = caught.value.exception_message
    assert word in message and "\n" not in message


def test_host_works_after_errors(host):
    graph = {**class_model(), "sample": tim_sampler(seed=5)}
    assert host.run({**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="after")})

"""TiM Model Step Sweep and TiM Join Grids: SD3, FLUX.1 and TiM as KSampler draws them, in one labeled image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.host.flow_graphs import SMALL_SD3, other_families
from tests.host.graphs import (
    CONDITIONED,
    PIXELS,
    SEED,
    Graph,
    assert_close,
    class_model,
    custom_sampling,
    ksampler,
    load_latent,
    node,
    run_floats,
    run_latent,
    shown,
)
from tests.host.test_solvers import CALLS, NODES
from tests.host.test_sweep import CELL, assert_written, refuses, to_array
from tim_model.images import GAP, LABEL_HEIGHT

COUNTS = [1, 2, 9]
TOP = 3 * LABEL_HEIGHT  # title and two lines of labels
CHECKPOINT = node("CheckpointLoaderSimple", ckpt_name=SMALL_SD3)
TEXT = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
DECODED = node("VAEDecode", samples=["sample", 0], vae=["checkpoint", 2])

each_family = pytest.mark.parametrize("family", ["sd3", "flux"])


@pytest.fixture(scope="module")
def families(host) -> dict[str, Graph]:
    """SD3 from a checkpoint and FLUX.1 from its config, and the checkpoint for its VAE."""
    graphs = {name: {**graph, "checkpoint": CHECKPOINT} for name, graph in other_families(host).items()}
    graphs["sd3"]["model"] = CHECKPOINT
    return graphs


def sweep(**changes: Any) -> dict[str, Any]:
    settings = {"seed": SEED, "steps": "1, 2, 9", "sampler_name": "euler", "scheduler": "simple", "cfg": 1.0}
    settings |= {"name": "A model", "vae": ["checkpoint", 2], "latent_image": ["latent", 0]}
    return node("TiMModelStepSweep", **{**TEXT, **settings, **changes})


def images(graph: Graph, **changes: Any) -> Graph:
    return {**graph, "sweep": sweep(**changes)}


def grid_of(host, graph: Graph, name: str = "sweep", output: int = 1) -> np.ndarray:
    saved = node("SaveImage", images=[name, output], filename_prefix="grid")
    (image,) = host.images(host.run({**graph, "saved": saved}))
    return to_array(image)


SETTINGS = {
    "euler": {},
    "guided": {"cfg": 3.5},
    "a sigma less": {"sampler_name": "dpm_2", "scheduler": "sgm_uniform"},
    "noise on the way": {"sampler_name": "euler_ancestral", "scheduler": "normal"},
}


@each_family
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_run_is_that_of_ksampler(host, families, family, settings):
    """Bit for bit and finite, the batch of the first number of steps first."""
    graph = families[family]
    found = run_floats(host, images(graph, **settings), "sweep")
    samplers = [ksampler(steps=n, **{**TEXT, "cfg": 1.0, **settings}) for n in COUNTS]
    alone = [run_floats(host, {**graph, "sample": sampler, "decoded": DECODED}, "decoded") for sampler in samplers]
    assert torch.equal(found, torch.cat(alone))
    assert found.isfinite().all() and not torch.equal(alone[0], alone[2])


def test_on_tim_euler_makes_its_transitions(host):
    graph = {**class_model(batch=2), "vae": PIXELS}
    links = {**CONDITIONED, "vae": ["vae", 0], "cfg": 2.5}
    found = run_floats(host, images(graph, **links), "sweep")
    decoded = node("VAEDecode", samples=["sample", 0], vae=["vae", 0])
    alone = [run_floats(host, {**graph, "sample": ksampler(steps=n), "decoded": decoded}, "decoded") for n in COUNTS]
    assert torch.equal(found, torch.cat(alone))


def test_a_connected_sampler_takes_the_place_of_the_named_one(host, families):
    """Its sigmas are the scheduler's, all of them."""
    graph = families["sd3"]
    simple = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=9, denoise=1.0)
    sampling = custom_sampling(NODES["ab2"], simple, cfg=1.0)
    sampling["sample"]["inputs"] |= TEXT
    expected = run_floats(host, {**graph, **sampling, "decoded": DECODED}, "decoded")
    connected = images(graph, steps="9", sampler=["solver", 0], sampler_name="dpm_2")
    found = run_floats(host, {**connected, "solver": NODES["ab2"]}, "sweep")
    assert torch.equal(found, expected)


# ----------------------------------------------------------------------------------------------- families

CLASSES = {"sd3": ["SD3", "SD3"], "flux": ["Flux", "FluxSchnell"]}
SIGMAS = {  # of the scheduler simple, and of normal for SD3.5's vendor
    "sd3": {1: [1, 0], 2: [1, 0.75, 0], 4: [1, 0.9, 0.75, 0.5, 0]},
    "flux": {1: [1, 0], 2: [1, 0.5, 0], 4: [1, 0.75, 0.5, 0.25, 0], 8: [k / 8 for k in range(8, -1, -1)]},
}
SIGMAS["sd3"][8] = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]
OTHER_SIGMAS = {"sgm_uniform": [1, 0.9004, 0.7511, 0.503, 0], "normal": [1, 0.8577, 0.6022, 0.0089, 0]}


@each_family
def test_stock_loaders_recognize_the_family(host, families, family):
    described = {**families[family], "class": node("TestDescribeModel", model=["model", 0])}
    assert host.run(described)["class"]["text"] == CLASSES[family]


def sigmas(host, graph: Graph, scheduler: str, steps: int) -> list[float]:
    made = node("BasicScheduler", model=["model", 0], scheduler=scheduler, steps=steps, denoise=1.0)
    return host.run({**graph, "sigmas": made, "shown": node("TestShowSigmas", sigmas=["sigmas", 0])})["shown"][
        "numbers"
    ]


@each_family
def test_times_of_the_published_settings(host, families, family):
    for steps, expected in SIGMAS[family].items():
        assert sigmas(host, families[family], "simple", steps) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("scheduler", OTHER_SIGMAS)
def test_times_of_other_schedulers_for_sd3(host, families, scheduler):
    """Normal, which the vendor's script takes, spends its last call next to the image."""
    assert sigmas(host, families["sd3"], scheduler, 4) == pytest.approx(OTHER_SIGMAS[scheduler], abs=5e-4)


@each_family
def test_one_step_is_x_minus_F(host, families, family):
    """F of the bare network at time 1."""
    step = node("TestOneStep", model=["model", 0], positive=["positive", 0], latent=["latent", 0], seed=SEED)
    expected = run_latent(host, {**families[family], "step": step}, "step")
    found = run_latent(host, {**families[family], "sample": ksampler(steps=1, **TEXT, cfg=1.0)})
    assert_close(found, expected)
    decoded = node("VAEDecode", samples=["step", 0], vae=["checkpoint", 2])
    expected = run_floats(host, {**families[family], "step": step, "decoded": decoded}, "decoded")
    assert_close(run_floats(host, images(families[family], steps="1"), "sweep"), expected)


@each_family
@pytest.mark.parametrize("name", NODES)
def test_solvers_at_all_counts(host, families, family, name):
    """Finite, and as many calls as the solver makes in nine steps."""
    graph = {**images(families[family], steps="1, 2, 4, 9", sampler=["solver", 0]), "solver": NODES[name]}
    found = run_floats(host, graph, "sweep")
    assert found.isfinite().all() and len(found) == 8 and found.std() > 0.01
    assert_written(grid_of(host, graph), f"{CALLS[name]} calls,", 2, 3)


# ----------------------------------------------------------------------------------------------- the grid


@each_family
@pytest.mark.parametrize("cfg,calls", [(1.0, [1, 2, 9]), (3.0, [2, 4, 18])])
def test_grid_has_name_steps_and_calls(host, families, family, cfg, calls):
    """Two calls for an image in a guided step, in a batch of two."""
    sheet = grid_of(host, images(families[family], cfg=cfg))
    assert sheet.shape == (TOP + 2 * CELL + GAP, 3 * CELL + 2 * GAP, 3)
    assert_written(sheet, "A model", whole=True)
    for k, (steps, count) in enumerate(zip(["1 step", "2 steps", "9 steps"], calls)):
        assert_written(sheet, steps, 1, k, whole=True)
        assert_written(sheet, f"{count} call{'s' * (count > 1)},", 2, k)


def test_heun_makes_its_calls(host, families):
    sheet = grid_of(host, images(families["sd3"], sampler_name="heun"))
    for k, count in enumerate(["1 call,", "3 calls,", "17 calls,"]):
        assert_written(sheet, count, 2, k)


def test_calls_that_a_cache_spares_are_not_counted(host, families):
    """EasyCache on FLUX.1, whose network the host wraps."""
    settings = {"reuse_threshold": 3.0, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}
    cached = node("EasyCache", model=["model", 0], **settings)
    graph = {**images(families["flux"], steps="9", model=["cached", 0]), "cached": cached}
    sheet = grid_of(host, graph)
    with pytest.raises(AssertionError, match="not written"):
        assert_written(sheet, "9 calls,", 2)
    assert any(is_written(sheet, f"{n} calls,") for n in range(2, 9))


def is_written(sheet: np.ndarray, text: str) -> bool:
    try:
        assert_written(sheet, text, 2)
    except AssertionError:
        return False
    return True


def test_other_numbers_of_steps_are_named_and_noted(host, families):
    graph = images(families["sd3"], steps="7", scheduler="ddim_uniform", seed=41)
    (note,) = [text for _, text in shown(host, {**graph, "saved": saved(["sweep", 1])})]
    assert note == "scheduler ddim_uniform makes 8 steps where 7 were asked for: these are drawn"
    assert_written(grid_of(host, graph), "8 steps", 1, whole=True)


def saved(link: list) -> dict[str, Any]:
    return node("SaveImage", images=link, filename_prefix="grid")


def test_one_progress_for_all_runs(host, families):
    graph = {**images(families["flux"], seed=42), "saved": saved(["sweep", 1])}
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue(graph, stream.client_id)))
    steps = [(event.data["value"], event.data["max"]) for event in events if event.type == "progress"]
    assert [step for step in steps if step[1] == 12] == [(i, 12) for i in range(1, 13)]


# ----------------------------------------------------------------------------------------------- joined grids


def joined(host, graph: Graph, **grids: list) -> np.ndarray:
    return grid_of(host, {**graph, "join": node("TiMJoinGrids", **grids)}, "join", 0)


def test_joined_grids_are_below_each_other(host, families):
    """All as they are, by their numbers, whatever their order in the prompt; white beside the narrower ones."""
    graph = {**families["sd3"], "few": sweep(steps="1, 2", name="few"), "many": sweep(seed=8, name="many")}
    few, many = grid_of(host, graph, "few"), grid_of(host, graph, "many")
    links = {"few": ["few", 1], "many": ["many", 1]}
    sheet = joined(host, graph, grid_4=links["few"], grid_3=links["many"], grid_1=links["few"], grid_2=links["many"])
    height = len(few)
    assert sheet.shape == (4 * height + 3 * GAP, many.shape[1], 3)
    rows = [sheet[k * (height + GAP) : k * (height + GAP) + height] for k in range(4)]
    assert (rows[1] == many).all() and (rows[2] == many).all()
    for row in (rows[0], rows[3]):
        assert (row[:, : few.shape[1]] == few).all() and (row[:, few.shape[1] :] == 255).all()
    assert (sheet[height : height + GAP] == 255).all()
    assert_written(sheet, "few", whole=True)


def test_rows_of_several_families_and_of_tim(host, families):
    """Other sizes of images are no hindrance."""
    settings = {"seed": SEED, "steps": "1, 2", "schedule": "uniform", "cfg": 2.5, "guidance_low": 0.0}
    settings |= {"guidance_high": 1.0, "stochasticity": 0.0, "vae": ["pixels", 0], "latent_image": ["small", 0]}
    ours = {"model": ["ours", 0]}
    graph = {
        **families["sd3"], "ours": class_model()["model"], "pixels": PIXELS,
        "class": node("TiMClassConditioning", **ours, label="bag"),
        "small": node("TiMEmptyLatent", **ours, width=32, height=32, batch_size=1),
        "tim": node("TiMStepSweep", **{**CONDITIONED, **settings, **ours}), "sd3": sweep(name="SD3"),
    }  # fmt: skip
    sheet = joined(host, graph, grid_1=["tim", 1], grid_2=["sd3", 1])
    assert_written(sheet, "TiM", whole=True)
    assert_written(sheet[TOP + CELL + GAP :], "SD3", whole=True)


def test_images_are_no_grid(host, families):
    graph = {**images(families["sd3"]), "join": node("TiMJoinGrids", grid_1=["sweep", 1], grid_2=["sweep", 0])}
    refuses(host, graph, "grid_2 has 6 images", "output grid", by="TiMJoinGrids", output=("join", 0))


# ----------------------------------------------------------------------------------------------- bad input

BAD = {
    "no name": ({"name": " "}, {}, ["name is empty", "SD3.5 Turbo"]),
    "a long name": ({"name": "W" * 81}, {}, ["name", "one line", "80"]),
    "no steps": ({"steps": ""}, {}, ["0 entries", "1 to 16"]),
    "too many numbers": ({"steps": "1 " * 17}, {}, ["17 entries", "1 to 16"]),
    "too many steps": ({"steps": "10001"}, {}, ["'10001'", "1 to 10000"]),
    "VAE of another family": ({"vae": ["pixels", 0]}, {"pixels": PIXELS}, ["vae decodes 3 channels", "draws 16"]),
    "a video": (
        {"latent_image": ["video", 0]},
        {"video": node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)},
        ["latent_image has 5 dimensions", "expected 4"],
    ),
    "a class": (
        {"positive": ["class", 0]},
        {"tim": class_model()["model"], "class": node("TiMClassConditioning", model=["tim", 0], label="bag")},
        ["positive is a class of a TiM model", "SD3"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(host, families, case):
    changes, others, words = BAD[case]
    refuses(host, {**families["sd3"], **others, "sweep": sweep(**changes)}, *words, by="TiMModelStepSweep")


def test_latent_of_another_family(host, families):
    graph = {**families["sd3"], "image": load_latent(host.base, "four", torch.ones(1, 4, 8, 8))}
    refuses(host, {**graph, "sweep": sweep(latent_image=["image", 0])}, "4 channels", "16", by="TiMModelStepSweep")


def test_an_empty_latent_of_another_family_is_no_fault(host, families):
    """The host gives it the channels that the model has."""
    other = node("EmptyLatentImage", width=64, height=64, batch_size=2)
    graph = {**families["sd3"], "other": other}
    assert torch.equal(
        run_floats(host, images(graph, latent_image=["other", 0]), "sweep"), run_floats(host, images(graph), "sweep")
    )


def test_text_for_a_class_model(host, families):
    tim = {"model": ["tim", 0], "vae": ["pixels", 0], "latent_image": ["latent", 0]}
    graph = {**families["sd3"], "tim": class_model()["model"], "pixels": PIXELS, "sweep": sweep(**tim)}
    refuses(host, graph, "knows classes, not text", by="TiMModelStepSweep")

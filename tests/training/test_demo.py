"""training.demo: stages that are done are kept, a failure ends it in one line, results are installed as they load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from devtools.random_stack import DC_AE, SMALL_DC_AE, SMALL_TIM, write_dc_ae
from tim_model import TiM, load_checkpoint, load_vae, save_checkpoint
from training import demo
from training.autoencoder.config import load_autoencoder_config
from training.config.load import load_config, read_recipe
from training.evaluation.bundled import MODELS
from training.language_model.trainer import LanguageModelConfig


@pytest.fixture
def inside(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_runs_once(inside, monkeypatch):
    monkeypatch.syspath_prepend(inside)  # as `python -m` does
    made = inside / "deep" / "made.txt"
    (inside / "maker.py").write_text(f"open({str(made)!r}, 'x').write('done')")
    for _ in range(2):  # opening the file a second time would fail
        demo.run(made, ["maker"])
    assert made.read_text() == "done"


def test_a_failing_stage_ends_it_in_one_line(inside, capsys):
    assert demo.main(["--items", str(inside / "missing"), "--models", str(inside / "models")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "training.scenes" in error
    assert not (inside / "models").exists()


@pytest.mark.parametrize("scenes", demo.STACKS)
def test_every_recipe_of_a_stack_writes_where_the_next_one_reads(scenes):
    stack = demo.STACKS[scenes]
    stages = [made for made, _ in stack.stages(Path("items"))]
    recipes = [Path(command[1]) for _, command in stack.stages(Path("items")) if str(command[1]).endswith(".yaml")]
    assert len(recipes) == 7 and all(path.is_file() for path in recipes)
    network = load_config(stack.recipes / "tim.yaml")
    assert Path(network.data.path) in stages
    assert Path(network.model.vae) / "config.json" in stages
    assert Path(network.model.text_encoder) in stages
    velocity = load_config(stack.recipes / "tim.yaml", stack.velocity_stage())
    assert velocity.objective.name == "flow_matching" and not velocity.objective.guided
    transitions = load_config(stack.recipes / "tim.yaml", stack.transitions_stage())
    assert Path(transitions.model.checkpoint) in stages
    few_steps = load_config(stack.recipes / "tim.yaml", stack.few_steps_stage())
    assert Path(few_steps.model.checkpoint) == Path(network.run.folder) / "model-ema.safetensors"
    autoencoder = load_autoencoder_config(stack.recipes / "autoencoder.yaml")
    assert Path(autoencoder.data.path) in stages and Path(autoencoder.run.folder) / "config.json" in stages
    decoder = load_autoencoder_config(stack.recipes / "autoencoder.yaml", stack.decoder_stage())
    assert Path(decoder.run.decoder_of) / "config.json" in stages and stack.vae / "config.json" in stages
    for config in (network, velocity, transitions, few_steps):
        assert Path(config.run.folder) / "model-ema.safetensors" in stages


def test_the_language_model_of_emojis_reads_what_stages_make():
    stack = demo.STACKS["emoji"]
    stages = [made for made, _ in stack.stages(Path("drawings"))]
    config = read_recipe(LanguageModelConfig, stack.recipes / "language_model.yaml")
    assert Path(config.data.path) in stages and Path(config.data.replaced) in stages
    assert Path(config.run.packed) == stack.text_encoder


@pytest.mark.parametrize("scenes", demo.STACKS)
def test_results_are_installed_in_half_precision_under_their_names(inside, scenes):
    stack = demo.STACKS[scenes]
    stack.network.parent.mkdir(parents=True)
    net = TiM(SMALL_TIM.without_projector()).init_weights()
    save_checkpoint(net, stack.network, metadata={"objective": "tim"})
    write_dc_ae(stack.vae, DC_AE | SMALL_DC_AE)
    stack.text_encoder.write_bytes(b"text")
    stack.classifier.write_bytes(b"judge")
    written = demo.install(stack, inside / "models")
    names = {path.relative_to(MODELS) for path in stack.files.values() if MODELS in path.parents}
    assert {path.relative_to(inside / "models") for path in written} == names
    found = load_checkpoint(inside / "models" / stack.files["model"].relative_to(MODELS))
    for key, value in net.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value.half().float(), rtol=0, atol=0)
    vae = load_vae(inside / "models" / stack.files["vae"].relative_to(MODELS))
    assert vae.channels == 32 and next(vae.model.parameters()).dtype == torch.float16

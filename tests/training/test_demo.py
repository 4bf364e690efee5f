"""training.demo: stages that are done are kept, a failure ends it in one line, results are installed as they load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from devtools.random_stack import DC_AE, SMALL_DC_AE, SMALL_TIM, write_dc_ae
from tim_model import TiM, load_checkpoint, load_vae, save_checkpoint
from training import demo
from training.autoencoder_config import load_autoencoder_config
from training.config import load_config
from training.evaluate import BUNDLED, MODELS


@pytest.fixture
def inside(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_runs_once(inside):
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


def test_every_recipe_of_the_stack_writes_where_the_next_one_reads():
    stages = [made for made, _ in demo.stages(Path("items"))]
    assert all(command[1].is_file() for _, command in demo.stages(Path("items"))[2:])
    network = load_config(demo.RECIPES / "tim.yaml")
    assert Path(network.data.path) in stages
    assert Path(network.model.vae) / "config.json" in stages
    assert Path(network.model.text_encoder) in stages
    velocity = load_config(demo.RECIPES / "tim.yaml", demo.VELOCITY_STAGE)
    assert velocity.objective.name == "flow_matching" and not velocity.objective.guided
    transitions = load_config(demo.RECIPES / "tim.yaml", demo.TRANSITIONS_STAGE)
    assert Path(transitions.model.checkpoint) in stages
    few_steps = load_config(demo.RECIPES / "tim.yaml", demo.FEW_STEPS_STAGE)
    assert Path(few_steps.model.checkpoint) == Path(network.run.folder) / "model-ema.safetensors"
    decoder = load_autoencoder_config(demo.RECIPES / "autoencoder.yaml", demo.DECODER_STAGE)
    assert Path(decoder.run.decoder_of) / "config.json" in stages and demo.DECODER / "config.json" in stages
    for config in (network, velocity, transitions, few_steps):
        assert Path(config.run.folder) / "model-ema.safetensors" in stages


def test_results_are_installed_in_half_precision_under_their_names(inside):
    demo.NETWORK.parent.mkdir(parents=True)
    net = TiM(SMALL_TIM.without_projector()).init_weights()
    save_checkpoint(net, demo.NETWORK, metadata={"objective": "tim"})
    write_dc_ae(demo.DECODER, DC_AE | SMALL_DC_AE)
    demo.PACKED_TEXT_ENCODER.write_bytes(b"text")
    (demo.RUNS / "classifier.safetensors").write_bytes(b"judge")
    written = demo.install(inside / "models")
    names = {path.relative_to(MODELS) for path in BUNDLED.values() if MODELS in path.parents}
    assert {path.relative_to(inside / "models") for path in written} == names
    found = load_checkpoint(inside / "models" / BUNDLED["model"].relative_to(MODELS))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value.half().float(), rtol=0, atol=0)
    vae = load_vae(inside / "models" / BUNDLED["vae"].relative_to(MODELS))
    assert vae.channels == 32 and next(vae.model.parameters()).dtype == torch.float16

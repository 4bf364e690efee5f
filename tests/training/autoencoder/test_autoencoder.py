"""Training of a small DC-AE: the files it makes, that it resumes, its penalties, and what it refuses."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest
import torch
import yaml

from tim_model import load_vae
from tim_model.files.tensor_files import read_state_dict, write_safetensors
from tim_model.vae.dcae import host_dcae_config
from tim_model.vae.files import WEIGHTS, read_vae
from training.autoencoder.__main__ import main
from training.autoencoder.config import ArchitectureConfig, AutoencoderConfig, load_autoencoder_config
from training.autoencoder.loss import LossConfig, autoencoder_loss, gradient_penalty, measure, moment_penalty
from training.autoencoder.trainer import AutoencoderRun, build_net
from training.config.data_schema import DataConfig
from training.objectives.draws import Draws
from training.processes.lock import RunLock

from ..tiny import write_picture

WIDTHS = [32, 32, 32, 32, 32]
RECIPE = {
    "model": {"encoder_block_out_channels": WIDTHS, "decoder_block_out_channels": WIDTHS},
    "data": {"batch_size": 2, "resolution": 32, "held_out": 2, "workers": 0},
    "optimizer": {"lr": 1e-3},
    "checkpoint": {"every": 100},
    "run": {"steps": 2, "cpu": True, "precision": "fp32", "log_every": 1, "validate_every": 1},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe for six pictures of two sizes; its run folder is "run" beside it."""
    for i in range(6):
        write_picture(tmp_path / "pictures" / "all" / f"{i}.png", (32, 16) if i % 2 else (16, 16), seed=i)
    tree = {**RECIPE, "data": {**RECIPE["data"], "path": str(tmp_path / "pictures"), "cache": str(tmp_path / "cache")}}
    tree["run"] = {**RECIPE["run"], "folder": str(tmp_path / "run")}
    path = tmp_path / "autoencoder.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_run_writes_a_vae_that_reads_back(recipe: Path, capsys):
    assert main([str(recipe)]) == 0
    run = AutoencoderRun(load_autoencoder_config(recipe))
    vae = load_vae(recipe.parent / "run")
    assert (vae.ratio, vae.channels, vae.scaling_factor, vae.model.dtype) == (16, 16, 1.0, torch.float32)
    images = torch.rand(1, 3, 16, 48) * 2 - 1
    z = run.ema.net.encode(images, return_dict=False)[0]
    assert torch.equal(vae.encode(images), z)
    assert torch.equal(vae.decode(z), run.ema.net.decode(z, return_dict=False)[0])
    assert (recipe.parent / "run" / "samples" / "step-00000002.png").is_file()
    report = capsys.readouterr().out
    assert "samples/s" in report and "PSNR" in report and "std" in report


def test_a_resumed_run_is_the_uninterrupted_one(recipe: Path):
    whole, parts = (str(recipe.parent / name) for name in ("whole", "parts"))
    assert main([str(recipe), f"run.folder={whole}", "run.steps=4", "optimizer.warmup=9"]) == 0
    for steps in (1, 4):  # the warm-up makes rates that no number of steps changes
        assert main([str(recipe), f"run.folder={parts}", f"run.steps={steps}", "optimizer.warmup=9"]) == 0
    first, second = (read_state_dict(Path(folder) / WEIGHTS)[0] for folder in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_goes_on_from_the_newest_whole_state(recipe: Path, capsys):
    main([str(recipe), "run.steps=3", "checkpoint.every=1"])
    newest = recipe.parent / "run" / "states" / "step-00000003.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert main([str(recipe), "run.steps=3", "checkpoint.every=1"]) == 0
    assert "set aside, the run goes on from step 2" in capsys.readouterr().out
    assert torch.load(newest, weights_only=True)["step"] == 3


def test_a_run_out_of_time_still_writes(recipe: Path):
    assert main([str(recipe), "run.max_minutes=1e-6", "run.steps=1000"]) == 0
    assert [path.name for path in (recipe.parent / "run" / "states").iterdir()] == ["step-00000001.pt"]
    load_vae(recipe.parent / "run")


def test_a_decoder_goes_on_and_its_encoder_stays(recipe: Path, capsys):
    folder = recipe.parent / "run"
    assert main([str(recipe)]) == 0
    start = read_state_dict(folder / WEIGHTS)[0]
    more = [str(recipe), f"run.folder={folder}-more", f"run.decoder_of={folder}", "run.seed=1"]
    assert main(more) == 0
    found = read_state_dict(Path(f"{folder}-more") / WEIGHTS)[0]
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name], found[name])}
    assert changed == {"decoder"}
    capsys.readouterr()
    assert main([*more, f"run.folder={folder}-other", "model.decoder_layers_per_block=[0, 1, 1, 1, 2]"]) == 1
    assert f"run.decoder_of={folder}: is of another architecture" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_bare_file_tells_the_same_architecture(tmp_path: Path, dtype: torch.dtype):
    net = build_net(ArchitectureConfig()).to(dtype)
    write_safetensors(net.state_dict(), tmp_path / "vae.safetensors", {})
    inferred = read_vae(tmp_path / "vae.safetensors").config
    different = {name for name, value in inferred.items() if listed(net.config[name]) != listed(value)}
    # one name stands for the same in all stages
    assert different <= {"encoder_block_types", "decoder_block_types"}
    assert set(inferred["encoder_block_types"]) == set(inferred["decoder_block_types"]) == {"ResBlock"}
    host_dcae_config({**net.config, **inferred})  # ComfyUI's class has it too
    vae = load_vae(tmp_path / "vae.safetensors")
    images = torch.rand(1, 3, 32, 48) * 2 - 1
    assert vae.model.dtype == dtype
    assert torch.equal(vae.encode(images), net.encode(images.to(dtype), return_dict=False)[0].float())


def listed(value: object) -> object:
    return [listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_moment_penalty_is_zero_for_standard_latents_alone():
    z = torch.randn(4, 16, 6, 6, dtype=torch.float64)
    std, mean = torch.std_mean(z, dim=(0, 2, 3), correction=0, keepdim=True)
    standard = (z - mean) / std
    assert moment_penalty(standard) < 1e-20
    assert moment_penalty(standard + 0.5).item() == pytest.approx(0.25)
    assert moment_penalty(3 * standard).item() == pytest.approx(4)
    shifted = standard.clone()
    shifted[:, 0] += 1  # one of 16 channels
    assert moment_penalty(shifted).item() == pytest.approx(1 / 16)


def test_gradient_penalty_is_blind_to_brightness_and_counts_edges():
    assert gradient_penalty(torch.full((2, 3, 8, 8), 0.7)) == 0
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert gradient_penalty(ramp).item() == gradient_penalty(2 * ramp.mT).item() / 2 == 1


def test_the_loss_is_its_weighted_parts_and_noise_reaches_the_decoder():
    torch.manual_seed(0)
    net, images = build_net(ArchitectureConfig()), torch.rand(2, 3, 32, 32) * 2 - 1
    draws = Draws(0, 0, range(2))
    loss = autoencoder_loss(net, images, LossConfig(l1=0.5, l2=5.0, gradient=2.0, moments=3.0, noise=0.0), draws)
    total = 0.5 * loss.l1 + 5 * loss.l2 + 2 * loss.gradient + 3 * loss.moments
    assert loss.total.item() == pytest.approx(total.item())
    z = net.encode(images, return_dict=False)[0]
    decoded = net.decode(z, return_dict=False)[0]
    assert loss.l1.item() == pytest.approx((decoded - images).abs().mean().item())
    assert loss.l2.item() == pytest.approx(((decoded - images) ** 2).mean().item())
    noisy = autoencoder_loss(net, images, LossConfig(noise=1.0), draws)
    assert noisy.l1.item() != loss.l1.item() and noisy.moments.item() == loss.moments.item()


class Shifted:
    """A codec that adds one number to each value."""

    def __init__(self, error: float):
        self.error = error

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents + self.error


def test_quality_of_known_errors():
    """PSNR of a peak of 2 and errors of 0.2 is 20 dB; an image is as similar to itself as can be, 1."""
    images = torch.rand(2, 3, 32, 32) - 0.5
    found = measure(Shifted(0.2), [images[:1], images[1:]])
    assert found.psnr == pytest.approx(20, abs=1e-3) and 0.5 < found.ssim < 1
    assert measure(Shifted(0.0), [images]).ssim == pytest.approx(1)
    assert measure(Shifted(2.0), [-torch.ones(1, 3, 32, 32)]).psnr == pytest.approx(0, abs=1e-3)  # black for white


def test_quality_of_a_run(recipe: Path):
    main([str(recipe)])
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    vae = load_vae(recipe.parent / "run")
    quality = measure(vae, [images[:1], images[1:]])
    z = vae.encode(images)
    error = (vae.decode(z).clamp(-1, 1) - images).square().mean().item()
    assert quality.psnr == pytest.approx(10 * math.log10(4 / error), abs=1e-3)
    assert torch.allclose(quality.mean, z.mean((0, 2, 3)), atol=1e-5)


def test_published_settings_are_typed(recipe: Path):
    demo = Path(__file__).parents[3] / "training" / "recipes" / "demo" / "autoencoder.yaml"
    config = load_autoencoder_config(demo)
    assert isinstance(config, AutoencoderConfig) and isinstance(config.data, DataConfig)
    assert config.model.ratio == config.model.latent_channels == 16
    assert sum(p.numel() for p in build_net(config.model).parameters()) <= 3_000_000


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.path=nowhere", "nowhere: no such folder"),
        ("data.path=", "data.path: is not set"),
        ("loss.noise=.inf", "loss.noise=inf: expected a finite number"),
        ("model.width=3", "model.width: unknown key"),
        ("data.resolution=40", "data.resolution=40: expected a multiple of 16"),
        ("data.batch_size=0", "data.batch_size=0: expected more than 0"),
        ("data.held_out=6", "data.held_out=6: expected fewer than the 6 images"),
        ("optimizer.accumulation=2", "optimizer.accumulation=2: expected 1"),
        ("model.encoder_block_out_channels=[32, 32, 48, 32, 32]", "model: makes no AutoencoderDC"),
        ("run.precision=fp16", "run.precision='fp16': expected one of auto, fp32, bf16"),
    ],
)
def test_refusals_are_one_line(recipe: Path, capsys, override: str, said: str):
    assert main([str(recipe), override]) == 1
    error = capsys.readouterr().err.strip()
    assert said in error and error.startswith("error: ") and "\n" not in error


def test_another_architecture_does_not_resume(recipe: Path, capsys):
    main([str(recipe)])
    assert main([str(recipe), "model.decoder_layers_per_block=[0, 1, 1, 1, 2]"]) == 1
    assert "name another folder" in capsys.readouterr().err


def test_a_stop_saves_the_step_and_cuts_its_sheet(recipe: Path, capsys):
    run = AutoencoderRun(load_autoencoder_config(recipe, ["run.steps=9"]))
    parameter = next(parameter for parameter in run.net.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda _: signal.raise_signal(signal.SIGTERM) if run.step == 1 else None)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    folder = recipe.parent / "run"
    assert [path.name for path in (folder / "states").iterdir()] == ["step-00000002.pt"]
    assert [path.name for path in (folder / "samples").iterdir()] == ["step-00000001.png"]
    assert main([str(recipe), "run.steps=3"]) == 0
    assert "from step 2 in" in capsys.readouterr().out


def test_a_gradient_that_is_not_finite_costs_no_step(recipe: Path):
    run = AutoencoderRun(load_autoencoder_config(recipe, ["run.steps=9"]))
    parameter = next(parameter for parameter in run.net.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda gradient: gradient * torch.nan if run.step == 2 else gradient)
    with pytest.raises(RuntimeError, match="non-finite"):
        run.train()
    assert run.states.steps() == [2]


def test_settings_and_data_of_a_resumed_run(recipe: Path, capsys):
    assert main([str(recipe)]) == 0
    write_picture(recipe.parent / "pictures" / "all" / "new.png", (16, 16), seed=9)
    assert main([str(recipe), "optimizer.weight_decay=0.5", "run.steps=3"]) == 0
    output = capsys.readouterr().out
    assert "optimizer.weight_decay: 0.01 in the state, 0.5 from here" in output
    assert "the data is not that of the state of step 2" in output
    run = AutoencoderRun(load_autoencoder_config(recipe, ["optimizer.weight_decay=0.5", "run.steps=3"]))
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert main([str(recipe), "run.steps=3"]) == 0
    assert "nothing was trained: " in capsys.readouterr().out


def test_one_run_at_a_time(recipe: Path, capsys):
    (recipe.parent / "run").mkdir()
    with RunLock(recipe.parent / "run"):
        assert main([str(recipe)]) == 1
    assert "another run works in it (process " in capsys.readouterr().err
    assert main([str(recipe)]) == 0

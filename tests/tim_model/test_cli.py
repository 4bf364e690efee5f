"""The command line: what it says, what it writes, and one line on stderr for what cannot be done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tim_model import OFFICIAL, TiM, TiMPipeline, load_checkpoint, make_times, sample, save_checkpoint
from tim_model.__main__ import main
from tim_model.network.compiled import compiled_trunk
from tim_model.sampling.noise import draw_noise, image_noise_stream, noise_stream

from .broken_files import BROKEN, SENTINEL, TINY

NAMES = '["Shirt", "shoe", "bag", "hat", "sock"]'


@pytest.fixture
def net() -> TiM:
    torch.manual_seed(0)
    return TiM(TINY).requires_grad_(False)


@pytest.fixture
def model(net, tmp_path, monkeypatch):
    """A small pixel-space class model with names, in the current folder."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(net, tmp_path / "tiny.safetensors", metadata={"class_names": NAMES})
    return tmp_path / "tiny.safetensors"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def make(model, *arguments: object) -> int:
    """`generate`, with what every test of it needs."""
    return run("generate", "--model", model, "--device", "cpu", "--size", "16x12", *arguments)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_inspect(model, capsys):
    assert run("inspect", model) == 0
    out, err = capsys.readouterr()
    assert "layout      custom" in out and "5 classes: Shirt, shoe, bag, hat, sock" in out
    assert err == ""


@pytest.mark.parametrize("name", OFFICIAL)
def test_inspect_names_official_layouts(tmp_path, capsys, name):
    torch.save(TiM(OFFICIAL[name], device="meta").state_dict(), tmp_path / "model.bin")
    assert run("inspect", tmp_path / "model.bin") == 0
    assert f"layout      {name}\n" in capsys.readouterr().out


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.kind)
def test_inspect_refuses_broken_files_in_one_line(tmp_path, monkeypatch, capsys, broken):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / broken.name
    broken.make(path)
    assert run("inspect", path) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert str(path) in err and broken.says in err
    assert not (tmp_path / SENTINEL).exists()


def test_inspect_refuses_bad_class_names(net, tmp_path, capsys):
    save_checkpoint(net, tmp_path / "model.safetensors", metadata={"class_names": "{"})
    assert run("inspect", tmp_path / "model.safetensors") != 0
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["truncated body", "pickle with code", "plain pickle with code"])
def test_refusals_of_the_real_command(root, tmp_path, kind):
    broken = next(broken for broken in BROKEN if broken.kind == kind)
    path = tmp_path / broken.name
    broken.make(path)
    command = [sys.executable, "-m", "tim_model", "inspect", path]
    variables = {**os.environ, "PYTHONPATH": str(root)}
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and str(path) in result.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("option", "dtype"), [((), torch.float32), (("--dtype", "bfloat16"), torch.bfloat16)])
def test_convert_pickle_to_safetensors(net, tmp_path, option, dtype):
    torch.save(net.state_dict(), tmp_path / "model.bin")
    assert run("convert", tmp_path / "model.bin", tmp_path / "out.safetensors", *option) == 0
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[name], value.to(dtype)) for name, value in net.state_dict().items())


def test_convert_keeps_metadata_and_dtype(model, tmp_path):
    assert run("convert", model, tmp_path / "half.safetensors", "--dtype", "float16") == 0
    assert run("convert", tmp_path / "half.safetensors", tmp_path / "again.safetensors") == 0
    with safe_open(tmp_path / "again.safetensors", "pt") as file:
        assert file.metadata()["class_names"] == NAMES
        assert file.get_tensor("x_embedder.proj.weight").dtype == torch.float16
    assert load_checkpoint(tmp_path / "again.safetensors").params == TINY


@pytest.mark.parametrize("out", ["out.bin", "nowhere/out.safetensors"])
def test_convert_refuses_bad_targets(model, tmp_path, capsys, out):
    assert run("convert", model, out) != 0
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and out in err
    assert list(tmp_path.iterdir()) == [model]


def test_generate_is_the_sampler(model, net, tmp_path):
    """The picture is what `sample` makes of the same noise."""
    options = ("--cfg", 3, "--steps", 4, "--stochasticity", 0.3, "--seed", 5)
    assert make(model, "--class", 2, *options, "--out", "x.png") == 0
    noise, times = draw_noise((1, 3, 12, 16), seed=5), make_times("uniform", 4)
    image = sample(net, noise, times, torch.tensor([2]), cfg=3.0, stochasticity=0.3, noise_fn=noise_stream(5))
    expected = ((image[0].clamp(-1, 1) + 1) * 127.5).movedim(0, -1).numpy()
    assert np.abs(pixels("x.png") - expected).max() < 0.51
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors", "x.png"]


def test_restarts_are_the_sampler_s(model, net):
    """With noise of each image's own, and stated in the file only where there are any."""
    assert make(model, "--class", 2, "--cfg", 1, "--steps", 4, "--restart", 0.5, "--seed", 5, "--out", "x.png") == 0
    noise, times = draw_noise((1, 3, 12, 16), seed=5), make_times("uniform", 4)
    image = sample(net, noise, times, torch.tensor([2]), restart=0.5, noise_fn=image_noise_stream(5))
    expected = ((image[0].clamp(-1, 1) + 1) * 127.5).movedim(0, -1).numpy()
    assert np.abs(pixels("x.png") - expected).max() < 0.51
    assert Image.open("x.png").text["tim.restart"] == "0.5"
    assert make(model, "--class", 2, "--restart", 0.5, "--stochasticity", 0.2, "--out", "y.png") == 1


def test_generate_keeps_its_settings_in_the_file(model):
    make(model, "--class", "shoe", "--times", "1, 0.5, 0", "--seed", 7, "--out", "x.png")
    text = Image.open("x.png").text
    expected = {"model": "tiny.safetensors", "class": "shoe", "times": "1, 0.5, 0", "seed": "7", "size": "16x12"}
    assert expected.items() <= {name.removeprefix("tim."): value for name, value in text.items()}.items()


def test_seed_decides(model):
    for out, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        make(model, "--class", 0, "--seed", seed, "--out", out)
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    assert not np.array_equal(pixels("a.png"), pixels("c.png"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("--class", "SHIRT"), ("--class", 0)),
        (("--class", 1, "--steps", 4), ("--class", 1, "--times", "1 .75 .5 .25 0")),
        (("--class", 1, "--schedule", "quadratic", "--steps", 2), ("--class", 1, "--times", "1; 0.25; 0")),
        (("--class", 1, "--guidance", 0.9, 1), ("--class", 1, "--cfg", 1)),
        (("--class", 1, "--guidance", "-inf", "inf"), ("--class", 1, "--guidance", -1, 2)),
        (("--class", 1, "--guidance", "-Infinity", "Infinity"), ("--class", 1, "--guidance", -1, 2)),
        (("--class", 1, "--guidance", "-1e-3", 0.5), ("--class", 1, "--guidance", -0.001, 0.5)),
    ],
    ids=["name", "steps", "schedule", "guidance", "all guided", "infinity", "small negative number"],
)
def test_two_ways_to_say_the_same(model, one, other):
    make(model, *one, "--out", "one.png")
    make(model, *other, "--out", "other.png")
    assert np.array_equal(pixels("one.png"), pixels("other.png"))


def test_several_step_counts_make_a_grid_with_the_single_pictures_beside_it(model, tmp_path):
    assert make(model, "--class", 3, "--steps", "1,2,8", "--batch", 2, "--out", "x.png") == 0
    singles = {f"x-{steps}steps-{i}.png" for steps in (1, 2, 8) for i in range(2)}
    assert {path.name for path in tmp_path.glob("*.png")} == singles | {"x.png"}
    assert all(pixels(single).shape == (12, 16, 3) for single in singles)
    height, width, _ = pixels("x.png").shape
    assert width >= 2 * 16 and height >= 3 * 12


def test_files_of_a_grid_say_what_is_in_them(model):
    make(model, "--class", 3, "--steps", "1,2,8", "--batch", 2, "--out", "x.png")
    text = Image.open("x.png").text
    assert text["tim.steps"] == "1,2,8" and text["tim.batch"] == "2" and text["tim.class"] == "3"
    assert text["tim.times"] == "1, 0 | 1, 0.5, 0 | 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0"
    single = Image.open("x-2steps-1.png").text
    assert (single["tim.steps"], single["tim.batch"], single["tim.picture"]) == ("2", "2", "1")


def test_guiding_every_step_guides_the_first(model):
    make(model, "--class", 1, "--steps", 1, "--out", "plain.png")
    make(model, "--class", 1, "--steps", 1, "--guidance", "-inf", "inf", "--out", "guided.png")
    assert not np.array_equal(pixels("plain.png"), pixels("guided.png"))


def test_convert_says_what_it_wrote(model, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    run("convert", model, out, "--dtype", "float16")
    text = capsys.readouterr().out
    assert text.startswith(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)\n")
    assert "dtype       float16" in text and "5 classes" in text


def test_interruption_is_one_line(model, tmp_path, monkeypatch, capsys):
    """Ctrl-C in a network call."""

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(TiM, "predict", interrupt)
    assert make(model, "--class", 1) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped"
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(("before", "policy"), [("", "PASSIVE"), ("import torch; ", None)], ids=["command", "host"])
def test_waiting_threads_do_not_spin(root, before, policy):
    """In a command of its own; a program that has loaded torch keeps its environment."""
    code = "import os, sys; sys.argv = ['-m'] if not before else ['main.py']; "
    code = f"before = {before!r}; {code}{before}import tim_model; os.system('echo $OMP_WAIT_POLICY')"
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == (policy or "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_interruption_while_packages_load_has_no_traceback(root):
    """A program that imports the package keeps its own answer to Ctrl-C."""
    load = "import os, signal, sys; sys.argv = {}; import tim_model; os.kill(os.getpid(), signal.SIGINT)"
    results = [
        subprocess.run([sys.executable, "-c", load.format(argv)], check=False, cwd=root, capture_output=True, text=True)
        for argv in (["-m"], ["main.py"])
    ]
    assert [result.returncode for result in results] == [-signal.SIGINT] * 2
    assert results[0].stderr == "" and "KeyboardInterrupt" in results[1].stderr


def test_compile_gives_the_same_image(model, monkeypatch):
    """Here with graphs that run as they are."""
    graphs = []

    def trunk_with_graphs(trunk, backend):
        assert backend == "inductor"
        return compiled_trunk(trunk, lambda graph, inputs: graphs.append(graph) or graph.forward)

    monkeypatch.setattr("tim_model.network.tim.compiled_trunk", trunk_with_graphs)
    for out, flags in (("plain.png", ()), ("compiled.png", ("--compile",))):
        assert make(model, "--class", 1, "--steps", 3, "--out", out, *flags) == 0
        assert bool(graphs) == bool(flags)
    assert np.abs(pixels("compiled.png").astype(int) - pixels("plain.png")).max() <= 1


LARGE = ("--class", 1, "--size", "40x32", "--strategy", "progressive")


def test_progressive_flags_reach_the_run(model):
    """The picture is the pipeline's with the same settings, which the file keeps."""
    flags = ("--steps", 3, "--large-steps", 2, "--renoise", 0.4, "--shift", "--enlarge", "latents", "--rope", "ntk")
    assert make(model, *LARGE, *flags, "--seed", 5, "--out", "x.png") == 0
    pipe = TiMPipeline.from_files(model, device="cpu")
    stages = pipe.plan((40, 32), steps=3, large_steps=2, renoise=0.4, time_shift=True)
    image = pipe(classes="shoe", stages=stages, seed=5, cfg=2.5, enlarge="latents", rope="ntk")
    expected = ((image[0].clamp(-1, 1) + 1) * 127.5).movedim(0, -1).numpy()
    assert np.abs(pixels("x.png") - expected).max() < 0.51
    settings = {name.removeprefix("tim."): value for name, value in Image.open("x.png").text.items()}
    assert settings["stages"] == "18x14, 26x22, 40x32"
    assert settings["times"] == "; ".join(", ".join(f"{t:g}" for t in stage.times) for stage in stages)
    names = ["steps", "large_steps", "renoise", "enlarge", "rope", "strategy", "size", "seed", "cfg"]
    again = [part for name in names for part in (f"--{name.replace('_', '-')}", settings[name])]
    assert make(model, "--class", 1, *again, "--shift", "--out", "again.png") == 0
    assert settings["shift"] == "True" and np.array_equal(pixels("again.png"), pixels("x.png"))


@pytest.mark.parametrize(
    "flags",
    [("--renoise", 0.9), ("--large-steps", 3), ("--shift",), ("--rope", "linear")],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_every_flag_counts(model, flags):
    large = (*LARGE, "--large-steps", 2)  # with one there is nothing to shift
    make(model, *large, "--out", "plain.png")
    make(model, *large, *flags, "--out", "other.png")
    assert not np.array_equal(pixels("plain.png"), pixels("other.png"))


def test_up_to_the_default_size_both_strategies_are_the_same(model):
    for strategy in ("native", "progressive"):
        assert make(model, "--class", 1, "--strategy", strategy, "--out", f"{strategy}.png") == 0
    assert np.array_equal(pixels("native.png"), pixels("progressive.png"))


def test_progress_counts_the_steps_of_all_stages(model, capsys):
    make(model, *LARGE, "--steps", 3)
    err = capsys.readouterr().err
    assert "5/5" in err and "steps: 3 + 1 + 1" in err


def test_sizes_beyond_the_published_are_warned_of_in_one_line(model, capsys):
    assert make(model, "--class", 1, "--size", "64x16", "--steps", 1) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and warnings[0].startswith("warning: 64x16 is an aspect beyond 2:5 to 5:2")


def test_sizes_far_beyond_those_of_training_are_warned_of_in_one_line(net, tmp_path, monkeypatch, capsys):
    """For a file that states them; one pass draws them badly, several may not."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(net, tmp_path / "trained.safetensors", metadata={"resolution": "16"})
    for size, strategy, warned in (("20x16", "native", 0), ("24x16", "native", 1), ("24x16", "progressive", 0)):
        options = ["--class", 1, "--size", size, "--steps", 1, "--strategy", strategy]
        assert make("trained.safetensors", *options) == 0
        warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        assert len(warnings) == warned
    assert make("trained.safetensors", "--class", 1, "--size", "24x16", "--steps", 1) == 0
    line = "warning: 24x16 pixels are far beyond this model's 16x16, 1.5 times the area: expect repeated or broken "
    assert f"{line}shapes\n" in capsys.readouterr().err


def test_progress_is_shown(model, capsys):
    make(model, "--class", 3, "--steps", 3)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--class", 5), "class '5': expected a number from 0 to 4, or a name: Shirt"),
        (("--class", "socks"), "class 'socks'"),
        (("--prompt", "a shirt"), "this is a class model"),
        (("--class", 1, "--size", "15x12"), "size 15x12: expected multiples of 2"),
        (("--class", 1, "--aspect", "16:9"), "--size with --aspect or --megapixels: expected one or the other"),
        (("--class", 1, "--megapixels", 1), "--size with --aspect or --megapixels"),
        (
            ("--class", 1, "--renoise", 0.5),
            "--renoise with --strategy native: leave it out, or take --strategy progres",
        ),
        (("--class", 1, "--large-steps", 2), "--large-steps with --strategy native"),
        (("--class", 1, "--shift"), "--shift with --strategy native"),
        (("--class", 1, "--enlarge", "latents"), "--enlarge with --strategy native"),
        ((*LARGE, "--times", "1, 0"), "--times with --strategy progressive: leave it out, or take --strategy native"),
        ((*LARGE, "--schedule", "uniform"), "--schedule with --strategy progressive"),
        ((*LARGE, "--renoise", 0), "renoise=0: expected a time above 0, up to 1"),
        ((*LARGE, "--renoise", "nan"), "renoise=nan"),
        ((*LARGE, "--size", "41x32"), "size 41x32: expected multiples of 2"),
    ],
)
def test_generate_refuses_in_one_line(model, tmp_path, capsys, options, message):
    assert make(model, *options) != 0
    out, err = capsys.readouterr()
    assert out == "" and message in err and len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--class", 1, "--prompt", "a shirt"),
        ("--class", 1, "--steps", 0),
        ("--class", 1, "--steps", "4,x"),
        ("--class", 1, "--size", "16"),
        ("--class", 1, "--times", "0, 1"),
        ("--class", 1, "--schedule", "linear"),
    ],
    ids=lambda options: " ".join(map(str, options)) or "neither class nor prompt",
)
def test_malformed_options_end_with_usage(model, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stop:
        make(model, *options)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--class", "0", "--device", "nonsense"], "nonsense"),
        (["--class", ""], "class ''"),
        (["--class", "5"], "expected a number from 0 to 4"),
        (["--class", "0", "--size", "15x16"], "expected multiples of"),
        (["--prompt", "a fox"], "class model"),
        (["--class", "0", "--times", "0, 1"], "strictly decreasing"),
        (["--class", "0", "--times", "1, x"], "expected numbers"),
        (["--class", "0", "--steps", "4,0"], "expected whole numbers from 1"),
        (["--class", "0", "--size", "²x²"], "WIDTHxHEIGHT"),
        (["--class", "0", "--size", "16x" + "9" * 20], "WIDTHxHEIGHT"),
        (["--class", "0", "--batch", "0"], "expected a number from 1"),
        (["--class", "0", "--seed", str(2**64)], "expected a number from 0"),
        (["--class", "0", "--stochasticity", "-0.1"], "expected a number from 0.0"),
        (["--class", "0", "--vae", "missing"], "missing"),
        (["--class", "0", "--aspect", "wide"], "aspect 'wide': expected width:height"),
        (["--class", "0", "--megapixels", "17"], "expected a number from 0.06 to 16.8"),
        (["--class", "0", "--aspect", "2:1"], "megapixels: expected 0.06"),
        (["--class", "0", "--strategy", "magic"], "invalid choice"),
        (["--class", "0", "--rope", "rubber"], "invalid choice"),
        (["--class", "0", "--large-steps", "0"], "expected a number from 1"),
        (["--class", "0", "--out", "no/such/folder.png"], "folder"),
        (["--class", "0", "--size", "8192x8192", "--batch", "4096"], "4096 x 8192x8192 pixels: need"),
        (["--class", "0", "--batch", str(10**12)], "draw fewer at once, or smaller ones"),
        (["--class", "0", "--out", "x.jpg"], "'x.jpg': expected a name that ends in .png"),
        (["--class", "0", "--out", "x"], "expected a name that ends in .png"),
        (["--class", "0", "--steps", "4,4"], "expected whole numbers from 1, each once"),
        (["--class", "0", "--steps", "4", "--times", "1, 0"], "--times with --steps or --schedule"),
        (["--class", "0", "--times", "1, 0", "--schedule", "cosine"], "--times with --steps or --schedule"),
        (["--class", "0", "--negative", "a hat"], "--negative without guidance"),
        (["--class", "0", "--cfg", "nan"], "expected a number"),
        (["--class", "0", "--cfg", "inf"], "expected a finite number"),
        (["--class", "0", "--guidance", "nan", "1"], "expected a number"),
    ],
)
def test_generate_refuses(model, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["generate", "--model", str(model), "--device", "cpu", *arguments])
    except SystemExit as stop:  # by argparse
        status = stop.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert status != 0 and "error: " in error and says in error
    assert list(tmp_path.rglob("*.png")) == []


def test_convert_keeps_every_dtype(net, tmp_path):
    mixed = {name: value.half() if "norm" in name else value for name, value in net.state_dict().items()}
    torch.save(mixed, tmp_path / "model.bin")
    assert run("convert", tmp_path / "model.bin", tmp_path / "out.safetensors") == 0
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert {name: file.get_tensor(name).dtype for name in mixed} == {name: w.dtype for name, w in mixed.items()}


def test_convert_does_not_ignore_a_dtype(tmp_path, capsys):
    assert run("convert", tmp_path, tmp_path / "out.safetensors", "--dtype", "bfloat16") != 0
    assert "keeps its own dtype" in capsys.readouterr().err

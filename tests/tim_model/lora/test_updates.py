"""LoRA files: every style of names, merged weights against the sum by hand, and the command line."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from devtools.random_stack import GEMMA, SMALL_GEMMA, SMALL_TIM, write_gemma
from tim_model import OFFICIAL, CheckpointError, TiM, TiMPipeline, load_checkpoint, load_text_encoder, save_checkpoint
from tim_model.__main__ import main
from tim_model.arguments import lora_strength
from tim_model.lora.updates import read_lora

from ..broken_files import TINY

LAYERS = ["blocks.0.attn.qkv", "blocks.0.mlp.fc1_x", "blocks.0.adaLN_modulation.fc2", "final_layer.linear"]
RANK, ALPHA = 2, 3.0
STYLES = {
    "ours": lambda layer: f"diffusion_model.{layer}",
    "peft": lambda layer: f"base_model.model.{layer}",
    "diffusers": lambda layer: f"transformer.{layer}",
    "bare": lambda layer: layer,
    "checkpoint": lambda layer: f"model.diffusion_model.{layer}",
    "kohya": lambda layer: f"lora_unet_{layer.replace('.', '_')}",
    "onetrainer": lambda layer: f"lora_transformer_{layer.replace('.', '_')}",
    "lycoris": lambda layer: f"lycoris_{layer.replace('.', '_')}",
}
PARTS = [
    ("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight"), ("lora.down.weight", "lora.up.weight"),
    ("lora_A.default.weight", "lora_B.default.weight"),
]  # fmt: skip


@pytest.fixture
def net() -> TiM:
    torch.manual_seed(0)
    return TiM(TINY).requires_grad_(False)


@pytest.fixture
def base(net, tmp_path):
    save_checkpoint(net, tmp_path / "base.safetensors")
    return tmp_path / "base.safetensors"


def matrices(net: TiM, layers=LAYERS, seed: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = {layer: net.get_submodule(layer).weight for layer in layers}
    return {layer: (random(RANK, w.shape[1]), random(len(w), RANK)) for layer, w in weights.items()}


def write(path, updates, name=STYLES["ours"], parts=PARTS[0], alpha: float | None = ALPHA, metadata=None):
    tensors = {}
    for layer, found in updates.items():
        tensors.update({f"{name(layer)}.{part}": matrix for part, matrix in zip(parts, found, strict=True)})
        tensors.update({f"{name(layer)}.alpha": torch.tensor(alpha)} if alpha else {})
    save_file(tensors, path, metadata)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def merged_by_hand(net: TiM, *updates: tuple[dict, float]) -> dict[str, Tensor]:
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for found, factor in updates:
        for layer, (A, B) in found.items():
            state[f"{layer}.weight"] += factor * B @ A
    return state


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: parts[0])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_names_merges_alike(net, base, tmp_path, style, parts):
    updates = matrices(net)
    lora = write(tmp_path / "lora.safetensors", updates, STYLES[style], parts)
    assert run("convert", base, tmp_path / "out.safetensors", "--lora", f"{lora}:0.5") == 0
    expected = merged_by_hand(net, (updates, 0.5 * ALPHA / RANK))
    assert_same(load_checkpoint(tmp_path / "out.safetensors").state_dict(), expected)


def test_without_alpha_updates_are_not_scaled(net, base, tmp_path):
    updates = matrices(net)
    lora = write(tmp_path / "lora.safetensors", updates, alpha=None)
    assert run("convert", base, tmp_path / "out.safetensors", "--lora", lora) == 0
    assert_same(load_checkpoint(tmp_path / "out.safetensors").state_dict(), merged_by_hand(net, (updates, 1.0)))


def test_several_add_up_and_strengths_may_be_negative(net, base, tmp_path):
    first, second = matrices(net), matrices(net, LAYERS[:2], seed=2)
    options = ["--lora", f"{write(tmp_path / 'a.safetensors', first)}:-0.5"]
    options += ["--lora", f"{write(tmp_path / 'b.safetensors', second, STYLES['kohya'])}:2"]
    assert run("convert", base, tmp_path / "out.safetensors", *options) == 0
    scale = ALPHA / RANK
    expected = merged_by_hand(net, (first, -0.5 * scale), (second, 2 * scale))
    assert_same(load_checkpoint(tmp_path / "out.safetensors").state_dict(), expected)


def test_merging_rounds_once_to_the_dtype_asked_for(net, tmp_path):
    """An update that bfloat16 would swallow survives in float32, from a base in bfloat16."""
    save_checkpoint(net, tmp_path / "base.safetensors", torch.bfloat16)
    updates = {layer: (A * 1e-3, B) for layer, (A, B) in matrices(net).items()}
    lora = write(tmp_path / "lora.safetensors", updates)
    options = ["--lora", lora, "--dtype", "float32"]
    assert run("convert", tmp_path / "base.safetensors", tmp_path / "o.safetensors", *options) == 0
    net.bfloat16().float()
    expected = merged_by_hand(net, (updates, ALPHA / RANK))
    assert_same(load_file(tmp_path / "o.safetensors"), expected)


@pytest.mark.parametrize("style", STYLES)
def test_converting_a_lora_gives_the_names_of_the_host_and_another_dtype(net, tmp_path, style):
    updates = matrices(net)
    lora = write(tmp_path / "lora.safetensors", updates, STYLES[style], metadata={"trigger": "fox"})
    assert run("convert", lora, tmp_path / "out.safetensors", "--dtype", "bfloat16") == 0
    found = load_file(tmp_path / "out.safetensors")
    assert set(found) == {f"diffusion_model.{layer}.{part}" for layer in LAYERS for part in (*PARTS[0], "alpha")}
    A = found["diffusion_model.blocks.0.attn.qkv.lora_A.weight"]
    assert torch.equal(A, updates["blocks.0.attn.qkv"][0].bfloat16())
    assert found["diffusion_model.blocks.0.attn.qkv.alpha"].item() == ALPHA
    assert read_lora(tmp_path / "out.safetensors").metadata == {"trigger": "fox"}


def test_updates_of_network_and_text_encoder_in_one_file(net, tmp_path):
    """Under names that a saved checkpoint of several models has too."""
    updates = matrices(net)
    tensors = load_file(write(tmp_path / "lora.safetensors", updates, STYLES["checkpoint"]))
    te = "text_encoders.model.layers.0.mlp.up_proj"
    tensors |= {f"{te}.lora_A.weight": torch.ones(2, 4), f"{te}.lora_B.weight": torch.ones(6, 2)}
    save_file(tensors, tmp_path / "b.sft")
    lora = read_lora(tmp_path / "b.sft")
    assert set(lora.network) == set(LAYERS) and set(lora.text_encoder) == {"layers.0.mlp.up_proj"}


def test_updates_of_the_text_encoder_get_the_names_of_the_host(tmp_path):
    A, B = torch.randn(2, 8), torch.randn(4, 2)
    styles = ["lora_te_layers_1_mlp_up_proj", "base_model.model.model.layers.1.self_attn.q_proj"]
    tensors = {f"{name}.{part}": m.clone() for name in styles for part, m in zip(PARTS[0], (A, B), strict=True)}
    save_file(tensors, tmp_path / "te.safetensors")
    assert run("convert", tmp_path / "te.safetensors", tmp_path / "out.safetensors") == 0
    layers = ["layers.1.mlp.up_proj", "layers.1.self_attn.q_proj"]
    assert set(load_file(tmp_path / "out.safetensors")) == {
        f"text_encoders.model.{layer}.{part}" for layer in layers for part in PARTS[0]
    }


def test_generate_draws_the_merged_checkpoint_and_records_it(net, base, tmp_path):
    lora = write(tmp_path / "fox.safetensors", {k: (A * 0.1, B) for k, (A, B) in matrices(net).items()})
    assert run("convert", base, tmp_path / "merged.safetensors", "--lora", f"{lora}:-0.7") == 0
    options = ["--device", "cpu", "--size", "16x12", "--class", "1", "--out"]
    assert run("generate", "--model", base, "--lora", f"{lora}:-0.7", *options, tmp_path / "lora.png") == 0
    assert run("generate", "--model", tmp_path / "merged.safetensors", *options, tmp_path / "merged.png") == 0
    assert run("generate", "--model", base, *options, tmp_path / "plain.png") == 0
    drawn, merged, plain = (Image.open(tmp_path / f"{name}.png") for name in ("lora", "merged", "plain"))
    assert drawn.tobytes() == merged.tobytes() != plain.tobytes()
    assert drawn.text["tim.loras"] == "fox.safetensors:-0.7"
    assert "tim.loras" not in plain.text


def test_pipeline_takes_loras(net, base, tmp_path):
    updates = matrices(net)
    lora = write(tmp_path / "lora.safetensors", updates)
    pipeline = TiMPipeline.from_files(base, device="cpu", loras=[(lora, 0.5)])
    assert_same(pipeline.net.state_dict(), merged_by_hand(net, (updates, 0.5 * ALPHA / RANK)))


def test_inspect_names_a_lora(tmp_path, capsys):
    net = TiM(OFFICIAL["tim-c2i-b-p4-256"], device="meta")
    updates = matrices(net, [f"blocks.{i}.attn.qkv" for i in range(3)])
    lora = write(tmp_path / "lora.safetensors", updates, STYLES["peft"], metadata={"step": "20", "recipe": "x" * 99})
    assert run("inspect", lora) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["kind"] == "LoRA of a TiM network"
    assert (lines["rank"], lines["alpha"], lines["dtype"]) == ("2", "3", "float32")
    assert lines["targets"] == "blocks.*.attn.qkv 2304x768 (3)"
    assert lines["fits"] == "tim-c2i-b-p4-256"
    assert lines["metadata"] in ("step: 20, recipe: (99 characters)", "recipe: (99 characters), step: 20")


A, B = torch.ones(2, 4), torch.ones(6, 2)
BAD = {
    "is no LoRA of TiM: none of 2 keys (single_blocks.0.q.lora_A.weight": {
        "single_blocks.0.q.lora_A.weight": A, "single_blocks.0.q.lora_B.weight": B,
    },
    "1 of 3 keys were not understood (blocks.0.attn.qkv.dora_scale)": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": B, "blocks.0.attn.qkv.dora_scale": A,
    },
    "none of 1 keys (lycoris_blocks_0_attn_qkv.hada_w1_a)": {"lycoris_blocks_0_attn_qkv.hada_w1_a": A},
    "LoRA of blocks.0.attn.qkv: has no lora_B": {"blocks.0.attn.qkv.lora_A.weight": A},
    "has A (2, 4) and B (6, 3), expected (rank, in) and (out, rank)": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": torch.ones(6, 3),
    },
    "holds NaN or infinite weights": {
        "blocks.0.attn.qkv.lora_A.weight": A * torch.nan, "blocks.0.attn.qkv.lora_B.weight": B,
    },
    "has alpha nan, expected one finite number": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": B,
        "blocks.0.attn.qkv.alpha": torch.tensor(torch.nan),
    },
    "has A (2, 4) and B (0, 2), expected": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": torch.ones(0, 2),
    },
    "has alpha of shape (3,) and dtype torch.float32": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": B,
        "blocks.0.attn.qkv.alpha": torch.ones(3),
    },
    "lora_A has dtype torch.int64": {
        "blocks.0.attn.qkv.lora_A.weight": A.long(), "blocks.0.attn.qkv.lora_B.weight": B,
    },
    "occurs twice": {
        "blocks.0.attn.qkv.lora_A.weight": A, "blocks.0.attn.qkv.lora_B.weight": B,
        "transformer.blocks.0.attn.qkv.lora_A.weight": A, "transformer.blocks.0.attn.qkv.lora_B.weight": B,
    },
}  # fmt: skip


@pytest.mark.parametrize("says", BAD)
def test_what_is_no_lora_of_tim_is_one_line(base, tmp_path, capsys, says):
    save_file({name: value.clone() for name, value in BAD[says].items()}, tmp_path / "bad.safetensors")
    commands = [["inspect"], ["convert", base, tmp_path / "out.safetensors", "--lora"]]
    commands += [["generate", "--device", "cpu", "--class", "1", "--model", base, "--lora"]]
    for command in commands:
        assert run(*command, tmp_path / "bad.safetensors") == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and says in err and "bad.safetensors" in err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_lora_of_another_network_is_one_line(net, base, tmp_path, capsys):
    updates = matrices(net)
    wide = {"blocks.0.attn.qkv": (torch.ones(2, 99), updates["blocks.0.attn.qkv"][1])}
    far = {"blocks.77.attn.qkv": updates["blocks.0.attn.qkv"]}
    for odd, says in ((wide, "expected a weight (48, 99), the network has (48, 16)"), (far, "no such layer")):
        lora = write(tmp_path / "odd.safetensors", odd)
        assert run("convert", base, tmp_path / "out.safetensors", "--lora", lora) == 1
        error = capsys.readouterr().err
        assert says in error and "odd.safetensors: LoRA of diffusion_model.blocks" in error and error.count("\n") == 1


def test_a_lora_is_no_model_and_a_checkpoint_no_lora(net, base, tmp_path, capsys):
    lora = write(tmp_path / "lora.safetensors", matrices(net))
    assert run("generate", "--device", "cpu", "--class", "1", "--model", lora) == 1
    assert "is not a TiM checkpoint but a LoRA: expected the model" in capsys.readouterr().err
    assert run("generate", "--device", "cpu", "--class", "1", "--model", base, "--lora", base) == 1
    assert "is no LoRA of TiM" in capsys.readouterr().err
    assert run("convert", lora, tmp_path / "out.safetensors", "--lora", lora) == 1
    assert "is a LoRA itself" in capsys.readouterr().err


def test_updates_of_a_text_encoder_need_one(base, tmp_path, capsys):
    tensors = {"lora_te_layers_0_mlp_up_proj.lora_A.weight": A, "lora_te_layers_0_mlp_up_proj.lora_B.weight": B}
    save_file(tensors, tmp_path / "te.safetensors")
    with pytest.raises(ValueError, match="updates for a text encoder: expected the text encoder"):
        TiMPipeline.from_files(base, device="cpu", loras=[(tmp_path / "te.safetensors", 1.0)])
    assert run("convert", base, tmp_path / "out.safetensors", "--lora", tmp_path / "te.safetensors") == 1
    assert "has no updates of a network, nothing to merge" in capsys.readouterr().err


def test_updates_of_a_text_encoder_reach_it(tmp_path):
    write_gemma(tmp_path / "gemma", GEMMA | SMALL_GEMMA)
    net, plain = TiM(SMALL_TIM.without_projector()), load_text_encoder(tmp_path / "gemma")
    save_checkpoint(net, tmp_path / "base.safetensors", metadata={"latent_space": '{"ratio": 1, "scaling_factor": 1}'})
    layer = "layers.1.self_attn.q_proj"
    weight = plain.model.get_submodule(layer).weight
    A, B = torch.randn(2, weight.shape[1]), torch.randn(len(weight), 2)
    flat = layer.replace(".", "_")
    save_file({f"lora_te_{flat}.lora_{part}.weight": m for part, m in (("A", A), ("B", B))}, tmp_path / "te.sft")
    loras = [(tmp_path / "te.sft", 0.5)]
    pipeline = TiMPipeline.from_files(tmp_path / "base.safetensors", tmp_path / "gemma", device="cpu", loras=loras)
    weight.data.add_(B @ A, alpha=0.5)
    assert torch.equal(pipeline.text_encoder.encode(["a fox"])[0], plain.encode(["a fox"])[0])
    assert torch.equal(pipeline.reload_text_encoder().encode(["a fox"])[0], plain.encode(["a fox"])[0])


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("fox.safetensors", "fox.safetensors", 1.0), ("fox.safetensors:0.8", "fox.safetensors", 0.8),
        ("loras/fox.safetensors:-1", "loras/fox.safetensors", -1.0), (r"C:\x.safetensors", r"C:\x.safetensors", 1.0),
        (r"C:\loras\x.safetensors:1.5", r"C:\loras\x.safetensors", 1.5), ("D:/x.safetensors", "D:/x.safetensors", 1.0),
        ("C:x.safetensors", "C:x.safetensors", 1.0), ("C:x.safetensors:2", "C:x.safetensors", 2.0),
    ],
)  # fmt: skip
def test_strength_after_the_last_colon(text, path, strength):
    assert [str(found) for found in lora_strength(text)] == [path, str(strength)]


@pytest.mark.parametrize("strength", ["strong", "nan", "inf", ""])
def test_a_strength_that_is_no_number_is_refused(strength, base, capsys):
    with pytest.raises(SystemExit):
        run("convert", base, "out.safetensors", "--lora", f"fox.safetensors:{strength}")
    assert "expected FILE or FILE:strength, such as fox.safetensors:0.8" in capsys.readouterr().err


def test_read_lora_of_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file, expected a LoRA"):
        read_lora(tmp_path / "none.safetensors")

"""Checkpoints: what is read, what is written, and that everything else is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tim_model import OFFICIAL, CheckpointError, TiM, load_checkpoint, save_checkpoint
from tim_model.checkpoint import describe, infer_params, read_checkpoint
from tim_model.network.latent_space import LatentSpace

from .broken_files import BROKEN, SENTINEL, TINY, tiny_weights
from .golden import FOLDER

TEXT = replace(TINY, num_classes=None, context_dim=12)


def tiny(params=TINY, **factory) -> TiM:
    torch.manual_seed(0)
    return TiM(params, **factory)


def assert_same_weights(found: TiM, expected: TiM) -> None:
    for (name, weight), (other, value) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
        assert name == other and weight.dtype == value.dtype and torch.equal(weight, value), name


@pytest.mark.parametrize("name", OFFICIAL)
def test_architecture_of_official_layouts_is_inferred(facts, name):
    assert infer_params({key: tuple(shape) for key, shape in facts[name].items()}) == OFFICIAL[name]


@pytest.mark.parametrize("name", ["t2i", "c2i"])
def test_inference_agrees_with_the_golden_configs(name):
    config = json.loads((FOLDER / "cases.json").read_text())[f"{name}_config"]
    params = read_checkpoint(FOLDER / f"{name}_weights.safetensors").params.to_dict()
    renamed = {"cap_feat_dim": "context_dim", "lora_hidden_size": "adaln_hidden"}
    expected = {renamed.get(key, key): value for key, value in config.items()}
    del expected["input_size"]
    expected["mlp_hidden"] = int(2 / 3 * expected.pop("mlp_ratio") * config["hidden_size"])
    assert params == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("params", [TINY, TEXT, TINY.without_projector()], ids=["class", "text", "no projector"])
def test_round_trip_is_exact(tmp_path, params, dtype):
    path, net = tmp_path / "model.safetensors", tiny(params, dtype=dtype)
    save_checkpoint(net, path)
    found = load_checkpoint(path, dtype=dtype)
    assert found.params == params
    assert_same_weights(found, net)
    assert not found.training and not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize(("stored", "loaded"), [(torch.float16, torch.float32), (torch.bfloat16, torch.float16)])
def test_dtype_of_file_and_network_are_independent(tmp_path, stored, loaded):
    path, net = tmp_path / "model.safetensors", tiny()
    save_checkpoint(net, path, dtype=stored)
    with safe_open(path, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {stored}  # noqa: SIM118
    assert_same_weights(load_checkpoint(path, dtype=loaded), net.to(stored).to(loaded))


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "module."])
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_released_forms(tmp_path, form, prefix):
    weights = {prefix + name: value for name, value in tiny_weights().items()}
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.bin")
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "zip")
    assert_same_weights(load_checkpoint(path), tiny())


def test_weights_saved_as_parameters(tmp_path):
    torch.save(dict(tiny().named_parameters()), tmp_path / "model.bin")
    assert_same_weights(load_checkpoint(tmp_path / "model.bin"), tiny())


def test_file_of_params_that_lost_its_projector(tmp_path):
    weights = {name: value for name, value in tiny_weights().items() if not name.startswith("projector.")}
    save_file(weights, tmp_path / "model.safetensors", {"config": json.dumps(TINY.to_dict())})
    assert load_checkpoint(tmp_path / "model.safetensors").params == TINY.without_projector()


@pytest.mark.parametrize(("argument", "metadata", "expected"), [(None, None, 1), (None, 3, 3), (2, None, 2), (2, 3, 2)])
def test_encoder_depth_by_argument_else_metadata_else_default(tmp_path, argument, metadata, expected):
    path, net = tmp_path / "model.safetensors", tiny(replace(TINY, depth=4))
    save_file(net.state_dict(), path, {"config": json.dumps({"encoder_depth": metadata})} if metadata else None)
    assert load_checkpoint(path, encoder_depth=argument).params.encoder_depth == expected


def test_metadata_survives(tmp_path):
    path = tmp_path / "model.safetensors"
    metadata = {"class_names": '["a", "b", "c", "d", "e"]', "latent_space": '{"ratio": 4, "scaling_factor": 2}'}
    save_checkpoint(tiny(), path, metadata=metadata)
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata == metadata | {"config": json.dumps(TINY.to_dict())}
    assert checkpoint.class_names == ["a", "b", "c", "d", "e"]
    assert checkpoint.latent_space == LatentSpace(3, 4, 2.0)


def test_metadata_is_not_needed(tmp_path):
    save_file(tiny_weights(), tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.class_names == [] and checkpoint.latent_space == LatentSpace(3, 1, 1.0)


@pytest.mark.parametrize("names", ["{", '{"0": "shirt"}', "null", "[" * 100_000], ids=["open", "dict", "null", "deep"])
def test_class_names_must_be_a_list(tmp_path, names):
    save_checkpoint(tiny(), tmp_path / "model.safetensors", metadata={"class_names": names})
    with pytest.raises(CheckpointError, match="'class_names' that is no JSON list"):
        _ = read_checkpoint(tmp_path / "model.safetensors").class_names


@pytest.mark.parametrize("names", ["[1, 2]", '["a", null]', '["a", ["b"]]', '["a", "b", "c", "d", "e", "f"]'])
def test_class_names_must_be_names_of_the_classes(tmp_path, names):
    save_checkpoint(tiny(), tmp_path / "model.safetensors", metadata={"class_names": names})
    with pytest.raises(CheckpointError, match="class_names.*expected a JSON list of at most 5 names"):
        _ = read_checkpoint(tmp_path / "model.safetensors").class_names


@pytest.mark.parametrize(
    "metadata",
    [
        {"class_names": "[1, 2]"},
        {"latent_space": '{"ratio": 0, "scaling_factor": 1}'},
        {"latent_space": '{"ratio": Infinity, "scaling_factor": 1}'},
        {"latent_space": '{"ratio": 1, "scaling_factor": NaN}'},
        {"resolution": "16.0"},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_meant_names_the_file(tmp_path, metadata):
    """Commands take several files, and `inspect` says why one of them cannot be used."""
    save_checkpoint(tiny(), tmp_path / "model.safetensors", metadata=metadata)
    for read in (read_checkpoint, describe):
        with pytest.raises(CheckpointError, match=rf'model\.safetensors: has metadata "{next(iter(metadata))}"'):
            read(tmp_path / "model.safetensors")


def test_failed_save_keeps_the_old_file(tmp_path):
    """The disk is full: simulated by the limit that POSIX sets on the size of files."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX")
    path = tmp_path / "model.safetensors"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(Exception, match="(?i)too large"):
            save_checkpoint(tiny(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def write_half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tim_model.files.tensor_files.save_file", write_half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny(), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.kind)
def test_broken_files_are_refused_in_one_line(tmp_path, monkeypatch, broken):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / broken.name
    broken.make(path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}: ")
    assert broken.says in message
    assert not (tmp_path / SENTINEL).exists()


def test_meta_tensors_have_no_values_to_load(tmp_path):
    path = tmp_path / "model.bin"
    torch.save(TiM(TINY, device="meta").state_dict(), path)
    with pytest.raises(CheckpointError, match="x_embedder.proj.weight has a shape but no values"):
        load_checkpoint(path)
    assert "parameters  0.02M" in describe(path)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("tim-t2i-xl-p1", "864.98M"),
        ("tim-c2i-xl-p2-256", "664.13M"),
        ("tim-c2i-xl-p1-512", "664.16M"),
        ("tim-c2i-b-p4-256", "128.83M"),
    ],
)
@pytest.mark.parametrize("projector", [True, False])
def test_official_layouts_are_described_by_name(tmp_path, name, millions, projector):
    params = OFFICIAL[name] if projector else OFFICIAL[name].without_projector()
    torch.save(TiM(params, device="meta", dtype=torch.bfloat16).state_dict(), tmp_path / "model.bin")
    facts = dict(line.split(maxsplit=1) for line in describe(tmp_path / "model.bin").splitlines())
    assert facts["layout"] == name
    assert facts["parameters"] == f"{millions} without the projector"
    assert facts["projector"] == (f"768 features after block {params.encoder_depth}" if projector else "none")
    assert facts["condition"] == ("text features of width 1152" if "t2i" in name else "1000 classes")
    assert facts["dtype"] == "bfloat16"


def test_other_layouts_are_described_as_custom(tmp_path):
    save_checkpoint(tiny(), tmp_path / "model.safetensors", metadata={"class_names": '["a", "b", "c", "d", "e"]'})
    assert describe(tmp_path / "model.safetensors").splitlines() == [
        f"file        {tmp_path / 'model.safetensors'}",
        "layout      custom",
        "condition   5 classes: a, b, c, d, e",
        "parameters  0.02M without the projector",
        "projector   6 features after block 1",
        "sizes       hidden 16, depth 2, heads 2, patch 2, channels 3, mlp 24, adaLN 8",
        "dtype       float32",
    ]

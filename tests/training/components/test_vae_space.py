"""The latent space of a VAE is that of the loaded one, and no weight is read for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from tim_model import load_vae
from training.components.vae_space import vae_space
from training.evaluation.bundled import BUNDLED


@pytest.fixture
def path() -> str:
    return str(BUNDLED["vae"])


def test_equals_that_of_the_loaded_vae(path):
    vae, space = load_vae(path), vae_space(path)
    assert (space.channels, space.ratio, space.scaling_factor) == (vae.channels, vae.ratio, vae.scaling_factor)


def test_reads_the_header_alone(path, tmp_path):
    """A copy whose weights are all zeros, as a sparse file."""
    content = Path(path).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    copy = tmp_path / "vae.safetensors"
    with open(copy, "wb") as file:
        file.write(content[:header])
        file.truncate(len(content))
    config = Path(path).with_name("config.json")
    if config.is_file():
        copy.with_name("config.json").write_bytes(config.read_bytes())
    with safe_open(copy, framework="pt") as file:
        assert file.keys()
    assert vae_space(str(copy)) == vae_space(path)


def test_what_is_no_vae_is_refused_in_one_line(tmp_path):
    path = tmp_path / "vae.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no whole safetensors file") as error:
        vae_space(str(path))
    assert "\n" not in str(error.value)

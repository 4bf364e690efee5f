"""REPA: the loss by geometry, and features of any timm encoder on the grid of the network's tokens."""

from __future__ import annotations

import sys

import pytest
import torch

from training.objectives.repa import ImageEncoder, build_encoder, feature_width, projection_loss


def test_cosine():
    """0 for parallel features of any length, 1 for orthogonal, 2 for opposite ones; the mean over tokens."""
    target = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert float(projection_loss(3 * target, target)) == pytest.approx(0, abs=1e-6)
    assert float(projection_loss(-target, target)) == pytest.approx(2)
    assert float(projection_loss(target.flip(-1), target)) == pytest.approx(1)
    half = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])
    assert float(projection_loss(half, target)) == pytest.approx(1)


def test_bad_sample_counts_nothing():
    h, target = torch.ones(2, 3, 4), torch.ones(2, 3, 4)
    target[1, 0] = float("nan")
    assert projection_loss(-h, target).tolist() == pytest.approx([2, 0])


def test_computed_in_float32():
    h = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert projection_loss(h, h).dtype == torch.float32
    assert float(projection_loss(h, h).abs().max()) < 1e-6


@pytest.mark.parametrize(("name", "ratio"), [("vit_tiny_patch16_224", 16), ("resnet18", 32)])
def test_features_lie_on_the_grid_of_tokens(name, ratio):
    """Row-major, one per token, for any h and w; a bright corner shows in the tokens of that corner."""
    pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    encoder = ImageEncoder(name, pretrained=False)
    assert encoder.ratio == ratio
    images = torch.full((2, 3, 96, 144), -1.0)
    images[1, :, -16:, :16] = 1.0
    features = encoder(images, 6, 9)
    assert features.shape == (2, 54, encoder.z_dim) and not features.requires_grad
    change = (features[1] - features[0]).norm(dim=-1).view(6, 9)
    assert divmod(int(change.argmax()), 9) == (5, 0)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_width_needs_no_weights(name, monkeypatch):
    """It is that of the encoder, whose parameters are only shapes meanwhile."""
    pytest.importorskip("timm", reason="timm is not installed")
    width = ImageEncoder(name, pretrained=False).z_dim
    devices = set()

    def build(*arguments):
        model = build_encoder(*arguments)
        devices.update(value.device.type for value in model.parameters())
        return model

    monkeypatch.setattr("training.objectives.repa.build_encoder", build)
    assert feature_width(name) == width and devices == {"meta"}


def test_unknown_encoder():
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(ValueError, match="image encoder 'vit_of_nobody': timm knows no such model"):
        ImageEncoder("vit_of_nobody", pretrained=False)


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="needs an image encoder from timm: pip install timm"):
        ImageEncoder("vit_tiny_patch16_224")

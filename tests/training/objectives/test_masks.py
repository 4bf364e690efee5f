"""Loss masks and weights of samples: what they must leave as it is, and where no gradient may arrive."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.training.losses import loss_of
from training.objectives.loss import denoising_loss, position_mean
from training.objectives.sample import Sample

NAMES = ["tim", "flow_matching", "meanflow", "split_meanflow"]


class Pixels(nn.Module):
    """F = a + 0.1 x_t, times a factor of the times; a row's context says which of the parameters `a` are its own."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.a = nn.Parameter(torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape))

    def forward(self, x_t: Tensor, t: Tensor, r: Tensor, context: Tensor, **_) -> Tensor:
        return (self.a[context] + 0.1 * x_t) * (1 + t - r).view(-1, 1, 1, 1)


def batch(rows: int = 3, **more: Tensor) -> Sample:
    generator = torch.Generator().manual_seed(1)
    x, noise = (torch.randn(rows, 2, 4, 4, generator=generator) for _ in range(2))
    t, r = torch.tensor([0.3, 0.7, 0.9])[:rows], torch.tensor([0.3, 0.2, 0.0])[:rows]
    return Sample(x, noise, t, r, torch.arange(rows), **more)


def half() -> Tensor:
    """White in the left half."""
    mask = torch.zeros(3, 1, 4, 4)
    mask[..., :2] = 1
    return mask


def loss_and_gradient(sample: Sample, name: str) -> tuple[Tensor, Tensor]:
    net = Pixels(tuple(sample.x.shape))
    loss = loss_of(net, sample, name=name).weighted_loss
    loss.backward()
    return loss.detach(), net.a.grad


@pytest.mark.parametrize("name", NAMES)
def test_constant_masks_and_weights_of_one_change_nothing(name):
    expected = loss_and_gradient(batch(), name)
    for more in ({"mask": torch.full((3, 1, 4, 4), 0.25)}, {"weight": torch.ones(3)}):
        torch.testing.assert_close(loss_and_gradient(batch(**more), name), expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_where_the_mask_is_black(name):
    _, gradient = loss_and_gradient(batch(mask=half()), name)
    assert torch.equal(gradient[..., 2:], torch.zeros(3, 2, 4, 2)) and (gradient[..., :2] != 0).all()


def test_mask_of_a_half_is_the_loss_of_that_half():
    """The network works position by position, so that the other half might as well not be there."""
    sample, mask = batch(), half()
    F_pred, target = sample.noise, sample.x
    masked = denoising_loss(F_pred, target, cosine=True, mask=mask)
    torch.testing.assert_close(masked, denoising_loss(F_pred[..., :2], target[..., :2], cosine=True))


def test_gray_weighs_between_black_and_white():
    error = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)
    assert float(position_mean(error, torch.tensor([1.0, 0.25]).view(1, 1, 1, 2))) == pytest.approx(2.25 / 1.25)
    assert float(position_mean(error, torch.zeros(1, 1, 1, 2))) == 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_factors_of_the_samples_gradients(name):
    loss, gradient = loss_and_gradient(batch(), name)
    weights = torch.tensor([2.0, 0.0, 1.0])
    _, weighted = loss_and_gradient(batch(weight=weights), name)
    torch.testing.assert_close(weighted, gradient * weights.view(-1, 1, 1, 1))
    doubled, _ = loss_and_gradient(batch(weight=torch.full((3,), 2.0)), name)
    torch.testing.assert_close(doubled, 2 * loss)


def test_masks_follow_their_rows():
    sample = batch(mask=half(), weight=torch.arange(3.0))
    chosen = sample.at(torch.tensor([2, 0]))
    assert torch.equal(chosen.mask, sample.mask[[2, 0]]) and chosen.weight.tolist() == [2, 0]
    assert replace(sample, mask=None).at(torch.tensor([1])).mask is None

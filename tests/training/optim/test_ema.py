"""The average of the weights: closed forms, warm-up, and an exact state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.tim_model.golden import FOLDER
from tim_model import load_checkpoint
from training.optim.ema import EMA


def weight(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    net = nn.Linear(1, 1, bias=False, dtype=dtype)
    nn.init.constant_(net.weight, value)
    return net


def test_constant_decay():
    """From 1, with the trained weight at 0, n updates leave decay^n."""
    ema = EMA(weight(1.0), decay=0.9, warmup=False)
    for _ in range(5):
        ema.update(weight(0.0))
    assert float(ema.net.weight) == pytest.approx(0.9**5, rel=1e-6)


def test_warmup():
    """min(decay, (1 + n) / (10 + n)): short memory at first, the full one for good."""
    ema, decays = EMA(weight(1.0), decay=0.5), []
    expected = 1.0
    for n in range(12):
        decays.append(ema.next_decay())
        expected *= min(0.5, (1 + n) / (10 + n))
        ema.update(weight(0.0))
    assert decays[:2] == [0.1, 2 / 11] and decays[7:] == [8 / 17, 0.5, 0.5, 0.5, 0.5]
    assert float(ema.net.weight) == pytest.approx(expected, rel=1e-5)


def test_all_parameters_of_the_network():
    """Every parameter moves; the trained network stays what it is and shares nothing with the average."""
    net = load_checkpoint(FOLDER / "t2i_weights.safetensors").requires_grad_(True).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ema = EMA(net, decay=0.75, warmup=False)
    moved = {name: value + 1 for name, value in before.items()}
    net.load_state_dict(moved)
    ema.update(net)
    for name, value in ema.net.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.25)
        assert torch.equal(net.state_dict()[name], moved[name])
    assert not ema.net.training and not any(p.requires_grad for p in ema.net.parameters())
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_kept_in_float32():
    """In bfloat16 steps of 1e-4 would round away."""
    ema = EMA(weight(1.0, torch.bfloat16), decay=0.9999, warmup=False)
    for _ in range(100):
        ema.update(weight(0.0, torch.bfloat16))
    assert float(ema.net.weight) == pytest.approx(0.9999**100, rel=1e-5)


def test_state_is_exact(tmp_path):
    """Saved, read back and continued, bit for bit what an unbroken run has; the warm-up goes on where it was."""
    values = [0.3, -1.0, 2.0, 0.7, 0.1, 5.0]
    whole, first = EMA(weight(1.0)), EMA(weight(1.0))
    for value in values:
        whole.update(weight(value))
    for value in values[:3]:
        first.update(weight(value))
    torch.save(first.state_dict(), tmp_path / "ema.pt")
    second = EMA(weight(9.0))
    second.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))
    for value in values[3:]:
        second.update(weight(value))
    assert torch.equal(second.net.weight, whole.net.weight)
    assert second.updates == whole.updates == 6 and second.next_decay() == whole.next_decay()


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_refusals(decay):
    with pytest.raises(ValueError, match=f"decay={decay}: expected a number between 0 and 1"):
        EMA(weight(1.0), decay)

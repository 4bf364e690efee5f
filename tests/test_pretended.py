"""The pretended device refuses what a real one refuses, and computes what the CPU does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.pretended import DeviceTensor, PretendedDevice

KINDS = ("cuda", "mps", "xpu")
SLIPS: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": lambda x: x * torch.tensor([1.0, 2.0, 3.0]),
    "arange": lambda x: x + torch.arange(3),
    "zeros": lambda x: torch.cat([x, torch.zeros(1, 3)]),
    "cpu": lambda x: x + x.cpu(),
    "to the CPU": lambda x: x.to("cpu") * x,
    "weights": lambda x: nn.Linear(3, 3)(x),
    "index": lambda x: torch.zeros(2, 3)[x.long()],
    "embedding": lambda x: nn.functional.embedding(torch.tensor([0]), x),
    "generator": lambda x: torch.randn(2, 3, generator=torch.Generator(), device=x.device) + x,
    "double": lambda x: x.double(),
    "dtype": lambda x: torch.zeros(3, dtype=torch.float64, device=x.device) + x,
    "numpy's numbers": lambda x: torch.as_tensor(torch.ones(3).numpy().astype("float64"), device=x.device) + x,
    "complex": lambda x: torch.polar(x, x),
    "numpy": lambda x: torch.from_numpy(x.numpy()),
    "another device": lambda x: x.to("hpu"),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def device(request):
    with PretendedDevice(request.param) as pretended:
        yield pretended


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_slips_are_refused(slip, device):
    with pytest.raises((RuntimeError, TypeError)):
        slip(torch.randn(2, 3, device=device.device))


def test_cuda_is_refused_on_other_devices(device):
    x = torch.ones(2, device=device.device)
    if device.device.type == "cuda":
        assert x.cuda().device == device.device
    else:
        with pytest.raises(RuntimeError, match="no cuda"):
            x.cuda()


GOOD: dict[str, Callable[[Tensor], Tensor]] = {
    "like": lambda x: x + torch.zeros_like(x) + x.new_ones(3) + x.new_tensor([1, 2, 3]) + x.new_full((3,), 2),
    "own constant": lambda x: x + torch.arange(3, device=x.device) + torch.tensor([1.0, 2.0, 3.0], device=x.device),
    "number": lambda x: 0.5 * x + torch.tensor(0.5),
    "moved": lambda x: x + torch.ones(3).to(x) + torch.ones(2, 3).to(x.device, torch.float16),
    "indices": lambda x: x[[1, 0]] + x[torch.tensor([0, 1])],
    "written": lambda x: x.clone().copy_(torch.ones(2, 3)),
    "layers": lambda x: nn.Linear(3, 3, bias=False).to(x.device)(x) * 0 + x,
    "jvp": lambda x: torch.func.jvp(lambda y: y.sin() * torch.ones(3, device=y.device), (x,), (x,))[1],
}  # fmt: skip


@pytest.mark.parametrize("function", GOOD.values(), ids=GOOD)
def test_good_code_computes_what_the_cpu_does(function, device):
    x = torch.randn(2, 3)
    found = function(device.put(x))
    assert isinstance(found, DeviceTensor) and found.device == device.device
    assert torch.equal(found.values, function(x))
    assert device.copied == [] and device.read == 0


def test_copies_and_reads_are_counted(device):
    x = device.put(torch.ones(2, 3))
    assert x.tolist() == [[1, 1, 1]] * 2 and x.cpu().device.type == "cpu" and float(x.sum()) == 6
    assert device.copied == [(2, 3)] * 2 and device.read == 1


def test_a_step_of_training_is_that_of_the_cpu(device):
    def step(layer: nn.Linear) -> Tensor:
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        layer(torch.ones(2, 3).to(layer.weight)).square().mean().backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        return layer.weight.detach()

    layer = nn.Linear(3, 3)
    moved = nn.Linear(3, 3).to(device.device)
    moved.load_state_dict(layer.state_dict())
    assert torch.equal(step(moved).values, step(layer))

"""EasyCache, which leaves out calls of the network, on TiM as on the host's own transformers."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from tests.host.graphs import MODEL_FILE, SEED, assert_close, class_model, ksampler, labels, run_latent, run_patched
from tim_model import TiM, load_checkpoint, make_times, sample
from tim_model.sampling.noise import draw_noise


@pytest.fixture(scope="module")
def net() -> TiM:
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise((1, 3, 32, 32), SEED)


class EasyCache:
    """The host's EasyCache around a network, unguided: where x changed little, the output changes as x does."""

    def __init__(self, net: TiM, threshold: float, start: float, end: float):
        self.net, self.threshold, self.start, self.end = net, threshold, start, end
        self.x = self.F = self.rate = None
        self.change, self.skipped = 0.0, 0

    def __call__(self, x: Tensor, t: Tensor, r: Tensor, y: Tensor) -> Tensor:
        if t <= self.end or t > self.start:  # before the start the host does not even look
            return self.net(x, t, r, y)
        moved = None if self.x is None else thin(x - self.x).abs().mean()
        if self.rate is not None:
            self.change = self.change + self.rate * moved / self.F.abs().mean()
            if self.change < self.threshold:
                self.skipped += 1
                return x + self.F - self.x
            self.change = 0.0
        F = self.net(x, t, r, y)
        if moved is not None:
            self.rate = thin(F - self.F).abs().mean() / moved
        self.x, self.F = x, F
        return F


def thin(x: Tensor) -> Tensor:
    return x[..., ::8, ::8]


def skipped_steps(log: str) -> tuple[int, int]:
    """How many steps of how many the last run left out."""
    skipped, steps = re.findall(r"EasyCache - skipped (\d+)/(\d+) steps", log)[-1]
    return int(skipped), int(steps)


EASY_CACHE = {"start_percent": 0.15, "end_percent": 0.95, "verbose": False}


def test_easy_cache(host, net, noise):
    """The state that the host keeps outside the network stays its own, though the node writes into what it is given."""
    cached = EasyCache(net, 0.2, start=0.85, end=0.05)
    times = make_times("uniform", 20)
    expected = sample(cached, noise, times, labels(noise))
    options = {"steps": 20, "cfg": 1.0}
    found = run_patched(host, "EasyCache", options, reuse_threshold=0.2, **EASY_CACHE)
    assert skipped_steps(host.log) == (cached.skipped, 20)
    assert 3 < cached.skipped < 17
    assert_close(found, expected)
    assert (found - sample(net, noise, times, labels(noise))).abs().max() > 0.01


def test_easy_cache_with_guidance(host):
    plain = run_latent(host, {**class_model(), "sample": ksampler(steps=20)})
    cached = run_patched(host, "EasyCache", {"steps": 20}, reuse_threshold=0.2, **EASY_CACHE)
    assert skipped_steps(host.log)[0] > 3
    assert 0.001 < (cached - plain).abs().mean() < 0.1


def test_easy_cache_that_reuses_nothing_is_no_cache(host):
    plain = run_latent(host, {**class_model(), "sample": ksampler(steps=10)})
    cached = run_patched(host, "EasyCache", {"steps": 10}, reuse_threshold=0.0, **EASY_CACHE)
    assert skipped_steps(host.log) == (0, 10)
    assert torch.equal(cached, plain)

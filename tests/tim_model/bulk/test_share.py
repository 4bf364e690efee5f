"""The share of a process: alone without a launcher, else every world-th item and a GPU of its own."""

from __future__ import annotations

import pytest
import torch

from tim_model.bulk.share import Share, join


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    share = join()
    assert share == Share() and share.of([1, 2, 3]) == [1, 2, 3]
    share.wait()
    share.leave()


def test_half_a_launcher_is_refused(monkeypatch):
    """Otherwise each of its processes would draw all images."""
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="WORLD_SIZE"):
        join()


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_are_all_items_once(world):
    items = list(range(20))
    shares = [Share(rank, world).of(items) for rank in range(world)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Share(rank, 4, rank % 2).device(None) for rank in range(4)] == ["cuda:0", "cuda:1"] * 2
    assert Share(1, 4, 1).device("cuda") == "cuda:1"
    assert Share(1, 4, 1).device("cuda:3") == "cuda:3" and Share(1, 4, 1).device("cpu") == "cpu"
    assert Share().device(None) is None and Share().device("cuda") == "cuda"

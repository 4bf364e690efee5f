"""Seconds of this version against an earlier one, in pairs in one process, on one thread of the CPU.

    git worktree add ../before COMMIT
    OMP_NUM_THREADS=1 python -m benchmarks.paired forward --before ../before --size 512 --depth 2
    OMP_NUM_THREADS=1 python -m benchmarks.paired guided --before ../before --size 512 --depth 6 --pairs 3
    OMP_NUM_THREADS=1 python -m benchmarks.paired training --before ../before --pairs 9

forward and guided (8 steps, all but the first with guidance) are of the published text layout with fewer blocks and 200
text tokens; training is a step of the sizes of training/recipes/emoji/tim.yaml, 64 samples in bfloat16 autocast. What
is compared is the time that the processor spent, so that other work of the machine counts little.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import torch

from tim_model import OFFICIAL

LAYOUT = "tim-t2i-xl-p1"
EMOJI = {
    "in_channels": 16, "patch_size": 2, "hidden_size": 256, "depth": 6, "num_heads": 4, "mlp_hidden": 683,
    "adaln_hidden": 85, "context_dim": 640,
}  # fmt: skip
PROMPT_TOKENS, STEPS, SAMPLES = 200, 8, 64
Import = Callable[[str], ModuleType]


def version(root: Path) -> Import:
    """An import of the modules of a checkout, beside those of another."""
    kept: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        ours = [module for module in sys.modules if module.partition(".")[0] in ("tim_model", "training")]
        before = {module: sys.modules.pop(module) for module in ours}
        sys.modules.update(kept)
        sys.path.insert(0, str(root))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(root))
            now = [module for module in sys.modules if module.partition(".")[0] in ("tim_model", "training")]
            kept.update({module: sys.modules.pop(module) for module in now})
            sys.modules.update(before)

    return load


def network(load: Import, params: dict[str, int]) -> torch.nn.Module:
    tim_model = load("tim_model")
    net = tim_model.TiM(tim_model.TiMParams(**params))
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.02, generator=generator)
    return net


def sampling_call(load: Import, size: int, depth: int, is_guided: bool) -> Callable[[], object]:
    params = replace(OFFICIAL[LAYOUT].without_projector(), depth=depth, encoder_depth=1)
    net = network(load, {name: value for name, value in asdict(params).items() if value is not None})
    net.requires_grad_(False)
    torch.manual_seed(0)
    x, t = torch.randn(1, params.in_channels, size // 32, size // 32), torch.tensor([0.7])
    context, null = torch.randn(2, 1, PROMPT_TOKENS, params.context_dim).unbind()
    if is_guided:
        sample = load("tim_model.sampling.sampler").sample
        times = torch.linspace(1, 0, STEPS + 1).tolist()
        return lambda: sample(net, x, times, context, null, cfg=2.5)
    return torch.no_grad()(lambda: net(x, t, t / 2, context))


def training_step(load: Import) -> Callable[[], object]:
    net = network(load, EMOJI)
    objective = load("training.objectives.objectives").make_objective(load("training.config.schema").ObjectiveConfig())
    path, record = load("tim_model.sampling.transport").get_transport("ot_fm"), load("training.objectives.sample")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    torch.manual_seed(0)
    x, noise, context = torch.randn(SAMPLES, 16, 8, 8), torch.randn(SAMPLES, 16, 8, 8), torch.randn(SAMPLES, 12, 640)
    t = torch.rand(SAMPLES) * 0.9 + 0.05
    r = torch.where(torch.arange(SAMPLES) < SAMPLES // 2, t, t / 2)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(net, path, record.Sample(x, noise, t, r, context)).weighted_loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["forward", "guided", "training"])
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier version")
    parser.add_argument("--size", type=int, default=512, help="pixels (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=2, help="blocks of the layout's 28 (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=7, help="default: %(default)s")
    a = parser.parse_args()
    torch.set_num_threads(1)
    calls = []
    for root in (a.before.resolve(), Path(__file__).resolve().parent.parent):
        load = version(root)
        is_guided = a.what == "guided"
        calls.append(training_step(load) if a.what == "training" else sampling_call(load, a.size, a.depth, is_guided))
        calls[-1]()
    pairs = [tuple(seconds(call) for call in calls) for _ in range(a.pairs)]
    ratios = [before / after for before, after in pairs]
    before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{a.what}: {before:.3f} s before, {after:.3f} s after; ratio {statistics.median(ratios):.2f}, the median of")
    print(", ".join(f"{ratio:.2f}" for ratio in sorted(ratios)))


if __name__ == "__main__":
    main()

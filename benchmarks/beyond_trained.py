"""The demo network beyond its trained sizes: python -m benchmarks.beyond_trained [--factors 2 3] [--out FOLDER]

The same prompts at the sizes of training and at several times their sides: natively, with each RoPE scaling, and
progressively, all in the same number of steps. Images are scored twice: as they are, in cells of the trained 32
pixels, and reduced to the trained size with antialiasing, where items that were drawn larger have their trained size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tim_model import TiMPipeline
from tim_model.files.tensor_files import write_text
from tim_model.network.rope import ROPE_SCALINGS
from tim_model.request import gather
from tim_model.sampling.progressive import Stage, plan_stages
from tim_model.sampling.schedule import make_times
from training.evaluation.bundled import BUNDLED
from training.evaluation.drawing import to_bytes
from training.evaluation.recognizers import load_fashion_recognizer
from training.evaluation.scores import percent, write_json
from training.evaluation.scoring import Scorer
from training.scenes.folder import make_prompts
from training.scenes.prompts import Prompt

NATIVE = "native, RoPE none"
JUDGED = ("native", "reduced")
LARGE_STEPS = 1  # of the steps of a progressive image
Plan = Callable[[int, int, int], Sequence[Stage]]  # of trained width and height, and the factor


@dataclass(frozen=True)
class Strategy:
    """How a large image is made: its stages, the RoPE scaling, and what grows between stages."""

    plan: Plan
    rope: str = "none"
    enlarge: str = "pixels"


def strategies(steps: int, unit: int, renoise: Sequence[float]) -> dict[str, Strategy]:
    def native(width: int, height: int, factor: int) -> list[Stage]:
        return [Stage(factor * width, factor * height, tuple(make_times("uniform", steps)))]

    def progressive(s: float) -> Plan:
        def plan(width: int, height: int, factor: int) -> list[Stage]:
            return plan_stages(
                (factor * width, factor * height), unit, base_pixels=width * height, growth=factor,
                steps=steps - LARGE_STEPS, large_steps=LARGE_STEPS, renoise=s,
            )  # fmt: skip

        return plan

    found = {f"native, RoPE {kind}": Strategy(native, kind) for kind in ROPE_SCALINGS}
    for (enlarge, kind), s in product((("pixels", "none"), ("pixels", "ntk"), ("latents", "none")), renoise):
        found[f"progressive in {enlarge}, re-noised to {s:g}, RoPE {kind}"] = Strategy(progressive(s), kind, enlarge)
    return found


class Meter:
    """The network, with the processor seconds spent inside it."""

    def __init__(self, net: torch.nn.Module):
        self.seconds = 0.0
        self.hooks = net.register_forward_pre_hook(self.start), net.register_forward_hook(self.stop)

    def start(self, *_) -> None:
        self.begun = time.process_time()

    def stop(self, *_) -> None:
        self.seconds += time.process_time() - self.begun

    def close(self) -> float:
        """End the measurement and return the seconds."""
        for hook in self.hooks:
            hook.remove()
        return self.seconds


def draw(
    pipeline: TiMPipeline, prompts: Sequence[Prompt], condition: Sequence[Tensor], strategy: Strategy, factor: int,
    cfg: float, batch: int,
) -> list[np.ndarray]:  # fmt: skip
    """An image (H,W,3) of each prompt, in bytes, at `factor` times its sides."""
    pictures: dict[int, np.ndarray] = {}
    sizes = sorted({(prompt.width, prompt.height) for prompt in prompts})
    for size in tqdm(sizes, leave=False, disable=None):
        places = [i for i, prompt in enumerate(prompts) if (prompt.width, prompt.height) == size]
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            rows = type(condition)(*(value[part] for value in condition))
            request = gather(
                pipeline.default_size, [prompts[i].text for i in part], stages=strategy.plan(*size, factor),
                seed=start, cfg=cfg, rope=strategy.rope, enlarge=strategy.enlarge,
            )  # fmt: skip
            images = pipeline.generate(request, rows)
            pictures |= zip(part, to_bytes(images), strict=True)
    return [pictures[i] for i in range(len(prompts))]


def reduced(picture: np.ndarray, factor: int) -> np.ndarray:
    """An image (H,W,3) at 1/factor of its sides, each pixel the mean of a square."""
    return np.asarray(Image.fromarray(picture).reduce(factor))


def measure(
    pipeline: TiMPipeline,
    scorer: Scorer,
    condition: Sequence[Tensor],
    strategy: Strategy,
    factor: int,
    cfg: float,
    batch: int,
) -> dict[str, object]:
    """Scores as drawn and reduced, and the processor seconds of the network for an image."""
    meter = Meter(pipeline.net)
    pictures = draw(pipeline, scorer.prompts, condition, strategy, factor, cfg, batch)
    seconds = meter.close() / len(pictures)
    small = [reduced(picture, factor) for picture in pictures]
    return {"native": asdict(scorer.score(pictures)), "reduced": asdict(scorer.score(small)), "seconds": seconds}


def cells(found: dict[str, object], base: dict[str, object]) -> list[str]:
    """Of a row: both scores with their 95% intervals in percent, and the network's time against `base`."""
    shown = [f"{percent(s['overall'])} ({percent(s['ci'][0])}–{percent(s['ci'][1])})" for s in map(found.get, JUDGED)]
    return [*shown, f"{found['seconds'] / base['seconds']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--factors", type=int, nargs="+", default=[2, 3], help="times the trained sides (default: 2 3)")
    add("--steps", type=int, default=8, help="of every strategy, 1 of them in a large stage (default: %(default)s)")
    add("--cfg", type=float, default=2.5, help="guidance scale (default: %(default)s)")
    add("--renoise", type=float, nargs="+", default=[0.05, 0.1, 0.3], help="times that large stages start at")
    add("--per-task", type=int, default=16, help="prompts of each task (default: %(default)s)")
    add("--batch", type=int, default=16, help="images drawn at once (default: %(default)s)")
    add("--out", type=Path, default=Path("runs/beyond_trained"), help="folder of results (default: %(default)s)")
    a = parser.parse_args()
    prompts = make_prompts(a.per_task)
    pipeline = TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"])
    condition = pipeline.text([prompt.text for prompt in prompts])
    scorer = Scorer(load_fashion_recognizer(BUNDLED["classifier"]), prompts)
    ways = strategies(a.steps, pipeline.unit, a.renoise)
    rows = []
    for factor in [1, *a.factors]:
        results = {}
        for name, strategy in ways.items() if factor > 1 else [(NATIVE, ways[NATIVE])]:
            path = a.out / f"{factor} {name}.json"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, measure(pipeline, scorer, condition, strategy, factor, a.cfg, a.batch))
            results[name] = json.loads(path.read_text(encoding="utf-8"))
            rows.append([f"{factor}x", name, *cells(results[name], results[NATIVE])])
            print(rows[-1], flush=True)
    head = ["sides", "strategy", "as drawn", "reduced", "network time against native"]
    text = "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * 2 + ["---:"] * 3, *rows]) + "\n"
    print(text)
    write_text(a.out / "beyond_trained.md", text)


if __name__ == "__main__":
    main()

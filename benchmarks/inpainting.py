"""Steps under a mask: python -m benchmarks.inpainting [--per-task N] [--steps 1,2,4,8] [--seed S] [--every-step]

The cell of one item is masked in real scenes of the demo's data with two or more items. The bundled network draws it
from the scene's prompt, and the recognizer decides whether the whole image then shows what the prompt asks for.
The drawn cells are compared with real ones by the Fréchet distance of the classifier's features, and by sharpness, the
mean of |Laplacian| of gray levels. Before each step the known part is set to its noised value, as ComfyUI does it.
Steps from t to r:

- transition: F(x_t, t, r)
- velocity: F(x_t, t, t), but transitions where `masked_target` has them, as ComfyUI's euler and ddim get it
- transition, restart: x_t - t F(x_t, t, 0) is the image; back to r with fresh noise
- velocity, restart: the same with `masked_target`, as the pack's own samplers do it

--between 0.02,0.1,0.2,0.3,0.4 instead draws in two steps, from 1 to each of these times and to 0: with velocities
throughout, and with a transition first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tim_model import TiMPipeline, make_times, sample
from tim_model.files.tensor_files import write_text
from tim_model.sampling.inpainting import masked_target
from training.evaluation.bundled import BUNDLED
from training.evaluation.classifier import ItemClassifier, classify, load_classifier
from training.evaluation.drawing import to_bytes
from training.evaluation.frechet import frechet_distance, statistics
from training.evaluation.recognizer import EMPTY, read_cells, recognize
from training.objectives.draws import Draws
from training.scenes.folder import make_prompts
from training.scenes.prompts import Prompt, real_scene
from training.scenes.scene import CELL, Items, Scene, render, satisfies

WAYS = ("transition", "velocity", "transition, restart", "velocity, restart")
TWO_STEPS = ("velocity throughout", "transition first")
BATCH = 64
EVERY_STEP = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Batch:
    """Scenes of one size, each without its first item: latents (B,C,h,w), and the mask (B,1,h,w), 1 where it was."""

    prompts: list[Prompt]
    scenes: list[Scene]
    known: Tensor
    mask: Tensor
    context: Tensor
    null_context: Tensor
    draws: Draws


def prepare(pipeline: TiMPipeline, items: Items, per_task: int, seed: int) -> list[Batch]:
    prompts = make_prompts(per_task, seed)
    pairs = [(prompt, real_scene(prompt, i, seed)) for i, prompt in enumerate(prompts)]
    pairs = [(prompt, scene) for prompt, scene in pairs if len(scene.things) > 1]
    batches, row = [], 0
    for size in sorted({scene.size for _, scene in pairs}):
        group = [pair for pair in pairs if pair[1].size == size]
        for k in range(0, len(group), BATCH):
            asked, scenes = map(list, zip(*group[k : k + BATCH], strict=True))
            pictures = torch.stack([torch.tensor(render(s, items)).permute(2, 0, 1) / 127.5 - 1 for s in scenes])
            known = pipeline.encode(pictures)
            context = pipeline.text([prompt.text for prompt in asked])
            draws = Draws(seed, 0, range(row, row + len(asked)))
            mask = masks(scenes, known, pipeline.space.ratio)
            batches.append(Batch(asked, scenes, known, mask, *context, draws))
            row += len(asked)
    return batches


def masks(scenes: Sequence[Scene], known: Tensor, ratio: int) -> Tensor:
    """1 in the cell of each scene's first item (B,1,h,w)."""
    side = CELL // ratio
    mask = torch.zeros_like(known[:, :1])
    for row, scene in zip(mask, scenes, strict=True):
        x, y = scene.things[0].column * side, scene.things[0].row * side
        row[:, y : y + side, x : x + side] = 1
    return mask


def target(kind: str, t: Tensor, r: Tensor) -> Tensor:
    """The target time that the network gets in place of r."""
    if kind == "velocity":
        return masked_target(t, r)
    return t if kind == "velocity throughout" or (kind == "transition first" and t[0] < 1) else r


def fill(net, batch: Batch, way: str, times: Sequence[float], cfg: float, interval: tuple[float, float]) -> Tensor:
    """The image's latents where the mask is 1, the known ones elsewhere."""
    kind, _, restart = way.partition(", ")
    noise = batch.draws.normal("noise", batch.known.shape[1:])
    fresh = (batch.draws.normal(f"fresh {i}", noise.shape[1:]) for i in range(len(times)))

    def field(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        s = t[:, None, None, None]
        inside = batch.mask * x + (1 - batch.mask) * ((1 - s) * batch.known + s * noise)
        r_net = target(kind, t, torch.zeros_like(r) if kind == "transition" and restart else r)
        data = batch.mask * (inside - s * net(inside, t, r_net, context)) + (1 - batch.mask) * batch.known
        return (x - data) / s

    options = {"cfg": cfg, "guidance_interval": interval, "redraw": bool(restart), "noise_fn": lambda x: next(fresh)}
    return sample(field, noise, times, batch.context, batch.null_context, **options)


def drawn_cell(picture, scene: Scene) -> Tensor:
    """Gray levels (32,32) in the cell of the scene's first item."""
    return read_cells(picture)[0][scene.things[0].row, scene.things[0].column]


@dataclass(frozen=True)
class Result:
    accepted: float  # in percent
    distance: float
    sharpness: float

    def __str__(self) -> str:
        return f"{self.accepted:.1f} / {self.distance:.1f} / {self.sharpness:.3f}"


def result(verdicts: list[bool], cells: list[Tensor], real: Tensor, classifier: ItemClassifier) -> Result:
    """Cells without an item count for neither distance nor sharpness."""
    gray = torch.stack([cell for cell in cells if cell.square().mean().sqrt() > EMPTY])[:, None]
    features = statistics(classify(classifier, gray)[1]), statistics(classify(classifier, real)[1])
    laplacian = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    sharpness = torch.nn.functional.conv2d(gray, laplacian).abs().mean()
    return Result(100 * sum(verdicts) / len(verdicts), frechet_distance(*features), float(sharpness))


@torch.no_grad()
def measure(
    pipeline: TiMPipeline, classifier: ItemClassifier, batches: list[Batch], real: Tensor, way: str,
    times: Sequence[float], cfg: float, interval: tuple[float, float],
) -> Result:  # fmt: skip
    verdicts, cells = [], []
    for batch in batches:
        latents = fill(pipeline.net, batch, way, times, cfg, interval)
        for picture, prompt, scene in zip(to_bytes(pipeline.decode(latents)), batch.prompts, batch.scenes, strict=True):
            verdicts.append(satisfies(recognize(picture, classifier).things, prompt.requirement))
            cells.append(drawn_cell(picture, scene))
    return result(verdicts, cells, real, classifier)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-task", type=int, default=32, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--steps", default="1,2,4,8", help="default: %(default)s")
    parser.add_argument("--between", help="times of two steps, in place of --steps")
    parser.add_argument("--cfg", type=float, default=2.5, help="guidance scale (default: %(default)s)")
    parser.add_argument("--every-step", action="store_true", help="guide the step at t = 1, too, as stock samplers do")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, scenes and noise (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/inpainting.md"), help="default: %(default)s")
    a = parser.parse_args()
    pipeline = TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"], device="cpu")
    classifier, items = load_classifier(BUNDLED["classifier"]), Items(BUNDLED["data"], "test")
    batches = prepare(pipeline, items, a.per_task, a.seed)
    scenes = [real_scene(prompt, 0, a.seed + 1000) for batch in batches for prompt in batch.prompts]
    real = torch.stack([drawn_cell(render(scene, items), scene) for scene in scenes])[:, None]
    interval = EVERY_STEP if a.every_step else (0.0, 1.0)
    schedules = {word: make_times("uniform", int(word)) for word in a.steps.split(",")}
    if a.between:
        schedules = {word: [1.0, float(word), 0.0] for word in a.between.split(",")}
    rows = [["way", *schedules], ["---", *["---:"] * len(schedules)]]
    for way in TWO_STEPS if a.between else WAYS:
        results = [
            measure(pipeline, classifier, batches, real, way, times, a.cfg, interval) for times in schedules.values()
        ]
        rows.append([way, *map(str, results)])
        print(rows[-1], flush=True)
    header = f"{len(scenes)} pictures, cfg {a.cfg:g}: accepted in percent / Fréchet distance / sharpness"
    text = f"{header}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
    print(text)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(a.out, text)


if __name__ == "__main__":
    main()

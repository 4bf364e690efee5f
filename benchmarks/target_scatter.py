"""How far training targets scatter: python -m benchmarks.target_scatter [MODEL.safetensors]

Squared distances between what a network gives and what an objective would train it towards, without guidance, mean and
median of real scenes. What scatters with the sample's own noise averages out, but only over many steps of training:
the target of TiM does, since its derivative follows the sample's own path; that of SplitMeanFlow is made of the network
alone. In rows with r = t both are the velocity of flow matching.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tim_model import TiMPipeline
from training.evaluate import BUNDLED
from training.objectives import OBJECTIVES, ObjectiveSettings
from training.scenes import Items, render, task_lines
from training.tasks import TaskLine, real_scene

TIMES = ((1.0, 0.0), (0.95, 0.0), (0.8, 0.0), (0.5, 0.0), (0.9, 0.5), (0.6, 0.3), (0.5, 0.5))  # t, r
COLUMNS = {
    "TiM, epsilon 0.005": ("tim", ObjectiveSettings(cosine=False)),
    "TiM, epsilon 0.02": ("tim", ObjectiveSettings(epsilon=0.02, cosine=False)),
    "SplitMeanFlow": ("split_meanflow", ObjectiveSettings()),
}


def real_latents(pipeline: TiMPipeline, lines: list[TaskLine], items: Items) -> Tensor:
    """Latents (B,C,H,W) of scenes that the prompts ask for."""
    pictures = torch.stack([torch.tensor(render(real_scene(line, i, 0), items)) for i, line in enumerate(lines)])
    return pipeline.vae.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED["model"], help="default: the bundled one")
    parser.add_argument("--per-task", type=int, default=64, help="scenes of each task (default: %(default)s)")
    a = parser.parse_args()
    pipeline = TiMPipeline.from_files(a.model, BUNDLED["text_encoder"], BUNDLED["vae"])
    lines = [TaskLine(**line) for line in task_lines(a.per_task, shape=(2, 2))]
    x = real_latents(pipeline, lines, Items(BUNDLED["data"], "test"))
    context = pipeline.text([line.prompt for line in lines])[0]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    print(f"| t | r | mean F^2 | {' | '.join(COLUMNS)} |\n{'|---' * (3 + len(COLUMNS))}|")
    for t, r in TIMES:
        times = x.new_full((len(x),), t), x.new_full((len(x),), r)
        cells = []
        for name, settings in COLUMNS.values():
            with torch.no_grad():
                loss = OBJECTIVES[name](pipeline.net, x, noise, *times, context, settings).denoising_loss
            cells.append(f"{loss.mean():.2f} (median {loss.median():.2f})")
        with torch.no_grad():
            scale = pipeline.net((1 - t) * x + t * noise, *times, context).square().mean()
        print(f"| {t:g} | {r:g} | {scale:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

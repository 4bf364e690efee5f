"""Variance of training targets: python -m benchmarks.target_scatter [MODEL.safetensors]

Squared distances between what a network gives and what an objective would train it towards, without guidance, mean and
median of real scenes. The part that depends on the sample's own noise averages out only over many steps of
training. TiM's target has such a part, since its derivative follows the sample's own path; the target of SplitMeanFlow
depends on the network alone. In rows with r = t both are the velocity of flow matching.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tim_model import TRANSPORTS, TiMPipeline
from training.config.schema import ObjectiveConfig
from training.evaluation.bundled import BUNDLED
from training.objectives.objectives import make_objective
from training.objectives.sample import Sample
from training.scenes.folder import make_prompts
from training.scenes.prompts import Prompt, real_scene
from training.scenes.scene import Items, render

TIMES = ((1.0, 0.0), (0.95, 0.0), (0.8, 0.0), (0.5, 0.0), (0.9, 0.5), (0.6, 0.3), (0.5, 0.5))  # t, r
COLUMNS = {
    "TiM, epsilon 0.005": make_objective(ObjectiveConfig(cosine=False)),
    "TiM, epsilon 0.02": make_objective(ObjectiveConfig(epsilon=0.02, cosine=False)),
    "SplitMeanFlow": make_objective(ObjectiveConfig("split_meanflow")),
}


def real_latents(pipeline: TiMPipeline, prompts: list[Prompt], items: Items) -> Tensor:
    """Latents (B,C,H,W) of scenes that the prompts ask for."""
    pictures = torch.stack([torch.tensor(render(real_scene(prompt, i, 0), items)) for i, prompt in enumerate(prompts)])
    return pipeline.vae.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED["model"], help="default: the bundled one")
    parser.add_argument("--per-task", type=int, default=64, help="scenes of each task (default: %(default)s)")
    a = parser.parse_args()
    pipeline = TiMPipeline.from_files(a.model, BUNDLED["text_encoder"], BUNDLED["vae"])
    prompts = make_prompts(a.per_task, shape=(2, 2))
    x = real_latents(pipeline, prompts, Items(BUNDLED["data"], "test"))
    context = pipeline.text([prompt.text for prompt in prompts])[0]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    print(f"| t | r | mean F^2 | {' | '.join(COLUMNS)} |\n{'|---' * (3 + len(COLUMNS))}|")
    for t, r in TIMES:
        times = x.new_full((len(x),), t), x.new_full((len(x),), r)
        cells = []
        for objective in COLUMNS.values():
            with torch.no_grad():
                loss = objective(pipeline.net, TRANSPORTS["ot_fm"], Sample(x, noise, *times, context)).denoising_loss
            cells.append(f"{loss.mean():.2f} (median {loss.median():.2f})")
        with torch.no_grad():
            scale = pipeline.net((1 - t) * x + t * noise, *times, context).square().mean()
        print(f"| {t:g} | {r:g} | {scale:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

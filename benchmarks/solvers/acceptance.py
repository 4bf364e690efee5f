"""The demo's prompts drawn in any way, and what the recognizer accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tim_model import TiMPipeline
from training.evaluation.bundled import BUNDLED
from training.evaluation.classifier import ItemClassifier, load_classifier
from training.evaluation.drawing import PromptSampler, to_bytes
from training.evaluation.frechet import Statistics, frechet_distance
from training.evaluation.paired import paired_difference
from training.evaluation.recognizer import recognize
from training.evaluation.scores import score
from training.evaluation.scoring import feature_statistics
from training.objectives.draws import Draws
from training.scenes.folder import make_prompts
from training.scenes.prompts import real_scene
from training.scenes.scene import Items, render, satisfies

Drawing = Callable[[Tensor, list[int], tuple[Tensor, Tensor]], Tensor]
"""Noise (B,...), the places of its prompts, and (context, null context) -> latents."""


@dataclass(frozen=True)
class Verdicts:
    accepted: list[bool]
    frechet: float


@dataclass(frozen=True)
class AcceptanceScorer:
    """Prompts and noise that all ways of drawing share."""

    sampler: PromptSampler
    classifier: ItemClassifier
    reference: Statistics

    @classmethod
    def of_prompts(cls, pipeline: TiMPipeline, per_task: int, seed: int = 0) -> AcceptanceScorer:
        """`per_task` prompts of each of the eight kinds; two of them, of unseen combinations, count in no score."""
        prompts = make_prompts(per_task, seed)
        classifier, items = load_classifier(BUNDLED["classifier"]), Items(BUNDLED["data"], "test")
        scenes = [real_scene(prompt, i, seed + 1) for i, prompt in enumerate(prompts)]
        reference = feature_statistics([recognize(render(scene, items), classifier) for scene in scenes])
        condition = pipeline.text([prompt.text for prompt in prompts])
        return cls(PromptSampler(pipeline, prompts, condition, seed), classifier, reference)

    def score(self, drawing: Drawing) -> Verdicts:
        """What is accepted of one image for each prompt, from its own noise."""
        sampler, images = self.sampler, {}
        for places, shape in sampler.batches():
            noise = Draws(sampler.seed, 0, places).normal("noise", shape[1:])
            latents = drawing(noise, places, tuple(c[places] for c in sampler.condition))
            images |= zip(places, to_bytes(sampler.pipeline.decode(latents)), strict=True)
        found = [recognize(images[i], self.classifier) for i in range(len(sampler.prompts))]
        accepted = [satisfies(f.things, p.requirement) for f, p in zip(found, sampler.prompts, strict=True)]
        return Verdicts(accepted, frechet_distance(feature_statistics(found), self.reference))

    def table(self, corner: str, rows: Mapping[str, list[Verdicts]], columns: list[str], baseline: str) -> str:
        """Markdown: accepted in percent, its paired difference to the baseline's row with its 95% interval, Fréchet."""
        lines = [[corner, *columns], ["---"] * (1 + len(columns))]
        for name, row in rows.items():
            lines.append([name, *(self.cell(v, b, name == baseline) for v, b in zip(row, rows[baseline], strict=True))])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def cell(self, verdicts: Verdicts, baseline: Verdicts, itself: bool) -> str:
        overall = score(verdicts.accepted, self.sampler.prompts).overall
        found, low, high = paired_difference(verdicts.accepted, baseline.accepted, self.sampler.prompts)
        pair = "" if itself else f" ({100 * found:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
        return f"{100 * overall:.1f}{pair}; {verdicts.frechet:.2f}"

"""TiM Step Sweep: one prompt and seed at several step counts, all images and a labeled grid."""

from __future__ import annotations

import math
import time

import comfy.samplers
import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..tim_model import SCHEDULES, make_times
from ..tim_model.images import grid, to_pictures
from .aliases import search_aliases
from .guider import guidance_inputs
from .host.guider import SeriesGuider, build_guider
from .host.model import tim_model_of
from .host.tiled_vae import check_vae
from .host.transition_sampler import build_sampler, sample_latent, schedule_sigmas
from .sampler import STOCHASTICITY_TOOLTIP
from .schedule import KIND_TOOLTIP

MOST_STEPS = 10000
MOST_RUNS = 16
READABLE = 128  # pixels: smaller images are enlarged in the grid, so that their labels fit


def parse_steps(text: str) -> list[int]:
    """Step counts written as "1, 2, 4" (commas, semicolons or spaces).

    Raises:
        ValueError: no whole number from 1 to `MOST_STEPS`, none at all, or more than `MOST_RUNS`.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    for word in words:
        if not (word.isdecimal() and 1 <= int(word) <= MOST_STEPS):
            raise ValueError(f'steps has {word!r}: expected whole numbers from 1 to {MOST_STEPS}, such as "1, 2, 4, 8"')
    if not 1 <= len(words) <= MOST_RUNS:
        raise ValueError(f'steps has {len(words)} entries: expected 1 to {MOST_RUNS} numbers, such as "1, 2, 4, 8"')
    return [int(word) for word in words]


def label(steps: int, seconds: float) -> str:
    """The label of a column: "4 steps, 0.83 s"."""
    return f"{steps} step{'s' * (steps > 1)}, {seconds:.{0 if seconds >= 10 else 2}f} s"


class TimedSampler(comfy.samplers.Sampler):
    """A sampler that appends the seconds of each run to `seconds`, without those of loading the model."""

    def __init__(self, sampler: comfy.samplers.Sampler, seconds: list[float]):
        self.sampler, self.seconds = sampler, seconds

    def sample(self, *args, **kwargs) -> Tensor:
        start = time.perf_counter()
        samples = self.sampler.sample(*args, **kwargs)
        samples.flatten()[:1].tolist()  # waits for the device
        self.seconds.append(time.perf_counter() - start)
        return samples


def label_columns(columns: list[Tensor], labels: list[str]) -> Tensor:
    """IMAGEs (B,H,W,3) side by side in one (1,H',W',3), the images of each below each other under its label."""
    factor = math.ceil(READABLE / min(columns[0].shape[1:3]))
    enlarged = [images.repeat_interleave(factor, 1).repeat_interleave(factor, 2) for images in columns]
    pictures = [to_pictures(images.movedim(-1, 1) * 2 - 1) for images in enlarged]
    sheet = grid(list(zip(*pictures)), columns=labels)
    return torch.from_numpy(np.array(sheet)).to(columns[0])[None] / 255


class TiMStepSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMStepSweep",
            display_name="TiM Step Sweep",
            category="TiM",
            **search_aliases("any step", "transition model", "compare steps", "xy plot"),
            description="The same prompt and seed at several numbers of steps: all images, and a labeled grid.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="Prompt or class."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused where guidance is off."),
                io.Vae.Input("vae", tooltip="The model's VAE; the stock pixel_space for pixel-space models."),
                io.Latent.Input("latent_image", tooltip="Empty latent; every number of steps samples its whole batch."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise, the same for every number of steps.",
                ),
                io.String.Input(
                    "steps", default="1, 2, 4, 8, 16",
                    tooltip=f"Numbers of steps, each from 1 to {MOST_STEPS}, up to {MOST_RUNS} of them.",
                ),
                io.Combo.Input("schedule", options=list(SCHEDULES), default="uniform", tooltip=f"{KIND_TOOLTIP}."),
                *guidance_inputs(),
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="All images: the batch of each number of steps."),
                io.Image.Output(
                    display_name="grid",
                    tooltip="One labeled image of them: a column for each number of steps, with the seconds of its "
                    "sampling, a row for each image.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, vae, latent_image, seed, steps, schedule, cfg, guidance_low, guidance_high,
        stochasticity,
    ) -> io.NodeOutput:  # fmt: skip
        counts = parse_steps(steps)
        sigmas = [schedule_sigmas(make_times(schedule, count)) for count in counts]
        tim = tim_model_of(model)
        guider = SeriesGuider(build_guider(model, positive, negative, cfg, guidance_low, guidance_high), sum(counts))
        check_vae(vae, tim)
        seconds: list[float] = []
        sampler = TimedSampler(build_sampler(stochasticity), seconds)
        latents = [sample_latent(guider, sampler, s, latent_image, seed) for s in sigmas]
        # decoded after all runs, so that model and VAE take turns on the device only once
        images = [vae.decode(latent["samples"]) for latent in latents]
        return io.NodeOutput(torch.cat(images), label_columns(images, list(map(label, counts, seconds))))

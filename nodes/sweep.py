"""One prompt and seed at several numbers of steps, by TiM or any other model, and the grids of several joined."""

from __future__ import annotations

import comfy.samplers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..tim_model import SCHEDULES, make_times
from .aliases import search_aliases
from .guider import guidance_inputs
from .host.guider import SeriesGuider, build_guider
from .host.model import tim_model_of
from .host.tiled_vae import check_vae
from .host.transition_sampler import build_sampler, sample_latent, schedule_sigmas
from .sampler import STOCHASTICITY_TOOLTIP
from .schedule import KIND_TOOLTIP
from .sweeps.meter import Meter
from .sweeps.settings import LONGEST_NAME, MOST_RUNS, MOST_STEPS, check_class, check_latent, parse_steps, row_name
from .sweeps.sheet import join_grids, label, label_columns
from .sweeps.stock import stock_guider, stock_sigmas

MOST_GRIDS = 8
STEPS_TOOLTIP = f"Numbers of steps, each from 1 to {MOST_STEPS}, up to {MOST_RUNS} of them."
NAME_TOOLTIP = f"Title of the grid, at most {LONGEST_NAME} characters; the name of its row in TiM Join Grids."


def seed_and_steps() -> list:
    """The first widgets of both sweeps."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
            tooltip="Seed of the noise, the same for every number of steps.",
        ),
        io.String.Input("steps", default="1, 2, 4, 8, 16", tooltip=STEPS_TOOLTIP),
    ]  # fmt: skip


def sweep_outputs() -> list:
    return [
        io.Image.Output(display_name="images", tooltip="All images: the batch of each number of steps."),
        io.Image.Output(
            display_name="grid",
            tooltip="One labeled image of them: a column for each number of steps, with the network calls of an image "
            "and the seconds of its sampling, a row for each image.",
        ),
    ]


def draw(meter: Meter, guider, sampler, schedules: list[Tensor], latent: dict, seed: int, vae, name: str):
    """A run for each of the schedules: all images, and their grid with what the meter of the guider's model says."""
    guider = SeriesGuider(guider, sum(len(sigmas) - 1 for sigmas in schedules))
    latents = [sample_latent(guider, sampler, sigmas, latent, seed) for sigmas in schedules]
    # decoded after all runs, so that model and VAE take turns on the device only once
    images = [vae.decode(latent["samples"]) for latent in latents]
    labels = [label(len(sigmas) - 1, cost) for sigmas, cost in zip(schedules, meter.costs, strict=True)]
    return io.NodeOutput(torch.cat(images), label_columns(images, labels, name))


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
                *seed_and_steps(),
                io.Combo.Input("schedule", options=list(SCHEDULES), default="uniform", tooltip=f"{KIND_TOOLTIP}."),
                *guidance_inputs(),
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
                io.String.Input("name", default="TiM", optional=True, tooltip=NAME_TOOLTIP),
            ],
            outputs=sweep_outputs(),
        )

    @classmethod
    def execute(
        cls, model, positive, negative, vae, latent_image, seed, steps, schedule, cfg, guidance_low, guidance_high,
        stochasticity, name="TiM",
    ) -> io.NodeOutput:  # fmt: skip
        name, counts = row_name(name), parse_steps(steps)
        schedules = [schedule_sigmas(make_times(schedule, count)) for count in counts]
        check_vae(vae, tim_model_of(model))
        meter = Meter(model)
        guider = build_guider(meter.model, positive, negative, cfg, guidance_low, guidance_high)
        return draw(meter, guider, build_sampler(stochasticity), schedules, latent_image, seed, vae, name)


class TiMModelStepSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMModelStepSweep",
            display_name="TiM Model Step Sweep",
            category="TiM",
            **search_aliases("transition model", "compare models", "compare steps", "sd3.5", "flux", "xy plot"),
            description="Any model at several numbers of steps, drawn as by KSampler: all images, and a labeled grid.",
            inputs=[
                io.Model.Input("model", tooltip="Any model: SD3.5, FLUX.1, TiM or another."),
                io.Conditioning.Input("positive", tooltip="Prompt."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused at cfg 1."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Latent.Input("latent_image", tooltip="Empty latent; every number of steps samples its whole batch."),
                *seed_and_steps(),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler",
                    tooltip="Stock sampler; euler makes TiM's transitions. Unused where a sampler is connected.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple",
                    tooltip="Stock scheduler: how the steps are spread.",
                ),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance scale; 1 turns it off and halves the network calls, right for distilled models.",
                ),
                io.String.Input("name", default="Model", tooltip=NAME_TOOLTIP),
                io.Sampler.Input("sampler", optional=True, tooltip="In place of sampler_name."),
            ],
            outputs=sweep_outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, vae, latent_image, seed, steps, sampler_name, scheduler, cfg, name, sampler=None
    ) -> io.NodeOutput:
        name, counts = row_name(name), parse_steps(steps)
        check_class(model, positive=positive, negative=negative)
        check_latent(model, latent_image)
        check_vae(vae, model.model)
        spread_for = "euler" if sampler is not None else sampler_name  # some samplers have KSampler drop a sigma
        schedules = [stock_sigmas(model, spread_for, scheduler, count) for count in counts]
        meter = Meter(model)
        guider = stock_guider(meter.model, positive, negative, cfg)
        sampler = sampler or comfy.samplers.sampler_object(sampler_name)
        return draw(meter, guider, sampler, schedules, latent_image, seed, vae, name)


class TiMJoinGrids(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMJoinGrids",
            display_name="TiM Join Grids",
            category="TiM",
            **search_aliases("transition model", "compare models", "stack images", "xy plot"),
            description="The grids of several sweeps below each other, as one image.",
            inputs=[
                io.Image.Input(
                    f"grid_{k}", optional=k > 2,
                    tooltip="Output grid of a sweep. White fills what is narrower than the widest grid.",
                )
                for k in range(1, MOST_GRIDS + 1)
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="One image; the grids from the first down.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, grid_1, grid_2, **others) -> io.NodeOutput:
        return io.NodeOutput(join_grids({"grid_1": grid_1, "grid_2": grid_2, **dict(sorted(others.items()))}))

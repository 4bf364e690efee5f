"""Samplers for any flow-matching model: accelerated solvers from the literature beside TiM's transitions."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..tim_model.sampling.solvers.epd import midpoint_table, read_table
from ..tim_model.sampling.solvers.multistep import a_flops, ab2
from ..tim_model.sampling.solvers.sada import RULES, Skipping, sada
from ..tim_model.sampling.solvers.skipped_step import skipped_step
from .host.flow_solver import flow_sampler, seeded_flow_sampler, table_sampler

TABLES = "model_patches"  # the host's kind of small files that go with one model
MIDPOINT = "midpoint"  # needs no file
ANY_MODEL = "For SamplerCustom nodes and any flow-matching model: SD3.5, FLUX.1, TiM's velocities and others."


def schema(name: str, title: str, description: str, inputs: list | None = None) -> io.Schema:
    """What the nodes of this file have in common."""
    return io.Schema(
        node_id=name, display_name=title, category="TiM/samplers", description=f"{description} {ANY_MODEL}",
        inputs=inputs or [], outputs=[io.Sampler.Output(tooltip="For SamplerCustom and SamplerCustomAdvanced.")],
    )  # fmt: skip


class TiMSamplerAB2(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "TiMSamplerAB2", "Sampler AB2 (flow)", "Adams-Bashforth of second order, one network call a step."
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(flow_sampler(ab2))


class TiMSamplerAFloPS(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        clamp = io.Float.Input(
            "clamp", default=1.0, min=0.0, max=100.0, step=0.05,
            tooltip="Largest size of the linear share of a velocity; 0 is AB2, 1 the clamp that the paper speaks of.",
        )  # fmt: skip
        return schema(
            "TiMSamplerAFloPS", "Sampler A-FloPS (flow)",
            "A-FloPS (arXiv 2509.00036): the linear part of a velocity is integrated exactly, one network call a step.",
            [clamp],
        )  # fmt: skip

    @classmethod
    def execute(cls, clamp: float) -> io.NodeOutput:
        return io.NodeOutput(flow_sampler(a_flops, clamp=clamp))


class TiMSamplerSADA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "TiMSamplerSADA", "Sampler SADA (flow)",
            "SADA (arXiv 2507.17135), step-wise: Euler steps of which some take their velocity from earlier ones.",
            [
                io.Combo.Input(
                    "rule", options=list(RULES), default="paper",
                    tooltip="When a network call is skipped: by the paper's criterion, by the error of the last "
                    "prediction (norm), or every second one (alternate).",
                ),
                io.Float.Input(
                    "threshold", default=0.02, min=0.0, max=1.0, step=0.005,
                    tooltip="Largest relative error of the last prediction for the rule norm; unused by the others.",
                ),
                io.Int.Input("max_skips", default=1, min=0, max=8, tooltip="Skipped calls in a row; 0 is Euler."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, rule: str, threshold: float, max_skips: int) -> io.NodeOutput:
        return io.NodeOutput(flow_sampler(sada, skipping=Skipping(rule, threshold, max_skips)))


class TiMSamplerSkippedStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "TiMSamplerSkippedStep", "Sampler Skipped-Step (flow)",
            "Skipped-step sampler (arXiv 2508.15233): DDPM's random steps over any times, one network call a step.",
            [
                io.Float.Input(
                    "eta", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Share of new noise: 1 as DDPM, 0 is Euler's method.",
                ),
                io.Float.Input(
                    "switch", default=0.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Steps that start below this time take no new noise; 0 means none.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, eta: float, switch: float) -> io.NodeOutput:
        return io.NodeOutput(seeded_flow_sampler(skipped_step, eta=eta, switch=switch))


class TiMSamplerEPD(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        table = io.Combo.Input(
            "table", options=[MIDPOINT, *folder_paths.get_filename_list(TABLES)], default=MIDPOINT,
            tooltip=f"A file of python -m training.epd in models/{TABLES}, for one model, its times and cfg; or the "
            "midpoint rule, which fits all.",
        )  # fmt: skip
        return schema(
            "TiMSamplerEPD", "Sampler EPD (flow)",
            "EPD (arXiv 2507.14797): steps along the mean of velocities at times from a distilled table.",
            [table],
        )  # fmt: skip

    @classmethod
    def execute(cls, table: str) -> io.NodeOutput:
        if table == MIDPOINT:
            return io.NodeOutput(table_sampler(midpoint_table))
        found = read_table(folder_paths.get_full_path_or_raise(TABLES, table))
        return io.NodeOutput(table_sampler(lambda times: found))

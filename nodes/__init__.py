"""The nodes, and the entry point by which the host finds them."""

from comfy_api.latest import ComfyExtension, io

from .conditioning import TiMClassConditioning
from .guider import TiMGuider
from .highres import TiMHighResSampler
from .latent import TiMEmptyLatent
from .loaders import TiMModelLoader, TiMTextEncoderLoader, TiMVAELoader
from .numbered_grid import TiMNumberedGrid
from .resolution import TiMNativeResolution
from .sampler import TiMAdaptiveSampler, TiMSampler, TiMTransitionSampler
from .schedule import TiMTransitionSchedule
from .solvers import TiMSamplerAB2, TiMSamplerAFloPS, TiMSamplerEPD, TiMSamplerSADA, TiMSamplerSkippedStep
from .sweep import TiMJoinGrids, TiMModelStepSweep, TiMStepSweep
from .vae_tiles import TiMVAEDecodeHighRes, TiMVAEEncodeHighRes

NODES: list[type[io.ComfyNode]] = [
    TiMModelLoader,
    TiMClassConditioning,
    TiMEmptyLatent,
    TiMSampler,
    TiMTransitionSchedule,
    TiMTransitionSampler,
    TiMGuider,
    TiMTextEncoderLoader,
    TiMVAELoader,
    TiMStepSweep,
    TiMNativeResolution,
    TiMHighResSampler,
    TiMVAEDecodeHighRes,
    TiMVAEEncodeHighRes,
    TiMSamplerAB2,
    TiMSamplerAFloPS,
    TiMSamplerSADA,
    TiMSamplerSkippedStep,
    TiMSamplerEPD,
    TiMModelStepSweep,
    TiMJoinGrids,
    TiMAdaptiveSampler,
    TiMNumberedGrid,
]


class TiMExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> TiMExtension:
    return TiMExtension()

"""The nodes, and the entry point by which the host finds them."""

from comfy_api.latest import ComfyExtension, io

from .conditioning import TiMClassConditioning
from .guider import TiMGuider
from .latent import TiMEmptyLatent
from .loaders import TiMModelLoader, TiMTextEncoderLoader, TiMVAELoader
from .sampler import TiMSampler, TiMTransitionSampler
from .schedule import TiMTransitionSchedule
from .sweep import TiMStepSweep

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
]


class TiMExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> TiMExtension:
    return TiMExtension()

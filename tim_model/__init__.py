"""Transition Models (TiM, arXiv 2509.04394): any-step image generation with one set of weights, standalone."""

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .net import TiM
from .params import OFFICIAL, TiMParams
from .sampling import Step, sample
from .schedule import SCHEDULES, make_times, parse_times
from .transport import TRANSPORTS

__all__ = [
    "OFFICIAL",
    "SCHEDULES",
    "TRANSPORTS",
    "CheckpointError",
    "Step",
    "TiM",
    "TiMParams",
    "load_checkpoint",
    "make_times",
    "parse_times",
    "sample",
    "save_checkpoint",
]

"""Transition Models (TiM, arXiv 2509.04394): any-step image generation with one set of weights, standalone."""

import os
import signal
import sys
from pathlib import Path

if sys.argv and Path(sys.argv[0]).stem in ("-m", "tim"):
    # `python -m tim_model` or `tim`, before torch is loaded: threads that spin while they wait are slow on a busy CPU,
    # and Ctrl-C while packages load just ends it, without a traceback through them; the command takes it over from
    # there.
    os.putenv("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .network.params import OFFICIAL, TiMParams
from .network.tim import TiM
from .pipeline import TiMPipeline
from .sampling.sampler import Step, sample
from .sampling.schedule import SCHEDULES, make_times, parse_times
from .sampling.transport import TRANSPORTS
from .text.encoder import load_text_encoder
from .vae.autoencoder import load_vae

__all__ = [
    "OFFICIAL",
    "SCHEDULES",
    "TRANSPORTS",
    "CheckpointError",
    "Step",
    "TiM",
    "TiMParams",
    "TiMPipeline",
    "load_checkpoint",
    "load_text_encoder",
    "load_vae",
    "make_times",
    "parse_times",
    "sample",
    "save_checkpoint",
]

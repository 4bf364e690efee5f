"""Training of Transition Models, from a folder of images to a file that ComfyUI loads. Imports tim_model only."""

import os
import sys
from pathlib import Path

if sys.argv and Path(sys.argv[0]).stem in ("-m", "tim-train"):
    # a command, before torch is loaded: threads that spin while they wait make training many times slower beside
    # other work
    os.putenv("OMP_WAIT_POLICY", "PASSIVE")

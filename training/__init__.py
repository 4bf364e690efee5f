"""Training of Transition Models, from a folder of images to a file that ComfyUI loads. Imports tim_model only."""

import os

# before torch is loaded: threads that spin while they wait make training many times slower beside other work
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

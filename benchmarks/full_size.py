"""Peak memory and time of the full-size text-to-image stack in a real host, with random weights.

Writes the official layouts (865M network, Gemma-3-1b, DC-AE f32c32) to disk in bfloat16, 4.4 GB, and makes one image
through the first template. Run it with the Python of dev.py's environment:

    TIM_HOST_DIR=/path/to/ComfyUI python -m benchmarks.full_size --size 256 --steps 1
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil
import torch

from devtools.random_stack import with_published_files, write_stack
from devtools.server import Host, prepare_base
from devtools.templates.names import TEXT_TO_IMAGE, read_prompt


def workflow(size: int, steps: int) -> dict:
    """The template with the published files; only size and steps are changed."""
    prompt = with_published_files(read_prompt(TEXT_TO_IMAGE), size, size)
    for node in prompt.values():
        if node["class_type"] == "TiMSampler":
            node["inputs"]["steps"] = steps
    return prompt


def peak_gib(process: psutil.Process) -> float:
    """Highest resident memory of a process so far."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base(Path(folder))
        write_stack(base / "models", small=False, dtype=torch.bfloat16)
        with Host(Path(os.environ["TIM_HOST_DIR"]), base) as host:
            process = psutil.Process(host.process.pid)
            print(f"host idle: {peak_gib(process):.2f} GiB", flush=True)
            for run in ("first run, loading the files", "second run, files loaded"):
                prompt = workflow(a.size, a.steps)
                for node in prompt.values():
                    if "seed" in node["inputs"]:
                        node["inputs"]["seed"] += run.startswith("second")
                start = time.perf_counter()
                prompt_id = host.queue(prompt)
                assert host.wait(prompt_id, timeout=3600)
                (picture,) = host.images(host.outputs(prompt_id))
                seconds = time.perf_counter() - start
                print(f"{run}: {picture.size}, {seconds:.1f} s, peak {peak_gib(process):.2f} GiB", flush=True)


if __name__ == "__main__":
    main()

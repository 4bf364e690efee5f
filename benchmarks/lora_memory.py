"""Memory of a LoRA run on the published text model's layout, random weights, one tiny image a step, on the CPU.

    python -m benchmarks.lora_memory [--precision bf16] [--file-dtype float32] [--rank 16]

Prints the resident memory of the training command, at its peak, which is while the file is read, and after a step; and
the time of a step. Needs 4 GB of disk.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from devtools.random_stack import DC_AE, GEMMA, SMALL_DC_AE, write_dc_ae, write_gemma, write_tim
from tests.training.tiny import write_picture
from tim_model import OFFICIAL

ROOT = Path(__file__).resolve().parent.parent
PARAMS = OFFICIAL["tim-t2i-xl-p1"].without_projector()
ENCODER = {**GEMMA, "num_hidden_layers": 1, "vocab_size": 512, "intermediate_size": 64, "head_dim": 16}
STEPS = 2


def write_run(folder: Path, precision: str, file_dtype: torch.dtype, rank: int) -> Path:
    """Model, encoders, two images with captions and the recipe, in a folder; the recipe's path."""
    write_tim(folder / "model.bin", PARAMS, file_dtype)
    write_gemma(folder / "gemma", ENCODER)
    write_dc_ae(folder / "vae", DC_AE | SMALL_DC_AE)
    for i in range(2):
        write_picture(folder / "data" / f"{i}.png", (64, 64), seed=i).with_suffix(".txt").write_text("a fox")
    recipe = {
        "model": {
            "checkpoint": str(folder / "model.bin"), "lora_rank": rank, "vae": str(folder / "vae"),
            "text_encoder": str(folder / "gemma"),
        },
        "data": {
            "path": str(folder / "data"), "cache": str(folder / "cache"), "batch_size": 1, "resolution": 64,
            "workers": 0,
        },
        "sampling": {"every": 0},
        "run": {
            "folder": str(folder / "run"), "steps": STEPS, "precision": precision, "cpu": True, "log_every": 1,
            "tensorboard": False,
        },
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--file-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rank", type=int, default=16)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_run(folder, a.precision, getattr(torch, a.file_dtype), a.rank)
        subprocess.run([sys.executable, "-m", "training.train", str(recipe)], cwd=ROOT, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        with open(folder / "run" / "log.csv", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        trained = (folder / "run" / "lora-ema.safetensors").stat().st_size / 2**20
    print(
        f"{a.precision}, file in {a.file_dtype}: peak {peak:.2f} GiB, {float(last['memory_gib']):.2f} GiB after a step"
    )
    print(f"LoRA of rank {a.rank}: {trained:.0f} MiB; {1 / float(last['samples_per_second']):.1f} s a step")


if __name__ == "__main__":
    main()

"""Memory, threads, open files and temporary files of a host after many prompts; they should not grow.

Prompts of both demo models take turns with failing ones, interrupted ones, unloaded models and saved previews. Run it
with the Python of dev.py's environment:

    TIM_HOST_DIR=/path/to/ComfyUI python -m benchmarks.soak [--prompts 1000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from devtools.client import PromptFailed
from devtools.server import Host, prepare_base
from devtools.templates.names import CLASSES, TEXT_TO_IMAGE, read_prompt

EVERY = 100  # prompts from one line of the table to the next


def workflow(name: str, **changes: object) -> dict:
    """A template with other values for inputs, whichever node has them; it shows its images and saves none."""
    prompt = read_prompt(name)
    for node in prompt.values():
        node["inputs"] |= {key: value for key, value in changes.items() if key in node["inputs"]}
        if node["class_type"] == "SaveImage":
            node["class_type"] = "PreviewImage"
            node["inputs"].pop("filename_prefix", None)
    return prompt


def draw(host: Host, i: int) -> None:
    host.run(workflow(TEXT_TO_IMAGE, seed=i, steps=2 + i % 3))


def draw_class(host: Host, i: int) -> None:
    host.run(workflow(CLASSES, seed=i, batch_size=1 + i % 4))


def fail(host: Host, i: int) -> None:
    try:
        host.run(workflow(TEXT_TO_IMAGE, seed=i, width=72))
    except PromptFailed:
        return
    raise SystemExit("a size that the model cannot have was drawn")


def interrupt(host: Host, i: int) -> None:
    prompt_id = host.queue(workflow(TEXT_TO_IMAGE, seed=i, steps=10_000))
    time.sleep(0.1 + 0.1 * (i % 3))
    while prompt_id not in host.get(f"/history/{prompt_id}"):
        host.interrupt()
        time.sleep(0.1)


def unload(host: Host, i: int) -> None:
    host.free()
    draw(host, i)


Turn = Callable[[Host, int], None]
TURNS: list[Turn] = [draw, draw_class, fail, draw, interrupt, draw_class, draw, draw, unload, draw]


def kept(host: Host) -> Iterator[str]:
    """The host's memory, threads and files now."""
    process = psutil.Process(host.process.pid)
    temporary = [path for path in (host.base / "temp").rglob("*") if path.suffix != ".png"]
    leftovers = [path for path in Path(tempfile.gettempdir()).iterdir() if path.name.startswith((".", "tim"))]
    yield f"{process.memory_info().rss / 2**20:.0f}"
    yield str(process.num_threads())
    yield str(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())
    yield str(len(temporary) + len(leftovers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1000, help="default: %(default)s")
    a = parser.parse_args()
    print("| prompts | MiB | threads | open files | files left |\n|---:|---:|---:|---:|---:|", flush=True)
    folder = tempfile.TemporaryDirectory(prefix="soak")
    with folder, Host(Path(os.environ["TIM_HOST_DIR"]), prepare_base(Path(folder.name))) as host:
        for i in range(1, a.prompts + 1):
            TURNS[i % len(TURNS)](host, i)
            if i % EVERY == 0 or i == a.prompts:
                print(f"| {i} | {' | '.join(kept(host))} |", flush=True)


if __name__ == "__main__":
    main()

"""The image in docs/solvers.md: what the template of accelerated samplers draws, on the bundled models.

TIM_HOST_DIR=/path/to/ComfyUI python -m devtools.beside_samplers
"""

from __future__ import annotations

from devtools.server import ROOT, temporary_host
from devtools.templates.names import BESIDE_SAMPLERS, read_prompt
from devtools.templates.thumbnails import draw

IMAGE = ROOT / "docs" / "beside_samplers.png"


def main() -> None:
    with temporary_host() as host:
        (rows,) = draw(host, read_prompt(BESIDE_SAMPLERS))
    rows.save(IMAGE, optimize=True)


if __name__ == "__main__":
    main()

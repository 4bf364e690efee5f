"""Writes the templates and draws their thumbnails, on the bundled models and the host that dev.py downloads.

TIM_HOST_DIR=/path/to/ComfyUI python -m devtools.templates
"""

from __future__ import annotations

from pathlib import Path

from devtools.server import Host, temporary_host
from devtools.templates.catalog import GRAPHS
from devtools.templates.formats import prompt_text, to_prompt, to_workflow, workflow_text
from devtools.templates.names import FOLDER, prompt_file, thumbnail_file, workflow_file
from devtools.templates.thumbnails import thumbnail


def files(host: Host) -> dict[Path, bytes]:
    """What `workflows/` is to hold: for each template both formats and the thumbnail."""
    info, made = host.object_info(), {}
    for name, describe in GRAPHS.items():
        graph = describe()
        prompt = to_prompt(info, graph)
        made[workflow_file(name)] = workflow_text(to_workflow(info, graph)).encode()
        made[prompt_file(name)] = prompt_text(prompt).encode()
        made[thumbnail_file(name)] = thumbnail(name, prompt, host)
    return made


def main() -> None:
    with temporary_host() as host:
        made = files(host)
    for path in [*FOLDER.glob("*.*"), *FOLDER.glob("api/*.*")]:
        if path not in made:
            path.unlink()
    for path, data in made.items():
        path.write_bytes(data)


if __name__ == "__main__":
    main()

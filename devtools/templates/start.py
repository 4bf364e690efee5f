"""An address that opens the first template. Browsers read it only under a name of letters, digits, - and _."""

from __future__ import annotations

import shutil
from pathlib import Path

from devtools.templates.names import TEXT_TO_IMAGE, thumbnail_file, workflow_file

PACK, NAME = "TiM", "text_to_image"
ADDRESS = f"/?template={NAME}&source={PACK}"


def offer_start(base: Path) -> None:
    """Put a pack with a copy of the first template, and nothing else, into the custom nodes of a host's folder."""
    pack = base / "custom_nodes" / PACK
    (pack / "workflows").mkdir(parents=True, exist_ok=True)
    (pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")
    for file in (workflow_file(TEXT_TO_IMAGE), thumbnail_file(TEXT_TO_IMAGE)):
        shutil.copy(file, pack / "workflows" / f"{NAME}{file.suffix}")

"""Search aliases of nodes, for hosts that support them."""

from __future__ import annotations

from comfy_api.latest import io


def search_aliases(*words: str) -> dict[str, list[str]]:
    """The argument of `io.Schema` for these words; none on hosts that do not have it (ComfyUI 0.3.75)."""
    return {"search_aliases": list(words)} if "search_aliases" in io.Schema.__dataclass_fields__ else {}

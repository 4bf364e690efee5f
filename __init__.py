"""ComfyUI-TiM: Transition Models for ComfyUI. The host imports this file; `tim_model` works without it."""

from importlib.util import find_spec

if find_spec("comfy_api"):  # absent outside a host, as when tests import this file
    from .nodes import comfy_entrypoint

    __all__ = ["comfy_entrypoint"]

WEB_DIRECTORY = "./web"  # help pages, and what the browser shows on a node

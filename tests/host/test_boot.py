"""A real ComfyUI boots with this pack, and the client sees what it does."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from devtools.client import PromptFailed, PromptRejected

TEAL = 0x008080


def solid_image(color: int = TEAL) -> dict:
    empty = {"width": 64, "height": 32, "batch_size": 1, "color": color}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "solid"}},
    }


def load_and_save(name: str) -> dict:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}},
    }


def test_log_is_clean(host):
    log = host.boot_log
    assert "IMPORT FAILED" not in log and "Traceback" not in log, log


def test_pack_is_loaded(host):
    assert "custom_nodes/ComfyUI-TiM" in host.boot_log.replace("\\", "/")  # from the table of import times
    assert [name for name in host.object_info() if name.startswith("TiM")]


def test_prompt_gives_image(host):
    (image,) = host.images(host.run(solid_image()))
    assert image.size == (64, 32)
    assert image.convert("RGB").getpixel((5, 5)) == (0x00, 0x80, 0x80)


def test_uploaded_image_comes_back(host):
    sent = Image.linear_gradient("L").convert("RGB")
    name = host.upload_image(sent, "gradient.png")
    assert Image.open(io.BytesIO(host.view(name, type="input"))).tobytes() == sent.tobytes()
    (received,) = host.images(host.run(load_and_save(name)))
    assert received.convert("RGB").tobytes() == sent.tobytes()


def test_bad_prompt_names_the_node(host):
    prompt = solid_image()
    prompt["1"]["inputs"]["width"] = "wide"
    with pytest.raises(PromptRejected, match="wide") as caught:
        host.queue(prompt)
    assert list(caught.value.node_errors) == ["1"]


def test_failing_node_is_told(host):
    (host.base / "input" / "broken.png").write_bytes(b"no image")
    with pytest.raises(PromptFailed, match="LoadImage"):
        host.run(load_and_save("broken.png"))


def test_events_end_with_the_prompt(host):
    with host.listen() as stream:
        prompt_id = host.queue(solid_image(color=1), stream.client_id)  # a new color, so nothing is cached
        events = list(stream.until_finished(prompt_id, timeout=30))
    assert events[-1].type == "execution_success"
    executed = [event.data["node"] for event in events if event.type == "executing" and event.data["node"]]
    assert executed == ["1", "2"]


def test_models_are_found_while_running(host):
    (host.base / "models" / "vae" / "late.safetensors").write_bytes(b"")
    (names, *_) = host.object_info()["VAELoader"]["input"]["required"]["vae_name"]
    assert "late.safetensors" in names


def test_browser_workflow_becomes_a_prompt(host, to_api):
    workflow = {
        "nodes": [
            {"id": 1, "type": "EmptyImage", "mode": 0, "inputs": [], "widgets_values": [64, 32, 1, TEAL],
             "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [7]}]},
            {"id": 2, "type": "SaveImage", "mode": 0, "outputs": [], "widgets_values": ["solid"],
             "inputs": [{"name": "images", "type": "IMAGE", "link": 7}]},
        ],
        "links": [[7, 1, 0, 2, 0, "IMAGE"]],
        "version": 0.4,
    }  # fmt: skip
    prompt = to_api(json.loads(json.dumps(workflow)))
    assert {key: node["class_type"] for key, node in prompt.items()} == {"1": "EmptyImage", "2": "SaveImage"}
    (image,) = host.images(host.run(prompt))
    assert image.size == (64, 32)

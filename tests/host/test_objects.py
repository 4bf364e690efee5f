"""What the host tells about the nodes: names that are forever, tooltips, help pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

# Saved workflows know nodes by id, widgets by position: entries are only ever appended, here as in the nodes.
# "options" are those that must stay; lists of files have none.
GOLDEN = json.loads(Path(__file__).with_name("golden_nodes.json").read_text(encoding="utf-8"))
SECTIONS = ["required", "optional"]


@pytest.fixture(scope="module")
def nodes(host) -> dict[str, Any]:
    """What /object_info tells about the nodes of this pack."""
    return {name: info for name, info in host.object_info().items() if "ComfyUI-TiM" in info["python_module"]}


def describe_input(name: str, kind: str | list[str], options: dict[str, Any] | None = None) -> dict[str, Any]:
    """One input as in the golden file, but with all options."""
    options = options or {}
    described = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind}
    choices = kind if isinstance(kind, list) else options.get("options")
    described |= {"options": choices} if choices is not None else {}
    return described | ({"default": options["default"]} if "default" in options else {})


def inputs(info: dict[str, Any], section: str) -> list[dict[str, Any]]:
    specs = info["input"].get(section, {})
    return [describe_input(name, *specs[name]) for name in info["input_order"].get(section, [])]


def outputs(info: dict[str, Any]) -> list[list[str]]:
    return [[name, kind] for name, kind in zip(info["output_name"], info["output"])]


def without_options(described: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "options"} for entry in described]


def test_ids_are_forever(nodes):
    assert [name for name in GOLDEN if name not in nodes] == []


@pytest.mark.parametrize("name", GOLDEN)
def test_inputs_and_outputs_are_forever(nodes, name):
    for section in SECTIONS:
        golden, current = GOLDEN[name][section], inputs(nodes[name], section)
        assert without_options(current)[: len(golden)] == without_options(golden)
        for entry, now in zip(golden, current):
            assert set(entry.get("options", [])) <= set(now.get("options", []))
    assert outputs(nodes[name])[: len(GOLDEN[name]["outputs"])] == GOLDEN[name]["outputs"]


def test_everything_is_recorded(nodes):
    """Append what is new to golden_nodes.json, so that it is protected too."""
    counts = {name: [len(inputs(info, s)) for s in SECTIONS] + [len(outputs(info))] for name, info in nodes.items()}
    recorded = {name: [len(entry[part]) for part in [*SECTIONS, "outputs"]] for name, entry in GOLDEN.items()}
    assert recorded == counts


def test_ids_have_our_prefix(nodes):
    assert [name for name in nodes if not name.startswith("TiM")] == []


def test_every_input_and_output_has_a_tooltip(nodes):
    bare = []
    for name, info in nodes.items():
        specs = {key: spec for section in SECTIONS for key, spec in info["input"].get(section, {}).items()}
        bare += [(name, key) for key, spec in specs.items() if not (len(spec) > 1 and spec[1].get("tooltip"))]
        bare += [(name, i) for i, tooltip in enumerate(info["output_tooltips"]) if not tooltip]
    assert bare == []


def test_every_node_is_described(nodes):
    assert [
        name
        for name, info in nodes.items()
        if not info["description"] or info["category"] not in ("TiM", "TiM/samplers")
    ] == []


ALIASES = {
    "gemma": {"TiMTextEncoderLoader"},
    "dc-ae": {"TiMVAELoader", "TiMVAEDecodeHighRes", "TiMVAEEncodeHighRes"},
    "any step": {"TiMModelLoader", "TiMSampler", "TiMTransitionSampler", "TiMStepSweep", "TiMHighResSampler"}
    | {"TiMTransitionSchedule", "TiMAdaptiveSampler"},
}


def test_nodes_are_found_by_other_words(nodes):
    """On hosts whose node search knows aliases."""
    if "search_aliases" not in nodes["TiMSampler"]:
        pytest.skip("this ComfyUI has no search aliases")
    for word, names in ALIASES.items():
        assert {name for name, info in nodes.items() if word in (info["search_aliases"] or ())} == names
    others = {name for name, info in nodes.items() if "transition model" not in (info["search_aliases"] or ())}
    assert {name for name in others if nodes[name]["category"] == "TiM"} == {
        "TiMVAEDecodeHighRes", "TiMVAEEncodeHighRes"
    }  # fmt: skip


def test_every_node_has_a_help_page(host, nodes):
    """Served where the browser looks for it, and it names every input and output."""
    missing = []
    for name, info in nodes.items():
        page = host.request("GET", f"/extensions/ComfyUI-TiM/docs/{name}.md")
        assert page.status_code == 200, f"{name} has no help page"
        names = [entry["name"] for section in SECTIONS for entry in inputs(info, section)] + info["output_name"]
        missing += [(name, part) for part in names if f"`{part}`" not in page.text]
    assert missing == []

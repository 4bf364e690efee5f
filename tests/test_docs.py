"""What the documentation states is there: links, commands with their options, files, and messages word by word."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

from training.config.load import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "models/README.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = ("nodes", "tim_model", "training", "devtools", "benchmarks")
PLACES = re.compile(r"…|%[sdr]")  # what a message is filled in with

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


PRIVATE = re.compile(  # words that only this project would understand in this sense, and British spellings
    r"\b(told|mend\w*|leans?|twin|judge\w*|jury|paint\w*|pictures?|anew|colour\w*|grey|neighbour\w*)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "web" / "docs").glob("*.md"))], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_words_are_plain(page):
    """Names, commands and messages, which are in backticks or indented, are those of the code."""
    prose = re.sub(r"`[^`]*`|^ {4,}.*$|\]\([^)]*\)", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert PRIVATE.findall(prose) == []


# ---------------------------------------------------------------------------------------------------- commands


def commands(page: Path) -> list[tuple[str, ...]]:
    """What follows `python` in every whole command of a page's code blocks; not those with … or optional parts."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        line.partition("  #")[0] for line in text.splitlines() if re.match(r" {4,}\S*.*\bpython (-m|dev\.py) ", line)
    ]
    whole = [shlex.split(line) for line in lines if not re.search(r"…|\[", line)]
    return [tuple(words[words.index("python") + 1 :]) for words in whole]


CASES = sorted({words for page in PAGES for words in commands(page)})


class Parsed(Exception):
    """The arguments of a command were read."""


@pytest.fixture
def only_parsing(monkeypatch):
    """Parsers that read their arguments as ever, and raise `Parsed` after that."""
    for method in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, method)

        def read(self, args=None, namespace=None, original=original):
            original(self, args, namespace)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, method, read)


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_commands_are_read_by_their_own_parsers(words, only_parsing, monkeypatch):
    if words[0] == "dev.py":
        assert f"    python dev.py {words[1]} " in (ROOT / "dev.py").read_text(encoding="utf-8")
        return
    _, name, *arguments = words
    if name == "training.classifier":  # which counts its arguments
        assert len(arguments) == 2
        return
    is_package = ROOT.joinpath(*name.split(".")).is_dir()
    module = importlib.import_module(f"{name}.__main__" if is_package else name)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(Parsed):
        module.main()


@pytest.mark.parametrize("words", [words for words in CASES if "training.train" in words[:2]], ids=" ".join)
def test_recipes_and_their_settings_exist(words):
    recipe, *overrides = [word for word in words[2:] if not word.startswith("--")]
    load_config(ROOT / recipe, overrides)


@each_page
def test_modules_that_a_page_speaks_of_exist(page):
    for name in re.findall(
        r"python -m ((?:tim_model|training|benchmarks|devtools)[\w.]*)", page.read_text(encoding="utf-8")
    ):
        place = ROOT / Path(*name.removesuffix(".").split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name


# ---------------------------------------------------------------------------------------------------- messages


@cache
def texts() -> list[str]:
    """Every text in the code, with … for what is filled in."""
    found = []
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                if all(isinstance(part, (ast.Constant, ast.FormattedValue)) for part in parts):
                    filled = (part.value if isinstance(part, ast.Constant) else "…" for part in parts)
                    found.append(re.sub(PLACES, "…", "".join(str(part) for part in filled)))
    return found


TROUBLE = ROOT / "docs" / "troubleshooting.md"
OURS = TROUBLE.read_text(encoding="utf-8").partition("\n## Files\n")[
    2
]  # before it are those of ComfyUI, see tests/host
MESSAGES = re.findall(r"^\| `([^`]+)` \|", OURS, re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_those_of_the_code(message):
    """Its pieces between … stand in one text of the code, in this order."""
    pattern = ".*".join(map(re.escape, filter(str.strip, message.split("…"))))
    assert any(re.search(pattern, text) for text in texts()), message


def test_messages_in_the_readme_are_explained():
    """Each is in the table of messages, perhaps shortened."""
    faq = (ROOT / "README.md").read_text(encoding="utf-8").partition("## FAQ")[2]
    messages = re.findall(r"^- (?:[^`\n]*)`([^`]+)`", faq, re.MULTILINE)
    explained = TROUBLE.read_text(encoding="utf-8")
    assert len(messages) >= 8
    assert [message for message in messages if message not in explained] == []


# ---------------------------------------------------------------------------------------------------- files


DOCUMENTED = [path for folder in CODE if folder != "benchmarks" for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("folder", sorted({path.parent.relative_to(ROOT).as_posix() for path in DOCUMENTED}))
def test_development_names_every_file(folder):
    """Each under the heading of its folder; a subfolder's __init__.py only says what the subfolder is for."""
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    section = next(part for part in text.split("\n## ") if part.startswith(f"{folder}/\n"))
    named = set(re.findall(r"^\| `([\w.]+\.py)` \|", section, re.MULTILINE))
    files = {path.name for path in (ROOT / folder).glob("*.py")}
    files -= {"__init__.py"} if "/" in folder else set()
    assert named == files, f"docs/development.md, {folder}/: lacks {files - named}, names {named - files} too many"

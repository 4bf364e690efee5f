"""How evaluators find and read images, written from the public programs that the names of the layouts stand for."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_ENDINGS = ("bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp", "JPEG")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def read_geneval(folder: Path) -> dict[int, tuple[dict, list[np.ndarray]]]:
    """evaluate_images.py of GenEval: folders of digits, one JSON value in metadata.jsonl, samples/<digits>.png."""
    found = {}
    for name in os.listdir(folder):
        if not (folder / name).is_dir() or not name.isdigit():
            continue
        metadata = json.loads((folder / name / "metadata.jsonl").read_text(encoding="utf-8"))
        samples = folder / name / "samples"
        names = sorted(image for image in os.listdir(samples) if re.match(r"\d+\.png", image))
        found[int(name)] = metadata, [pixels(samples / image) for image in names]
    return found


def read_dpg(folder: Path, resolution: int, count: int) -> dict[str, list[np.ndarray]]:
    """compute_dpg_bench.py: every file of the folder is an image, cut into squares of --resolution, row by row."""
    corners = [(0, 0), (resolution, 0), (0, resolution), (resolution, resolution)][:count]
    found = {}
    for name in os.listdir(folder):
        image = Image.open(folder / name)
        crops = [image.crop((x, y, x + resolution, y + resolution)) for x, y in corners]
        found[name.split(".")[0]] = [np.asarray(crop) for crop in crops]
    return found


def read_mjhq(folder: Path, meta_data: Path) -> dict[str, np.ndarray]:
    """FID reads every image below the folder; the CLIP score finds the prompt of each under <category>/<name>.jpg."""
    files = sorted(file for ending in IMAGE_ENDINGS for file in folder.rglob(f"*.{ending}"))
    prompts = {f"{entry['category']}/{name}.jpg": entry for name, entry in json.loads(meta_data.read_text()).items()}
    names = [file.relative_to(folder).as_posix() for file in files]
    assert all(name in prompts for name in names)
    return {name: pixels(file) for name, file in zip(names, files, strict=True)}


def read_adm(path: Path, batch: int = 64) -> list[np.ndarray]:
    """evaluator.py of ADM: arr_0.npy in the archive, read as a stream where its header allows, in batches."""
    with zipfile.ZipFile(path) as archive:
        assert "arr_0.npy" in archive.namelist()
        with archive.open("arr_0.npy") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            assert not fortran and dtype == np.uint8 and len(shape) == 4 and shape[-1] == 3
            size = int(np.prod(shape[1:]))
            batches = []
            for start in range(0, shape[0], batch):
                count = min(batch, shape[0] - start)
                content = file.read(count * size)
                assert len(content) == count * size
                batches.append(np.frombuffer(content, dtype).reshape(count, *shape[1:]))
            assert file.read() == b""
    return batches


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of every file by name, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prompt_files(folder: Path, prompts: Sequence[str]) -> dict[str, Path]:
    """The same prompts in the form that each layout needs."""
    forms = {name: folder / name for name in ("prompts.txt", "metadata.jsonl", "texts", "meta_data.json")}
    forms["prompts.txt"].write_text("\n".join(prompts) + "\n", encoding="utf-8")
    lines = [{"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": p} for p in prompts]
    forms["metadata.jsonl"].write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    forms["texts"].mkdir()
    for k, prompt in enumerate(prompts):
        (forms["texts"] / f"partiprompts{k}.txt").write_text(prompt, encoding="utf-8")
    entries = {f"{k:040x}": {"category": "animals" if k % 2 else "logo", "prompt": p} for k, p in enumerate(prompts)}
    forms["meta_data.json"].write_text(json.dumps(entries), encoding="utf-8")
    return dict(zip(("plain", "geneval", "dpg", "mjhq"), forms.values(), strict=True))

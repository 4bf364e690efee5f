"""The text layout of the released code: data_info.jsonl, with buckets, and bucket_sampler.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .entries import Entry, Layout
from .folders import Tree
from .metadata import Row, named_entry, read_table
from .plain_text import MAX_TABLE, read_bounded

TABLE = "data_info.jsonl"


def upstream_layout(tree: Tree) -> Layout:
    """Images named by data_info.jsonl; if bucket_sampler.json exists, only those that its batches name."""
    rows = list(read_table(tree.folder / TABLE))
    used = sampled_rows(tree.folder / "bucket_sampler.json", len(rows))
    entries = [upstream_entry(tree.folder, row, i in used) for i, row in enumerate(rows)]
    sizes = f"sizes are those of {TABLE}: data.resolution, data.square and data.bucket_step do not change them"
    return Layout("upstream text", f"images named by {TABLE}", entries, notes=[sizes])


def upstream_entry(folder: Path, row: Row, used: bool) -> Entry:
    captions = row.values.get("captions")
    size = re.search(r"-(\d+)x(\d+)$", str(row.values.get("bucket", "")))
    if not used:
        return Entry(row.place, problem="is in no batch of bucket_sampler.json")
    if row.problem:
        return Entry(row.place, problem=row.problem)
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions) or not any(captions):
        return Entry(row.place, problem='has no "captions", expected a list of texts')
    if size is None:
        found = row.values.get("bucket")
        return Entry(row.place, problem=f"has the bucket {found!r}, expected one that ends in -HxW")
    height, width = map(int, size.groups())
    entry = Entry(row.place, tuple(filter(None, captions)), bucket=(width, height))
    return named_entry(folder, row, "image_file", entry)


def sampled_rows(path: Path, count: int) -> set[int]:
    """The rows that the batches of bucket_sampler.json name; all `count` rows without such a file."""
    if not path.is_file():
        return set(range(count))
    try:
        batches = json.loads(read_bounded(path, MAX_TABLE))
        return {int(i) for batch in batches for i in batch}
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"{path}: expected a JSON list of batches, each a list of line numbers from 0") from None

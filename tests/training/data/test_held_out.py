"""Which samples of a folder are held out, and what tells data sets apart."""

from __future__ import annotations

from pathlib import Path

from training.components.parts import Parts, build_parts
from training.config.load import load_config

from ..tiny import write_classes, write_picture, write_recipe

DIGEST = "a2119945335fd53de422aedbcf0e4fe3128fdcdaa39c3e8ec3614f0d87821f3c"


def parts_of(recipe: Path, *overrides: str) -> Parts:
    return build_parts(load_config(recipe, ["data.held_out=6", *overrides]), write=False)


def held_out_digests(parts: Parts) -> set[str]:
    return {parts.dataset.samples[i].digest for i in parts.data.held_out}


def test_one_more_picture_moves_at_most_one_held_out_sample(tmp_path):
    """A name that sorts first shifts the index of every other sample."""
    folder = write_classes(tmp_path / "data")
    recipe = write_recipe(tmp_path, folder)
    before = held_out_digests(parts_of(recipe))
    for seed in range(200, 206):
        write_picture(folder / "cat" / "! new.png", seed=seed)
        parts = parts_of(recipe)
        new = next(sample.digest for sample in parts.dataset.samples if sample.name.endswith("new.png"))
        assert len(held_out_digests(parts)) == 6
        assert held_out_digests(parts) - before <= {new}


def test_a_renamed_picture_stays_on_its_side(tmp_path):
    folder = write_classes(tmp_path / "data")
    recipe = write_recipe(tmp_path, folder)
    before = held_out_digests(parts_of(recipe))
    for path in sorted((folder / "dog").iterdir()):
        path.rename(path.with_name(f"{9 - int(path.stem)}-renamed.png"))
    assert held_out_digests(parts_of(recipe)) == before


def test_digest_of_the_data_is_that_of_states_written_before(tmp_path):
    """It stands in states and checkpoints: another way to compute it would make all of them those of other data."""
    folder = tmp_path / "data"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.ppm").write_bytes(b"P6 4 4 255\n" + name.encode() * 48)
    dataset = parts_of(write_recipe(tmp_path, folder), "data.held_out=0").dataset
    assert dataset.digest() == DIGEST
    assert dataset.digest() is dataset.digest()  # computed once: every save writes it

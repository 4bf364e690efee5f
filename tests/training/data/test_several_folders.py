"""Several data folders as one set of samples, and instance prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.tim_model.gemma import write_gemma
from training.components.parts import Parts, build_parts
from training.config.data_schema import DataConfig, FolderConfig
from training.config.load import load_config
from training.data.dataset import Dataset
from training.data.loss_weights import sample_weights
from training.data.open_dataset import open_dataset

from ..tiny import write_classes, write_picture, write_recipe


def captioned(folder: Path, count: int, caption: str = "a cat {}") -> Path:
    for i in range(count):
        write_picture(folder / f"{i}.png", seed=len(folder.name) * 100 + i).with_suffix(".txt").write_text(
            caption.format(i)
        )
    return folder


def plain(folder: Path, count: int) -> Path:
    for i in range(count):
        write_picture(folder / f"{i}.png", seed=900 + i)
    return folder


def opened(*folders: FolderConfig, **settings) -> Dataset:
    return open_dataset(DataConfig(folders=list(folders), resolution=32, workers=0, **settings), 1, 4)


def test_samples_of_all_folders(tmp_path):
    first, second = captioned(tmp_path / "first", 2), captioned(tmp_path / "second", 3, "a dog {}")
    data = opened(FolderConfig(str(first)), FolderConfig(str(second)))
    assert [(sample.folder, sample.captions[0]) for sample in data.samples] == [
        (0, "a cat 0"), (0, "a cat 1"), (1, "a dog 0"), (1, "a dog 1"), (1, "a dog 2"),
    ]  # fmt: skip
    alone = open_dataset(DataConfig(path=str(second), resolution=32, workers=0), 1, 4)
    assert data.read(3, False).equal(alone.read(1, False))
    assert f"{second}: a text file beside each image: 3 of 3 images" in data.reading
    one = opened(FolderConfig(str(second)))
    assert one.digest() == alone.digest() and one.read(0, True).equal(alone.read(0, True))


def test_folders_are_named_as_they_are_from_here(tmp_path, monkeypatch):
    captioned(tmp_path / "a", 1)
    captioned(tmp_path / "b", 1)
    monkeypatch.chdir(tmp_path)
    data = opened(FolderConfig("a"), FolderConfig("b"))
    assert [sample.name for sample in data.samples] == ["a/0.png", "b/0.png"]
    assert data.read(1, False).shape == (3, 16, 16)


def test_instance_prompts(tmp_path):
    captioned(tmp_path, 1)
    plain(tmp_path / "more", 3)
    config = DataConfig(path=str(tmp_path), resolution=32, workers=0, instance_prompt="a photo of sks")
    data = open_dataset(config, 1, 4)
    assert sorted(sample.captions[0] for sample in data.samples) == ["a cat 0", *["a photo of sks"] * 3]
    assert data.notes == ["the instance prompt 'a photo of sks' is the caption of 3 images without a caption file"]
    all_captioned = captioned(tmp_path / "more", 3)
    data = open_dataset(DataConfig(path=str(all_captioned), resolution=32, workers=0, instance_prompt="x"), 1, 4)
    assert data.notes == ["the instance prompt 'x' is not used: all images have caption files"]


def test_instance_prompts_instead_of_names_of_repeated_folders(tmp_path):
    plain(tmp_path / "3_dog", 2)
    for prompt, caption in (("", "dog"), ("a photo of sks", "a photo of sks")):
        config = DataConfig(path=str(tmp_path), resolution=32, workers=0, instance_prompt=prompt)
        samples = open_dataset(config, 1, 4).samples
        assert [(sample.captions, sample.repeats) for sample in samples] == [((caption,), 3)] * 2


REFUSED = {
    "classes and captions": "some samples have captions, others labels",
    "instance prompt for classes": "'a photo' is for captions, but",
    "latents": "holds one .safetensors for each image, expected folders of images",
    "nowhere": "no such folder",
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_do_not_fit(tmp_path, case):
    cats, classes = captioned(tmp_path / "cats", 2), write_classes(tmp_path / "classes", 2)
    latents = tmp_path / "latents"
    latents.mkdir()
    (latents / "a.safetensors").write_bytes(b"")
    folders = {
        "classes and captions": [{"path": cats}, {"path": classes}],
        "instance prompt for classes": [{"path": classes}, {"path": write_classes(tmp_path / "more", 1)}],
        "latents": [{"path": cats}, {"path": latents}],
        "nowhere": [{"path": cats}, {"path": tmp_path / "nowhere"}],
    }[case]
    if "instance" in case:
        folders[0]["trigger_word"] = "a photo"
    with pytest.raises(ValueError, match=REFUSED[case]) as error:
        parts_of(tmp_path, folders)
    assert "\n" not in str(error.value)


def parts_of(folder: Path, folders: list[dict], *overrides: str) -> Parts:
    text = yaml.safe_dump([{**source, "path": str(source["path"])} for source in folders], default_flow_style=True)
    recipe = write_recipe(folder, folder)
    config = load_config(recipe, ["data.path=", f"data.folders={text}", f"run.folder={folder / 'run'}", *overrides])
    return build_parts(config, write=False)


def test_dreambooth_by_folders(tmp_path):
    """Pictures of a subject with a prompt and a trigger word, and twice as many of its kind that stay as they are."""
    subject, others = plain(tmp_path / "subject", 3), captioned(tmp_path / "others", 12, "a dog {}")
    folders = [
        {"path": subject, "weight": 4},
        {"path": others, "regularization": True, "weight": 0.5, "loss_weight": 0.25},
    ]
    options = [f"model.text_encoder={write_gemma(tmp_path / 'gemma')}", "data.trigger_word=sks"]
    parts = parts_of(tmp_path, folders, *options, "data.instance_prompt=a dog", "data.held_out=1")
    assert len(parts.data.held_out) == 1 and parts.data.held_out[0] < 3
    assert {*parts.data.captions[:3]} == {("sks, a dog",)} and parts.data.captions[3] == ("a dog 0",)
    rows = [copy for k in range(parts.data.batches_per_epoch) for copy in parts.data.rows(k)[1]]
    weights = sample_weights([parts.dataset.samples[copy.sample] for copy in rows], parts.data.config)
    assert len(rows) == 2 * 4 + 6 and weights.sum() == 8 + 6 * 0.25
    table = parts.data.table()
    assert f"folder {subject}: 3 samples, weight 4: 8 of 14 an epoch (57.1%)" in table
    assert (
        f"folder {others}: 12 samples, for regularization, weight 0.5: 6 of 14 an epoch (42.9%), loss weight" in table
    )
    assert f"trigger word: 'sks' starts every caption in {subject} that does not contain it" in table


def test_copies_of_a_sample_draw_their_own_captions(tmp_path):
    data = captioned(tmp_path / "data", 2, "a, b, c, d, e, f {}")
    options = [f"model.text_encoder={write_gemma(tmp_path / 'gemma')}", "data.shuffle_tags=50"]
    parts = parts_of(tmp_path, [{"path": data, "weight": 10}], *options)
    drawn = [
        [(copy.sample, parts.data.caption(copy, epoch)) for copy in parts.data.rows(step)[1]]
        for step in range(2 * parts.data.batches_per_epoch)
        for epoch in [step // parts.data.batches_per_epoch]
    ]
    pairs = [pair for batch in drawn for pair in batch]
    assert len(pairs) == 40 and len({*pairs}) > 20
    again = parts_of(tmp_path, [{"path": data, "weight": 10}], *options).data
    assert [
        [(copy.sample, again.caption(copy, step // again.batches_per_epoch)) for copy in again.rows(step)[1]]
        for step in range(len(drawn))
    ] == drawn
    assert "tags: 50 orders of each caption, an epoch draws one of them" in parts.data.table()

"""Which number a label gets: by name where the weights know names, never a new one in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tim_model.gemma import write_gemma
from tim_model.checkpoint import read_checkpoint, save_checkpoint
from tim_model.network.params import TiMParams
from tim_model.network.tim import TiM
from training.components.parts import build_parts
from training.config.load import load_config
from training.data.labels import Classes, KnownClasses, number_classes
from training.run.sample_sheet import make_sheet

from ..refusal import error_of
from ..tiny import last_state, train, write_classes, write_picture, write_recipe

NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
KNOWN = KnownClasses("the checkpoint", 10, NAMES)
UNNAMED = KnownClasses("the checkpoint", 10, [])
STATE = KnownClasses("the state of step 2", 2, [], fixed=True)


def test_names_are_numbered_in_order():
    assert number_classes(["dog", "cat", "dog"], [], None) == Classes({"cat": 0, "dog": 1}, ["cat", "dog"])


@pytest.mark.parametrize("known", [None, UNNAMED, KNOWN], ids=["fresh", "unnamed", "named"])
def test_digits_are_numbers(known):
    numbers = number_classes(["0", "1", "2", "007", "9", 4], [], known).numbers
    assert numbers == {"0": 0, "1": 1, "2": 2, "007": 7, "9": 9, 4: 4}


def test_known_names_keep_their_numbers():
    assert number_classes(["ankle boot", "bag"], [], KNOWN) == Classes({"ankle boot": 9, "bag": 8}, NAMES)
    assert number_classes(["Bag", "3"], [], KNOWN).numbers == {"Bag": 8, "3": 3}
    # a run that took folders of digits for names goes on with the numbers that it gave them
    old = KnownClasses("the state of step 2", 3, ["0", "10", "2"])
    assert number_classes(["0", "2", "10"], [], old).numbers == {"0": 0, "10": 1, "2": 2}


def refused(labels: list, class_names: list[str], known: KnownClasses | None) -> str:
    with pytest.raises(ValueError) as error:
        number_classes(labels, class_names, known)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_names_are_refused():
    error = refused(["bag", "sneakers", "hat"], [], KNOWN)
    assert error.startswith("data.path: has 3 classes, the checkpoint knows 10, but not hat, sneakers")
    assert "t-shirt, trouser" in error
    assert "but not sneakers (did you mean sneaker?)" in refused(["sneakers"], [], KNOWN)
    assert "but not 10" in refused(["10", "3"], [], KNOWN)
    assert "but not -1" in refused([-1], [], KNOWN)


def test_names_for_weights_without_names():
    error = refused(["cat", "dog"], [], UNNAMED)
    assert "has the classes cat, dog, but the checkpoint has no names for its 10" in error
    assert "folders or labels named 0 to 9, or data.class_names" in error
    classes = number_classes([f"n{i}" for i in range(10)], [], UNNAMED)
    assert classes.numbers["n7"] == 7 and len(classes.notes) == 1
    assert "the state of step 2 has no names for its 2" in refused(["cat", "dog"], [], STATE)
    assert number_classes(["cat", "dog"], ["dog", "cat"], STATE).numbers == {"cat": 1, "dog": 0}
    assert number_classes(["cat", "dog"], ["dog", "cat"], UNNAMED) == Classes({"cat": 1, "dog": 0}, ["dog", "cat"])


def test_mixed_labels_are_refused_unless_names_are_given():
    assert refused(["dog", "1"], [], None).startswith("data.path: labels are both names ('dog') and numbers (1)")
    assert number_classes(["dog", "1"], ["cow", "1", "dog"], None).numbers == {"1": 1, "dog": 2}


def test_names_of_the_config_come_first():
    classes = number_classes(["bag", "trouser"], ["bag", "trouser"], KNOWN)
    assert classes.numbers == {"bag": 0, "trouser": 1}
    assert classes.names == ["bag", "trouser", *NAMES[2:8], "8", "ankle boot"]  # every name once, at its number
    assert classes.notes == ["data.class_names: calls class 0 'bag', the checkpoint calls it 't-shirt'"]
    state = KnownClasses("the state of step 2", 10, NAMES, fixed=True)
    assert "calls class 0 'bag', the state of step 2 calls it 't-shirt'" in refused(["bag"], ["bag"], state)
    assert number_classes(["Bag"], NAMES, state).numbers == {"Bag": 8}


def test_two_names_of_one_class_are_told():
    assert number_classes(["7", "007"], [], None).notes == ["'007' and '7' are both class 7"]
    assert number_classes(["bag", "8"], [], KNOWN).notes == ["'8' and 'bag' are both class 8"]


def fashion(path: Path, metadata: dict[str, str] | None = None) -> Path:
    """A class model with ten names, whose recipe's sizes fit `write_recipe`."""
    net = TiM(TiMParams(3, 4, 32, 2, 2, 85, 10, num_classes=10))
    net.init_weights()
    names = '["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]'
    save_checkpoint(net, path, metadata={"class_names": names} if metadata is None else metadata)
    return path


def test_fine_tuning_keeps_the_checkpoints_classes(tmp_path):
    weights = fashion(tmp_path / "fashion.safetensors")
    for i, name in enumerate(("bag", "ankle boot")):
        write_picture(tmp_path / "data" / name / "0.png", seed=i)
    recipe = write_recipe(tmp_path, tmp_path / "data")
    assert train(recipe, f"model.checkpoint={weights}", "run.steps=1", "sampling.classes=[bag]") == 0
    assert "classes: 8 bag: 1, 9 ankle boot: 1" in (tmp_path / "run" / "data.txt").read_text()
    assert read_checkpoint(tmp_path / "run" / "model-ema.safetensors").class_names == NAMES
    assert train(recipe, f"model.checkpoint={weights}", "run.steps=2") == 0  # goes on from its state


def test_sheet_shows_the_classes_of_the_data(tmp_path):
    for i in (2, 8, 9):
        write_picture(tmp_path / "data" / str(i) / "0.png", seed=i)
    config = load_config(write_recipe(tmp_path, tmp_path / "data"), ["sampling.every=1"])
    assert make_sheet(build_parts(config, write=False), config).context.tolist() == [2, 8, 9]


def test_fine_tuning_on_unknown_classes(tmp_path, capsys):
    weights, data = fashion(tmp_path / "a.safetensors"), write_classes(tmp_path / "data", 1)
    recipe = write_recipe(tmp_path, data)
    error = error_of(capsys, train(recipe, f"model.checkpoint={weights}"))
    assert "data.path: has 2 classes, the checkpoint knows 10, but not cat, dog" in error
    weights = fashion(tmp_path / "b.safetensors", {})
    error = error_of(capsys, train(recipe, f"model.checkpoint={weights}"))
    assert "has the classes cat, dog, but the checkpoint has no names for its 10" in error
    assert not (tmp_path / "run").exists()
    assert train(recipe, f"model.checkpoint={weights}", "data.class_names=[dog, cat]", "run.steps=1") == 0
    assert read_checkpoint(tmp_path / "run" / "model-ema.safetensors").class_names == ["dog", "cat"]


def test_renamed_folder_does_not_swap_classes_on_resume(tmp_path, capsys):
    data = write_classes(tmp_path / "data", 2)
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    (data / "cat").rename(data / "kitten")
    for dry in ([], ["--dry-run"]):
        error = error_of(capsys, train(recipe, "run.steps=3", *dry))
        assert "the state of step 2 knows 2, but not kitten" in error and "expected cat, dog" in error
    (data / "kitten").rename(data / "cat")
    assert train(recipe, "run.steps=3", "--dry-run") == 0
    assert "\nfrom step 2\n" in capsys.readouterr().out
    assert train(recipe, "run.steps=3") == 0
    assert last_state(tmp_path / "run")["step"] == 3


def test_numbered_folders(tmp_path):
    for i, name in enumerate(("0", "1", "10", "11", "2")):
        write_picture(tmp_path / "data" / name / "a.png", seed=i)
    assert train(write_recipe(tmp_path, tmp_path / "data"), "run.steps=1") == 0
    assert "\nclasses: 0: 1, 1: 1, 2: 1, 10: 1, 11: 1\n" in (tmp_path / "run" / "data.txt").read_text()
    checkpoint = read_checkpoint(tmp_path / "run" / "model-ema.safetensors")
    assert checkpoint.params.num_classes == 12 and checkpoint.class_names == []


@pytest.mark.parametrize("setting", ["model.text_encoder={gemma}", "sampling.prompts=[a cat]"])
def test_settings_of_captions_with_classes(tmp_path, capsys, setting):
    key = setting.partition("=")[0]
    setting = setting.format(gemma=write_gemma(tmp_path / "gemma"))
    error = error_of(capsys, train(write_recipe(tmp_path, write_classes(tmp_path / "data", 1)), setting))
    assert f"{key}: is for captions, but data.path={tmp_path / 'data'} was read as classes" in error
    assert "(a class for each of 2 folders (cat, dog): 0 of 2 images with a caption file)" in error


@pytest.mark.parametrize("setting", ["data.class_names=[cat]", "sampling.classes=[cat]"])
def test_settings_of_classes_with_captions(tmp_path, capsys, setting):
    write_picture(tmp_path / "data" / "a.png").with_suffix(".txt").write_text("a cat")
    encoder = write_gemma(tmp_path / "gemma")
    recipe = write_recipe(tmp_path, tmp_path / "data")
    error = error_of(capsys, train(recipe, f"model.text_encoder={encoder}", setting))
    assert f"{setting.partition('=')[0]}: is for classes, but" in error
    assert "was read as captions (a text file beside each image: 1 of 1 image with a caption file)" in error


def test_captions_without_a_text_encoder_say_what_was_read(tmp_path, capsys):
    write_picture(tmp_path / "data" / "1_cat" / "a.png")
    error = error_of(capsys, train(write_recipe(tmp_path, tmp_path / "data")))
    assert "model.text_encoder: is not set, but the data has captions (folders named N_name, each image" in error

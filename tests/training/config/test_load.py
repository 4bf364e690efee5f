"""Recipes and overrides: what they set, and what is said of mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from training.autoencoder.config import AutoencoderConfig, load_autoencoder_config
from training.config.data_schema import FolderConfig
from training.config.load import ConfigError, common_settings, load_config, to_yaml
from training.config.recipe import OWN_KEYS, has_key
from training.config.schema import Config
from training.language_model.trainer import LanguageModelConfig, load_language_model_config

RECIPES = sorted((Path(__file__).resolve().parents[3] / "training" / "recipes").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {path: photos}\noptimizer:\n  lr: 1e-4\n")
    return path


def test_recipe_and_overrides(recipe):
    overrides = ["optimizer.lr=3e-3", "run.steps=7", "data.mirror=true", "sampling.steps=[1, 2]", "objective.P_std=1"]
    config = load_config(recipe, overrides)
    assert config.optimizer.lr == 3e-3  # YAML takes 3e-3 for text
    assert config.run.steps == 7
    assert config.data.mirror is True
    assert config.sampling.steps == [1, 2]
    assert config.objective.P_std == 1.0 and isinstance(config.objective.P_std, float)
    assert config.data.path == "photos"
    assert config.ema == Config().ema


def test_resolved_config_is_a_recipe(recipe, tmp_path):
    config = load_config(recipe, ["resume=none", "data.class_names=[a, b]", "data.folders=[{path: a}]", "data.path="])
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load_config(again) == config


MISTAKES = {
    "optimizer.rate=1": "optimizer.rate: unknown key, expected one of name, lr,",
    "optimizer.learning_rate=1": "optimizer.learning_rate: unknown key, it is called optimizer.lr here",
    "data.keep_tokens=1": "data.keep_tokens: unknown key, it is called data.keep_tags here",
    "objective.min_snr_gamma=5": "objective.min_snr_gamma: not for this loss: min-SNR levels the losses of single",
    "optimizer.snr_gamma=5": "optimizer.snr_gamma: not for this loss: min-SNR",
    "min_snr_gamma=5": "min_snr_gamma: not for this loss: min-SNR",
    "optimizer.name=lion": "optimizer.name='lion': expected one of adamw, adamw8bit, prodigy, adafactor",
    "optimizer.schedule=step": "optimizer.schedule='step': expected one of constant, cosine, linear, polynomial",
    "optimizer.num_cycles=3": "optimizer: num_cycles=3 with schedule=constant: expected a whole number from 1",
    "run.epochs=-1": "run.epochs=-1: expected 0 or more",
    "data.shuffle_tags=-1": "data.shuffle_tags=-1: expected 0 or more",
    "data.keep_tags=1": "data.keep_tags=1: nothing reads it, expected data.shuffle_tags as well",
    "data.unmasked_weight=0.5": "data.unmasked_weight=0.5: nothing reads it, expected data.masks as well",
    "data.folders=[{path: a}]": "data.path=photos: beside data.folders, expected one of them; data.path= empties it",
    "data.folders=[a]": "data.folders[0]='a': expected a section with keys",
    "data.folders=[{path: a, weight: 0}]": "data.folders[0]: weight=0: expected a number above 0",
    "data.folders=[{path: a, loss_weight: -1}]": "data.folders[0]: loss_weight=-1: expected a number from 0",
    "data.folders=[{path: a, num_repeats: 2}]": "data.folders[0].num_repeats: unknown key, it is called weight in data",
    "optimizer.lrr=1": "optimizer.lrr: unknown key, did you mean optimizer.lr?",
    "modell.depth=2": "modell: unknown key, did you mean model?",
    "run.steps=many": "run.steps='many': expected a whole number",
    "run.steps=1.5": "run.steps=1.5: expected a whole number",
    "run.steps=0": "run.steps=0: expected more than 0",
    "run.steps=true": "run.steps=True: expected a whole number",
    "optimizer.lr=fast": "optimizer.lr='fast': expected a number",
    "optimizer.lr=-1": "optimizer.lr=-1.0: expected more than 0",
    "optimizer.lr=nan": "optimizer.lr=nan: expected more than 0",
    "data.mirror=perhaps": "data.mirror='perhaps': expected true or false",
    "data.dropout=2": "data.dropout=2.0: expected a share from 0 to 1",
    "data.on_problem=panic": "data.on_problem='panic': expected one of skip, stop",
    "data.class_names=cat": "data.class_names='cat': expected a list",
    "sampling.steps=[0]": "sampling.steps=[0]: expected whole numbers from 1",
    "sampling.steps=[one]": "sampling.steps[0]='one': expected a whole number",
    "sampling.size=[8]": "sampling.size=[8]: expected [width, height]",
    "model.preset=tim-xxl": "model.preset='tim-xxl': expected one of tim-t2i-xl-p1",
    "objective.name=gan": "objective.name='gan': expected one of tim",
    "objective.transport=bus": "objective: transport 'bus': expected one of ot_fm",
    "objective.epsilon=.nan": "objective.epsilon=nan: expected a finite number",
    "objective.power=.nan": "objective.power=nan: expected a finite number",
    "objective.P_std=.nan": "objective.P_std=nan: expected a finite number",
    "objective.diffusion_ratio=0.95": "objective: diffusion_ratio=0.95 and consistency_ratio=0.1: expected shares",
    "run.precision=int8": "run.precision='int8': expected one of auto, fp32, bf16, fp16",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: expected two numbers",
    "data.path=": "data.path: is not set",
    "resume=": "resume: is empty, expected auto, none, or the path",
    "run.steps=": "run.steps=None: expected a whole number",
    "data=photos": "data='photos': expected a section",
    "run.steps": "'run.steps': expected key=value",
    "data.path.deeper=1": "data.path.deeper: path is a value, not a section",
    "run.held_out=-1": "run.held_out: unknown key",
    "data.workers=-1": "data.workers=-1: expected 0 or more",
    "run.steps=1:30": "run.steps=1:30: expected a whole number",  # 90 in YAML
    "run.steps=0x10": "run.steps=0x10: expected a whole number",
    "optimizer.lr=1:30.5": "optimizer.lr=1:30.5: expected a number",
    "data.class_names=[a": "data.class_names='[a': is no YAML (line 1: expected ',' or ']', but got '<stream end>')",
    "data.class_names=[[a]]": "data.class_names[0]=['a']: expected a text",
    "data.batch_size=2026-13-45": "data.batch_size=2026-13-45: expected a whole number",  # no date either
    "run.precision= bf16": "run.precision=' bf16': expected one of",
    "loss.noise=0": "loss: unknown key, it belongs to recipes of python -m training.autoencoder: start that command",
    "data.class_names=---\n---": "data.class_names='---\\n---': is no YAML (line 2: but found another document)",
    "data.class_names=!!map [a]": "data.class_names='!!map [a]': is no YAML (line 1: expected a mapping node",
    f"run.steps={1000 * '['}": "run.steps='[[[",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_one_line_with_the_key(recipe, override):
    with pytest.raises(ConfigError) as error:
        load_config(recipe, [override])
    assert str(error.value).startswith(MISTAKES[override])
    assert "\n" not in str(error.value)


FOLDERS = {
    "[{weight: 2}]": "data.folders: path of one of them: is not set",
    "[{path: a}, {path: a/b}]": "data.folders: {cwd}/a/b lies in {cwd}/a, expected each image in one of them",
    "[{path: a}, {path: a}]": "data.folders: {cwd}/a lies in {cwd}/a",
    "[{path: a, regularization: true}]": "data.folders: all are for regularization, expected one with the data",
    "[{path: .}]": "run.folder={cwd}/runs/tim: lies in data.path={cwd}",
}  # fmt: skip


@pytest.mark.parametrize("folders", FOLDERS)
def test_folders_that_do_not_go_together(recipe, folders):
    with pytest.raises(ConfigError) as error:
        load_config(recipe, ["data.path=", f"data.folders={folders}"])
    assert str(error.value).startswith(FOLDERS[folders].format(cwd=Path.cwd()))


def test_folders_take_what_they_do_not_state(recipe):
    folders = "[{path: a}, {path: ~/b, trigger_word: own, weight: 0.5}, {path: c, regularization: true}]"
    settings = ["data.path=", f"data.folders={folders}", "data.trigger_word=sks", "data.instance_prompt=a photo"]
    config = load_config(recipe, settings)
    assert [source.trigger_word for source in config.data.sources] == ["sks", "own", ""]
    assert [source.instance_prompt for source in config.data.sources] == ["a photo", "a photo", ""]
    assert config.data.folders[1].path == str(Path.home() / "b") and config.data.folders[1].weight == 0.5
    assert load_config(recipe).data.sources == [FolderConfig("photos")]


def test_machines_may_have_folders_elsewhere(recipe):
    """Processes must agree in all but places."""
    settings = [
        common_settings(load_config(recipe, ["data.path=", f"data.folders=[{{path: {path}, weight: {weight}}}]"]))
        for path, weight in (("a", 2), ("b", 2), ("a", 3))
    ]
    assert settings[0] == settings[1] != settings[2]


TEXTS = [
    r"C:\photos #1", "a: b", " spaces ", "yes", "null", "~", "1e3", "007", "1.10", "12:30", "2026-01-01", "[a, b]",
    "{a: b}", '"quoted"', "'", "*star", "a\tb", "# no comment", "",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_overrides_are_taken_as_written(recipe, tmp_path, text):
    config = load_config(recipe, [f"run.wandb={text}", f"objective.repa={text}"])
    assert config.run.wandb == config.objective.repa == text
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(again) == config


def test_texts_of_recipes_are_taken_as_written(tmp_path):
    """Where YAML sees numbers, dates and switches; nothing, ~ and null alone mean no text."""
    path = tmp_path / "recipe.yaml"
    names = "[007, 1.10, yes, no, 12:30, 2026-01-01, 1_000, 'null', x y]"
    path.write_text(f"data:\n  path: 0123\n  class_names: {names}\nmodel:\n  vae: null\n  checkpoint:\n")
    config = load_config(path)
    assert config.data.path == "0123" and config.model.vae == config.model.checkpoint == ""
    assert config.data.class_names == ["007", "1.10", "yes", "no", "12:30", "2026-01-01", "1_000", "null", "x y"]
    config = load_config(path, ["sampling.prompts=[a red fox, 1.10, on, 'a: b # c']", "sampling.classes=[07, no]"])
    assert config.sampling.prompts == ["a red fox", "1.10", "on", "a: b # c"]
    assert config.sampling.classes == ["07", "no"]


def test_numbers_are_decimal(recipe):
    config = load_config(recipe, ["run.steps=010", "run.seed=1_000", "optimizer.lr=.5"])  # octal in YAML 1.1
    assert (config.run.steps, config.run.seed, config.optimizer.lr) == (10, 1000, 0.5)


def test_home_folder_in_recipes_and_overrides(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {path: ~/photos}")
    config = load_config(path, ["run.folder=~/run"])
    assert [config.data.path, config.run.folder] == [str(Path.home() / name) for name in ("photos", "run")]


def test_empty_sections(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data:\nmodel: ~\noptimizer:\n")
    config = load_config(path, ["data.path=photos", "model.depth=3"])
    assert config.data.path == "photos" and config.model.depth == 3
    path.write_text("")
    assert load_config(path, ["data.path=photos"]) == Config(data=replace(Config().data, path="photos"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_recipes_of_windows_editors(tmp_path, encoding):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("data:\r\n  path: Bär\r\n".encode(encoding))
    assert load_config(path).data.path == "Bär"


LOADERS = {
    "training.train": load_config, "training.autoencoder": load_autoencoder_config,
    "training.language_model": load_language_model_config,
}  # fmt: skip
COMMANDS = {path: "training.train" for path in RECIPES} | {
    RECIPES[0].parent / "demo" / f"{name}.yaml": command
    for name, command in [("autoencoder", "training.autoencoder"), ("language_model", "training.language_model")]
}


@pytest.mark.parametrize("command", LOADERS)
@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_recipes_of_other_commands_name_theirs(path, command):
    if command == COMMANDS[path]:
        LOADERS[command](path, ["data.path=photos"])
        return
    with pytest.raises(ConfigError) as error:
        LOADERS[command](path, ["data.path=photos"])
    said = f"it belongs to recipes of python -m {COMMANDS[path]}: start that command instead"
    assert str(error.value).endswith(said) and "\n" not in str(error.value)


def test_keys_of_one_command_are_its_own():
    kinds = {"training.train": Config, "training.autoencoder": AutoencoderConfig}
    kinds["training.language_model"] = LanguageModelConfig
    for command, keys in OWN_KEYS.items():
        for key in keys:
            assert [name for name, kind in kinds.items() if has_key(kind, key)] == [command], key


BROKEN = {
    "tab": ("data:\n\tpath: photos\n", "line 2: found character '\\t' that cannot start any token, expected spaces"),
    "twice": ("data: {path: a}\nrun: {}\ndata: {path: b}\n", "line 1: the key data is there twice"),
    "key twice": ("data:\n  path: a\n  path: b\n", "line 2: the key path is there twice"),
    "deep": (1000 * "[", "it is nested too deeply"),
    "number": ("data: !!python/object:os.system {}", "line 1: could not determine a constructor"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_recipes(tmp_path, case):
    text, said = BROKEN[case]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert f"bad.yaml: is no YAML ({said}" in str(error.value) and "\n" not in str(error.value)


def test_weights_given_as_a_recipe_are_not_read_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.truncate(2**40)  # without blocks on the disk
    with pytest.raises(ConfigError, match=r"model\.safetensors: is longer than 1048576 bytes, expected a recipe"):
        load_config(path)


def test_values_that_stand_for_endless_ones(tmp_path):
    """Each name holds the one before ten times: printed, that would be a billion."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 9)]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(["data:", "  path:", *(f"    {line}" for line in lines)]))
    with pytest.raises(ConfigError, match=r"data\.path=.{,1000}: expected a text"):
        load_config(path)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", "just text", "\x00"], ids=["broken", "list", "text", "binary"])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml: (is no YAML|holds a)") as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_missing_recipe(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["split_meanflow", "modular_meanflow"])
def test_objectives_on_ot_fm_only(recipe, name):
    with pytest.raises(ConfigError, match=rf"^objective\.transport='vp': {name} knows ot_fm only"):
        load_config(recipe, [f"objective.name={name}", "objective.transport=vp"])


@pytest.mark.parametrize("option", ["objective.derivative=jvp", "objective.name=modular_meanflow"])
def test_jvp_is_not_compiled(recipe, option):
    with pytest.raises(ConfigError, match=r"run\.compile=true: not with a derivative by jvp"):
        load_config(recipe, ["run.compile=true", option])


def test_derivative_with_gradient_keeps_everything(recipe):
    with pytest.raises(ConfigError, match=r"run\.gradient_checkpointing=true: not with modular_meanflow"):
        load_config(recipe, ["run.gradient_checkpointing=true", "objective.name=modular_meanflow"])


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem.startswith("text")], ids=lambda path: path.stem)
def test_captioned_pictures_are_not_mirrored(path):
    """Else "left of" would become false."""
    assert load_config(path).data.mirror is False


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes(path):
    config = load_config(path, ["data.path=photos"])
    assert yaml.safe_load(to_yaml(config))["run"]["folder"] == f"runs/{path.stem}"

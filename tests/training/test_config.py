"""Recipes and overrides: what they set, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.config import ConfigError, load_config, to_yaml
from training.sections import Config

RECIPES = sorted((Path(__file__).resolve().parents[2] / "training" / "recipes").glob("*.yaml"))


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
    config = load_config(recipe, ["resume=none", "data.class_names=[a, b]"])
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load_config(again) == config


MISTAKES = {
    "optimizer.learning_rate=1": "optimizer.learning_rate: unknown key, expected one of lr,",
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
    "objective.diffusion_ratio=0.95": "objective: diffusion_ratio=0.95 and consistency_ratio=0.1: expected shares",
    "run.precision=int8": "run.precision='int8': expected one of auto, fp32, bf16, fp16",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: expected two numbers",
    "data.path=": "data.path: is not set",
    "run.steps=": "run.steps=None: expected a whole number",
    "data=photos": "data='photos': expected a section",
    "run.steps": "'run.steps': expected key=value",
    "data.path.deeper=1": "data.path.deeper: path is a value, not a section",
    "run.held_out=-1": "run.held_out: unknown key",
    "data.workers=-1": "data.workers=-1: expected 0 or more",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_one_line_with_the_key(recipe, override):
    with pytest.raises(ConfigError) as error:
        load_config(recipe, [override])
    assert str(error.value).startswith(MISTAKES[override])
    assert "\n" not in str(error.value)


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


def test_jvp_is_not_compiled(recipe):
    with pytest.raises(ConfigError, match=r"run\.compile=true: not with a derivative by jvp"):
        load_config(recipe, ["run.compile=true", "objective.derivative=jvp"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes(path):
    config = load_config(path, ["data.path=photos"])
    assert yaml.safe_load(to_yaml(config))["run"]["folder"] == f"runs/{path.stem}"

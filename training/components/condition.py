"""Whether settings of captions, classes and masks fit the data."""

from __future__ import annotations

from ..config.load import ConfigError, get
from ..config.schema import Config
from ..data.dataset import Dataset

OF_CAPTIONS = (
    "model.text_encoder", "sampling.prompts", "data.instance_prompt", "data.trigger_word", "data.caption_per_line",
    "data.shuffle_tags",
)  # fmt: skip


def check_condition(config: Config, dataset: Dataset) -> None:
    """Raise ConfigError for settings of captions with class data, or the reverse: the data was misread."""
    kinds = ("classes", "captions") if dataset.captioned else ("captions", "classes")
    keys = ("data.class_names", "sampling.classes") if dataset.captioned else OF_CAPTIONS
    for key in keys:
        if get(config, key):
            raise ConfigError(
                f"{key}: is for {kinds[0]}, but {config.data.place} was read as {kinds[1]} ({dataset.reading})"
            )
    for source in config.data.sources if not dataset.captioned else ():
        if source.instance_prompt or source.trigger_word:
            words = source.instance_prompt or source.trigger_word
            raise ConfigError(f"data.folders: {words!r} is for captions, but {source.path} was read as classes")
    if config.data.masks and config.objective.repa:
        raise ConfigError("data.masks: not with objective.repa, whose features are those of whole images")

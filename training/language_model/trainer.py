"""The run that trains a small Gemma-3 on captions.

Predicting the next word does not force a feature to contain the earlier words, but an image model needs them: which
item, in which color, the first or the second. Therefore an auxiliary linear layer, discarded after training, must also
predict the last words from each feature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from tim_model.files.tensor_files import atomic, write_safetensors
from tim_model.text.encoder import empty_model
from tim_model.text.files import CONFIG, WEIGHTS, read_text_encoder_files, write_text_encoder
from tim_model.text.tokenizer import TiMTokenizer

from ..config.load import ConfigError, read_recipe
from ..config.schema import OptimizerConfig
from ..optim.learning_rate import learning_rate
from ..optim.named import configured_optimizer
from .word_tokenizer import (
    BOS,
    EOS,
    PAD,
    last_words,
    make_tokenizer,
    padded,
    read_replaced,
    split_captions,
    with_strays,
)


@dataclass(frozen=True)
class GemmaConfig:
    """Sizes of the encoder, by their names in config.json."""

    hidden_size: int = 192
    intermediate_size: int = 320
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    head_dim: int = 64


@dataclass(frozen=True)
class CaptionConfig:
    """The captions and how they become batches."""

    path: str = ""  # as for training.train; images are not opened
    batch_size: int = 64
    held_out: int = 500  # number of different held-out captions
    look_back: int = 13  # number of last words, its own included, that the auxiliary layer predicts from a feature
    replaced: str = ""  # JSON file of pairs: words of prompts and their replacements, "" to remove them
    stray: float = 0.05  # probability of a random word before a word, for unknown words and unseen pairs


@dataclass(frozen=True)
class RunConfig:
    """The length of the run and its output files."""

    folder: str = "runs/language_model"  # config.json, model.safetensors in float32, tokenizer.json
    packed: str = "runs/language_model.safetensors"  # the same as one file in float16
    steps: int = 1000
    seed: int = 0
    log_every: int = 100


@dataclass(frozen=True)
class LanguageModelConfig:
    """Everything that makes a run."""

    model: GemmaConfig = field(default_factory=GemmaConfig)
    data: CaptionConfig = field(default_factory=CaptionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


def load_language_model_config(path: Path, overrides: Sequence[str] = ()) -> LanguageModelConfig:
    """The run of a YAML recipe and overrides such as "optimizer.lr=1e-3".

    Raises:
        ConfigError: no such file, no YAML, an unknown key, a wrong type or a value out of range.
    """
    config = read_recipe(LanguageModelConfig, path, overrides)
    check_values(config)
    return config


def check_values(config: LanguageModelConfig) -> None:
    """Raise ConfigError for values that cannot be trained with."""
    positive = {f"model.{name}": value for name, value in asdict(config.model).items()} | {
        "data.batch_size": config.data.batch_size, "optimizer.lr": config.optimizer.lr,
        "data.look_back": config.data.look_back, "run.steps": config.run.steps, "run.log_every": config.run.log_every,
    }  # fmt: skip
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key}={value}: expected more than 0")
    if config.optimizer.accumulation != 1 or len(config.optimizer.betas) != 2:
        raise ConfigError("optimizer: expected accumulation=1 and two betas")
    if config.model.head_dim % 2:
        raise ConfigError(f"model.head_dim={config.model.head_dim}: expected an even number")
    if config.data.held_out < 1:
        raise ConfigError(f"data.held_out={config.data.held_out}: expected 1 or more")
    if not 0 <= config.data.stray < 1:
        raise ConfigError(f"data.stray={config.data.stray}: expected a chance from 0 to below 1")
    if not config.data.path:
        raise ConfigError("data.path: is not set, expected a folder of images with captions")


def train(config: LanguageModelConfig, captions: Sequence[str]) -> tuple[TiMTokenizer, nn.Module]:
    """The tokenizer of the captions' words, and a Gemma3ForCausalLM trained on them, in float32."""
    tokenizer = make_tokenizer(captions, read_replaced(config.data.replaced))
    rows, held = split_captions(tokenizer, captions, config.data.held_out, config.run.seed)
    net = LanguageModel(gemma_config(config.model, tokenizer.vocab_size), config.data.look_back, config.run.seed)
    count = sum(weight.numel() for weight in net.gemma.parameters())
    print(f"{len(rows)} captions of {tokenizer.vocab_size} words, {len(held)} held out; {count:,} weights", flush=True)
    o, steps = config.optimizer, config.run.steps
    optimizer = configured_optimizer(net, o)
    for step, ids in enumerate(batches(config, rows, tokenizer.vocab_size)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(o, step, steps, config.data.batch_size)
        sum(net.losses(ids)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), o.clip)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % config.run.log_every == 0 or step + 1 == steps:
            print(f"step {step + 1}: {report(net, held)}", flush=True)
    return tokenizer, net.gemma


def gemma_config(sizes: GemmaConfig, vocab_size: int) -> dict[str, object]:
    """The config.json of google/gemma-3-1b-it with other sizes and vocabulary; the last layer is the global one."""
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "torch_dtype": "float32",
        "vocab_size": vocab_size, **asdict(sizes), "num_key_value_heads": 1, "query_pre_attn_scalar": sizes.head_dim,
        "max_position_embeddings": 1024, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None,
        "sliding_window": 512, "sliding_window_pattern": sizes.num_hidden_layers, "attention_bias": False,
        "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6,
        "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD,
    }  # fmt: skip


class LanguageModel(nn.Module):
    """transformers' Gemma3ForCausalLM with new weights, a function of the seed, and the auxiliary layer.

    Args:
        config: a config.json.
        look_back: the number of last words that the auxiliary layer predicts.

    Raises:
        CheckpointError: sizes that do not fit each other.
    """

    def __init__(self, config: Mapping[str, object], look_back: int, seed: int):
        from transformers import Gemma3ForCausalLM

        super().__init__()
        self.look_back = look_back
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.gemma = Gemma3ForCausalLM(empty_model(config).config)
            self.last = nn.Linear(self.gemma.config.hidden_size, look_back * self.gemma.config.vocab_size)

    def losses(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropies (means over words) of the next word and of the last ones.

        Args:
            ids: (B,L) <bos>, words, <eos>, padding. Attention is causal, so that padding needs no mask.
        """
        features = self.gemma.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        last = self.last(features).unflatten(-1, (self.look_back, -1))
        said = last_words(ids, self.look_back)[:, :-1]
        return cross_entropy(self.gemma.lm_head(features), ids[:, 1:]), cross_entropy(last, said)


def cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean over all positions except padding; the vocabulary is the last axis of `logits`."""
    total = nn.functional.cross_entropy(logits.flatten(0, -2), ids.flatten(), ignore_index=PAD, reduction="sum")
    return total / (ids != PAD).sum().clamp(min=1)


def batches(config: LanguageModelConfig, rows: Sequence[list[int]], vocab_size: int) -> Iterator[Tensor]:
    """The ids (B,L) of each step, padded: a pure function of (seed, step)."""
    for step in range(config.run.steps):
        random = Random(f"{config.run.seed} {step}")
        chosen = random.choices(rows, k=config.data.batch_size)
        yield padded([with_strays(row, config.data.stray, vocab_size, random) for row in chosen])


@torch.no_grad()
def report(net: LanguageModel, held: Sequence[list[int]]) -> str:
    """Perplexities of held-out captions: the effective number of equally likely words, 1 at best."""
    next_word, last = net.losses(padded(held))
    return f"held-out perplexity {next_word.exp():.3f}, of the last words {last.exp():.3f}"


def write(model: nn.Module, tokenizer: TiMTokenizer, config: LanguageModelConfig) -> None:
    """Write the encoder as a Hugging Face folder, and packed in float16, which rounds less than bfloat16."""
    folder = Path(config.run.folder)
    weights = {f"model.{name}": value.contiguous() for name, value in model.model.state_dict().items()}
    write_safetensors(weights, folder / WEIGHTS, {"format": "pt"})
    parsed = gemma_config(config.model, tokenizer.vocab_size)
    for name, content in {CONFIG: json.dumps(parsed, indent=2).encode(), tokenizer.name: tokenizer.content}.items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(content)
    files = read_text_encoder_files(folder)
    half = {name: value.half() for name, value in files.state_dict.items()}
    half_config = {**files.config, "torch_dtype": "float16"}
    write_text_encoder(files._replace(config=half_config, state_dict=half), config.run.packed)

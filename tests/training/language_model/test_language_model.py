"""The small text encoder: its tokenizer, its training, and its files, which must be those of any Gemma-3."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch

from tim_model import load_text_encoder
from tim_model.text.encoder import empty_model
from tim_model.text.tokenizer import TiMTokenizer
from training.language_model.__main__ import main
from training.language_model.trainer import LanguageModel, gemma_config, load_language_model_config
from training.language_model.word_tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    last_words,
    make_tokenizer,
    padded,
    read_captions,
    split_captions,
    with_strays,
)

ROOT = Path(__file__).resolve().parents[3]
COLORS, ITEMS = ("red", "blue", "green"), ("bag", "coat", "t-shirt")
CAPTIONS = [f"a {c} {i}, above a {d} {j}" for c in COLORS for i in ITEMS for d in COLORS for j in ITEMS]
SMALL = ["hidden_size=32", "intermediate_size=48", "num_hidden_layers=2", "num_attention_heads=2", "head_dim=16"]


def write_captions(folder: Path, captions: list[str] = CAPTIONS) -> Path:
    """A folder in the metadata layout whose pictures cannot be opened."""
    folder.mkdir()
    (folder / "empty.png").touch()
    lines = [json.dumps({"file_name": "empty.png", "text": caption}) + "\n" for caption in captions]
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def run(folder: Path, *overrides: str) -> int:
    """Train in a folder that has a recipe.yaml, or gets an empty one."""
    (folder / "recipe.yaml").touch()
    sizes = [f"model.{size}" for size in SMALL]
    places = [
        f"data.path={folder / 'data'}",
        f"run.folder={folder / 'gemma'}",
        f"run.packed={folder / 'x.safetensors'}",
    ]
    length = ["data.held_out=9", "data.batch_size=16", "optimizer.lr=1e-2", "run.steps=60", "run.log_every=30"]
    return main([str(folder / "recipe.yaml"), *sizes, *places, *length, *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of one run."""
    folder = tmp_path_factory.mktemp("run")
    write_captions(folder / "data")
    assert run(folder) == 0
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(["a Red t-shirt, above a bag", "two bags"])


def test_ids(tokenizer):
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "above", "bag", "bags", "red", "t-shirt", "two"]
    assert (
        [tokenizer.vocabulary.id_of(token) for token in tokens] == list(range(11)) == list(range(tokenizer.vocab_size))
    )
    assert (PAD, EOS, BOS, UNK) == (0, 1, 2, 3)


def test_round_trip(tokenizer):
    ids = tokenizer.tokenize("Two  BAGS above a t-shirt,red")
    assert ids == [BOS, 10, 7, 5, 4, 9, 8]
    assert tokenizer.decode(ids) == "two bags above a t-shirt red"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("two\nbags\tred", [10, 7, 8]),  # line breaks and tabs come escaped
        ("a shiny bag!", [4, 6]),
        ("a bag, red. [two] ((bags))", [4, 6, 8, 10, 7]),
        ("(red bag:1.3), {two: .5} bags", [8, 6, 10, 7]),
        ("red_bag \\(two\\)", [8, 6, 10]),
        ("a \\new bag", [4, 6]),  # no line break
        ("t-", []),
        ("\\", []),
        ("é🦊 a “bag”", [4, 6]),  # \xe9\U0001f98a a \u201cbag\u201d
    ],
)
def test_whatever_people_write(tokenizer, text, words):
    assert tokenizer.tokenize(text) == [BOS, *words]


def test_words_that_it_lacks_are_named(tokenizer):
    assert tokenizer.unknown_words("A shiny red beg, Café: a shiny bag") == ["shiny", "beg", "café"]
    expected = (
        "this demo does not know: beg (left out); did you mean bag? it knows 7 words: a, above, bag, bags, red, t-sh"
    )
    assert tokenizer.unknown_notice("a beg").startswith(expected)
    assert tokenizer.unknown_notice("a (red:1.2) bag!") == ""


def test_words_can_be_replaced_by_others_and_left_out():
    pairs = [("red ones", "red"), ("sack", "bag"), ("the", "")]
    tokenizer = make_tokenizer(CAPTIONS, pairs)
    assert tokenizer.tokenize("The  red\tones, sack!") == tokenizer.tokenize("red bag")
    assert tokenizer.unknown_words("the sacks") == ["sacks"], "only whole words are replaced"
    assert tokenizer.unknown_words("a sack-coat") == ["sack-coat"]
    assert "sack" not in tokenizer.vocabulary.words()
    same = TiMTokenizer("tokenizer.json", tokenizer.content, BOS, PAD, tokenizer.vocab_size)
    assert same.tokenize("the sack") == tokenizer.tokenize("bag"), "the file says it all"


@pytest.mark.parametrize("content", ["{", '{"sack": "bag"}', '[["sack"]]', '[["sack", 1]]', '["sack"]'])
def test_bad_files_of_replaced_words_are_one_line(tmp_path, capsys, content):
    write_captions(tmp_path / "data")
    (tmp_path / "words.json").write_text(content)
    assert run(tmp_path, f"data.replaced={tmp_path / 'words.json'}") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"data.replaced={tmp_path / 'words.json'}: " in error and "expected a" in error
    assert run(tmp_path, "data.replaced=nowhere.json") == 1
    assert "data.replaced=nowhere.json: " in capsys.readouterr().err


def test_held_out_captions_are_others(tokenizer):
    captions = ["a bag", "two bags", "a bag", "a t-shirt", "red"]
    trained, held = split_captions(tokenizer, captions, 2, seed=0)
    assert len(held) == 2 and not {*map(tuple, held)} & {*map(tuple, trained)}
    expected = [[*tokenizer.tokenize(caption), EOS] for caption in captions]
    assert trained == [row for row in expected if row not in held]  # as often as they occur


def test_strays_stand_between_words():
    random = Random(0)
    rows = [with_strays([BOS, 5, EOS], 0.5, 7, random) for _ in range(200)]
    assert {len(row) for row in rows} == {3, 4, 5}
    assert all(row[0] == BOS and row[-1] == EOS for row in rows)
    assert {token for row in rows for token in row[1:-1]} == {UNK, 4, 5, 6}
    assert with_strays([BOS, 5, EOS], 0.0, 7, random) == [BOS, 5, EOS]


def small_net(look_back: int = 2) -> LanguageModel:
    recipe = ROOT / "training" / "recipes" / "demo" / "language_model.yaml"
    sizes = load_language_model_config(recipe, [f"model.{size}" for size in SMALL]).model
    return LanguageModel(gemma_config(sizes, 12), look_back, 0)


def test_last_words():
    ids = torch.tensor([[BOS, 5, UNK, 9, EOS], [BOS, 8, EOS, PAD, PAD]])
    none = [PAD, PAD]
    assert last_words(ids, 2).tolist() == [[none, [PAD, 5], [5, UNK], [UNK, 9], none], [none, [PAD, 8], *[none] * 3]]
    assert last_words(ids, 4)[0, 3].tolist() == [PAD, 5, UNK, 9]


def test_losses_are_those_of_the_definition():
    """Without padding, word by word."""
    net, rows = small_net(), [[BOS, 5, 7, 9, EOS], [BOS, 8, EOS]]
    next_word, last = [], []
    for row in rows:
        ids = torch.tensor([row])
        log_p = net.gemma(input_ids=ids).logits[0].log_softmax(-1)
        next_word += [-log_p[i, word] for i, word in enumerate(row[1:])]
        heads = net.last(net.gemma.model(input_ids=ids).last_hidden_state[0]).view(len(row), 2, 12).log_softmax(-1)
        words = range(1, len(row) - 1)
        last += [-heads[i, 1, row[i]] for i in words] + [-heads[i, 0, row[i - 1]] for i in words if i > 1]
    assert (len(next_word), len(last)) == (6, 6)
    expected = torch.stack(next_word).mean(), torch.stack(last).mean()
    torch.testing.assert_close(net.losses(padded(rows)), expected, atol=1e-5, rtol=0)


def test_training_lowers_perplexity(tmp_path, capsys):
    """Of 9 tokens of a caption, <eos> among them, 4 are one of 3 and the others certain: 3 ** (4 / 9) = 1.63."""
    write_captions(tmp_path / "data")
    assert run(tmp_path, "run.steps=150", "run.log_every=10", "data.stray=0") == 0
    lines = [line.replace(",", "").split() for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    (first, first_said), (last, last_said) = [(float(line[4]), float(line[-1])) for line in (lines[0], lines[-1])]
    assert 1.6 < last < 2.0 and last < first  # 72 captions are few: the rest is what they leave open
    assert last_said < 1.02 < first_said  # features tell all that was said


def test_files_give_the_features_of_transformers(trained):
    from transformers import Gemma3TextModel

    theirs = Gemma3TextModel.from_pretrained(trained / "gemma").eval()
    folder, packed = load_text_encoder(trained / "gemma"), load_text_encoder(trained / "x.safetensors")
    assert (folder.model.dtype, packed.model.dtype) == (torch.float32, torch.float16)
    for caption in [*CAPTIONS[:3], "a coat", "an unknown coat", ""]:
        ids = folder.tokenizer.tokenize(caption)
        assert ids == packed.tokenizer.tokenize(caption)
        expected = theirs(input_ids=torch.tensor([ids])).last_hidden_state[0]
        (found,), (half,) = folder.encode([caption]), packed.encode([caption])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert (half - found).norm() < 0.01 * found.norm()
    assert packed.pad_feature.isfinite().all()


def test_same_seed_same_weights(tmp_path, trained):
    write_captions(tmp_path / "data")
    assert run(tmp_path, "run.steps=3") == 0
    first = (tmp_path / "gemma" / "model.safetensors").read_bytes()
    torch.rand(7)  # what was drawn before has no part in it
    assert run(tmp_path, "run.steps=3") == 0
    assert (tmp_path / "gemma" / "model.safetensors").read_bytes() == first
    assert run(tmp_path, "run.steps=3", "run.seed=1") == 0
    assert (tmp_path / "gemma" / "model.safetensors").read_bytes() != first


@pytest.mark.parametrize("recipe", ["demo", "emoji"])
def test_recipe(root, recipe):
    """The demo's encoder keeps below 2 million weights, and its window above any caption."""
    config = load_language_model_config(root / "training" / "recipes" / recipe / "language_model.yaml")
    gemma = empty_model(gemma_config(config.model, 64))
    assert sum(weight.numel() for weight in gemma.parameters()) < 2e6
    assert gemma.config.sliding_window >= 256


def test_captions_without_pictures_or_text_are_left_out(tmp_path):
    folder = write_captions(tmp_path / "data", ["a bag", " "])
    with open(folder / "metadata.jsonl", "a", encoding="utf-8") as file:
        file.write('{"file_name": "missing.png", "text": "a coat"}\nno json\n')
    assert read_captions(folder) == ["a bag"]


REFUSALS = {
    "data.path=nowhere": "data.path=nowhere: no such folder",
    "data.path=": "data.path: is not set",
    "data.held_out=81": "data.held_out=81: expected fewer than the 81 different captions",
    "data.held_out=0": "data.held_out=0: expected 1 or more",
    "data.stray=1": "data.stray=1.0: expected a chance",
    "run.packed=nowhere/x.safetensors": "the folder nowhere does not exist",
    "run.steps=0": "run.steps=0: expected more than 0",
    "run.stepz=5": "run.stepz: unknown key, did you mean run.steps?",
    "optimizer.betas=[0.9]": "optimizer: expected accumulation=1 and two betas",
    "optimizer.accumulation=2": "optimizer: expected accumulation=1 and two betas",
    "model.head_dim=15": "model.head_dim=15: expected an even number",
    "data.look_back=0": "data.look_back=0: expected more than 0",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_refusals_are_one_line(tmp_path, capsys, override):
    write_captions(tmp_path / "data")
    assert run(tmp_path, override) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and REFUSALS[override] in lines[0]
    assert not (tmp_path / "x.safetensors").exists()


def test_a_recipe_without_sections_is_one_line(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("- steps")
    assert run(tmp_path) == 1
    assert "recipe.yaml: holds a list, expected sections" in capsys.readouterr().err


def test_pictures_without_captions_are_refused(tmp_path, capsys):
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "1.png").touch()
    assert run(tmp_path) == 1
    assert "has no captions" in capsys.readouterr().err

"""Paths of the bundled demo stack and of the EmojiScenes stack."""

from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"
BUNDLED = {
    "model": MODELS / "diffusion_models" / "tim-fashion-scenes-t2i.safetensors",
    "text_encoder": MODELS / "text_encoders" / "gemma-fashion-scenes.safetensors",
    "vae": MODELS / "vae" / "dc-ae-fashion-scenes.safetensors",
    "classifier": MODELS / "evaluation" / "fashion-classifier.safetensors",
    "data": Path("/usr/share/datasets/fashion-mnist"),  # of the Debian package dataset-fashion-mnist
}
EMOJI_SCENES = MODELS / "emoji_scenes"
EMOJI_STACK = {
    "model": EMOJI_SCENES / "tim-emoji-scenes-t2i.safetensors",
    "text_encoder": EMOJI_SCENES / "gemma-emoji-scenes.safetensors",
    "vae": EMOJI_SCENES / "dc-ae-emoji-scenes.safetensors",
    "classifier": EMOJI_SCENES / "emoji-classifier.safetensors",
    "data": Path("runs/emoji/drawings"),  # of python -m devtools.emoji_drawings
}

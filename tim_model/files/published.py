"""The repositories of the published files on Hugging Face, and their names in messages."""

GEMMA = "google/gemma-3-1b-it"
DC_AE = "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers"
SD_VAE = "stabilityai/sd-vae-ft-ema"

CHECKPOINTS = "GoodEnough/TiM-T2I (t2i_model.bin) and GoodEnough/TiM-C2I on Hugging Face"
TEXT_ENCODER = "google/gemma-3-1b-it on Hugging Face, where its license must be accepted first"
VAES = f"{DC_AE} (or {SD_VAE}) on Hugging Face"

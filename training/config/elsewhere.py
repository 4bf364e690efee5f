"""Settings of other trainers: their names here, or why there are none."""

from __future__ import annotations

MIN_SNR = (
    "not for this loss: min-SNR levels the losses of single noise levels, but TiM's loss belongs to a pair (t, r), is "
    "already divided by its own size and weighted by time (paper, section 3); objective.P_mean and objective.P_std "
    "choose the times that are trained most"
)
DEBIASED = "not for this loss: it is for the prediction of noise, where the weight of a step depends on its noise level"
REFUSED = {
    "min_snr_gamma": MIN_SNR, "snr_gamma": MIN_SNR, "min_snr": MIN_SNR, "loss_weight_fn": MIN_SNR,
    "loss_weight_strength": MIN_SNR, "debiased_estimation_loss": DEBIASED, "v_pred_like_loss": DEBIASED,
    "scale_v_pred_loss_like_noise_pred": DEBIASED,
    "noise_offset": "not for this loss: its noise is the Gaussian that sampling starts from",
}  # fmt: skip
# of kohya's scripts, diffusers' examples, ai-toolkit and OneTrainer
NAMES = {
    "caption_dropout_rate": "data.dropout", "caption_extension": "NAME.txt or NAME.caption beside each image",
    "class_data_dir": "data.folders, a folder with regularization: true", "class_tokens": "data.instance_prompt",
    "datasets": "data.folders", "enable_wildcard": "data.caption_per_line",
    "gradient_accumulation_steps": "optimizer.accumulation", "instance_data_dir": "data.path",
    "keep_tags_count": "data.keep_tags", "keep_tokens": "data.keep_tags", "learning_rate": "optimizer.lr",
    "lr_num_cycles": "optimizer.num_cycles", "lr_power": "optimizer.power", "lr_scheduler": "optimizer.schedule",
    "lr_scheduler_num_cycles": "optimizer.num_cycles", "lr_scheduler_power": "optimizer.power",
    "lr_warmup_steps": "optimizer.warmup", "masked_loss": "data.masks", "masked_training": "data.masks",
    "max_grad_norm": "optimizer.clip", "max_train_epochs": "run.epochs", "max_train_steps": "run.steps",
    "network_alpha": "model.lora_alpha", "network_dim": "model.lora_rank", "num_repeats": "weight in data.folders",
    "num_train_epochs": "run.epochs", "optimizer_type": "optimizer.name",
    "prior_loss_weight": "loss_weight of a folder in data.folders",
    "reg_data_dir": "data.folders, a folder with regularization: true", "shuffle_caption": "data.shuffle_tags",
    "shuffle_tokens": "data.shuffle_tags", "train_batch_size": "data.batch_size", "train_data_dir": "data.path",
}  # fmt: skip


def explained(name: str) -> str:
    """Why a setting of another trainer is refused, or what it is called here; "" for a name that none of them has."""
    if name in REFUSED:
        return REFUSED[name]
    return f"unknown key, it is called {NAMES[name]} here" if name in NAMES else ""

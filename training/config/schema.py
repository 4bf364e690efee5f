"""The settings of a training run in sections, with their defaults; those of data are in `data_schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from tim_model.sampling.transport import get_transport

from .data_schema import DataConfig

ObjectiveName = Literal["tim", "flow_matching", "meanflow", "modular_meanflow", "split_meanflow"]
DerivativeName = Literal["dde", "jvp"]
Tangent = Literal["own", "sample"]
OptimizerName = Literal["adamw", "adamw8bit", "prodigy", "adafactor"]
ScheduleName = Literal["constant", "cosine", "linear", "polynomial"]
# What model.lora_targets may name, beside patterns of layer names.
LORA_GROUPS = {
    "attention": ("blocks.*.attn.qkv", "blocks.*.attn.proj"),
    "cross_attention": ("blocks.*.cross_attn.q", "blocks.*.cross_attn.kv", "blocks.*.cross_attn.proj"),
    "mlp": ("blocks.*.mlp.fc1_g", "blocks.*.mlp.fc1_x", "blocks.*.mlp.fc2"),
    "modulation": ("blocks.*.adaLN_modulation.*", "final_layer.adaLN_modulation.*"),
    "times": ("t_embedder.mlp.*", "delta_embedder.mlp.*", "blocks.*.attn.qkv_d"),
    "text": ("y_embedder.mlp.*",),
    "output": ("final_layer.linear",),
    "all": ("*",),
}


@dataclass(frozen=True)
class ModelConfig:
    """The network: a published architecture, sizes of your own, or a checkpoint to start from."""

    preset: str = ""  # a name in tim_model.OFFICIAL
    checkpoint: str = ""  # start from these weights; the architecture is theirs
    patch_size: int = 1
    hidden_size: int = 384
    depth: int = 12
    num_heads: int = 6
    vae: str = ""  # file or folder; pixels and ready-made latents need none
    text_encoder: str = ""  # folder of google/gemma-3-1b-it or a packed file, for captions
    lora_rank: int = 0  # 0 trains all weights, unless `lora` names one
    lora_alpha: float | None = None  # 16, or that of `lora`
    lora_targets: list[str] = field(
        default_factory=list
    )  # names in LORA_GROUPS or patterns; attention, cross_attention
    # and mlp where empty, or the layers of `lora`
    lora_dropout: float = 0.0  # share of a layer's input features that its update does not see in a step
    lora: str = ""  # file of a LoRA to go on from; rank, alpha and layers are its own

    @property
    def trains_lora(self) -> bool:
        return bool(self.lora_rank or self.lora)


@dataclass(frozen=True)
class ObjectiveConfig:
    """The training objective and its times; symbols as in the paper (arXiv 2509.04394, section 3).

    The defaults are those of the released text model, those of guidance the ones of the released class models.

    Raises:
        ValueError: an unknown name, or a number out of range. `check_values` of a recipe finds NaN and infinities.
    """

    name: ObjectiveName = "tim"
    transport: str = "ot_fm"  # split_meanflow and modular_meanflow know ot_fm only
    derivative: DerivativeName = "dde"  # of tim
    epsilon: float = 0.005  # of dde: half the time between its two passes
    batched: bool = True  # both passes of dde as one, faster for more memory
    cosine: bool = True  # of tim: adds the cosine term
    power: float = 1.0  # of the adaptive weight of meanflow, 0 for none
    modulation: float = 1.0  # of modular_meanflow: share of the derivative's gradient that is kept, 0 to 1
    modulation_warmup: int = 0  # steps over which it rises from 0; 0 for none
    tangent: Tangent = "own"  # of modular_meanflow: the derivative follows the network's own velocity, or the sample's
    P_mean: float | None = None  # of the times; the transport's own where not set. vp and ve, uniform, use neither
    P_std: float | None = None
    teacher: str = ""  # of split_meanflow: weights whose velocity the rows with r = t learn, in place of the samples'
    teacher_cfg: float = 1.0  # guidance of that velocity, 1 for none
    diffusion_ratio: float = 0.5  # share of the global batch, its first rows, with r = t
    consistency_ratio: float = 0.1  # share, its last rows, with r = T_min
    shift_base: int | None = None  # tokens of the size whose times are not shifted; None for no shift at all
    guided: bool = False  # the guidance-enhanced target, with the four numbers below
    w_gt: float = 1.0
    w_cond: float = 0.75
    w_start: float = 0.3
    w_end: float = 0.8
    repa: str = ""  # a model of timm whose features the network also learns
    repa_weight: float = 1.0

    def __post_init__(self):
        get_transport(self.transport)
        for what, value, known in (
            ("objective", self.name, get_args(ObjectiveName)),
            ("derivative", self.derivative, get_args(DerivativeName)),
            ("tangent", self.tangent, get_args(Tangent)),
        ):
            if value not in known:
                raise ValueError(f"{what} {value!r}: expected one of {', '.join(known)}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon={self.epsilon}: expected a time difference above 0, 0.005 as published")
        if self.power < 0:
            raise ValueError(f"power={self.power}: expected a number from 0 (no adaptive weight), 1 as published")
        if not 0 <= self.modulation <= 1:
            raise ValueError(f"modulation={self.modulation}: expected a share from 0 to 1")
        if self.modulation_warmup < 0:
            raise ValueError(f"modulation_warmup={self.modulation_warmup}: expected a number of steps, 0 for none")
        if self.teacher and (self.name != "split_meanflow" or self.guided):
            raise ValueError(f"teacher={self.teacher!r}: expected none, or name=split_meanflow and guided=false")
        if min(self.diffusion_ratio, self.consistency_ratio) < 0 or self.diffusion_ratio + self.consistency_ratio > 1:
            raise ValueError(
                f"diffusion_ratio={self.diffusion_ratio} and consistency_ratio={self.consistency_ratio}: expected "
                "shares of the batch, from 0 and at most 1 together"
            )
        if self.P_std is not None and self.P_std <= 0:
            raise ValueError(f"P_std={self.P_std}: expected a number above 0")
        if self.shift_base is not None and (self.transport != "ot_fm" or self.shift_base < 1):
            raise ValueError(f"shift_base={self.shift_base}: expected a number of tokens from 1, on ot_fm only")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and the schedule of its learning rate.

    Raises:
        ValueError: settings of a schedule out of range, or that the schedule does not read.
    """

    name: OptimizerName = "adamw"  # all others need a library: bitsandbytes, prodigyopt, transformers
    lr: float = 1e-4  # of prodigy, which finds its own rate: a factor of that, 1 is usual
    lr_batch: int = 0  # the batch that lr is meant for, scaled linearly to data.batch_size; 0 takes lr as it is
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])  # adafactor has none
    weight_decay: float = 0.01
    eps: float = 1e-6  # adafactor has its own
    clip: float = 1.0  # norm that gradients are clipped to
    schedule: ScheduleName = "constant"  # all others fall to 0 at the end
    warmup: int = 0  # steps
    num_cycles: int = 1  # falls of the schedule from lr to 0, equally long; 2 restarts it once
    power: float = 1.0  # of polynomial
    accumulation: int = 1  # passes that each process splits its share of a batch into

    def __post_init__(self):
        if self.num_cycles < 1 or self.num_cycles > 1 and self.schedule == "constant":
            known = ", ".join(name for name in get_args(ScheduleName) if name != "constant")
            raise ValueError(
                f"num_cycles={self.num_cycles} with schedule={self.schedule}: expected a whole number from 1, and one "
                f"of {known} for more than 1"
            )
        if not 0 < self.power < float("inf") or self.power != 1 and self.schedule != "polynomial":
            raise ValueError(
                f"power={self.power:g} with schedule={self.schedule}: expected a number above 0, and polynomial for "
                "others than 1"
            )


@dataclass(frozen=True)
class EMAConfig:
    """The average of the weights, used for sampling and export."""

    decay: float = 0.9999
    warmup: bool = True


@dataclass(frozen=True)
class SamplingConfig:
    """The sample sheet: each prompt (or class) and seed at each number of steps."""

    every: int = 1000  # steps; 0 for none
    prompts: list[str] = field(default_factory=list)  # of a text model
    classes: list[str] = field(default_factory=list)  # numbers or names; the first ten of the data where there are none
    steps: list[int] = field(default_factory=lambda: [1, 4, 16])
    cfg: float = 1.0
    seed: int = 0
    size: list[int] = field(default_factory=list)  # width and height; that of the largest bucket where empty


@dataclass(frozen=True)
class CheckpointConfig:
    """States, from which the run resumes, and the exported weights."""

    every: int = 1000  # steps
    keep_last: int = 2
    keep_every: int = 0  # keep those at multiples of this too; 0 for none


@dataclass(frozen=True)
class RunConfig:
    """Length, folder and hardware settings of the run."""

    folder: str = "runs/tim"
    steps: int = 100000
    epochs: int = 0  # times through the data, instead of steps; 0 counts steps
    max_minutes: float = 0.0  # of training, over all sessions; 0 for no limit
    seed: int = 0
    # of autocast, weights are float32; auto takes bf16 where the device computes it natively, else fp32
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    cpu: bool = False
    timeout_minutes: float = 30.0  # how long processes wait for one that is saving or still encoding
    gradient_checkpointing: bool = False
    compile: bool = False
    log_every: int = 10
    validate_every: int = 1000  # steps; needs data.held_out
    max_nonfinite: int = 10  # steps in a row without a finite gradient before the run stops
    tensorboard: bool = True
    wandb: str = ""  # project, where wandb is installed


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    run: RunConfig = field(default_factory=RunConfig)
    # "auto" goes on from the newest whole state in the run folder; "none" wants a folder without states, and so does
    # the path of a state or run folder to start from, unless it is the newest one there
    resume: str = "auto"
    # go on from a state of other data, another model.checkpoint or another objective, which is refused else; it names
    # what differs. A new run from old weights alone names them in model.checkpoint instead, in another run.folder
    resume_changed: bool = False

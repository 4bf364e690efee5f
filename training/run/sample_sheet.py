"""Sample sheets during training: the same conditioning and seeds at several numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tim_model import TRANSPORTS, TiM, load_vae, make_times, sample
from tim_model.files.tensor_files import atomic
from tim_model.images import grid, to_pictures
from tim_model.network.labels import label_index
from tim_model.network.latent_space import latent_shape
from tim_model.sampling.noise import draw_noise

from ..components.parts import Parts
from ..config.schema import Config
from ..data.encoded import free
from ..processes.share import ALONE, Share

SheetImages = dict[tuple[int, int], Image.Image]  # positions on a sheet, (row, column)


@dataclass(frozen=True)
class Drawn:
    """A process's images of a sheet, or the reason why it failed."""

    images: SheetImages
    problem: str = ""


@dataclass(frozen=True)
class Sheet:
    """The content of all sheets of a run.

    Args:
        shape: (C,H,W) of one state.
        context, null_context: of all images in a row, labels (B,) or text features (B,L,D).
        vae: file or folder that decodes states; "" if states are pixels.
    """

    shape: Sequence[int]
    context: Tensor
    null_context: Tensor
    steps: Sequence[int]
    transport: str
    cfg: float
    seed: int
    vae: str

    def draw(self, net: TiM, device: torch.device, share: Share = ALONE) -> SheetImages:
        """This process's images by row (number of steps) and column; all rows start from the same noise."""
        noise = draw_noise((len(self.context), *self.shape), self.seed)
        columns = share.of(range(len(noise)))
        states = {
            (row, i): self.one(net, noise[i : i + 1], i, steps, device)
            for row, steps in enumerate(self.steps)
            for i in columns
        }
        return {place: to_pictures(image)[0] for place, image in self.decode(states, device).items()}

    def compose(self, images: SheetImages) -> Image.Image:
        """The sheet of the images of all processes."""
        rows = [[images[row, i] for i in range(len(self.context))] for row in range(len(self.steps))]
        return grid(rows, [f"steps: {steps}" for steps in self.steps])

    def one(self, net: TiM, noise: Tensor, i: int, steps: int, device: torch.device) -> Tensor:
        conditions = (c[i : i + 1].to(device) for c in (self.context, self.null_context))
        times = sheet_times(self.transport, steps)
        return sample(net, noise.to(device), times, *conditions, cfg=self.cfg, transport=self.transport).cpu()

    def decode(self, states: dict[tuple[int, int], Tensor], device: torch.device) -> dict[tuple[int, int], Tensor]:
        """Decode states one at a time; the VAE is loaded only for that."""
        if not self.vae or not states:
            return states
        vae = load_vae(self.vae, device)
        decoded = {place: vae.decode(state).cpu() for place, state in states.items()}
        del vae
        free()
        return decoded


def sheet_shape(parts: Parts, config: Config) -> list[int] | None:
    """(C,H,W) of a sheet's states, with its settings checked; None without a sheet, see `make_sheet`.

    Raises:
        ValueError: an unknown class, or a size that does not fit.
    """
    c, params = config.sampling, parts.params
    hidden = parts.space.ratio > 1 and not config.model.vae
    if not c.every or hidden or params.context_dim and not c.prompts:
        return None
    if not params.context_dim:
        sheet_labels(c.classes, parts)
    return list(latent_shape(parts.space, params.patch_size, *sheet_size(c.size, parts), 1)[1:])


def make_sheet(parts: Parts, config: Config) -> Sheet | None:
    """The sheet of a run; None if it is turned off, or has no prompts or no VAE.

    Raises:
        ValueError: an unknown class, or a size that does not fit.
    """
    c, params = config.sampling, parts.params
    shape = sheet_shape(parts, config)
    if shape is None:
        return None
    if params.context_dim:
        text = parts.data.text
        length = max(map(text.length, c.prompts))
        context, null = text.read(c.prompts, length), text.read([""], length)
    else:
        context, null = sheet_labels(c.classes, parts), torch.tensor([params.num_classes])
    null = null.expand_as(context) if null.shape != context.shape else null
    return Sheet(shape, context, null, c.steps, config.objective.transport, c.cfg, c.seed, config.model.vae)


def sheet_labels(wanted: Sequence[str], parts: Parts) -> Tensor:
    """The classes of a sheet: those of the config, else the first ten of the data."""
    if not wanted:
        return torch.tensor(sorted({sample.label for sample in parts.dataset.samples})[:10])
    return torch.tensor([label_index(name, parts.params.num_classes, parts.class_names) for name in wanted])


def sheet_size(wanted: Sequence[int], parts: Parts) -> tuple[int, int]:
    """(width, height) in pixels: that of the config, else of the largest bucket."""
    if wanted:
        return tuple(wanted)
    width, height = max((s.bucket for s in parts.dataset.samples), key=lambda size: (size[0] * size[1], size))
    scale = parts.space.ratio if parts.dataset.latent else 1
    return width * scale, height * scale


def sheet_times(transport: str, steps: int) -> list[float]:
    """Evenly spaced times over the whole range of a transport."""
    path = TRANSPORTS[transport]
    return [path.T_min + (path.T_max - path.T_min) * t for t in make_times("uniform", steps)]


def draw_sheet(sheet: Sheet, net: TiM, device: torch.device, share: Share = ALONE) -> Drawn:
    """This process's part of a sheet; failures are returned, since a sheet must not end a run."""
    try:
        return Drawn(sheet.draw(net, device, share))
    except (torch.OutOfMemoryError, ValueError, RuntimeError, OSError) as error:
        free()
        return Drawn({}, reason(error))


def write_sheet(sheet: Sheet, parts: Sequence[Drawn], path: Path) -> Image.Image | None:
    """Write a sheet from the parts of all processes; if one failed, or the disk is full, print it."""
    try:
        if problems := [part.problem for part in parts if part.problem]:
            raise ValueError(problems[0])
        image = sheet.compose({place: tile for part in parts for place, tile in part.images.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            image.save(temporary, format="PNG")
        return image
    except (ValueError, OSError) as error:
        print(f"no sample sheet {path.name}: {reason(error)}")
        return None


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

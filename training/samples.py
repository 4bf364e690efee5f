"""What the network makes so far: a sheet of the same conditions and seeds at several numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tim_model import TRANSPORTS, TiM, load_vae, make_times, sample
from tim_model.files import atomic
from tim_model.labels import label_index
from tim_model.latents import latent_shape
from tim_model.noise import draw_noise
from tim_model.pictures import grid, to_pictures

from .encode import free
from .sections import Config
from .setup import Parts
from .share import ALONE, Share

Pictures = dict[tuple[int, int], Image.Image]  # of a sheet, by row and column


@dataclass(frozen=True)
class Drawn:
    """What a process drew of a sheet, or why it could not."""

    pictures: Pictures
    problem: str = ""


@dataclass(frozen=True)
class Sheet:
    """What every sheet of a run shows.

    Args:
        shape: (C,H,W) of one state.
        context, null_context: of all pictures of a row, labels (B,) or text features (B,L,D).
        vae: file or folder that makes pictures of states; "" where states are pixels.
    """

    shape: Sequence[int]
    context: Tensor
    null_context: Tensor
    steps: Sequence[int]
    transport: str
    cfg: float
    seed: int
    vae: str

    def draw(self, net: TiM, device: torch.device, share: Share = ALONE) -> Pictures:
        """The own pictures by their row, one for each number of steps, and column; rows start from the same noise."""
        noise = draw_noise((len(self.context), *self.shape), self.seed)
        columns = share.of(range(len(noise)))
        states = {
            (row, i): self.one(net, noise[i : i + 1], i, steps, device)
            for row, steps in enumerate(self.steps)
            for i in columns
        }
        return {place: to_pictures(image)[0] for place, image in self.decode(states, device).items()}

    def compose(self, pictures: Pictures) -> Image.Image:
        """The sheet of the pictures of all processes."""
        rows = [[pictures[row, i] for i in range(len(self.context))] for row in range(len(self.steps))]
        return grid(rows, [f"steps: {steps}" for steps in self.steps])

    def one(self, net: TiM, noise: Tensor, i: int, steps: int, device: torch.device) -> Tensor:
        conditions = (c[i : i + 1].to(device) for c in (self.context, self.null_context))
        times = sheet_times(self.transport, steps)
        return sample(net, noise.to(device), times, *conditions, cfg=self.cfg, transport=self.transport).cpu()

    def decode(self, states: dict[tuple[int, int], Tensor], device: torch.device) -> dict[tuple[int, int], Tensor]:
        """Pictures of states, one at a time; the VAE is there only meanwhile."""
        if not self.vae or not states:
            return states
        vae = load_vae(self.vae, device)
        decoded = {place: vae.decode(state).cpu() for place, state in states.items()}
        del vae
        free()
        return decoded


def sheet_shape(parts: Parts, config: Config) -> list[int] | None:
    """(C,H,W) of the states of a sheet, all of whose settings fit; None where there is no sheet, see `make_sheet`.

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
    """The sheet of a run; None where it wants none, has no prompts or no VAE to make pictures with.

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
    """The own part of a sheet; where memory or numbers don't suffice, it says why: a sheet must not end a run."""
    try:
        return Drawn(sheet.draw(net, device, share))
    except (torch.OutOfMemoryError, ValueError, RuntimeError, OSError) as error:
        free()
        return Drawn({}, reason(error))


def write_sheet(sheet: Sheet, parts: Sequence[Drawn], path: Path) -> Image.Image | None:
    """Write a sheet of the parts that the processes drew; where one of them could not, or the disk is full, say so."""
    try:
        if problems := [part.problem for part in parts if part.problem]:
            raise ValueError(problems[0])
        picture = sheet.compose({place: image for part in parts for place, image in part.pictures.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            picture.save(temporary, format="PNG")
        return picture
    except (ValueError, OSError) as error:
        print(f"no sample sheet {path.name}: {reason(error)}")
        return None


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

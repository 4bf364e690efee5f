"""REPA (arXiv 2410.06940): the network's tokens are pulled towards features of a frozen image encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tim_model.files.tensor_files import one_line


def projection_loss(h: Tensor, h_target: Tensor) -> Tensor:
    """1 - cosine similarity of features (B,N,z_dim), mean over tokens -> (B,); 0 for a sample that is not finite."""
    loss = 1 - F.cosine_similarity(h.float(), h_target.float(), dim=-1)
    return torch.nan_to_num(loss.mean(dim=1), nan=0.0, posinf=1e5, neginf=-1e5)


class ImageEncoder:
    """A frozen encoder of timm, as a source of `h_target`.

    Args:
        name: of a timm model that has `forward_intermediates`: all vision transformers, most others.
        pretrained: with the published weights, which timm downloads once.

    Raises:
        ValueError: timm is not installed, knows no such model, its weights cannot be had, or it gives no feature maps.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu", pretrained: bool = True):
        timm = import_timm()
        if not timm.is_model(name):
            raise ValueError(f"image encoder {name!r}: timm knows no such model; see timm.list_models()")
        try:
            model = build_encoder(timm, name, pretrained)
        except (OSError, RuntimeError) as error:  # no network, above all
            raise ValueError(f"image encoder {name!r}: its weights cannot be loaded ({one_line(error)})") from None
        if not hasattr(model, "forward_intermediates"):
            raise ValueError(f"image encoder {name!r} gives no feature maps; expected a vision transformer")
        self.model = model.requires_grad_(False).train(False).to(device)
        config = timm.data.resolve_model_data_config(model)
        self.mean, self.std = (torch.tensor(config[key], device=device).view(3, 1, 1) for key in ("mean", "std"))

    @property
    def z_dim(self) -> int:
        """Width of the features."""
        return self.model.num_features

    @property
    def ratio(self) -> int:
        """Pixels per feature and side, 16 or 14 for most vision transformers."""
        return self.model.feature_info[-1]["reduction"]

    @torch.no_grad()
    def __call__(self, images: Tensor, h: int, w: int) -> Tensor:
        """Features (B, h*w, z_dim), row-major, of images (B,3,H,W) in [-1, 1] for a network with h x w tokens.

        Images are resized so that every token gets one feature of the encoder: 16 px per token for a patch of 16.
        """
        size = (h * self.ratio, w * self.ratio)
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)
        images = ((images + 1) / 2 - self.mean) / self.std
        (features,) = self.model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
        return features.flatten(2).mT


def feature_width(name: str) -> int:
    """`z_dim` of an image encoder, from its architecture alone; raises as `ImageEncoder`."""
    with torch.device("meta"):
        return ImageEncoder(name, "meta", pretrained=False).z_dim


def build_encoder(timm, name: str, pretrained: bool) -> nn.Module:
    """The model without its classifier; one with position embeddings accepts any size."""
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:  # convolutional models take any size as they are and know no such argument
        return timm.create_model(name, pretrained=pretrained, num_classes=0)


def import_timm():
    """The package timm, which is optional; ValueError where it is missing."""
    try:
        import timm
    except ImportError:
        raise ValueError("REPA needs an image encoder from timm: pip install timm, or train without it") from None
    return timm

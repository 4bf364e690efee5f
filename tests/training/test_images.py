"""Image files of every kind become upright RGB; others are refused in words that follow the file's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training.images import fit, read_image, to_tensor

from .tiny import write_picture


def saved(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def test_rotation_of_the_camera_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (10, 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white(tmp_path, mode):
    Image.new(mode, (4, 4), (0,) * len(mode)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_palette_with_a_transparent_color(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.save(tmp_path / "a.gif", transparency=0)
    assert read_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 255, 255)


def test_cmyk(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg").getpixel((0, 0))
    assert red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_of_gray_are_scaled(tmp_path, ending):
    path = saved(tmp_path / f"a.{ending}", np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16))
    assert np.asarray(read_image(path))[..., 0].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_other_modes(tmp_path, mode):
    assert read_image(write_picture(tmp_path / "a.png", mode=mode)).mode == "RGB"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"no image", "is no image that Pillow reads"), (None, "is broken")],
    ids=["empty", "text", "truncated"],
)
def test_refused(tmp_path, content, reason):
    path = write_picture(tmp_path / "a.png", (64, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=f"^{reason}") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_huge_is_refused_before_it_is_decoded(tmp_path):
    path = write_picture(tmp_path / "a.png", (64, 64))
    with pytest.raises(ValueError, match="^is huge: 64x64"):
        read_image(path, max_pixels=1000)


def test_floating_point_is_refused(tmp_path):
    path = saved(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="^holds floating-point pixels"):
        read_image(path)


def test_fit_covers_and_crops_the_middle():
    array = np.zeros((10, 30, 3), np.uint8)
    array[:, 10:20] = 255
    pixels = to_tensor(fit(Image.fromarray(array), 10, 10))
    assert pixels.shape == (3, 10, 10)
    assert torch.equal(pixels, torch.ones(3, 10, 10))

"""Image files of every kind become upright RGB; others are refused in words that follow the file's name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from training.data.images.kinds import ENDINGS
from training.data.images.read_image import fit, read_image, to_tensor

from ...profiles import DISPLAY_P3, SRGB, SWAPPED, gray_profile, rgb_profile, with_profile
from ...tiny import write_picture


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


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize(
    ("stored", "seen"),
    [((211, 55, 52), (230, 30, 40)), ((91, 148, 65), (70, 150, 50)), ((128, 128, 128), (128, 128, 128))],
    ids=["red", "grass", "gray"],
)
def test_display_p3_becomes_srgb(tmp_path, ending, stored, seen):
    options = {"lossless": True} if ending == "webp" else {}
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (8, 8), stored).save(path, icc_profile=rgb_profile(DISPLAY_P3), **options)
    assert close(read_image(path).getpixel((0, 0)), seen)


def close(found, expected, by: int = 2) -> bool:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= by


def test_swapped_channels_are_put_right(tmp_path):
    path = with_profile(tmp_path / "a.png", (200, 100, 20), rgb_profile(SWAPPED))
    assert close(read_image(path).getpixel((0, 0)), (20, 100, 200))


def test_transparency_stays_with_a_profile(tmp_path):
    path = with_profile(tmp_path / "a.png", (200, 100, 20, 102), rgb_profile(SWAPPED), "RGBA")
    expected = [0.4 * color + 0.6 * 255 for color in (20, 100, 200)]
    assert close(read_image(path).getpixel((0, 0)), expected)


def test_palette_with_a_profile(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 20])
    image.save(tmp_path / "a.png", icc_profile=rgb_profile(SWAPPED))
    assert close(read_image(tmp_path / "a.png").getpixel((0, 0)), (20, 100, 200))


@pytest.mark.parametrize("content", [rgb_profile(SRGB), None], ids=["table", "formula"])
def test_pictures_in_srgb_keep_every_value(tmp_path, content):
    """Whatever the profile calls itself: rounding of a conversion would change one value in five."""
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = content or ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path / "a.png", array, icc_profile=content)
    assert np.array_equal(np.asarray(read_image(path)), array)


@pytest.mark.parametrize(("mode", "level"), [("L", 128), ("LA", (128, 255)), ("I;16", 128 * 257)])
def test_gray_profiles(tmp_path, mode, level):
    """Level 0.5 with gamma 1 is half the light, which sRGB stores as 188."""
    path = with_profile(tmp_path / "a.png", level, gray_profile(1.0), mode)
    assert close(read_image(path).getpixel((0, 0)), (188, 188, 188))


def test_lab(tmp_path):
    """L* 50 and no color is 18.4% of the light, which sRGB stores as 119."""
    Image.new("LAB", (8, 8), (128, 128, 128)).save(tmp_path / "a.tif")
    assert close(read_image(tmp_path / "a.tif").getpixel((0, 0)), (119, 119, 119))


BAD_PROFILES = {
    "no profile": b"not a profile", "cut": rgb_profile(DISPLAY_P3)[:300], "of gray": gray_profile(1.0),
    "of no kind": rgb_profile(DISPLAY_P3).replace(b"RGB XYZ ", b"9CLRXYZ "),
    "flipped": rgb_profile(DISPLAY_P3).replace(b"curv", b"cxrv"),
}  # fmt: skip


@pytest.mark.parametrize("content", BAD_PROFILES.values(), ids=BAD_PROFILES)
def test_bad_profiles_are_ignored(tmp_path, content):
    path = with_profile(tmp_path / "a.png", (200, 100, 20), content)
    assert read_image(path).getpixel((0, 0)) == (200, 100, 20)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_profile_for_other_channels_is_ignored(tmp_path, mode):
    plain = Image.new(mode, (8, 8), 100 if mode == "L" else (10, 200, 100, 0))
    plain.save(tmp_path / "plain.tif")
    plain.save(tmp_path / "a.tif", icc_profile=rgb_profile(SWAPPED))
    assert read_image(tmp_path / "a.tif").tobytes() == read_image(tmp_path / "plain.tif").tobytes()


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_every_ending_is_read(tmp_path, ending):
    """Those that this Pillow writes; pictures in black and white, which all of them hold."""
    name = Image.registered_extensions().get(ending)
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {ending}")
    array = np.zeros((32, 32), np.uint8)
    array[:16] = 255
    mode = {"JPEG2000": "RGB", "AVIF": "RGB", "DDS": "RGB", "QOI": "RGB"}.get(name, "L")
    Image.fromarray(array).convert(mode).save(tmp_path / f"a{ending.upper()}", name)
    found = np.asarray(read_image(tmp_path / f"a{ending.upper()}"))
    assert found.shape == (32, 32, 3)
    assert found[:16].min() > 240 and found[16:].max() < 15


def test_the_content_counts_not_the_ending(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png", "WEBP", lossless=True)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(64)


OTHERS = {
    "a.heic": (box(b"heic"), "is HEIC, which is not read: convert it to PNG or JPEG"),
    "from-a-phone.jpg": (box(b"heic"), "is HEIC, which is not read"),
    "a.jxl": (b"\xff\x0a" + bytes(64), "is JPEG XL, which is not read"),
    "drawing.png": (b"<svg xmlns=''/>", "is SVG, which is not read"),
    "a.psd": (b"8BPS" + bytes(64), "is Photoshop, which is not read"),
    "a.NEF": (b"II*\0" + bytes(64), "is camera raw, which is not read"),
    "a.mp4": (box(b"isom"), "is a video, which is not read: extract its frames"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is PostScript, which is not read"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is PostScript, which is not read"),
    "noise.jpg": (bytes(range(2, 200)), "is no image that Pillow reads"),
    "damaged.avif": (box(b"avif")[:12], "is no image that Pillow reads"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_named(tmp_path, name):
    content, reason = OTHERS[name]
    if name == "damaged.avif" and "AVIF" not in Image.OPEN:
        reason = "is AVIF, which this Pillow does not read"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}"):
        read_image(tmp_path / name)


def test_pillow_without_avif_says_so(tmp_path, monkeypatch):
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    (tmp_path / "a.avif").write_bytes(box(b"avif"))
    with pytest.raises(ValueError, match="^is AVIF, which this Pillow does not read: upgrade Pillow, or convert it"):
        read_image(tmp_path / "a.avif")


def test_damaged_exif_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes()
    for cut in (10, 20, len(content)):
        Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=content[:cut])
        assert read_image(tmp_path / "a.jpg").size == ((10, 20) if cut == len(content) else (20, 10))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_all_orientations(tmp_path, ending, orientation):
    """As Pillow turns them, whose way fails with some of the EXIF that cameras write."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(array).save(tmp_path / f"a.{ending}", exif=exif)
    with Image.open(tmp_path / f"a.{ending}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = np.asarray(read_image(tmp_path / f"a.{ending}"))
    assert np.array_equal(found, expected)
    assert found.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))


def test_odd_tags_beside_the_orientation(tmp_path):
    """A tag whose content does not fit its type, which cannot be written anew."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x9286, 5, 1, 2**31)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (10, 20)

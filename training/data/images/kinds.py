"""Image formats that are read, and messages for all others."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

FORMATS = {
    "PNG": (".png", ".apng"), "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "WEBP": (".webp",), "AVIF": (".avif",),
    "BMP": (".bmp",), "DIB": (".dib",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"), "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "TGA": (".tga",), "ICO": (".ico",), "DDS": (".dds",), "QOI": (".qoi",), "PCX": (".pcx",),
}  # fmt: skip
UNMARKED = ("DIB", "TGA", "PCX")  # their first bytes occur in many other files
ENDINGS = {ending for endings in FORMATS.values() for ending in endings}  # the endings of files that count as images
OTHERS = {
    "HEIC": (".heic", ".heif", ".hif", ".heics", ".heifs"), "JPEG XL": (".jxl",), "JPEG XR": (".jxr", ".hdp", ".wdp"),
    "SVG": (".svg", ".svgz"), "Photoshop": (".psd", ".psb"), "GIMP": (".xcf",), "Krita": (".kra",),
    "OpenEXR": (".exr",), "Radiance HDR": (".hdr",), "PostScript": (".eps", ".ps", ".ai"), "PDF": (".pdf",),
    "camera raw": (
        ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw",
        ".3fr", ".iiq", ".raw", ".x3f", ".mos", ".mrw", ".erf", ".kdc", ".dcr",
    ),
    "AVIF with frames": (".avifs",), "FLIF": (".flif",), "BPG": (".bpg",), "icon": (".icns", ".cur"),
    "Windows metafile": (".wmf", ".emf"), "PFM": (".pfm",), "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "video": (
        ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".mts", ".m2ts", ".3gp",
        ".ogv",
    ),
}  # fmt: skip
OTHER_ENDINGS = {ending for endings in OTHERS.values() for ending in endings}
BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
    b"hevc": "HEIC", b"hevx": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"crx ": "camera raw", b"qt  ": "video",
    b"isom": "video", b"iso2": "video", b"mp41": "video", b"mp42": "video", b"M4V ": "video",
}  # fmt: skip
BEGINNINGS = {
    b"\x00\x00\x00\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL", b"8BPS": "Photoshop", b"<svg": "SVG", b"%PDF": "PDF",
    b"%!PS": "PostScript", b"\x1aE\xdf\xa3": "video", b"v/1\x01": "OpenEXR", b"II\xbc": "JPEG XR", b"FLIF": "FLIF",
    b"#?RADIANCE": "Radiance HDR", b"gimp xcf": "GIMP",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """The name of an unsupported image or video format, by first bytes, else by ending; "" if unknown."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        start = b""
    if start[4:8] == b"ftyp" and start[8:12] in BRANDS:
        return BRANDS[start[8:12]]
    named = next((kind for kind, endings in OTHERS.items() if path.suffix.lower() in endings), "")
    return next((kind for beginning, kind in BEGINNINGS.items() if start.startswith(beginning)), named)


def reason_not_read(path: Path) -> str:
    """The reason why Pillow cannot read an image file, as words that follow the file name."""
    kind = kind_of(path)
    if kind == "video":
        return "is a video, which is not read: extract its frames as PNG or JPEG"
    if kind in FORMATS and kind not in Image.OPEN:
        return f"is {kind}, which this Pillow does not read: upgrade Pillow, or convert it to PNG or JPEG"
    if kind in OTHERS:
        return f"is {kind}, which is not read: convert it to PNG or JPEG"
    return "is no image that Pillow reads"

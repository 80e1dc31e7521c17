"""Pixels as a PNG inside the page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np


def data_uri(image: np.ndarray, *beside: np.ndarray) -> str:
    """A PNG of pixels (H, W) or (H, W, 3) as a data URI.

    Unsigned bytes are taken as they are; other numbers are stretched from the smallest to the
    largest value of this image and of those `beside` it. Larger is lighter.
    """
    pixels = image if image.dtype == np.uint8 else _stretched(image, *beside)
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode()


def _stretched(image: np.ndarray, *beside: np.ndarray) -> np.ndarray:
    values, *others = (np.nan_to_num(np.asarray(each, np.float64)) for each in (image, *beside))
    low = min(float(each.min()) for each in (values, *others))
    high = max(float(each.max()) for each in (values, *others))
    return np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    """The PNG format: signature, header, rows each led by filter type 0, end."""
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else 2
    rows = pixels.reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [_chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b"")]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

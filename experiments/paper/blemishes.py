"""Errors in features: blur, salt and pepper, and the filter that takes the latter away (§6.1.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from experiments.data import Floats

BLUR_PIXELS = 2.0
SALT_SHARE = 0.3

# (images (n, height, width, channels), seed) -> spoilt images.
Blemish = Callable[[Floats, int], Floats]


def blurred(images: Floats, seed: int) -> Floats:
    """Every image convolved with a Gaussian of 2 pixels; `seed` changes nothing."""
    del seed
    return gaussian_filter(images, (0, BLUR_PIXELS, BLUR_PIXELS, 0)).astype(np.float32)


def salted(images: Floats, seed: int) -> Floats:
    """30 % of the pixels of every image black or white, one as likely as the other."""
    generator = np.random.default_rng((seed, 2))
    shape = images.shape[:3]  # a pixel of a photo is spoilt in all its colours
    hit = generator.random(shape) < SALT_SHARE
    white = generator.random(shape) < 0.5
    return np.where(hit[..., None], white[..., None], images).astype(np.float32)


def denoised(images: Floats) -> Floats:
    """Every pixel the median of the 3×3 around it."""
    return median_filter(images, (1, 3, 3, 1)).astype(np.float32)


def spoil(images: Floats, rows: NDArray[np.intp], blemish: Blemish, *, seed: int) -> Floats:
    """A copy in which some rows are spoilt."""
    out = images.copy()
    if len(rows):
        out[rows] = blemish(images[rows], seed)
    return out

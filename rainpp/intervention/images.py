"""Repairs of images, for `rainpp.Replace`: filters of SciPy on every image of a batch.

Pixels are inputs (n, H, W) or (n, H, W, channels), or flat rows of `shape`; whole numbers are
rounded again. An image that a filter leaves as it is keeps an effect of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from rainpp.errors import DataError, SettingsError, ShapeError
from rainpp.intervention.kinds import Replace

Shape = tuple[int, ...] | None
Pixels = np.ndarray[Any, Any]


def median_filter(*, size: int = 3, shape: Shape = None, name: str = "median filter") -> Replace:
    """Each pixel becomes the median of the `size` x `size` around it: against salt and pepper."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 2:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`size` is {size!r}; it must be a whole number of pixels >= 2.")
    return Replace(name, _on_images(lambda p: ndimage.median_filter(p, _window(p, size)), shape))


def gaussian_filter(
    *, sigma: float = 1.0, shape: Shape = None, name: str = "Gaussian filter"
) -> Replace:
    """Each pixel becomes a mean of those around it, weighted by a normal curve: against noise."""
    _check_positive("sigma", sigma)
    return Replace(
        name, _on_images(lambda p: ndimage.gaussian_filter(p, _window(p, sigma, 0)), shape)
    )


def unsharp_mask(
    *, sigma: float = 2.0, amount: float = 1.0, shape: Shape = None, name: str = "unsharp mask"
) -> Replace:
    """Add `amount` times what a blur of `sigma` takes away, within the image's range: a deblur."""
    _check_positive("sigma", sigma)
    _check_positive("amount", amount)

    def sharpened(pixels: Pixels) -> Pixels:
        blurred = ndimage.gaussian_filter(pixels, _window(pixels, sigma, 0))
        axes = tuple(range(1, pixels.ndim))
        low, high = pixels.min(axis=axes, keepdims=True), pixels.max(axis=axes, keepdims=True)
        return np.clip(pixels + amount * (pixels - blurred), low, high)

    return Replace(name, _on_images(sharpened, shape))


def normalise_brightness(
    like: Any, *, shape: Shape = None, name: str = "brightness normalisation"
) -> Replace:
    """Scale each image to the mean brightness of the images in `like`, within their range."""
    try:
        known = np.asarray(like, np.float64)
    except (TypeError, ValueError):
        raise DataError("`like` holds no pixels; give images as an array of numbers.") from None
    if not known.size or not np.isfinite(known).all():
        raise DataError("`like` is empty, or holds NaN or infinity; give images of finite pixels.")
    mean, low, high = float(known.mean()), float(known.min()), float(known.max())

    def scaled(pixels: Pixels) -> Pixels:
        own = pixels.mean(axis=tuple(range(1, pixels.ndim)), keepdims=True)
        factor = np.divide(mean, own, out=np.ones_like(own), where=own > 0)
        return np.clip(pixels * factor, low, high)

    return Replace(name, _on_images(scaled, shape))


def _on_images(change: Callable[[Pixels], Pixels], shape: Shape) -> Callable[[Any], Any]:
    if shape is not None:
        _check_shape(shape)

    def repair(inputs: Any) -> Any:
        pixels = np.asarray(inputs)
        if shape is not None:
            if pixels[0].size != np.prod(shape):
                raise ShapeError(
                    f"an image of shape {shape} does not have {pixels[0].size} pixels."
                )
            pixels = pixels.reshape(len(pixels), *shape)
        if pixels.ndim not in (3, 4):
            raise ShapeError(
                f"inputs of shape {pixels.shape} are no images (n, H, W) or (n, H, W, channels); "
                "give their shape=(H, W)."
            )
        return change(pixels.astype(np.float64)).reshape(np.shape(inputs))

    return repair


def _check_shape(shape: Any) -> None:
    sizes = shape if isinstance(shape, tuple | list) else ()
    if len(sizes) not in (2, 3) or not all(type(size) is int and size > 0 for size in sizes):
        raise SettingsError(
            f"`shape` is {shape!r}; it must be (height, width) or (height, width, channels)."
        )


def _window(pixels: Pixels, extent: float, other: float = 1) -> tuple[Any, ...]:
    """`extent` along height and width, `other` along images and channels."""
    return (other, extent, extent, *[other] * (pixels.ndim - 3))


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise SettingsError(f"`{name}` is {value!r}; it must be a number above 0.")

"""Calls into monitors wait for batches: they run in threads, and few enough of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """Threads for calls that wait: for the lock of a monitor, or for arithmetic."""

    def __init__(self, count: int = 4) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="rainpp-dashboard")

    async def run(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """What `call` returns."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(call, *args, **options)
        )

    def close(self) -> None:
        """Wait for nothing; what has not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

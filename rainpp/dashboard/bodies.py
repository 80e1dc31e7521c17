"""What comes in the body of a request, never more than is allowed, never for longer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST = 64 * 1024
_PATIENCE = 10.0


async def read_body(request: Request, largest: int = LARGEST) -> bytes:
    """The body.

    Raises
    ------
    HTTPException : it is too large (413), or comes too slowly (408).
    """
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or int(said) > largest:
        raise _too_large(largest)
    found = b""
    try:
        async with asyncio.timeout(_PATIENCE):
            async for part in request.stream():
                found += part
                if len(found) > largest:
                    raise _too_large(largest)
    except TimeoutError:
        raise HTTPException(408, "the body of the request did not come in time.") from None
    return found


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises
    ------
    HTTPException : as `read_body`; it is something else (400, 415).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a form of another site cannot send
        raise HTTPException(415, "send application/json.")
    body = await read_body(request)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body of the request is no JSON.") from None
    if not isinstance(found, dict):
        raise HTTPException(400, "the body of the request must be a JSON object.")
    return found


def _too_large(largest: int) -> HTTPException:
    return HTTPException(413, f"the body of the request is larger than {largest} bytes.")

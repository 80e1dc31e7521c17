"""The id of an event: how far each monitor had come, so that one number resumes all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

# A page sends back what it was sent; anything longer was not ours.
_LONGEST = 4096
_LARGEST = 2**63


def ident_of(places: Mapping[str, int]) -> str:
    """As in "scans:120,faces@1f2e:7"."""
    return ",".join(f"{name}:{seq}" for name, seq in places.items())


def read_ident(text: str | None, names: Collection[str]) -> dict[str, int] | None:
    """The inverse of `ident_of`; None for anything that does not name each monitor once."""
    if not text or len(text) > _LONGEST or not text.isascii():
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, seq = part.partition(":")
        digits = seq.removeprefix("-")
        if name not in names or name in found or not digits.isdigit() or len(digits) > 19:
            return None
        found[name] = int(seq)
    whole = len(found) == len(names) and all(-1 <= seq < _LARGEST for seq in found.values())
    return found if whole else None

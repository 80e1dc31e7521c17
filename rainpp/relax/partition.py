"""Sources grouped by what ties them together."""

from __future__ import annotations

from collections.abc import Iterable


class Partition:
    """Sources grouped by the conditions that cannot be cut (union-find)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._parent = list(range(count))

    def find(self, source: int) -> int:
        """The representative of a source's group."""
        while self._parent[source] != source:
            source = self._parent[source]
        return source

    def glue(self, sources: Iterable[int]) -> None:
        """Put all of `sources` in one group."""
        found = sorted({self.find(source) for source in sources})
        for source in found[1:]:
            self._parent[source] = found[0]

    def members(self) -> list[frozenset[int]]:
        """The groups, in order of their first source."""
        groups: dict[int, set[int]] = {}
        for source in range(len(self._parent)):
            groups.setdefault(self.find(source), set()).add(source)
        return [frozenset(group) for group in groups.values()]

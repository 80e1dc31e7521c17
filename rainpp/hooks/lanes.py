"""Letters that wait for a hook: a lane for each alarm or column and group, in order in each."""

from __future__ import annotations

import bisect
import heapq
import json
from collections.abc import Iterable
from typing import Any

from rainpp.stream.deliveries import Letter

Lane = tuple[str, str, str]


def lane_of(kind: str, body: dict[str, Any]) -> Lane:
    """Within it a later event waits for an earlier one."""
    name = body["name"] if kind == "alarm" else body["column"]
    return kind, str(name), json.dumps(body["group"], ensure_ascii=False)


class Lanes:
    """Letters by lane; the first of each is the only one that is sent."""

    def __init__(self, letters: Iterable[Letter] = ()) -> None:
        self._letters: dict[int, Letter] = {}
        self._lanes: dict[Lane, list[int]] = {}
        # (due, seq) of first letters, and of some that are first no more: they are skipped.
        self._heap: list[tuple[float, int]] = []
        for letter in letters:
            self.put(letter)

    def __len__(self) -> int:
        return len(self._letters)

    def __contains__(self, seq: int) -> bool:
        return seq in self._letters

    def __getitem__(self, seq: int) -> Letter:
        return self._letters[seq]

    def blocked(self, letter: Letter) -> bool:
        """Whether an earlier one of its lane waits."""
        first = self._lanes.get(lane_of(letter.kind, letter.body), ())
        return bool(first) and first[0] < letter.seq

    def put(self, letter: Letter) -> None:
        """Let it wait, or wait anew."""
        lane = self._lanes.setdefault(lane_of(letter.kind, letter.body), [])
        if letter.seq not in self._letters:
            bisect.insort(lane, letter.seq)
        self._letters[letter.seq] = letter
        if lane[0] == letter.seq:
            heapq.heappush(self._heap, (letter.due, letter.seq))

    def take(self, seq: int) -> bool:
        """Let it wait no more; whether it did. The next of its lane is first now."""
        letter = self._letters.pop(seq, None)
        if letter is None:
            return False
        name = lane_of(letter.kind, letter.body)
        lane = self._lanes[name]
        lane.remove(seq)
        if not lane:
            del self._lanes[name]
        else:
            heapq.heappush(self._heap, (self._letters[lane[0]].due, lane[0]))
        return True

    def everything(self) -> list[Letter]:
        """All of them, by their place in the outbox."""
        return [self._letters[seq] for seq in sorted(self._letters)]

    def next(self) -> Letter | None:
        """The first letter that is due next, whenever that is; None if nothing waits."""
        while self._heap:
            due, seq = self._heap[0]
            letter = self._letters.get(seq)
            if letter is not None and letter.due == due and not self.blocked(letter):
                return letter
            heapq.heappop(self._heap)
        return None

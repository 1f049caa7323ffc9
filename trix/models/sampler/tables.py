"""The tables of a look-it-up model for one text, a character at a time, in NumPy.

`read(token, evidence, said)` reads the next character and sets the rows of a step's own tables in
`evidence` `[tables, 3]` and `said` `[tables, vocab]`, some made of others that were set before.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from trix.counts.match import DISCOUNT, ECHOES, LENGTHS
from trix.counts.match import REACH as HEARD
from trix.counts.rows import CountRows
from trix.counts.words import ADDRESSES, BASE, REACH, WordMemory, combined
from trix.models.lookup import LookupLM
from trix.models.sampler.network import array


class RowStep:
    """The rows of a memory, nothing left out."""

    def __init__(self, memory: CountRows) -> None:
        places = (memory.keys, memory.start, memory.character)
        self.keys, self.start, self.character = (t.cpu().numpy() for t in places)
        values = (memory.share, memory.backoff_mass, memory.evidence)
        self.share, self.backoff_mass, self.evidence = (array(t[-1]) for t in values)

    def find(self, keys: np.ndarray, out: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Return where keys stand, and which do; `out` is filled with the evidence there."""
        if not len(self.keys):
            out[:] = 0
            return [0] * len(keys), np.zeros(len(keys), dtype=bool)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[place] == keys
        out[:] = self.evidence[place]
        return place.tolist(), known

    def fill(self, place: int, known: bool, lower: Any, out: np.ndarray) -> None:
        """Set `out` to a place's distribution: its shares, and the rest from a lower one."""
        if not known:
            out[:] = lower
            return
        begin, end = self.start[place], self.start[place + 1]
        np.multiply(lower, self.backoff_mass[place], out=out)
        out[self.character[begin:end]] += self.share[begin:end]


class TableStep:
    """What n-grams say after each character of one text."""

    def __init__(self, model: LookupLM) -> None:
        self.order, self.vocab_size = model.config.order, model.config.vocab_size
        self.rows = RowStep(model.memory)
        self.closed = [n for n in range(self.order) if f"order {n + 1}" in model.dropped]
        self.wraps = np.array([self.vocab_size**n for n in range(self.order)])
        self.first_key = np.arange(self.order) * self.wraps[-1]
        self.codes, self.seen = np.zeros(self.order, dtype=np.int64), 0

    def read(self, token: int, evidence: np.ndarray, said: np.ndarray) -> None:
        """Set the first rows, as many as there are orders."""
        evidence = evidence[: self.order]
        self.codes = (self.codes * self.vocab_size + token) % self.wraps
        self.seen += 1
        place, known = self.rows.find(self.codes + self.first_key, evidence)
        known[self.seen + 1 :] = False  # fewer characters were read than the address has
        known[self.closed] = False
        evidence *= known[:, None]
        p: Any = np.float32(1 / self.vocab_size)
        for n, is_known in enumerate(known.tolist()):
            self.rows.fill(place[n], is_known, p, said[n])
            p = said[n]


class WordStep:
    """What words and lines say after each character of one text."""

    def __init__(self, model: LookupLM, words: WordMemory) -> None:
        self.first, self.vocab_size = model.config.order, words.vocab_size
        self.lower = [model.config.lower(self.first + n) for n in range(len(ADDRESSES))]
        self.letters, self.rows = words.letters.tolist(), RowStep(words)
        self.open = np.array([name not in model.dropped for name in ADDRESSES])
        self.at, self.turn, self.latest = -1, -1, [0, 0, 0]
        # the word so far and the two before: their numbers, and the places before they begin
        self.words, self.gaps, self.power = [0, 0, 0], [-1, -1, -1], 1

    def read(self, token: int, evidence: np.ndarray, said: np.ndarray) -> None:
        """Set the rows of the four addresses, from `first` on, after those of the n-grams."""
        keys, known = self._keys(token)
        first = self.first
        here = evidence[first : first + len(keys)]
        place, found = self.rows.find(keys, here)
        found &= known & self.open
        here *= found[:, None]
        for n, is_known in enumerate(found.tolist()):
            self.rows.fill(place[n], is_known, said[self.lower[n]], said[first + n])

    def _keys(self, token: int) -> tuple[np.ndarray, np.ndarray]:
        # as `word_keys`, for one more character
        self.at += 1
        self.latest = [token, *self.latest[:2]]
        letter = self.letters[token]
        if letter > 0:
            self.power = self.power * BASE % 2**64
            self.words[0] += letter * self.power
        else:
            if self.at - self.gaps[0] > 1:
                self.words[1:], self.gaps[1:] = self.words[:2], self.gaps[:2]
            self.words[0], self.gaps[0], self.power = 0, self.at, 1
            if letter < 0:
                self.turn = self.at
        column = self.at - self.turn
        keys = np.array(combined(self.words, self.latest, column, self.vocab_size))
        known = [place >= 0 and self.at - place < REACH for place in (*self.gaps, self.turn)]
        known[3] &= self.at >= 2
        return keys, np.array(known)


class EchoStep:
    """What echoes after each character of one text, see `trix.counts.match`."""

    def __init__(self, model: LookupLM) -> None:
        self.first = model.config.tables.index(ECHOES[0])
        self.lower = [model.config.lower(self.first + n) for n in range(len(ECHOES))]
        self.closed = [name in model.dropped for name in ECHOES]
        self.latest: deque[int] = deque(maxlen=max(LENGTHS))
        # for each length, what followed at each address, oldest first, and the addresses in turn
        self.after: list[dict[tuple[int, ...], deque[int]]] = [{} for _ in LENGTHS]
        self.turn: list[deque[tuple[int, ...]]] = [deque() for _ in LENGTHS]

    def read(self, token: int, evidence: np.ndarray, said: np.ndarray) -> None:
        """Set the last rows, after all others."""
        before = tuple(self.latest)
        self.latest.append(token)
        for n, length in enumerate(LENGTHS):
            followed = () if self.closed[n] else self._followed(n, length, before, token)
            place, lower = self.first + n, said[self.lower[n]]
            if not followed:
                evidence[place], said[place] = 0, lower
                continue
            count, total = Counter(followed), len(followed)
            evidence[place] = np.log1p((total, len(count), max(count.values())))
            np.multiply(lower, DISCOUNT * len(count) / total, out=said[place])
            for character, times in count.items():
                said[place, character] += (times - DISCOUNT) / total

    def _followed(self, n: int, length: int, before: tuple[int, ...], token: int) -> Sequence[int]:
        after, turn = self.after[n], self.turn[n]
        if len(before) >= length:
            address = before[-length:]
            after.setdefault(address, deque()).append(token)
            turn.append(address)
        if len(turn) > HEARD - length:
            old = after[address := turn.popleft()]
            old.popleft()
            if not old:
                del after[address]
        return after.get(tuple(self.latest)[-length:], ())

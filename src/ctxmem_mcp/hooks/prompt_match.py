"""Scores earlier exchanges by how clearly they bear on a prompt. Pure.

The unit is an exchange, a user's prompt with the agent's answers to it: the words of the answer are often those of the
question. An exchange of a recent session scores higher than an equal one of long ago.
"""

from __future__ import annotations

import math
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Pair = tuple[str, str]

# A word that a turn has often counts up to twice; in a turn of so many words it counts half as soon.
_SATURATION, _LENGTH = 0.8, 60.0
# Words that are next to each other in both, at most one word apart, say much more than each on its own.
_PAIR_WEIGHT = 0.6
_USER_WEIGHT = 1.2
# The weight of the prompt's words that the exchange has, in any of its turns.
_COVERAGE_WEIGHT = 0.4
_AGE_OF_SESSION = 0.06
_PLACES_MAX = 2


class Utterance:
    """A turn's words. words: in their order; names: of several words; source: the caller's object for the turn."""

    __slots__ = ("is_user", "names", "source", "words")

    def __init__(self, words: Sequence[str], names: Iterable[str], is_user: bool, source: object = None) -> None:
        self.words, self.names, self.is_user, self.source = words, names, is_user, source


class Exchange:
    """A prompt with its answers.

    Attributes:
        age: how many sessions ago.
        exchanges_since: the number of exchanges between it and the compaction, in the prompt's own session; None for
            other sessions.
        utterances: its turns.
    """

    __slots__ = ("age", "exchanges_since", "utterances")

    def __init__(self, age: int, exchanges_since: int | None = None) -> None:
        self.age, self.exchanges_since = age, exchanges_since
        self.utterances: list[Utterance] = []


class Match:
    """An exchange that has words of a prompt.

    Attributes:
        score: by which exchanges are compared.
        best: the highest score of an utterance in it, whatever its age.
        pairs: the part of `best` that adjacent words make.
        utterance: the utterance with that score.
        share: the share of the prompt's words, by weight, that the exchange has.
        best_share: the share that `utterance` has.
        exchange: the exchange.
        all_pairs: the weight of the prompt's adjacent words that the exchange has, in any of its turns.
    """

    __slots__ = ("all_pairs", "best", "best_share", "exchange", "pairs", "score", "share", "utterance")

    def __init__(
        self, exchange: Exchange, score: float, best: float, pairs: float, utterance: Utterance,
        shares: tuple[float, float], all_pairs: float,
    ) -> None:  # fmt: skip
        self.exchange, self.score, self.best, self.pairs, self.utterance = exchange, score, best, pairs, utterance
        self.share, self.best_share = shares
        self.all_pairs = all_pairs


class _Found:
    """The words of a prompt that an utterance has."""

    __slots__ = ("names", "pairs", "utterance", "words")

    def __init__(self, utterance: Utterance, words: set[str], pairs: set[Pair], names: set[str]) -> None:
        self.utterance, self.words, self.pairs, self.names = utterance, words, pairs, names


class Prompt:
    """A prompt's words, weighted by how rare they are among the exchanges that it is compared with."""

    def __init__(self, words: Sequence[str], names: Iterable[str], exchanges: Iterable[Exchange]) -> None:
        self._words, self._names = set(words), set(names)
        self._pairs = set(_pairs(list(enumerate(words))))
        self._found = [(exchange, self._find(exchange)) for exchange in exchanges]
        counts: Counter[object] = Counter()
        for _, found in self._found:
            counts.update({key for one in found for keys in (one.words, one.pairs, one.names) for key in keys})
        total = len(self._found) + 1
        self._weights: dict[object, float] = {
            key: math.log(1 + (total - counts[key] + 0.5) / (counts[key] + 0.5))
            for key in (*self._words, *self._pairs, *self._names)
        }

    def matches(self) -> list[Match]:
        """Returns the exchanges that have words of the prompt, the best first."""
        return self._sorted(self._found)

    def matches_elsewhere(self, exchanges: Iterable[Exchange]) -> list[Match]:
        """Returns the matches among other exchanges, scored with the same weights."""
        return self._sorted((exchange, self._find(exchange)) for exchange in exchanges)

    def _sorted(self, found: Iterable[tuple[Exchange, Sequence[_Found]]]) -> list[Match]:
        matches = [self._match(exchange, parts) for exchange, parts in found if parts]
        return sorted(matches, key=lambda match: -match.score)

    def _find(self, exchange: Exchange) -> list[_Found]:
        parts: list[_Found] = []
        for utterance in exchange.utterances:
            words = self._words.intersection(utterance.words)
            if words:
                places = (
                    [(at, word) for at, word in enumerate(utterance.words) if word in words] if len(words) > 1 else []
                )
                parts.append(
                    _Found(
                        utterance, words, self._pairs.intersection(_pairs(places)), self._names & set(utterance.names)
                    )
                )
        return parts

    def _match(self, exchange: Exchange, parts: Sequence[_Found]) -> Match:
        scores = [(*self._score(part), part) for part in parts]
        best, pairs, part = max(scores, key=lambda score: score[0])
        weight = self._weight(set[str]().union(*(part.words for part in parts)))
        score = (best + _COVERAGE_WEIGHT * weight) / (1 + _AGE_OF_SESSION * exchange.age)
        total = self._weight(self._words)
        shares = (weight / total, self._weight(part.words) / total)
        all_pairs = self._weight(set[object]().union(*(part.pairs for part in parts)))
        return Match(exchange, score, best, pairs, part.utterance, shares, all_pairs)

    def _weight(self, keys: Iterable[object]) -> float:
        return sum(self._weights[key] for key in keys)

    def _score(self, part: _Found) -> tuple[float, float]:
        """Returns the score of an utterance, and the part of it that adjacent words make."""
        words, weights = part.utterance.words, self._weights
        late = _SATURATION * (1 + len(words) / _LENGTH)
        score = 0.0
        for word in part.words:
            count = words.count(word)
            score += 2 * weights[word] * count / (count + late)
        pairs = _PAIR_WEIGHT * sum(weights[pair] for pair in part.pairs)
        score += pairs + sum(weights[name] for name in part.names)
        return score * (_USER_WEIGHT if part.utterance.is_user else 1), pairs


def _pairs(places: Sequence[tuple[int, str]]) -> Iterator[Pair]:
    """Yields the pairs of these words that are next to each other or have one word between them."""
    for number, (at, word) in enumerate(places):
        for later, other in places[number + 1 : number + 1 + _PLACES_MAX]:
            if later - at <= _PLACES_MAX:
                yield word, other

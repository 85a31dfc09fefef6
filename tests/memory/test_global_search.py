"""Searches over all conversations: none is left out silently, and what is stored several times is found once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.global_search import SECONDS_MAX, Matches, search_everything
from ctxmem_mcp.models import NewTurn, iso
from ctxmem_mcp.results import Hit
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
CONVERSATIONS = 130


class Time:
    """A clock; each reading of the monotonic one advances it by `step` seconds."""

    def __init__(self) -> None:
        self.now, self.elapsed, self.step = NOW, 0.0, 0.0

    def monotonic(self) -> float:
        self.elapsed += self.step
        return self.elapsed


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["in memory", "sqlite"])
async def memory(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> AsyncIterator[Memory]:
    store = InMemoryStore() if request.param == "in memory" else SqliteStore(tmp_path, durability="normal")
    memory = Memory(store, ExtractiveSummarizer(), clock=lambda: time.now, monotonic=time.monotonic)
    yield memory
    await memory.close()


async def fill(memory: Memory, time: Time) -> None:
    """The conversation that was active first is the only one about a zeppelin."""
    for i in range(CONVERSATIONS):
        time.now = NOW + i
        text = "Please repair the zeppelin." if not i else f"Please water the garden, bed number {i}."
        await memory.append(NewTurn("user", text), conversation_id=f"c{i}")


async def test_the_conversation_active_longest_ago_is_searched_too(memory: Memory, time: Time) -> None:
    await fill(memory, time)
    found = await memory.search("zeppelin")
    assert [hit.conversation_id for hit in found] == ["c0"]
    assert (found.searched, found.conversations) == (CONVERSATIONS, CONVERSATIONS)
    everywhere = await memory.search("zeppelin garden", limit=100)
    assert len(everywhere) == 100
    assert "c0" in [hit.conversation_id for hit in everywhere], "the rarer word decides"


async def test_a_search_that_runs_out_of_time_says_how_many_were_searched(memory: Memory, time: Time) -> None:
    await fill(memory, time)
    time.step = SECONDS_MAX / 10
    found = await memory.search("garden zeppelin", limit=100)
    assert 0 < found.searched < CONVERSATIONS
    assert found.conversations == CONVERSATIONS
    assert found[0].conversation_id == "c0", "the conversation with the rarer word is searched first"


async def test_copies_of_a_turn_are_one_hit(memory: Memory) -> None:
    beginning = [NewTurn("user", "Please repair the zeppelin."), NewTurn("assistant", "The hull leaks.")]
    for i in range(4):
        await memory.sync([*beginning, NewTurn("user", f"Go on, number {i}.")], conversation_id=f"session{i}")
    await memory.append(NewTurn("user", "A zeppelin of another kind."), conversation_id="other")
    found = await memory.search("zeppelin", limit=5)
    assert sorted((hit.snippet[:8], hit.conversations) for hit in found) == [("A zeppel", 1), ("Please r", 4)]
    (own,) = await memory.search("zeppelin", conversation_id="session2")
    assert (own.conversation_id, own.conversations) == ("session2", 1)


async def test_turns_without_a_time_are_found_by_when_they_were_stored(memory: Memory, time: Time) -> None:
    for day, said_at in enumerate((None, "2020-01-01T00:00:00Z", None)):
        time.now = NOW + day * 86_400
        await memory.append(NewTurn("user", f"the zeppelin, day {day}", None, said_at), conversation_id="c")
    for scope in ("c", None):
        found = await memory.search("zeppelin", conversation_id=scope, since=iso(NOW - 1), until=iso(NOW + 1))
        assert [hit.snippet for hit in found] == ["the zeppelin, day 0"]
        found = await memory.search("zeppelin", conversation_id=scope, since=iso(NOW + 86_400))
        assert [hit.snippet for hit in found] == ["the zeppelin, day 2"]


@pytest.mark.parametrize("query", ["🙂", "to be or not to be", "¿?", "🇩🇪"])
async def test_a_query_without_a_word_that_is_indexed_is_found_literally(memory: Memory, query: str) -> None:
    await memory.sync(
        [NewTurn("user", "hello"), NewTurn("assistant", f"He said: {query.upper()} and left."), NewTurn("user", "ok")],
        conversation_id="c",
    )
    await memory.append(NewTurn("user", "nothing of the kind"), conversation_id="other")
    for scope in ("c", None):
        (hit,) = await memory.search(query, conversation_id=scope)
        assert query.upper() in hit.snippet
        assert hit.turn_id.startswith("t1-")
        assert not await memory.search(query, conversation_id=scope, role="user")
    assert not await memory.search("🙃")


async def test_scores_are_only_in_explained_results(memory: Memory) -> None:
    await memory.append(NewTurn("user", "Please repair the zeppelin."), conversation_id="c")
    for scope in ("c", None):
        (plain,), (explained,) = [
            await memory.search("zeppelin", conversation_id=scope, explain=explain) for explain in (False, True)
        ]
        assert (plain.score, plain.why) == (None, ())
        assert explained.score is not None
        assert explained.why


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("ספר", "הוא לקח את הספר מהמדף"),
        ("הספר", "קראתי ספר טוב מאוד אתמול"),
        ("Häuser", "Das alte Haus am Hafen wird verkauft, und die Nachbarn sind traurig."),
        ("部署", "今天我们把服务部署到了新的主机上。"),
    ],
)
async def test_words_of_other_languages_are_found_everywhere(memory: Memory, query: str, text: str) -> None:
    await memory.append(NewTurn("user", text), conversation_id="c")
    await memory.append(NewTurn("user", "Please water the garden."), conversation_id="other")
    assert [hit.conversation_id for hit in await memory.search(query)] == ["c"]


def hit(conversation: str, turn: str, score: float) -> Hit:
    return Hit(turn, conversation, "user", None, None, turn, [], 1, score=score)


async def test_a_conversation_that_is_replaced_before_its_hits_are_read_is_searched_again() -> None:
    """It has a turn in common with its former self, and now also with the other conversation."""
    former = [hit("a", "t0-1", -1.0), hit("a", "t1-1", -2.0)]
    a, b = [hit("a", "t0-1", -0.5), hit("a", "t2-2", -4.0)], [hit("b", "t2-2", -3.0), hit("b", "t3-1", -9.0)]
    searches: list[str] = []

    async def find(conversation: str) -> Sequence[Hit]:
        searches.append(conversation)
        return b if conversation == "b" else former if searches.count("a") == 1 else a

    async def load(conversation: str, found: Sequence[Hit]) -> Sequence[Hit]:
        return [] if any(one in former for one in found) else found

    matches = Matches({"a": 1.0, "b": 1.0}, 2, 2)
    result = await search_everything(matches, 3, find, load, lambda: False)
    assert [(one.conversation_id, one.turn_id, one.conversations) for one in result.hits] == [
        ("a", "t0-1", 1), ("b", "t2-2", 2), ("b", "t3-1", 1),
    ]  # fmt: skip
    assert searches == ["a", "b", "a"]

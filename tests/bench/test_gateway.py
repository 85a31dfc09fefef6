"""The replay of a session through the gateway: requests, the provider's cache, all methods."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from bench.gateway import ProviderCache, messages_of, newest_that_fit, replay, session

from bench import synthetic
from ctxmem_mcp.transcripts.openai import turns_from_messages


def test_messages_and_turns_have_equal_content() -> None:
    turns = list(synthetic.turns(60))
    output = turns_from_messages(messages_of(turns))
    assert [(t.role, t.content, t.call_id) for t in output] == [(t.role, t.content, t.call_id) for t in turns]


def test_the_cache_serves_the_longest_known_prefix_in_whole_blocks() -> None:
    method = ProviderCache(10).method()
    one, two, three = ({"role": "user", "content": f"{word} " * 25} for word in ("first", "second", "third"))
    first, cached = method.send([one], two)
    assert cached == 0
    sent, cached = method.send([one, two], three)
    assert first - 10 < cached <= first < sent
    assert cached % 10 == 0
    assert method.send([two, one], three)[1] == 0
    assert method.send([one, two], three)[1] == sent - sent % 10


def test_the_newest_messages_that_fit_are_selected() -> None:
    count = ProviderCache(10).count
    messages = messages_of(synthetic.turns(40))
    newest_messages = newest_that_fit(messages, 2_000, count)
    assert messages[-len(newest_messages) :] == newest_messages
    assert sum(map(count, newest_messages)) <= 2_000


@pytest.mark.anyio
async def test_a_session_is_sent_with_all_four_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provider = ProviderCache(64)
    options = argparse.Namespace(budget=4_000, system=0, quick=False)
    await replay(session([], 9_000, provider.count), options, provider, tmp_path)
    output = capsys.readouterr().out
    for method in ("gateway", "full history", "newest that fit", "recall at every request"):
        assert f"\n{method} " in output
    assert "1 conversation(s)" in output
    assert not output.startswith("0 folds")

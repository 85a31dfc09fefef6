"""Forgets captured data along with its conversation: pending events are deleted, and the transcript is ignored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from ctxmem_mcp.capture import failed_calls, session_files, spoken_turns, spool, unrecognised
from ctxmem_mcp.capture.sync_state import FOLDER, SyncRecords
from ctxmem_mcp.capture.texts import Texts
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.text.keywords import terms_of

# A drain renames each file at most once.
PASSES_MAX = 50
_log = logging.getLogger(__name__)


def purge_captured(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Deletes these conversations' events from the spool and records that their transcripts must not be stored again.

    An expired session's transcript may still be imported by name; a forgotten one also has a tombstone in the store.
    An error is logged, for the conversations are already gone.
    """
    try:
        _remove_events(data_dir, conversation_ids)
        unrecognised.purge(data_dir, conversation_ids)
        unrecognised.trim(data_dir)
        _purge_records(data_dir, conversation_ids)
        session_files.purge(str(data_dir), conversation_ids)
        if (data_dir / FOLDER).is_dir():
            SyncRecords(data_dir).mark_gone(conversation_ids)
    except OSError as error:
        _log.warning("Events of forgotten conversations may remain in the spool: %s", error)


def purge_branch(data_dir: Path, conversation_id: str, *, had_head: bool) -> None:
    """Deletes what is beside a conversation of which a branch was forgotten: unrecognised events, and its records for
    the hooks, which do not tell branches apart.

    Args:
        data_dir: The data folder.
        conversation_id: The conversation.
        had_head: Whether the head was on the branch. Then the events in the spool, which follow it, are deleted too.
    """
    try:
        if had_head:
            _remove_events(data_dir, [conversation_id])
        unrecognised.purge(data_dir, [conversation_id])
        _purge_records(data_dir, [conversation_id])
    except OSError as error:
        _log.warning("Events of a forgotten branch may remain in the spool: %s", error)


def purge_texts(data_dir: Path, texts: Texts) -> int:
    """Deletes the captured events that hold one of these texts; returns how many there were."""
    failed_calls.purge(str(data_dir), lambda call: texts.are_in(f"{call.error}\n{call.ending}".encode()))
    spoken_turns.purge(str(data_dir), _holds_words_of(data_dir, texts))
    events = [*spool.pending(str(data_dir)), *spool.events_in(str(data_dir / unrecognised.FOLDER))]
    return sum(spooled.remove() for spooled in events if _holds(spooled, texts))


def purge_redacted(data_dir: Path, conversations: Collection[str], turns: Collection[str]) -> None:
    """Deletes the hooks' records of redacted turns, which may quote less of them than a search for their texts finds.

    Args:
        data_dir: The data folder.
        conversations: The conversations that hold them. All their failed calls are deleted: a record quotes a result,
            and the call that worked afterwards.
        turns: Their short ids.
    """
    failed_calls.purge(str(data_dir), lambda call: call.conversation in conversations)
    spoken_turns.purge(str(data_dir), lambda turn: turn.conversation in conversations and turn.turn in turns)


def _purge_records(data_dir: Path, conversation_ids: Collection[str]) -> None:
    failed_calls.purge(str(data_dir), lambda call: call.conversation in conversation_ids)
    spoken_turns.purge(str(data_dir), lambda turn: turn.conversation in conversation_ids)


def _holds_words_of(data_dir: Path, texts: Texts) -> Callable[[spoken_turns.SpokenTurn], bool]:
    """Returns whether a turn's record quotes one of the texts, or has hashes of all words of one."""
    hasher = spoken_turns.load_hasher(str(data_dir))
    hashes = [frozenset(map(hasher, terms_of(part))) for part in texts.parts] if hasher else []
    hashes = [words for words in hashes if words]

    def holds(turn: spoken_turns.SpokenTurn) -> bool:
        return texts.are_in(turn.excerpt.encode("utf-8", "replace")) or any(h.issubset(turn.terms) for h in hashes)

    return holds


def _holds(spooled: spool.SpooledEvent, texts: Texts) -> bool:
    try:
        return texts.are_in(read_file(spooled.path))
    except OSError:
        return False


def _remove_events(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Looks again as long as a concurrent drain gives files that it is about to read another name."""
    for _ in range(PASSES_MAX):
        pending = spool.pending(str(data_dir))
        if not sum(_remove_event(spooled, conversation_ids) for spooled in pending):
            return


def _remove_event(spooled: spool.SpooledEvent, conversation_ids: Collection[str]) -> bool:
    """Removes an event of these conversations, or the whole of an output of theirs. Returns whether its file was not
    there any more."""
    from ctxmem_mcp.capture.events import parse_event
    from ctxmem_mcp.capture.session_ids import conversation_id_for
    from ctxmem_mcp.capture.whole_outputs import session_of

    try:
        agent, raw, _ = spooled.read()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    event = parse_event(agent, raw, spooled.at)
    conversation = conversation_id_for(event.session_id) if event else None
    if conversation is None or not {conversation, session_of(conversation)}.intersection(conversation_ids):
        return False
    return not spooled.remove()

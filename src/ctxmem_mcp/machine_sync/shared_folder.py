"""What a shared folder holds, and how it is encoded.

    ctxmem-sync.json        the folder's key, or, if the folder is encrypted:
    ctxmem-sync.age         the key and a secret key of age, encrypted with a passphrase
    ID.machine              what a machine has: which file has each conversation, and what was forgotten
    HASH.conversation       a conversation's file as of a state; the name is a hash of that state

Nothing is changed in place but a machine's own file. Conversations and turns are named by keyed hashes only, so that
what is forgotten leaves no name behind.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ctxmem_mcp import encryption
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.machine_sync.remote import Remote
from ctxmem_mcp.results import Conversation

FORMAT = 1
MACHINE, CONVERSATION = ".machine", ".conversation"
_CLEAR, _ENCRYPTED = "ctxmem-sync.json", "ctxmem-sync.age"
_KEY_BYTES, _HASH_BYTES = 32, 16


@dataclass(slots=True)
class Manifest:
    """What one machine has.

    Attributes:
        files: The name of the file with each conversation, by the conversation's mark.
        gone: When it became known that a turn, and all that follow it, were forgotten, by the turn's mark.
        again: When somebody allowed such a turn to be stored again, by its mark. The later of the two counts.
    """

    files: dict[str, str] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)

    def take_in(self, other: Manifest) -> None:
        """Takes in what another machine knows of forgotten turns."""
        for mine, theirs in ((self.gone, other.gone), (self.again, other.again)):
            for mark, at in theirs.items():
                mine[mark] = max(at, mine.get(mark, at))

    def is_gone(self, mark: str) -> bool:
        """Returns whether a turn was forgotten on one of the machines."""
        return mark in self.gone and self.gone[mark] > self.again.get(mark, float("-inf"))


class SharedFolder:
    """A shared folder whose key is known. Its methods block."""

    def __init__(self, remote: Remote, key: bytes, identity: str | None, recipient: str | None) -> None:
        self.remote, self._key, self._identity, self._recipient = remote, key, identity, recipient

    @classmethod
    def open(cls, remote: Remote, passphrase: str | None, *, encrypt: bool) -> SharedFolder:
        """Opens a folder, or makes an empty one a shared folder.

        Args:
            remote: The folder.
            passphrase: That of an encrypted folder.
            encrypt: Encrypt what is written to a new folder.

        Raises:
            InvalidArgument: The passphrase is wrong, the folder has a newer format, or it is not encrypted although it
                should be.
        """
        names = remote.list_names()
        if not names & {_CLEAR, _ENCRYPTED}:
            _create(remote, passphrase if encrypt else None)
            names = remote.list_names()
        if encrypt and _ENCRYPTED not in names:
            raise InvalidArgument("--encrypt", "is for a new folder; this one is not encrypted", "Name another folder.")
        name = _ENCRYPTED if _ENCRYPTED in names else _CLEAR
        raw = remote.read([name]).get(name, b"")
        try:
            found = json.loads(encryption.decrypt(raw, passphrase=passphrase) if name == _ENCRYPTED else raw)
            number, key = found["format"], bytes.fromhex(found["key"])
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidArgument("TARGET", f"has an unreadable {name} ({error})", "Name another folder.") from error
        if number > FORMAT:
            raise InvalidArgument("TARGET", f"has format {number}, this version knows {FORMAT}", "Upgrade ctxmem-mcp.")
        return cls(remote, key, found.get("identity"), found.get("recipient"))

    @property
    def id(self) -> str:
        """Identifies the folder in the records of this machine."""
        return self._hash(b"folder")

    def mark_of_conversation(self, conversation_id: str) -> str:
        return self._hash(b"conversation", conversation_id.encode())

    def mark_of_turn(self, conversation_id: str, digest: bytes) -> str:
        return self._hash(b"turn", conversation_id.encode(), digest)

    def file_name(self, conversation: Conversation, turns: Iterable[tuple[bytes, bool]]) -> str:
        """Returns the name of the file with a conversation in this state: its turns, and how long it is kept."""
        kept = f"{conversation.retention_days} {conversation.expires:.0f}"
        parts = [conversation.conversation_id.encode(), kept.encode()]
        parts += [digest + bytes([is_redacted]) for digest, is_redacted in sorted(turns)]
        return self._hash(b"state", *parts) + CONVERSATION

    def manifests(self, names: Iterable[str]) -> dict[str, Manifest]:
        """Returns the manifests among these files, by the machine's id. Those that can't be read are left out."""
        found = {}
        for name, raw in self.read([name for name in names if name.endswith(MACHINE)]).items():
            try:
                entry = json.loads(raw)
                found[name.removesuffix(MACHINE)] = Manifest(entry["files"], entry["gone"], entry["again"])
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def write_manifest(self, machine: str, manifest: Manifest) -> None:
        entry = {"format": FORMAT, "files": manifest.files, "gone": manifest.gone, "again": manifest.again}
        self.write({machine + MACHINE: json.dumps(entry, sort_keys=True).encode()})

    def read(self, names: list[str]) -> dict[str, bytes]:
        """Returns these files' contents by name. Those that are gone or can't be decrypted are left out."""
        found = self.remote.read(names)
        if self._identity is None:
            return found
        clear = {}
        for name, raw in found.items():
            try:
                clear[name] = encryption.decrypt(raw, identity=self._identity)
            except InvalidArgument:
                continue
        return clear

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes files, encrypted if the folder is."""
        if self._recipient is not None:
            recipients = [self._recipient]
            files = {name: encryption.encrypt(raw, recipients=recipients) for name, raw in files.items()}
        self.remote.write(files)

    def _hash(self, kind: bytes, *parts: bytes) -> str:
        digest = hashlib.blake2b(digest_size=_HASH_BYTES, key=self._key, person=kind)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


def _create(remote: Remote, passphrase: str | None) -> None:
    entry: dict[str, object] = {"format": FORMAT, "key": secrets.token_hex(_KEY_BYTES)}
    if passphrase is None:
        remote.create(_CLEAR, json.dumps(entry).encode())
        return
    entry["identity"], entry["recipient"] = encryption.new_identity()
    remote.create(_ENCRYPTED, encryption.encrypt(json.dumps(entry).encode(), passphrase=passphrase))


def is_encrypted(remote: Remote) -> bool:
    """Returns whether a folder is an encrypted shared folder."""
    return _ENCRYPTED in remote.list_names()

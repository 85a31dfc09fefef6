"""The commands of a server for a team: principals, spaces, audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import OPTIONS, SERVER, Json
from ctxmem_mcp.cli.runner import record
from ctxmem_mcp.errors import InvalidArgument, NotFound
from ctxmem_mcp.models import iso, parse_iso
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.base import TeamStore
from ctxmem_mcp.team.folders import tenant_folder
from ctxmem_mcp.team.names import check_principal, check_space, parse_right, principal_key, principal_name
from ctxmem_mcp.team.records import (
    DENIED,
    LOCAL,
    RIGHT_WORDS,
    TOKEN_KIND,
    AuditLine,
    PrincipalInfo,
    Token,
    make_token,
    token_digest,
)
from ctxmem_mcp.team.stores import open_team

commands = typer.Typer()

DAY, HOUR = 86_400, 3_600
# Digits of a token's hash that tell the tokens of a principal apart.
DIGEST_DIGITS = 8

_T = TypeVar("_T")


class PrincipalAction(StrEnum):
    ADD = "add"
    LIST = "list"
    ROTATE = "rotate"
    REMOVE = "remove"


class SpaceAction(StrEnum):
    ADD = "add"
    LIST = "list"
    SHARE = "share"
    UNSHARE = "unshare"
    REMOVE = "remove"


def _with_team(work: Callable[[TeamStore], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        team = open_team(OPTIONS.settings())
        try:
            return await work(team)
        finally:
            await team.close()

    return asyncio.run(run())


# ---------------------------------------------------------------- principals


@commands.command(rich_help_panel=SERVER)
def principals(
    action: Annotated[
        PrincipalAction, typer.Argument(metavar="ACTION", help="add, list, rotate or remove.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The principal; all but list need it.", show_default=False)
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, max=36_500, help="Days after which the new token expires.")
    ] = None,
    keep_hours: Annotated[
        int, typer.Option(metavar="HOURS", min=0, max=8_760, help="Hours that `rotate` leaves the old tokens valid.")
    ] = 0,
    restore: Annotated[
        bool, typer.Option("--restore", help="Add a principal that was removed again, with its memory.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add, list and remove the principals of the HTTP service, and replace their tokens.

    A token is printed once and stored as a hash. Running servers know of a change at once. `remove` ends all tokens and
    rights of a principal and keeps its memory.
    """
    if action is PrincipalAction.LIST:
        _list_principals(as_json)
        return
    name = check_principal(_required(name, "NAME", action, f"principals {action} alice"), "NAME")
    if action is PrincipalAction.REMOVE:
        _with_team(lambda team: team.remove_principal(name, time.time()))
        record(OPTIONS, "remove-principal", target=name)
        _print_done({"removed": name}, f"Removed {name}: the tokens and rights are gone, the memory is kept.", as_json)
        return
    secret, now = make_token(), time.time()
    token = Token(token_digest(secret), now, None if expires_days is None else now + expires_days * DAY)
    if action is PrincipalAction.ADD:
        _with_team(lambda team: team.add_principal(name, token, restore=restore))
        record(OPTIONS, "add-principal", target=name)
    else:
        _with_team(lambda team: team.replace_tokens(name, token, now + keep_hours * HOUR))
        record(OPTIONS, "rotate-token", target=name)
    expires = None if token.expires is None else iso(token.expires)
    until = "It does not expire." if expires is None else f"It expires at {expires}."
    text = f"The token of {name}, which is not shown again:\n\n    {secret}\n\n{until}"
    _print_done({"principal": name, "token": secret, "expires_at": expires}, text, as_json)


def _list_principals(as_json: bool) -> None:
    found = _with_team(lambda team: team.principals())
    if as_json:
        output.print_json([_principal_json(one) for one in found])
    elif not found:
        typer.echo("There are no principals. `ctxmem-mcp principals add NAME` adds one.")
    for one in found if not as_json else ():
        state = f"removed {iso(one.removed)}" if one.removed else output.counted(len(one.tokens), "token")
        typer.echo(f"{one.name}  added {iso(one.added)}  {state}")
        typer.echo(f"  {_folder(TOKEN_KIND + one.name)}")
        for token in one.tokens:
            until = "no expiry" if token.expires is None else f"expires {iso(token.expires)}"
            typer.echo(f"  {token.digest.hex()[:DIGEST_DIGITS]}  made {iso(token.added)}  {until}")


def _principal_json(one: PrincipalInfo) -> dict[str, Any]:
    return {
        "principal": one.name,
        "added_at": iso(one.added),
        "folder": _folder(TOKEN_KIND + one.name),
        "removed_at": None if one.removed is None else iso(one.removed),
        "tokens": [
            {
                "digest": token.digest.hex()[:DIGEST_DIGITS],
                "added_at": iso(token.added),
                "expires_at": None if token.expires is None else iso(token.expires),
            }
            for token in one.tokens
        ],
    }


# ---------------------------------------------------------------- spaces


@commands.command(rich_help_panel=SERVER)
def spaces(
    action: Annotated[
        SpaceAction,
        typer.Argument(metavar="ACTION", help="add, list, share, unshare or remove.", show_default=False),
    ],
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="The space; all but list need it.", show_default=False)
    ] = None,
    principal: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="The principal to share with: a name, or `oauth:ISSUER SUBJECT`.", show_default=False
        ),
    ] = None,
    right: Annotated[
        str, typer.Option(metavar="RIGHT", help=f"Right that `share` gives: {', '.join(RIGHT_WORDS)}.")
    ] = "continue",
    as_json: Json = False,
) -> None:
    """Share spaces between the principals of the HTTP service.

    A shared space is a memory that several principals use under /spaces/SPACE of the server. `read` shows everything in
    it, `continue` also appends and goes back, `manage` also forgets and shares. A space can be removed once its
    conversations are forgotten.
    """
    if action is SpaceAction.LIST:
        _list_spaces(as_json)
        return
    name = check_space(_required(space, "SPACE", action, f"spaces {action} web"), "SPACE")
    if action is SpaceAction.ADD:
        _with_team(lambda team: team.add_space(name, time.time()))
        record(OPTIONS, "add-space", space=name)
        _print_done(
            {"space": name}, f"Added the space {name}. `ctxmem-mcp spaces share {name} NAME` shares it.", as_json
        )
    elif action is SpaceAction.REMOVE:
        _remove_space(name, as_json)
    else:
        _change_right(
            name,
            _required(principal, "NAME", action, f"spaces {action} {name} alice"),
            right if action is SpaceAction.SHARE else None,
            as_json,
        )


def _change_right(space: str, principal: str, word: str | None, as_json: bool) -> None:
    right = None if word is None else parse_right(word, "--right")
    key = principal_key(principal, "NAME")

    async def work(team: TeamStore) -> bool:
        known = {one.name for one in await team.principals() if one.removed is None}
        if right is not None and principal not in known and principal != key:
            raise NotFound(
                f"No principal {principal!r}.",
                f"Add it with `ctxmem-mcp principals add {principal}`, or write {TOKEN_KIND}{principal} for one of "
                "CTXMEM_TOKENS or CTXMEM_TOKENS_FILE.",
            )
        return await team.set_right(space, key, right)

    changed = _with_team(work)
    who = principal_name(key)
    if right is None:
        if not changed:
            raise NotFound(
                f"{who!r} has no right in the space {space!r}.", "`ctxmem-mcp spaces list` prints the rights."
            )
        record(OPTIONS, "unshare", space=space, target=who)
        _print_done(
            {"space": space, "principal": who, "right": None}, f"{who} has no right in {space} any more.", as_json
        )
    else:
        record(OPTIONS, "share", space=space, target=f"{who} {right.word}")
        text = f"{who} may {right.word} in {space}: clients use /spaces/{space}/mcp."
        _print_done({"space": space, "principal": who, "right": right.word}, text, as_json)


def _remove_space(name: str, as_json: bool) -> None:
    settings = OPTIONS.settings()

    async def work(team: TeamStore) -> None:
        found = next((one for one in await team.spaces() if one.name == name), None)
        folder = None if found is None else tenant_folder(settings.data_dir, found.tenant)
        stored = 0 if folder is None else await _count_conversations(settings, folder)
        if stored:
            how = (
                "as a principal with the right manage"
                if settings.store_url
                else f"ctxmem-mcp --data-dir {folder} forget ID"
            )
            rule = f"{name} has {output.counted(stored, 'conversation')}"
            raise InvalidArgument("SPACE", rule, f"Forget them first: {how}.")
        await team.remove_space(name)

    _with_team(work)
    record(OPTIONS, "remove-space", space=name)
    _print_done({"removed": name}, f"Removed the space {name}.", as_json)


async def _count_conversations(settings: Settings, folder: Path) -> int:
    """Returns how many conversations a tenant has, by its data folder."""
    from ctxmem_mcp.composition import open_folder, open_memory

    if settings.store_url is not None:
        async with open_memory(settings, principal=folder.name, background=False) as memory:
            return len(await memory.all_conversations())
    if not await asyncio.to_thread(folder.is_dir):
        return 0
    async with open_folder(folder) as memory:
        return len(await memory.all_conversations())


def _list_spaces(as_json: bool) -> None:
    async def work(team: TeamStore) -> list[dict[str, Any]]:
        listed = []
        for space in await team.spaces():
            members = {principal_name(who): right.word for who, right in (await team.members(space.name)).items()}
            folder = _folder(space.tenant)
            listed.append({"space": space.name, "added_at": iso(space.added), "folder": folder, "members": members})
        return listed

    found = _with_team(work)
    if as_json:
        output.print_json(found)
    elif not found:
        typer.echo("There are no shared spaces. `ctxmem-mcp spaces add SPACE` adds one.")
    for one in found if not as_json else ():
        members = ", ".join(f"{who} ({word})" for who, word in one["members"].items())
        typer.echo(f"{one['space']}  added {one['added_at']}  {members or 'shared with nobody'}")
        typer.echo(f"  {one['folder']}")


# ---------------------------------------------------------------- audit


@commands.command(rich_help_panel=SERVER)
def audit(
    principal: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this principal did.")] = None,
    space: Annotated[str | None, typer.Option(metavar="SPACE", help="Only what was done in this shared space.")] = None,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what was about this conversation.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="Only one action, such as read, append, forget or share.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only from this time on (ISO 8601).")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many lines, the newest.")] = 100,
    as_json: Json = False,
) -> None:
    """Print who read, stored, forgot and shared what, and when.

    A line has ids and no words. Commands on the server's machine are listed under the principal `local`.
    """
    start = 0.0 if since is None else parse_iso(since)
    if start is None:
        raise InvalidArgument("--since", "must be ISO 8601", "For example: 2026-01-31.")
    key = None if principal is None else principal if principal == LOCAL else principal_key(principal, "--principal")
    lines = _with_team(
        lambda team: team.audit(
            principal=key, space=space, conversation=conversation, action=action, since=start, limit=limit
        )
    )
    if as_json:
        output.print_json([{**asdict(line), "at": iso(line.at)} for line in lines])
    else:
        _print_lines(lines)


def _print_lines(lines: Sequence[AuditLine]) -> None:
    if not lines:
        output.write("No such line. The audit begins with the first principal or shared space.")
    for line in lines:
        about = {"space": line.space, "conversation": line.conversation, "target": line.target}
        words = [f"{name}={value}" for name, value in about.items() if value is not None]
        denied = [line.outcome] if line.outcome == DENIED else []
        output.write("  ".join([iso(line.at), principal_name(line.principal), line.action, *words, *denied]))


def _folder(key: str) -> str:
    return str(tenant_folder(OPTIONS.settings().data_dir, key))


def _required(value: str | None, name: str, action: StrEnum, example: str) -> str:
    if value is None:
        raise InvalidArgument(name, f"is required to {action}", f"For example: `ctxmem-mcp {example}`.")
    return value


def _print_done(fields: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        output.print_json(fields)
    else:
        typer.echo(text)

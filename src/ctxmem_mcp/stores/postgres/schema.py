"""The tables, their migrations, and the policies that keep principals apart.

Every table leads with (principal, conversation), or with principal if its rows are of no single conversation, and every
query names both: a sharded PostgreSQL can distribute the tables by them, and no query reads another conversation's
rows. Texts that may contain any character are bytes in UTF-8, because PostgreSQL's text has no character 0.

Rows have no checksums of their own: PostgreSQL has one for each page (since version 18 by default).
"""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow

from ctxmem_mcp.errors import NewerFormat
from ctxmem_mcp.stores.postgres.record_tables import NAMES, TABLES

Connection = psycopg.AsyncConnection[TupleRow]

SCHEMA = "ctxmem"
# Held while the tables are created or migrated, by whichever server is first.
_MIGRATION_LOCK = 0x63746D31  # "ctm1"

_KEY = 'principal text COLLATE "C" NOT NULL, conversation text COLLATE "C" NOT NULL'
_OWNER = 'principal text COLLATE "C" NOT NULL'

_TABLES = f"""
CREATE TABLE principals (principal text COLLATE "C" PRIMARY KEY);
CREATE TABLE keys (
    {_OWNER}, salt bytea NOT NULL, tombstone_key bytea NOT NULL, PRIMARY KEY (principal)
);
CREATE TABLE conversations (
    {_KEY},
    version bigint NOT NULL, head bigint NOT NULL, next_seq bigint NOT NULL, next_piece bigint NOT NULL,
    turns bigint NOT NULL, tokens bigint NOT NULL, words bigint NOT NULL, nodes bigint NOT NULL,
    title bytea NOT NULL, space bytea, salt bytea NOT NULL, encoding text NOT NULL, retention_days integer NOT NULL,
    created float8 NOT NULL, updated float8 NOT NULL, expires float8 NOT NULL, frontier bytea NOT NULL,
    unindexed bigint[] NOT NULL, text_bytes bigint NOT NULL, first_waiting bigint NOT NULL, commits bigint[] NOT NULL,
    PRIMARY KEY (principal, conversation)
) WITH (fillfactor = 70);
CREATE TABLE runs (
    {_KEY}, first_seq bigint NOT NULL, parent_seq bigint NOT NULL, first_index bigint NOT NULL,
    first_piece bigint NOT NULL,
    PRIMARY KEY (principal, conversation, first_seq)
);
CREATE TABLE roots (
    {_KEY}, digest bytea NOT NULL, PRIMARY KEY (principal, conversation, digest)
);
CREATE INDEX roots_by_digest ON roots (principal, digest);
CREATE TABLE turns (
    {_KEY}, seq bigint NOT NULL, at_index bigint NOT NULL, digest bytea NOT NULL, role smallint NOT NULL,
    tokens bigint NOT NULL, first_piece bigint NOT NULL, pieces bigint NOT NULL, name bytea, said_at bytea,
    call_id bytea, flags integer NOT NULL, language text, stored_at float8 NOT NULL, codec smallint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (principal, conversation, seq)
);
CREATE TABLE pieces (
    {_KEY}, id bigint NOT NULL, seq bigint NOT NULL, at_index bigint NOT NULL, start bigint NOT NULL,
    stop bigint NOT NULL, tokens bigint NOT NULL, words bigint NOT NULL, flags bigint NOT NULL, leaf bigint NOT NULL,
    sitting bigint NOT NULL, role smallint NOT NULL, name bytea, said_at bytea,
    PRIMARY KEY (principal, conversation, id)
);
CREATE TABLE vectors (
    {_KEY}, id bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (principal, conversation, id)
);
CREATE TABLE nodes (
    {_KEY}, digest bytea NOT NULL, level integer NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
    tokens bigint NOT NULL, strength integer NOT NULL, children bytea NOT NULL,
    PRIMARY KEY (principal, conversation, digest)
);
CREATE INDEX nodes_over ON nodes (principal, conversation, first, last);
CREATE TABLE closings (
    {_KEY}, closer bigint NOT NULL, level integer NOT NULL, digest bytea NOT NULL,
    PRIMARY KEY (principal, conversation, closer, level)
);
CREATE INDEX closings_of ON closings (principal, conversation, digest);
CREATE TABLE summaries (
    {_KEY}, digest bytea NOT NULL, author bytea NOT NULL, place bigint GENERATED ALWAYS AS IDENTITY,
    created float8 NOT NULL, codec smallint NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (principal, conversation, digest, author)
);
CREATE TABLE model_calls (
    {_KEY}, number bigint NOT NULL, digest bytea NOT NULL, author bytea NOT NULL, begun float8 NOT NULL,
    tokens_in bigint NOT NULL, tokens_out bigint NOT NULL, outcome text NOT NULL,
    PRIMARY KEY (principal, conversation, number)
);
CREATE TABLE extra (
    {_KEY}, key text COLLATE "C" NOT NULL, value bytea NOT NULL, PRIMARY KEY (principal, conversation, key)
);
CREATE TABLE waiting (
    {_KEY}, piece bigint NOT NULL, terms text[] COLLATE "C" NOT NULL, PRIMARY KEY (principal, conversation, piece)
);
CREATE TABLE postings (
    {_KEY}, term text COLLATE "C" NOT NULL, first_piece bigint NOT NULL, df bigint NOT NULL, places bytea NOT NULL,
    PRIMARY KEY (principal, conversation, term, first_piece)
);
CREATE TABLE listings (
    {_KEY}, version bigint NOT NULL, created float8 NOT NULL, happened float8 NOT NULL, head text,
    branches bigint NOT NULL, ended bytea,
    PRIMARY KEY (principal, conversation)
);
CREATE TABLE tombstones ({_OWNER}, number bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (principal, number));
CREATE TABLE spending ({_OWNER}, day bigint NOT NULL, tokens bigint NOT NULL, PRIMARY KEY (principal, day));
"""

# Shared by all servers of a team. The names are those of principals, not of their rows, so no policy holds for them.
_TEAM_TABLES = """
CREATE TABLE team_principals (name bytea PRIMARY KEY, added float8 NOT NULL, removed float8);
CREATE TABLE team_tokens (
    digest bytea PRIMARY KEY, name bytea NOT NULL, added float8 NOT NULL, expires float8
);
CREATE TABLE team_spaces (name bytea PRIMARY KEY, id text NOT NULL UNIQUE, added float8 NOT NULL);
CREATE TABLE team_rights (
    space text NOT NULL, principal bytea NOT NULL, level smallint NOT NULL, PRIMARY KEY (space, principal)
);
CREATE INDEX team_rights_of ON team_rights (principal);
CREATE TABLE team_audit (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at float8 NOT NULL, principal bytea NOT NULL,
    action text NOT NULL, space bytea, conversation bytea, target bytea, outcome text NOT NULL
);
"""

# A conversation's rows are in these, the conversation's own row last.
CONVERSATION_TABLES = (
    "runs", "roots", "turns", "pieces", "vectors", "nodes", "closings", "summaries", "model_calls", "extra", "waiting",
    "postings", "listings", "conversations",
)  # fmt: skip
_GUARDED = (*CONVERSATION_TABLES, "keys", "tombstones", "spending")

# The setting of a connection that names the principal whose rows it may see.
PRINCIPAL_SETTING = "ctxmem.principal"


def _policies(tables: tuple[str, ...]) -> str:
    """Statements after which a query sees only the rows of the connection's principal, whatever it asks for.

    FORCE makes them hold for the tables' owner too; only superusers and roles with BYPASSRLS are not bound by them.
    """
    own = f"principal = current_setting('{PRINCIPAL_SETTING}', true)"
    return "\n".join(
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY;\n"
        f"CREATE POLICY own_rows ON {table} USING ({own}) WITH CHECK ({own});"
        for table in tables
    )


# Only ever added to.
MIGRATIONS = (f"{_TABLES}\n{_policies(_GUARDED)}", _TEAM_TABLES, f"{TABLES}\n{_policies(NAMES)}")
FORMAT = len(MIGRATIONS)


async def migrate(connection: Connection, server: str) -> None:
    """Creates the tables, or migrates them to the current format.

    Args:
        connection: In autocommit mode.
        server: Its name, for the error.

    Raises:
        NewerFormat: A newer version of ctxmem-mcp has migrated them.
    """
    if await _version(connection, server) == FORMAT:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        version = await _version(connection, server)
        if version == 0:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute(f"CREATE TABLE {SCHEMA}.format (version integer NOT NULL)")
            await connection.execute(f"INSERT INTO {SCHEMA}.format VALUES (0)")
        await connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
        for script in MIGRATIONS[version:]:
            await connection.execute(script)
        await connection.execute("UPDATE format SET version = %s", (FORMAT,))


async def _version(connection: Connection, server: str) -> int:
    found = await connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.format",))
    row = await found.fetchone()
    if row is None or row[0] is None:
        return 0
    found = await connection.execute(f"SELECT version FROM {SCHEMA}.format")
    (version,) = await found.fetchone() or (0,)
    if version > FORMAT:
        raise NewerFormat(f"The database at {server}", version, FORMAT)
    return int(version)

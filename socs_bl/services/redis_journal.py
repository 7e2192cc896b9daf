"""The journal on Redis: entries in a stream, state in a hash, one Lua script for a commit.

A Lua script is carried out alone but is not rolled back when a command in it fails, so the commit script checks
everything that could fail - writer, sequence, the type of every key a riding command touches, the user's rights - before
its first write, and `socs_bl.services.riding` has checked the arguments before that.

Keys of a journal called `name`: ``name:meta`` (hash: epoch, claim, writer, sequence, base_epoch, base_sequence),
``name:state`` (hash), ``name:base`` (hash) and ``name:entries`` (stream; entry ids are ``<sequence>-0``). Riding commands
touch keys that are not declared to the script, so this wants one server, not a cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.journal import Commit, CommitUnknown, Fenced, Listed, OutOfSequence, Stored
from socs_bl.services.redis_server import SOCKET_TIMEOUT, make_client
from socs_bl.services.riding import check_command

ItemT = TypeVar("ItemT")

READ_CHUNK = 500  # entries fetched at a time

# KEYS: meta, state, entries. ARGV: epoch, claim, first, then three counted lists: entries; changes as (field, "+" and
# value | field, "-", ""); riding commands as (number of words, words).
_COMMIT = """
local meta, state, entries = KEYS[1], KEYS[2], KEYS[3]
local position = 3
local function take()
  position = position + 1
  return ARGV[position]
end

local now = redis.call('HMGET', meta, 'epoch', 'claim', 'writer', 'sequence')
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] then
  return {'FENCED', now[1] or '0', now[3] or ''}
end
local sequence = tonumber(now[4] or '0')
if tonumber(ARGV[3]) ~= sequence + 1 then
  return {'SEQUENCE', tostring(sequence)}
end

local types = {}
local function kind(key)
  if not types[key] then types[key] = redis.call('TYPE', key).ok end
  return types[key]
end
if (kind(state) ~= 'hash' and kind(state) ~= 'none') or (kind(entries) ~= 'stream' and kind(entries) ~= 'none') then
  return {'BROKEN', 'its keys hold something else'}
end
if kind(entries) == 'stream' then
  local info = redis.call('XINFO', 'STREAM', entries)
  for index = 1, #info, 2 do
    if info[index] == 'last-generated-id' and info[index + 1] ~= string.format('%d-0', sequence) then
      return {'BROKEN', 'the stream ends at ' .. info[index + 1] .. ', the state at ' .. sequence}
    end
  end
elseif sequence ~= 0 then
  return {'BROKEN', 'the stream is gone, the state is at ' .. sequence}
end

local stored, changes, commands = {}, {}, {}
for index = 1, tonumber(take()) do stored[index] = take() end
for index = 1, tonumber(take()) do changes[index] = {take(), take(), take()} end
local wanted = {HSET = 'hash', HDEL = 'hash', LPUSH = 'list', RPUSH = 'list', LREM = 'list', SADD = 'set',
                SREM = 'set', ZADD = 'zset', ZREM = 'zset', XADD = 'stream'}
for index = 1, tonumber(take()) do
  local command = {}
  for word = 1, tonumber(take()) do command[word] = take() end
  commands[index] = command
  local verb, key = command[1], command[2]
  if verb == 'SET' then
    types[key] = 'string'
  elseif verb == 'DEL' then
    for word = 2, #command do types[command[word]] = 'none' end
  elseif wanted[verb] then
    if kind(key) ~= 'none' and kind(key) ~= wanted[verb] then
      return {'TYPE', tostring(index), verb, key, kind(key)}
    end
    if verb ~= 'HDEL' and verb ~= 'LREM' and verb ~= 'SREM' and verb ~= 'ZREM' then types[key] = wanted[verb] end
  end
end

if redis.acl_check_cmd then  -- Redis 7; what the user may not do would else end the script in the middle
  local asked = {{'XADD', entries, '*', 'e', ''}, {'HSET', meta, 'f', ''}, {'HSET', state, 'f', ''}, {'HDEL', state, 'f'}}
  for _, command in ipairs(asked) do
    if not redis.acl_check_cmd(unpack(command)) then return {'ACL', command[1], command[2]} end
  end
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(unpack(command)) then return {'ACL', command[1], command[2]} end
  end
end

for index, entry in ipairs(stored) do
  redis.call('XADD', entries, string.format('%d-0', sequence + index), 'e', entry)
end
redis.call('HSET', meta, 'sequence', string.format('%d', sequence + #stored))
for _, change in ipairs(changes) do
  if change[2] == '+' then redis.call('HSET', state, change[1], change[3]) else redis.call('HDEL', state, change[1]) end
end
for _, command in ipairs(commands) do redis.call(unpack(command)) end
return {'OK'}
"""

# KEYS: meta. ARGV: claim, writer.
_CLAIM = """
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'claim', ARGV[1], 'writer', ARGV[2])
return epoch
"""

# KEYS: meta, state, base. ARGV: sequence.
_REBASE = """
local now = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
local sequence = now[2] or '0'
if sequence ~= ARGV[1] then return {sequence} end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('COPY', KEYS[2], KEYS[3], 'REPLACE') else redis.call('DEL', KEYS[3]) end
redis.call('HSET', KEYS[1], 'base_epoch', now[1] or '0', 'base_sequence', sequence)
return {sequence, now[1] or '0', redis.call('HGETALL', KEYS[3])}
"""

# KEYS: meta, entries. ARGV: last.
_FORGET = """
local last = math.min(tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'base_sequence') or '0'))
return redis.call('XTRIM', KEYS[2], 'MINID', string.format('%d-0', last + 1))
"""

# KEYS: meta, state, base, entries, and the three (state, base, entries) that were filled beside them.
# ARGV: epoch of the backup, sequence, base epoch, base sequence, claim.
_REFILL = """
local epoch = math.max(tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0'), tonumber(ARGV[1])) + 1
for index = 2, 4 do
  redis.call('DEL', KEYS[index])
  if redis.call('EXISTS', KEYS[index + 3]) == 1 then redis.call('RENAME', KEYS[index + 3], KEYS[index]) end
end
redis.call('HSET', KEYS[1], 'epoch', string.format('%d', epoch), 'claim', ARGV[5], 'writer', 'restore', 'sequence', ARGV[2],
           'base_epoch', ARGV[3], 'base_sequence', ARGV[4])
return epoch
"""


class RedisJournal:
    """A journal on a Redis server; see `socs_bl.core.journal.Journal`. Its calls block.

    Parameters
    ----------
    url : str
        ``redis://user:password@host:port/database``, or ``rediss://`` for TLS; see `socs_bl.services.redis_url`.
    name : str
        Prefix of its keys, such as ``socs_bl:journal:coordinator``.
    timeout : float
        Seconds for a connection and for every answer.
    """

    def __init__(self, url: str, name: str, timeout: float = SOCKET_TIMEOUT) -> None:
        self.name = name
        self._meta, self._state, self._base, self._entries = (
            f"{name}:{part}" for part in ("meta", "state", "base", "entries")
        )
        # The client must not repeat a command by itself: a commit may have happened although its answer is lost.
        self._client = make_client(url, timeout, retry=RedisRetry(NoBackoff(), 0))
        self._pool = self._client.connection_pool
        self._claim = ""

    def claim(self, writer: str) -> Stored:
        """Become the writer: raise the epoch, remember `writer`, return the current state.

        A claim is also known by a random word, since a power cut may take the last second of epochs from the server
        and the same number could then be given twice.
        """
        claim = uuid.uuid4().hex
        with self._reaching("claimed"):
            self._client.eval(_CLAIM, 1, self._meta, claim, writer)
        self._claim = claim
        return self.load()

    def load(self) -> Stored:
        """Read the current state and epoch together."""
        with self._reaching("loaded"), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(self._meta, "epoch", "sequence")
            pipeline.hgetall(self._state)
            (epoch, sequence), fields = pipeline.execute()
        return Stored(int(epoch or 0), int(sequence or 0), _decoded(fields))

    def base(self) -> Stored:
        """Read the state from which the kept entries replay."""
        with self._reaching("read"), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(self._meta, "base_epoch", "base_sequence")
            pipeline.hgetall(self._base)
            (epoch, sequence), fields = pipeline.execute()
        return Stored(int(epoch or 0), int(sequence or 0), _decoded(fields))

    def commit(self, commit: Commit) -> None:
        """Write a commit, all or nothing.

        Raises
        ------
        Refused
            When a riding command is malformed or touches a key that holds another type. Nothing has changed.
        Fenced, OutOfSequence
            As the protocol says. Nothing has changed.
        Retry
            When the server does not answer and has not been asked, or says that it cannot write now, or that this user
            may not (before anything is written with Redis 7; an older one should let its users write all keys).
        CommitUnknown
            When the connection was lost before the answer came.
        Faulty
            When the stored journal contradicts itself.
        """
        for command in commit.writes:
            check_command(command)
            if command[1].startswith(f"{self.name}:"):
                raise Refused(f"riding command {command[:2]!r} touches the journal itself")
        answer = [_text(part) for part in self._evaluate(_commit_words(commit, self._claim))]
        if answer[0] == "FENCED":
            raise Fenced(
                f"epoch {commit.epoch} of journal {self.name} is over: {answer[2]!r} writes in epoch {answer[1]}; stop writing"
            )
        if answer[0] == "SEQUENCE":
            raise OutOfSequence(f"commit begins at {commit.first}, journal {self.name} ends at {answer[1]}; reload")
        if answer[0] == "TYPE":
            raise Refused(
                f"riding command {answer[1]} ({answer[2]} {answer[3]}) finds a {answer[4]} there; remove or rename that key"
            )
        if answer[0] == "ACL":
            raise Retry(
                f"journal {self.name} takes no commit: this user of Redis may not {answer[1]} {answer[2]}; correct its ACL"
            )
        if answer[0] != "OK":
            raise Faulty(f"journal {self.name} is damaged: {answer[1]}; restore it from its backup", self.name)

    def _evaluate(self, words: list[str | bytes]) -> list[Any]:
        """Run the commit script once on one connection; tell an unsent commit from one whose answer is lost."""
        with self._reaching("written"):
            connection: Any = self._pool.get_connection()
        try:
            connection.send_command("EVAL", _COMMIT, 3, self._meta, self._state, self._entries, *words)
            return list(connection.read_response())
        except (redis.ResponseError, redis.exceptions.BusyLoadingError) as error:
            # Full, failing disk, replica, still loading: Redis checks these before a script's first write.
            raise Retry(f"journal {self.name} cannot be written now: {error}") from error
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            raise CommitUnknown(
                f"the connection was lost during a commit of journal {self.name} ({error}); reload from the journal"
            ) from error
        finally:
            self._pool.release(connection)

    def read(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Read entries in order, `first` and `last` included."""
        end = "+" if last is None else f"{last}-0"
        while True:
            with self._reaching("read"):
                chunk: Any = self._client.xrange(self._entries, min=f"{first}-0", max=end, count=READ_CHUNK)
            for identifier, fields in chunk:
                number = int(identifier.split(b"-")[0])
                yield number, fields[b"e"]
                first = number + 1
            if len(chunk) < READ_CHUNK:
                return

    def rebase(self, sequence: int) -> Stored:
        """Make the current state the base, if it still is the one of `sequence`."""
        with self._reaching("rebased"):
            answer = self._client.eval(_REBASE, 3, self._meta, self._state, self._base, str(sequence))
        if len(answer) == 1:
            raise OutOfSequence(f"journal {self.name} is at {_text(answer[0])}, not {sequence}; trim again")
        fields = answer[2]
        return Stored(int(answer[1]), sequence, _decoded(dict(zip(fields[::2], fields[1::2], strict=True))))

    def forget(self, last: int) -> int:
        """Remove entries up to `last`, at most up to the base; return how many."""
        with self._reaching("trimmed"):
            return int(self._client.eval(_FORGET, 2, self._meta, self._entries, str(last)))

    def refill(self, base: Stored, state: Stored, entries: Iterable[tuple[int, bytes]]) -> int:
        """Replace all it holds; return the new epoch. A writer of before is fenced.

        It is filled in beside the journal and put in its place by one script, so that an end in between changes nothing.
        """
        beside = [f"{self.name}:refill:{part}" for part in ("state", "base", "entries")]
        with self._reaching("restored"):
            self._client.delete(*beside)
            for key, stored in zip(beside, (state, base), strict=False):
                for chunk in _chunks(stored.fields.items()):
                    self._client.hset(key, mapping=dict(chunk))
            sequence = base.sequence
            for rows in _chunks(entries):
                with self._client.pipeline(transaction=False) as pipeline:
                    for sequence, data in rows:
                        pipeline.xadd(beside[2], {"e": data}, id=f"{sequence}-0")
                    pipeline.execute()
            if sequence == base.sequence > 0:  # nothing was kept, but the stream remembers how far it has come
                self._client.xadd(beside[2], {"e": b""}, id=f"{sequence}-0")
                self._client.xtrim(beside[2], maxlen=0, approximate=False)
            keys = (self._meta, self._state, self._base, self._entries, *beside)
            numbers = (state.epoch, state.sequence, base.epoch, base.sequence)
            return int(self._client.eval(_REFILL, len(keys), *keys, *numbers, uuid.uuid4().hex))

    def close(self) -> None:
        """Release connections."""
        self._client.close()
        self._pool.disconnect()

    @contextlib.contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise Retry(f"journal {self.name} cannot be {what}: Redis does not answer ({error})") from error


def list_journals(url: str) -> list[Listed]:
    """The journals on a server, by name.

    Raises
    ------
    Retry
        When the server does not answer.
    """
    found = []
    try:
        with make_client(url, decode_responses=True) as client:
            for key in client.scan_iter("*:meta", count=READ_CHUNK, _type="hash"):
                epoch, *rest = client.hmget(key, "epoch", "writer", "sequence", "base_sequence")
                if epoch is not None:
                    writer, sequence, base = rest
                    name = str(key).removesuffix(":meta")
                    found.append(Listed(name, int(epoch), writer or "", int(sequence or 0), int(base or 0)))
    except (redis.RedisError, OSError) as error:
        raise Retry(f"journals cannot be listed: Redis does not answer ({error})") from error
    return sorted(found)


def _chunks(items: Iterable[ItemT]) -> Iterator[list[ItemT]]:
    """`READ_CHUNK` items at a time."""
    rest = iter(items)
    while chunk := list(itertools.islice(rest, READ_CHUNK)):
        yield chunk


def _commit_words(commit: Commit, claim: str) -> list[str | bytes]:
    """The arguments of the commit script."""
    words: list[str | bytes] = [str(commit.epoch), claim, str(commit.first), str(len(commit.entries)), *commit.entries]
    words.append(str(len(commit.changes)))
    for field, value in commit.changes.items():
        words += [field, "-", ""] if value is None else [field, "+", value]
    words.append(str(len(commit.writes)))
    for command in commit.writes:
        words += [str(len(command)), command[0].upper(), *command[1:]]
    return words


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _decoded(fields: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in fields.items()}

#!/usr/bin/env python3
"""Verifies exports of a Tape journal without Tape.

It follows docs/format.md alone and shares no code with Tape. It needs Python 3.9 and nothing else. It does not fold the entries by the
rules of runs and sessions, so entries that cannot follow each other are found only where the page says how they stand to others.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
import unicodedata
from collections import Counter, deque
from typing import Any, BinaryIO, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

SOUND, BROKEN, USAGE, NOT_PROVED = 0, 1, 2, 3
VERDICTS = {SOUND: "sound", BROKEN: "broken", NOT_PROVED: "not proved"}

NEWEST_VERSION = 2
# No number that a build writes is greater, but one of an earlier build may be.
NUMBER_MAX = (1 << 53) - 1
# The page bounds no line. A longer one is not held in memory. It counts as not read, not as damage.
LINE_MAX = 1 << 26
# The depth of arrays and objects in a line, an envelope or words.
DEPTH_MAX = 127
# Most characters of a text in what is printed. All names of streams have fewer.
PRINTED_MAX = 4096
# A file that is no export has something wrong in every line.
FILE_FINDINGS_MAX = 20


class Wrong(Exception):
    """The file contradicts the page: something is broken."""


class Unread(Exception):
    """The file has something that this program does not know, which is neither proof of damage nor of order."""


class Finding(NamedTuple):
    verdict: int
    entry: Optional[int]
    what: str


def worst(verdicts: Set[int]) -> int:
    """The verdict on all together: what is broken outweighs what is not proved."""
    return BROKEN if BROKEN in verdicts else NOT_PROVED if NOT_PROVED in verdicts else SOUND


def shown(text: str) -> str:
    """The text without what steers a terminal or reorders a line. A backslash is doubled, so that no two texts look the same."""
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join("\\\\" if c == "\\" else f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in unsafe else c for c in text)


def brief(text: str) -> str:
    """A text with its middle left out where it is longer than any name of a stream."""
    part, left = PRINTED_MAX // 2, len(text) - PRINTED_MAX
    return f"{text[:part]} [{left} characters] {text[-part:]}" if left > 0 else text


def quoted(text: str) -> str:
    return f"'{shown(text[:80])}'"


# ---- JSON: what two readers could read differently is refused ----


class Members(Dict[str, Any]):
    """An object. Of members of one name it has the last, and it knows their names."""
    doubled: Set[str] = set()


class Odd:
    """A number that is not written as the page writes numbers. Only members that are ignored may have it."""
    def __init__(self, text: str) -> None:
        self.text = text


def whole(text: str) -> object:
    """Reads an integer. No number of the format has more than 20 characters, and Python is slow with very long ones or refuses them."""
    return int(text) if len(text) <= 20 and text != "-0" else Odd(text)


def members(pairs: List[Tuple[str, Any]]) -> Members:
    found = Members(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        found.doubled = {name for name, count in counts.items() if count > 1}
    return found


def refused(text: str) -> None:
    """Python reads `NaN` and `Infinity`. JSON has neither."""
    raise Wrong(f"{text} is not JSON")


# An escape or one sign. A pattern of a whole text would be tried anew at each quote where the text has no end.
TOKEN = re.compile(r'\\.|["\[{\]}]', re.DOTALL)


def check_depth(text: str) -> None:
    """Refuses JSON that is too deep. Python's reader would end with an error of its own."""
    depth, is_outside = 0, True
    for token in TOKEN.finditer(text) if text.count("[") + text.count("{") > DEPTH_MAX else ():
        sign = token[0]
        if sign == '"':
            is_outside = not is_outside
        elif is_outside and len(sign) == 1:
            depth += 1 if sign in "[{" else -1
        if depth > DEPTH_MAX:
            raise Wrong(f"JSON that is more than {DEPTH_MAX} deep")


def utf8(text: str) -> bytes:
    """The bytes of a text. Python reads a lone `\\ud800` in JSON as a character, which no bytes stand for."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong("a text has a lone surrogate") from None


def check_surrogates(value: Any) -> None:
    """Refuses JSON with a text that has no bytes."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            utf8(item)
        elif isinstance(item, (list, dict)):
            pending.extend(item)
            pending.extend(item.values() if isinstance(item, dict) else ())


def parse_json(data: bytes, hook: Callable[[List[Tuple[str, Any]]], Any] = members) -> Any:
    try:
        text = data.decode("utf-8")
        check_depth(text)
        value = json.loads(text, object_pairs_hook=hook, parse_int=whole, parse_float=Odd, parse_constant=refused)
    except UnicodeDecodeError:
        raise Wrong("not UTF-8") from None
    except ValueError as error:
        raise Wrong(f"not JSON: {error}") from None
    if "\\u" in text:
        check_surrogates(value)
    return value


JSON_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:(")|([\[{])|([\]}])|([,:])"""
    r"""|(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)(?![\w.+-]))"""
)
# What is left of a text up to its end, or up to and with an escape. Python keeps more than a hundred bytes for each turn of a repeated group,
# so no pattern here repeats one.
STRING_PART = re.compile(r"""[^"\\\x00-\x1f]*(?:(")|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))""")


def end_of_string(text: str, start: int) -> Optional[int]:
    """Where a text ends whose quote stands before `start`; None where it has no end or what may not stand in it."""
    part = STRING_PART.match(text, start)
    while part and not part[1]:
        part = STRING_PART.match(text, part.end())
    return part.end() if part else None


def is_json(text: str) -> bool:
    """Whether a text is JSON of any depth, such as a value of state. Its numbers and escapes may mean anything."""
    text = text.rstrip(" \t\n\r")
    closing: List[str] = []
    # What may come next: a value, a name, a colon, or what follows a value; `first` where the object or array may also end.
    awaited, first, start = "value", False, 0
    while start < len(text):
        token = JSON_TOKEN.match(text, start)
        if not token:
            return False
        quote, opens, closes, sign = token.groups()
        end = end_of_string(text, token.end()) if quote else token.end()
        if end is None:
            return False
        start = end
        if opens and awaited == "value":
            closing.append("]" if opens == "[" else "}")
            awaited, first = "value" if opens == "[" else "name", True
            continue
        if closes and closing[-1:] == [closes] and (awaited == "next" or first):
            closing.pop()
            awaited = "next"
        elif quote and awaited == "name":
            awaited = "colon"
        elif sign == ":" and awaited == "colon":
            awaited = "value"
        elif sign == "," and awaited == "next" and closing:
            awaited = "value" if closing[-1] == "]" else "name"
        elif awaited == "value" and not (opens or closes or sign):
            awaited = "next"
        else:
            return False
        first = False
    return awaited == "next" and not closing


def parse_base64(text: str) -> bytes:
    """Reads base64 in the one form that the bytes have. Python alone ignores stray bits at the end."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong("not base64") from None
    if base64.b64encode(data) != utf8(text):
        raise Wrong("base64 with stray bits or without its padding")
    return data


# ---- The table of fields ----
#
# A field is `name:type`. `name?` is optional. `name*` is always written, and readers do without it. `name@a|b` is there where the
# first field of the object has one of these words; with another word there, it is a member that is not known. A type is a scalar, an object of this table, `list<…>`, `map<…>`, `maybe<…>` (or
# null), or the words that a text may be. `number_1` and `u32_1` begin at 1.

OBJECTS_TABLE = """
payload           | type:text len:number sha256:digest
run_name          | tenant:name app:name user:name session:name invocation:name
session_name      | tenant:name app:name user:name session:name
lineage           | run:run_name through:number
fingerprint       | digest:digest parts?:list<part>
part              | name:text digest:text preview?:text
usage             | input_tokens*:number output_tokens*:number cost_micro_usd*:number
spend             | budget:name amount:number
effect_spec       | connector:name operation:name semantics:idempotent|non_idempotent|read_only mode:inline|outbox args:payload
                    business_key?:business_key undo?:undo reserve?:list<spend> policy?:policy
undo              | operation:name args:payload
policy            | attempts_max:u32 observations_max:u32 backoff_ms:number backoff_max_ms:number resend_absent:flag
work_lease        | holder:name until:time
settled_by        | who:driver|worker|observer|person|rule holder@worker|observer:name reason@person|rule:text
after_observation | do:settle|resend|observe_again|stuck at@resend|observe_again:time reason@stuck:text
run_outcome       | how:completed|failed|cancelled error@failed:text reason@cancelled:text
unhappy_outcome   | as:failed|cancelled error@failed:text reason@cancelled:text
deadline          | at?:time in_ms?:number
currency          | unit:name
answered_by       | by:signal|earlier_signal|deadline id@signal|earlier_signal:name who?:name received@earlier_signal:number
refused_merge     | source:number scope:app|user problem:text
sent_entry        | stream:full_name seq:number digest:digest
recorded_erasure  | stream:full_name seq:number
"""

# The envelope and the lines of an export.
FRAME_TABLE = """
envelope          | v:number_1 seq:number_1 at:time req:half_digest by?:name trace?:trace decided?:time snapshot?:digest
                    cmd?:half_digest entry:entry words?:words
entry             | kind:text body:map<any>
words             | len:number sha256:digest
head              | seq:number_1 digest:digest
snapshot          | seq:number_1 sha256:digest bytes:text
line stream       | stream:text head:maybe<head> snapshot:maybe<snapshot>
line seq          | seq:number_1 digest:digest envelope:text payload?:text
line end          | end:text broken:maybe<text>
line streams      | streams:number broken:number
line head         | run?:text stream?:text head?:text
"""

# Kinds with their fields, their payloads and their words.
KINDS_TABLE = """
run.begun          | run:run_name labels?:map<text> input:payload forked_from?:lineage | input | labels
run.checkpoint     | label:name state:payload scope?:scope | state |
run.suspended      | resume_at?:time | |
run.cancel_requested run.retried run.cancelled | reason:text | | reason
run.compensating   | then:unhappy_outcome | | then.error then.reason
run.stuck          | reason:text | |
run.completed      | output:payload | output |
run.failed         | error:text | | error
run.retired        | run:run_name labels?:map<text> epoch:number begun_at:time ended_at:time ending:run_outcome output?:payload
                     output_erased?:payload dropped:number previous:digest reason:text repeats?:list<number>
                   | output | labels reason ending.error ending.reason
lease.acquired     | epoch:number holder:name until:time recovery?:flag redrives?:u32 retry_at:time | |
lease.renewed      | epoch:number until:time retry_at:time | |
lease.released     | epoch:number redrive_at:time undriven?:flag by_driver?:flag | |
decision.recorded  | position:position fingerprint:fingerprint response:payload model?:text usage?:usage rationale?:payload
                     policy_version?:text spent?:list<spend> | response rationale | fingerprint.parts
effect.begun       | effect:effect_id spec:effect_spec | spec.args spec.undo.args |
effect.started     | effect:effect_id attempt:u32_1 claim?:work_lease | |
effect.claim_renewed | effect:effect_id observing?:flag until:time | |
effect.confirmed   | effect:effect_id by:settled_by result:payload undo?:undo spent?:list<spend> | result undo.args | by.reason
effect.failed      | effect:effect_id by:settled_by error:text detail?:payload | detail | error by.reason
effect.deferred    | effect:effect_id error:text lapsed?:flag unreached?:flag next_at:time | | error
effect.unknown     | effect:effect_id cause:text observe_at:time | | cause
effect.observing   | effect:effect_id observation:u32_1 claim:work_lease unwanted?:flag | |
effect.observed    | effect:effect_id outcome:found|absent|duplicate|inconclusive|unreached why?:text then:after_observation
                   | | why then.reason
effect.resend_allowed | effect:effect_id reason:text | | reason
obligation.armed   | effect:effect_id copy*:u16 connector:name operation:name args:payload policy*:policy due_at:time | args |
obligation.started | effect:effect_id copy*:u16 attempt:u32_1 claim:work_lease in_doubt?:flag | |
obligation.claim_renewed | effect:effect_id copy*:u16 until:time | |
obligation.done    | effect:effect_id copy*:u16 by:settled_by result:payload | result | by.reason
obligation.deferred | effect:effect_id copy*:u16 error:text not_done?:flag unreached?:flag next_at:time | | error
obligation.stuck obligation.retried | effect:effect_id copy*:u16 reason:text | | reason
gate.opened        | gate:name deadline?:time asked?:deadline scope?:scope | |
gate.answered      | gate:name by:answered_by answer:payload | answer |
signal.received    | gate:name id:name answer:payload | answer |
timer.set          | timer:name due_at:time note:payload asked?:deadline scope?:scope | note |
timer.fired timer.cancelled | timer:name | |
budget.opened      | budget:name parent?:name currency:currency limit:number scope?:scope | |
budget.reserved    | position:position spends:list<spend> | |
budget.released    | position:position | |
sample.recorded    | scope:scope n:u32 name:name value:payload | value |
session.created    | session:session_name state?:delta | | state
session.event_appended | event:name invocation?:name author:text delta?:delta content:payload | content | delta
session.merged     | through:number refused?:list<refused_merge> | | refused[].problem
session.rewound    | to:number state:delta origins?:map<number> | | state
session.deleted    | | |
shared.merged      | session:session_name source:number recorded_at?:time delta:delta | | delta
value.put          | version:number_1 value:payload previous?:payload | value previous |
value.deleted      | version:number_1 previous?:payload | previous |
claim.taken        | connector:name key:business_key run:run_name effect:effect_id | |
relay.refused      | entry:sent_entry attempts:u32 reason:text | | reason
relay.redelivered  | refusal:number | |
relay.receipt      | subscriber:name erasure:recorded_erasure | |
payload.erased     | entries:list<number> reason:text | | reason
payload.erasure_finished | through:number | |
"""


class Field(NamedTuple):
    """One field. `mark` is empty, `?` or `*`; with the words of `where` in the first field it is there."""
    name: str
    mark: str
    where: Tuple[str, ...]
    type: str


class Kind(NamedTuple):
    fields: List[Field]
    payloads: List[str]
    words: List[str]


def rows(table: str) -> Iterator[List[str]]:
    """The rows of a table. A line that is indented continues the one before. `|` stands alone between cells."""
    for row in re.split(r"\n(?=\S)", table.strip()):
        yield [cell.strip() for cell in re.split(r"(?:^|\s)\|(?=\s|$)", row)]


def fields_of(text: str) -> List[Field]:
    matches = (re.fullmatch(r"(\w+)([?*]?)(?:@([\w|]+))?:(\S+)", item) for item in text.split())
    return [Field(m[1], m[2], tuple(m[3].split("|")) if m[3] else (), m[4]) for m in matches if m]


OBJECTS = {name: fields_of(text) for name, text in rows(OBJECTS_TABLE + FRAME_TABLE)}
KINDS = {
    kind: Kind(fields_of(text), payloads.split(), words.split())
    for kinds, text, payloads, words in rows(KINDS_TABLE)
    for kind in kinds.split()
}

# ---- Checks of values by the table ----

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
PLACE = re.compile(r"(.*)#(0|[1-9][0-9]{0,9})(?:\.(0|[1-9][0-9]{0,4}))?", re.DOTALL)
NUMBERS = {"number": (0, 64), "number_1": (1, 64), "u32": (0, 32), "u32_1": (1, 32), "u16": (0, 16), "time": (-(1 << 63), 63)}


def is_name(text: str, longest: int = 200) -> bool:
    return 1 <= len(utf8(text)) <= longest and not CONTROL.search(text)


def is_scope(text: str) -> bool:
    """Whether a text is a scope. The root is the empty text."""
    parts = text.split("/") if text else []
    return len(parts) <= 16 and len(utf8(text)) <= 512 and all(p and "#" not in p and not CONTROL.search(p) for p in parts)


def is_place(text: str, has_call: bool) -> bool:
    """Whether a text is a position or, with the number of a call, an effect id."""
    match = PLACE.fullmatch(text)
    if not match or (match[3] is not None) != has_call:
        return False
    return is_scope(match[1]) and int(match[2]) < 1 << 32 and int(match[3] or 0) < 1 << 16


def like(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def is_full_name(text: str) -> bool:
    try:
        parse_name(text)
    except Wrong:
        return False
    return True


TEXTS: Dict[str, Callable[[str], bool]] = {
    "text": lambda text: True,
    "name": is_name,
    "business_key": lambda text: is_name(text, 256),
    "full_name": is_full_name,
    "scope": is_scope,
    "position": lambda text: is_place(text, False),
    "effect_id": lambda text: is_place(text, True),
    "digest": like("[0-9a-f]{64}"),
    "half_digest": like("[0-9a-f]{32}"),
    "trace": like("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
}


def check(type_: str, value: Any) -> None:
    outer, _, inner = type_.rstrip(">").partition("<")
    if outer == "any" or (outer == "maybe" and value is None):
        return
    if outer == "currency" and isinstance(value, str):
        outer = "micro_usd|tokens"
    if outer == "maybe":
        check(inner, value)
    elif outer in NUMBERS:
        least, bits = NUMBERS[outer]
        # To Python a `bool` is a number too.
        if type(value) is not int or not least <= value < 1 << bits:
            raise Wrong(f"not a whole number of the type {outer}")
    elif outer in OBJECTS:
        check_object(OBJECTS[outer], value)
        if outer in ("deadline", "currency") and not (len(value) == 1 and value.keys() <= {field.name for field in OBJECTS[outer]}):
            raise Wrong("not an object with exactly one member that is known")
    elif outer in ("list", "map", "delta", "flag"):
        check_other(outer, inner, value)
    else:
        fits = TEXTS.get(outer)
        if not isinstance(value, str) or not (fits(value) if fits else value in outer.split("|")):
            raise Wrong(f"{quoted(value) if isinstance(value, str) else 'it'} is not of the type {outer}")


def check_other(outer: str, inner: str, value: Any) -> None:
    shapes: Dict[str, type] = {"list": list, "flag": bool}
    if not isinstance(value, shapes.get(outer, dict)):
        raise Wrong(f"not of the type {outer}")
    for item in value if isinstance(value, list) else ():
        check(inner, item)
    for name, item in value.items() if isinstance(value, dict) and inner != "any" else ():
        if not is_name(name):
            raise Wrong(f"{quoted(name)} is not a name")
        if outer == "map":
            check_member(name, inner, item)
        elif item is not None:
            check_member(name, "text", item)
            if not is_json(item):
                raise Wrong(f"the value of {quoted(name)} is not JSON")


def check_member(name: str, type_: str, value: Any) -> None:
    try:
        check(type_, value)
    except Wrong as wrong:
        raise Wrong(f"`{shown(name[:80])}`: {wrong}") from None


def check_object(fields: List[Field], value: Any) -> None:
    """Checks the members that are known. Others are of newer builds and are ignored."""
    if not isinstance(value, dict):
        raise Wrong("not an object")
    for field in fields:
        # With another word in the first field, it is a member that is not known.
        if field.where and value[fields[0].name] not in field.where:
            value.pop(field.name, None)
        elif field.name in value:
            if field.name in getattr(value, "doubled", ()):
                raise Wrong(f"`{field.name}` stands twice")
            check_member(field.name, field.type, value[field.name])
        elif field.where and field.mark != "?":
            raise Wrong(f"`{field.name}` is missing with `{fields[0].name}` {value[fields[0].name]}")
        elif not field.mark:
            raise Wrong(f"`{field.name}` is missing")


# ---- Names of streams ----

# The parts of a name behind the tenant and the kind of the stream, by their number.
STREAMS = {
    ("run", 4): ("app", "user", "session", "invocation"),
    ("session", 3): ("app", "user", "session"),
    ("shared", 1): ("app",),
    ("shared", 2): ("app", "user"),
    ("value", 1): ("name",),
    ("claim", 2): ("connector", "key"),
    ("relay", 2): ("scope", "name"),
}
UNESCAPED = re.compile(r"[/.*> ]|%(?!25|2F|2E|2A|3E|20)")


def parse_name(name: str) -> Tuple[str, Dict[str, str]]:
    """The kind of a stream and the parts of its name. A second spelling of a stream would have another tag, so there is none."""
    tenant, _, path = name.partition("/")
    kind, *rest = path.split("/")
    titles = STREAMS.get((kind, len(rest)))
    if titles is None:
        raise Wrong("this is not the name of a stream")
    parts = {}
    for title, part in zip(("tenant",) + titles, [tenant] + rest):
        parts[title] = re.sub("%(..)", lambda match: chr(int(match[1], 16)), part) if not UNESCAPED.search(part) else ""
        if not is_name(parts[title], 256 if title == "key" else 200):
            raise Wrong(f"the {title} in the name is empty, too long, or not escaped as names are")
    if kind == "relay" and parts["scope"] not in ("own", "all"):
        raise Wrong("the scope in the name is neither own nor all")
    return kind, parts


def tag_of(name: str) -> bytes:
    """What binds a chain of version 2 to its stream."""
    return hashlib.sha256(b"tape stream\n" + utf8(name)).digest()


def check_names(kind: str, body: Dict[str, Any], parts: Dict[str, str]) -> None:
    """The names in a body that say which stream it is of must be those of the stream."""
    said: Dict[str, Any] = {}
    if kind in ("run.begun", "run.retired"):
        said = body["run"]
    elif kind in ("session.created", "shared.merged"):
        said = body["session"]
    elif kind == "claim.taken":
        said = {**body, "tenant": body["run"]["tenant"]}
    elif kind in ("relay.refused", "relay.receipt"):
        about = body["entry" if kind == "relay.refused" else "erasure"]
        said = {"tenant": parse_name(about["stream"])[1]["tenant"]}
    for title, part in parts.items():
        if title in said and said[title] != part:
            raise Wrong(f"its {title} is {quoted(said[title])}, that of the stream is {quoted(part)}")


# ---- Payloads and words ----


def at_path(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body.get(step) if isinstance(body, dict) else None
    return body


class Place(NamedTuple):
    """A place in the words: its field, its type, and what the body has there."""
    path: str
    type: str
    left: Any


WORDS_TYPES = {"labels": "map<text>", "state": "delta", "delta": "delta", "fingerprint.parts": "list<part>"}


def places_of(kind: str, body: Dict[str, Any]) -> Iterator[Place]:
    for path in KINDS[kind].words:
        left = at_path(body, path)
        if path == "refused[].problem":
            yield from (Place(path, "text", refusal["problem"]) for refusal in body.get("refused", []))
        elif path == "by.reason" and body["by"]["who"] != "person":
            continue
        elif path.startswith(("then.", "ending.")) and left is None:
            continue
        else:
            yield Place(path, WORDS_TYPES.get(path, "text"), left)


def check_left(place: Place) -> None:
    """Words that stand in the envelope could never be erased."""
    if place.type == "delta":
        is_moved = place.left is None or all(value is None for value in place.left.values())
    else:
        is_moved = not place.left
    if not is_moved:
        raise Wrong(f"`{place.path}` stands in the envelope; from version 2 on it is words")


def check_words(places: List[Place], data: bytes) -> None:
    # Of doubled names in words the last one counts, also of those that the page lists.
    words = parse_json(data, dict)
    if not isinstance(words, list) or len(words) != len(places):
        raise Wrong(f"the words are not an array of {len(places)}")
    if all(word is None for word in words):
        raise Wrong("the words say nothing, so the entry should have none")
    for place, word in zip(places, words):
        if word is None:
            continue
        check_member(place.path, place.type, word)
        if place.type == "delta" and (None in word.values() or not word.keys() <= (place.left or {}).keys()):
            raise Wrong(f"the words of `{place.path}` are not values of its keys")


def cut(pieces: List[Tuple[str, Dict[str, Any]]], data: bytes) -> bytes:
    """Cuts the bytes of an entry by its references, and returns the last piece. Each must have the digest that the chain covers."""
    start, piece = 0, b""
    for path, reference in pieces:
        piece = data[start : start + reference["len"]]
        start += len(piece)
        if len(piece) != reference["len"]:
            raise Wrong(f"the bytes end within {path}")
        if hashlib.sha256(piece).hexdigest() != reference["sha256"]:
            raise Wrong(f"the bytes of {path} do not have the recorded digest")
    if start != len(data):
        raise Wrong(f"{len(data) - start} bytes are left behind the payloads and words")
    return piece


# ---- A stream ----


class Entry(NamedTuple):
    """An entry whose place in the chain is verified."""
    seq: int
    kind: str
    body: Dict[str, Any]
    envelope: Dict[str, Any]
    line: Dict[str, Any]


class Stream:
    """Verifies one stream, entry by entry. `heads` are the digests that were published, by the number of their entry."""
    def __init__(self, line: Dict[str, Any], heads: Dict[int, Set[str]]) -> None:
        self.name: str = line["stream"]
        self.findings: List[Finding] = []
        self._verdicts: Set[int] = set()
        self.entries = self.dropped = 0
        self.gone: Set[int] = set()
        self._head: Optional[Dict[str, Any]] = line["head"]
        self._snapshot: Optional[Dict[str, Any]] = line["snapshot"]
        self._heads = heads
        self._stopped = self._retired = False
        self._previous, self._next, self._version = bytes(32), 1, 1
        self._before = self._dropped_digest = ""
        self._earlier: Optional[int] = None
        self._at: Optional[int] = None
        self._destroyed: Set[int] = set()
        self._unproved: Set[int] = set()
        # Entries with bytes that no erasure lists so far, and the others: the first erasure that lists one, and its number.
        self._kept: Set[int] = set()
        self._listed: Deque[Tuple[int, int]] = deque()
        # The first erasure, after the snapshot was taken, of an entry up to there.
        self._outdated: Optional[int] = None
        self._named: Optional[str] = None
        self._head_digest = ""
        self._tag = tag_of(self.name)
        self._kind = ""
        self._parts: Dict[str, str] = {}
        try:
            self._kind, self._parts = parse_name(self.name)
        except Wrong as wrong:
            self.find(BROKEN, None, str(wrong))

    def find(self, verdict: int, entry: Optional[int], what: str) -> None:
        self.findings.append(Finding(verdict, entry, what))
        self._verdicts.add(verdict)

    def stop(self, verdict: int, entry: Optional[int], what: str) -> None:
        """Notes what makes it useless to go on: without a chain, what follows could be anything."""
        if not self._stopped or verdict not in self._verdicts:
            self.find(verdict, entry, what + "; nothing from here on is verified")
        self._stopped = True

    def end(self) -> str:
        """The last head that is verified, as it is published."""
        return f"{self._next - 1}:{self._previous.hex()}" if self.entries else ""

    def take(self, line: Dict[str, Any]) -> None:
        if self._stopped:
            return
        try:
            entry = self._chain(line)
        except Wrong as wrong:
            return self.stop(BROKEN, line["seq"], str(wrong))
        except Unread as unread:
            return self.stop(NOT_PROVED, line["seq"], str(unread))
        self.entries += 1
        for step in (self._check_order, self._check_meaning, self._check_heads):
            try:
                step(entry)
            except Wrong as wrong:
                self.find(BROKEN, entry.seq, str(wrong))
            except Unread as unread:
                self.find(NOT_PROVED, entry.seq, str(unread))

    def _chain(self, line: Dict[str, Any]) -> Entry:
        """Steps 2 to 5 of the page. A kind that is not known has a known chain all the same: only `v` may change that."""
        data = utf8(line["envelope"])
        envelope = parse_json(data)
        if not isinstance(envelope, dict) or "v" in envelope.doubled:
            raise Wrong("the envelope is not an object with one `v`")
        version: Any = envelope.get("v")
        check_member("v", "number_1", version)
        if version > NEWEST_VERSION:
            raise Unread(f"a newer build wrote version {version}")
        if b"\n" in data or b"\r" in data:
            raise Wrong("the envelope has a line break")
        check_object(OBJECTS["envelope"], envelope)
        entry = Entry(line["seq"], envelope["entry"]["kind"], envelope["entry"]["body"], envelope, line)
        self._check_seq(entry)
        if version < self._version:
            raise Wrong(f"version {version} after version {self._version}")
        prefix = b"tape entry 1\n" if version == 1 else b"tape entry 2\n" + self._tag
        digest = hashlib.sha256(prefix + self._previous + data)
        if digest.hexdigest() != line["digest"]:
            raise Wrong("the digest is not that of this entry behind the ones before")
        if entry.kind not in KINDS:
            raise Unread(f"a newer build wrote the kind {quoted(entry.kind)}")
        self._before = self._previous.hex()
        self._previous, self._next, self._version = digest.digest(), entry.seq + 1, version
        self._earlier, self._at = self._at, envelope["at"]
        return entry

    def _check_seq(self, entry: Entry) -> None:
        """Numbers have no gaps. Only a retired run has dropped its first entries, and run.retired has the digest that they ended with."""
        if entry.seq != entry.envelope["seq"]:
            raise Wrong(f"the envelope is of entry {entry.envelope['seq']}")
        if entry.seq == self._next:
            return
        if self.entries or (entry.kind in KINDS and entry.kind != "run.retired"):
            raise Wrong(f"entry {self._next} should stand here")
        if entry.kind not in KINDS:
            raise Unread(f"a newer build wrote the kind {quoted(entry.kind)}")
        check_member("previous", "digest", entry.body.get("previous"))
        self._dropped_digest = entry.body["previous"]
        self._previous = bytes.fromhex(self._dropped_digest)
        self.dropped = entry.seq - 1

    def _check_order(self, entry: Entry) -> None:
        """What the page says about an entry and those before it, as far as every build kept to it."""
        at, decided = entry.envelope["at"], entry.envelope.get("decided")
        if entry.envelope["v"] > 1 and self._earlier is not None and at < self._earlier:
            raise Wrong(f"its time is {at}, that of the entry before is {self._earlier}")
        if entry.envelope["v"] > 1 and decided is not None and decided >= at:
            raise Wrong(f"it was decided at {decided}, which is not before its time, {at}")
        was_retired = self._retired
        self._retired = was_retired or entry.kind == "run.retired"
        if was_retired and not entry.kind.startswith("payload."):
            raise Wrong("it follows the end of a run that was retired")
        if entry.kind == "run.begun" and entry.seq != 1:
            raise Wrong(f"{entry.kind} is not the first entry")
        group = entry.kind.split(".")[0]
        owner = group if group in ("session", "shared", "value", "claim", "relay") else "run"
        if group != "payload" and self._kind not in ("", owner):
            raise Wrong(f"{entry.kind} stands in a stream of another kind")

    def _check_meaning(self, entry: Entry) -> None:
        version, body = entry.envelope["v"], entry.body
        if "payload" not in entry.line:
            self.gone.add(entry.seq)
        check_object(KINDS[entry.kind].fields, body)
        self._account(entry)
        if version == 1 and entry.envelope.keys() & {"words", "snapshot"}:
            raise Wrong("version 1 has neither words nor a snapshot")
        if entry.kind == "run.retired" and (body["dropped"] < 1 or body["dropped"] != entry.seq - 1 or body["previous"] != self._before):
            raise Wrong("`dropped` or `previous` is not the number or the digest of the entry before")
        check_names(entry.kind, body, self._parts)
        self._check_bytes(entry)

    def _account(self, entry: Entry) -> None:
        """Bytes that are gone need an erasure, and what is erased is gone once an entry says that the erasure is finished."""
        if entry.kind == "payload.erased":
            self._list(entry.seq, entry.body["entries"])
        elif entry.kind == "payload.erasure_finished":
            self._check_finished(entry)
        if "payload" not in entry.line:
            (self._unproved if entry.envelope["v"] == 1 else self._destroyed).add(entry.seq)
        elif entry.line["payload"]:
            self._kept.add(entry.seq)

    def _list(self, erasure: int, entries: List[int]) -> None:
        self._destroyed.difference_update(entries)
        self._unproved.difference_update(entries)
        listed = self._kept.intersection(entries)
        self._kept -= listed
        self._listed.extend((erasure, covered) for covered in sorted(listed))
        taken = self._snapshot["seq"] if self._snapshot else erasure
        if self._outdated is None and taken < erasure and any(covered <= taken for covered in entries):
            self._outdated = erasure

    def _check_finished(self, entry: Entry) -> None:
        through = entry.body["through"]
        while self._listed and self._listed[0][0] <= through:
            _, covered = self._listed.popleft()
            self.find(BROKEN, covered, f"its bytes are there, and entry {entry.seq} says that they were erased")
        if self._snapshot and self._outdated is not None and self._outdated <= through:
            self.find(BROKEN, self._snapshot["seq"], f"the snapshot is of before an erasure, and entry {entry.seq} says that this is finished")
            self._outdated = None

    def _check_bytes(self, entry: Entry) -> None:
        found = ((path, at_path(entry.body, path)) for path in KINDS[entry.kind].payloads)
        pieces = [(f"`{path}`", reference) for path, reference in found if reference is not None]
        places = list(places_of(entry.kind, entry.body)) if entry.envelope["v"] > 1 else []
        for place in places:
            check_left(place)
        words = entry.envelope.get("words")
        if words:
            pieces.append(("the words", words))
        if "payload" in entry.line:
            last = cut(pieces, parse_base64(entry.line["payload"]))
            if words:
                check_words(places, last)

    def _check_heads(self, entry: Entry) -> None:
        if self._head and self._head["seq"] == entry.seq:
            self._head_digest = entry.line["digest"]
        if self._snapshot and self._snapshot["seq"] == entry.seq:
            self._named = entry.envelope.get("snapshot")
        for digest in self._heads.get(entry.seq, set()) - {entry.line["digest"]}:
            raise Wrong(f"the head that was published here is {digest}")

    def finish(self) -> None:
        """Step 9 of the page, and what an export says about the end. Behind an entry that cannot be read, nothing is said."""
        if not self._stopped:
            for seq, digest in sorted((seq, digest) for seq, digests in self._heads.items() for digest in digests):
                self._finish_head(seq, digest, "a published head")
            self._finish_own_head()
            for seq in sorted(self._destroyed):
                self.find(BROKEN, seq, "its bytes are gone, and no entry says that they were erased")
            for seq in sorted(self._unproved):
                self.find(NOT_PROVED, seq, "its bytes are gone, and version 1 did not record erasures")
        if self._snapshot:
            self._finish_snapshot(self._snapshot["seq"], self._snapshot["sha256"], self._snapshot["bytes"])

    def _finish_head(self, seq: int, digest: str, what: str) -> None:
        """A head that no entry stands at."""
        if seq >= self._next:
            self.find(BROKEN, seq, f"{what} is here, and the entries end at {self._next - 1}")
        elif seq == self.dropped and digest != self._dropped_digest:
            self.find(BROKEN, seq, f"{what} is not the one that run.retired says")
        elif seq <= self.dropped:
            self.find(NOT_PROVED, seq, f"{what} is not covered: the entries of the retired run are dropped")

    def _finish_own_head(self) -> None:
        if self._head is None:
            what = "where it ends" if self.entries else "whether it ever had entries"
            self.find(NOT_PROVED, None, f"the journal had no head for it, so nothing says {what}")
        elif self.dropped < self._head["seq"] < self._next and self._head_digest != self._head["digest"]:
            self.find(BROKEN, self._head["seq"], "the journal's own head has another digest")
        else:
            self._finish_head(self._head["seq"], self._head["digest"], "the journal's own head")

    def _finish_snapshot(self, seq: int, sha256: str, text: str) -> None:
        try:
            if hashlib.sha256(parse_base64(text)).hexdigest() != sha256:
                raise Wrong("the bytes of the snapshot do not have its digest")
            if self._named not in (None, sha256):
                raise Wrong("the entry names another snapshot")
            if seq >= self._next and not self._stopped:
                raise Wrong(f"the snapshot was taken here, and the entries end at {self._next - 1}")
        except Wrong as wrong:
            self.find(BROKEN, seq, str(wrong))
        else:
            if self._named is None:
                self.find(NOT_PROVED, seq, "no entry that is verified names the snapshot that was taken here")


# ---- A file ----

# Of each stream by its name, of each entry by its number: the digests that were published.
Heads = Dict[str, Dict[int, Set[str]]]


class Export:
    """Verifies one file, line by line."""
    def __init__(self, heads: Heads) -> None:
        self.streams: Dict[str, Stream] = {}
        self.findings: List[Finding] = []
        self._heads = heads
        self._current: Optional[Stream] = None
        self._ended = False

    def find(self, verdict: int, what: str) -> None:
        """Notes something about the file, or within a stream about the stream."""
        if self._current:
            self._current.stop(verdict, None, what)
        elif len(self.findings) < FILE_FINDINGS_MAX or verdict not in {finding.verdict for finding in self.findings}:
            self.findings.append(Finding(verdict, None, what))

    def read(self, file: BinaryIO) -> None:
        for number, data in enumerate(lines(file), 1):
            try:
                self._take(data)
            except Wrong as wrong:
                self.find(BROKEN, f"line {number}: {wrong}")
            except (Unread, MemoryError) as unread:
                self.find(NOT_PROVED, f"line {number}: {str(unread) or 'too much for the memory'}")
        self._close()
        if not self._ended:
            self.find(BROKEN, "the file was cut off: it does not end with the number of its streams")

    def _take(self, data: Optional[bytes]) -> None:
        if data is None:
            raise Unread(f"longer than {LINE_MAX} bytes")
        line = parse_json(data)
        sorts = [sort for sort in ("stream", "seq", "end", "streams") if isinstance(line, dict) and sort in line]
        if len(sorts) != 1:
            raise Wrong("neither a stream, an entry, the end of a stream nor the end of the file")
        check_object(OBJECTS["line " + sorts[0]], line)
        if self._ended:
            raise Wrong("it stands behind the end of the file")
        {"stream": self._begin, "seq": self._entry, "end": self._end, "streams": self._finish}[sorts[0]](line)

    def _begin(self, line: Dict[str, Any]) -> None:
        # The stream may begin anew, and then only what follows counts.
        if self._current and self._current.name == line["stream"]:
            self._current = None
        self._close()
        self.streams.pop(line["stream"], None)
        self._current = Stream(line, self._heads.get(line["stream"], {}))

    def _entry(self, line: Dict[str, Any]) -> None:
        if not self._current:
            raise Wrong("an entry outside of a stream")
        self._current.take(line)

    def _end(self, line: Dict[str, Any]) -> None:
        if not self._current or self._current.name != line["end"]:
            raise Wrong(f"it ends {quoted(line['end'])}, which does not stand before it")
        if line["broken"] is not None:
            self._current.find(BROKEN, None, f"Tape itself found: {shown(brief(line['broken']))}")
        self._close(is_cut=False)

    def _finish(self, line: Dict[str, Any]) -> None:
        self._close()
        self._ended = True
        if line["streams"] != len(self.streams):
            raise Wrong(f"{line['streams']} streams were written, {len(self.streams)} are here")
        if line["broken"]:
            raise Wrong(f"Tape itself found something broken {line['broken']} times, perhaps in its feed or its lists")

    def _close(self, is_cut: bool = True) -> None:
        """Ends the stream that is being read."""
        if not self._current:
            return
        if is_cut:
            self._current.stop(BROKEN, None, "the stream has no end line")
        self._current.finish()
        self.streams[self._current.name], self._current = self._current, None


def lines(file: BinaryIO) -> Iterator[Optional[bytes]]:
    """The lines of a file, None for one that is too long. Only 0x0A ends a line: texts may have other characters that break lines."""
    while True:
        data = file.readline(LINE_MAX)
        if not data:
            return
        if data.endswith(b"\n") or len(data) < LINE_MAX:
            yield data
            continue
        while data and not data.endswith(b"\n"):
            data = file.readline(LINE_MAX)
        yield None


# ---- The program ----


class Published(NamedTuple):
    """A head that was published: the stream's name, the number of the entry, and its digest."""
    stream: str
    seq: int
    digest: str


def published(text: str) -> Optional[Published]:
    """The head in a line of a file of heads; None in a line of `tape verify --json` that has none, such as the last one."""
    # The name of a stream may begin with a brace, but no head ends with one.
    if not text.endswith("}"):
        name, _, head = text.partition(" ")
    else:
        line = parse_json(utf8(text))
        check_object(OBJECTS["line head"], line)
        if "head" not in line:
            return None
        if ("run" in line) == ("stream" in line):
            raise Wrong("it does not say of which stream the head is")
        # The names of runs are printed without the word `run`.
        tenant, _, rest = line.get("run", "").partition("/")
        name, head = line.get("stream", f"{tenant}/run/{rest}"), line["head"]
    parse_name(name)
    match = re.fullmatch("([1-9][0-9]{0,15}):([0-9a-f]{64})", head)
    if not match or int(match[1]) > NUMBER_MAX:
        raise Wrong("not STREAM SEQ:DIGEST, and no line of `tape verify --json`")
    return Published(name, int(match[1]), match[2])


def read_heads(path: str) -> Heads:
    heads: Heads = {}
    number = 0
    try:
        with open(path, "rb") as file:
            texts = file.read().decode("utf-8").split("\n")
        for number, text in enumerate(texts[:-1] if texts[-1] == "" else texts, 1):
            head = published(text[:-1] if text.endswith("\r") else text)
            if head:
                heads.setdefault(head.stream, {}).setdefault(head.seq, set()).add(head.digest)
        if not heads:
            raise Wrong("the file has no head")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(f"line {number}: {wrong}") from None
    return heads


class Report:
    """Prints what was found, and adds it up."""
    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        self._verdicts: Set[int] = set()
        self._sums = {"streams": 0, "entries": 0, "dropped": 0, "gone": 0, "broken": 0, "not proved": 0}

    def add(self, file: str, name: Optional[str], stream: Optional[Stream], findings: List[Finding]) -> None:
        name = None if name is None else brief(name)
        verdict = worst({finding.verdict for finding in findings})
        self._verdicts.add(verdict)
        facts: Dict[str, Any] = {}
        if stream:
            facts = {"streams": 1, "entries": stream.entries, "dropped": stream.dropped, "gone": len(stream.gone)}
        for fact, count in {**facts, VERDICTS[verdict]: 1}.items():
            self._sums[fact] = self._sums.get(fact, 0) + count
        if self._is_json:
            listed = [{"verdict": VERDICTS[found.verdict], "entry": found.entry, "what": found.what} for found in findings]
            head = stream.end() if stream else ""
            print_json({"file": file, "stream": name, "verdict": VERDICTS[verdict], **facts, "head": head, "findings": listed})
        elif stream and not findings:
            print(f"sound       {shown(stream.name)} {stream.end() or 'has no entries'}")
        for found in () if self._is_json else findings:
            where = "" if found.entry is None else f"entry {found.entry}: "
            print(f"{VERDICTS[found.verdict]:<11} {shown(name or file)}  {where}{found.what}")

    def end(self) -> int:
        """Prints the sums, and returns the exit code."""
        verdict = worst(self._verdicts)
        self._sums.pop("sound", None)
        if self._is_json:
            print_json({"verdict": VERDICTS[verdict], **self._sums})
        else:
            print(f"{VERDICTS[verdict]}: " + ", ".join(f"{count} {fact}" for fact, count in self._sums.items()))
        return verdict


def print_json(record: Dict[str, Any]) -> None:
    """Prints JSON that is all ASCII. The only control character that it may have is DEL."""
    print(json.dumps(record).replace("\x7f", "\\u007f"))


def verify(paths: List[str], heads: Heads, report: Report) -> int:
    seen: Set[str] = set()
    for path in paths:
        export = Export(heads)
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            export.read(file)
        for name, stream in export.streams.items():
            report.add(path, name, stream, stream.findings)
        if export.findings:
            report.add(path, None, None, export.findings)
        seen.update(export.streams)
    for name in sorted(heads.keys() - seen):
        report.add("heads", name, None, [Finding(BROKEN, None, "a head of it was published, and no file has the stream")])
    return report.end()


HELP = """Exits with 0 where everything is sound, with 1 where anything is broken, with 2 where it was called in a wrong way, and with 3
where nothing is broken and something is not proved: a newer build wrote it, a head lies among dropped entries, bytes of version 1 are gone,
or no entry names a snapshot. The line of a sound stream has its head, to publish."""
HELP_HEADS = """heads that were published, one a line: STREAM SEQ:DIGEST, such as acme/run/app/ann/s1/i1 12:815c..., with the full name of
the stream; or lines of `tape verify --json`; each of these streams must be in one of the files"""


def main(arguments: Optional[List[str]] = None) -> int:
    description = "Verifies exports of a Tape journal without Tape, as docs/format.md says."
    parser = argparse.ArgumentParser(prog="tape_verify.py", description=description, epilog=HELP)
    parser.add_argument("files", metavar="FILE", nargs="+", help="what `tape export` wrote; - is standard input")
    parser.add_argument("--heads", metavar="FILE", type=read_heads, default={}, help=HELP_HEADS)
    parser.add_argument("--json", action="store_true", help="prints JSON, an object a line: each stream, then the sums")
    options = parser.parse_args(arguments)
    # A name may have characters that the terminal's encoding does not have.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = verify(options.files, options.heads, Report(options.json))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the output is gone. Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())

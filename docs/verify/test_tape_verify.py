"""Tests of tape_verify.py: the page's tables and vectors, exports made by hand, hostile bytes, and random changes of a real export.

Run with `python3 -m unittest discover docs/verify`. `export.jsonl` is what `tape export` wrote for runs of real agents: streams of three
journals in one file.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import os
import random
import re
import tempfile
import tracemalloc
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple
from unittest import mock

import tape_verify as tv

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parent / "format.md").read_text(encoding="utf-8")
EMPTY = hashlib.sha256(b"").hexdigest()


def vector(name: str) -> Any:
    match = re.search(rf"```json vector={name}\n(.*?)```", PAGE, re.DOTALL)
    assert match, name
    return json.loads(match[1])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def verify(data: bytes, heads: str = "", arguments: Tuple[str, ...] = ()) -> Tuple[int, str]:
    """The exit code and the output of the whole program."""
    with tempfile.TemporaryDirectory() as folder:
        path, heads_path = os.path.join(folder, "export"), os.path.join(folder, "heads")
        Path(path).write_bytes(data)
        Path(heads_path).write_text(heads, encoding="utf-8")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = tv.main([path, *arguments, *(["--heads", heads_path] if heads else [])])
            except SystemExit as exit_:
                code = int(exit_.code or 0)
        return code, out.getvalue() + err.getvalue()


class Journal:
    """Makes an export. Digests are computed last, so that tests may change anything before."""

    def __init__(self) -> None:
        self.streams: Dict[str, List[Dict[str, Any]]] = {}
        self.snapshots: Dict[str, Any] = {}

    def add(self, stream: str, kind: str, body: Dict[str, Any], data: Optional[bytes] = b"", words: Any = None, **more: Any) -> "Journal":
        entries = self.streams.setdefault(stream, [])
        seq = more.pop("seq", entries[-1]["envelope"]["seq"] + 1 if entries else 1)
        envelope = {"v": 2, "seq": seq, "at": 1_000_000 + seq, "req": f"{len(self.streams) * 4096 + seq:032x}", **more}
        envelope["entry"] = {"kind": kind, "body": body}
        if words is not None:
            text = words if isinstance(words, bytes) else compact(words).encode()
            envelope["words"] = {"len": len(text), "sha256": sha256(text)}
            data = None if data is None else data + text
        entries.append({"envelope": envelope, "data": data, "text": None})
        return self

    def chain(self, stream: str) -> List[Dict[str, Any]]:
        tag, previous = hashlib.sha256(b"tape stream\n" + stream.encode()).digest(), bytes(32)
        lines: List[Dict[str, Any]] = []
        for entry in self.streams[stream]:
            envelope = entry["envelope"]
            text = entry["text"] if entry["text"] is not None else compact(envelope)
            if not lines and envelope["entry"]["kind"] == "run.retired":
                previous = bytes.fromhex(envelope["entry"]["body"]["previous"])
            prefix = b"tape entry 1\n" if envelope["v"] == 1 else b"tape entry 2\n" + tag
            previous = hashlib.sha256(prefix + previous + text.encode("utf-8", "surrogatepass")).digest()
            line = {"seq": envelope["seq"], "digest": previous.hex(), "envelope": text}
            if entry["data"] is not None:
                line["payload"] = base64.b64encode(entry["data"]).decode()
            lines.append(line)
        return lines

    def lines(self) -> List[Dict[str, Any]]:
        lines: List[Dict[str, Any]] = []
        for stream in self.streams:
            entries = self.chain(stream)
            head = {"seq": entries[-1]["seq"], "digest": entries[-1]["digest"]}
            lines += [{"stream": stream, "head": head, "snapshot": self.snapshots.get(stream)}, *entries, {"end": stream, "broken": None}]
        return lines + [{"streams": len(self.streams), "broken": 0}]

    def bytes(self) -> bytes:
        return join(self.lines())


def join(lines: List[Dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def reference(data: bytes) -> Dict[str, Any]:
    return {"type": "text/plain", "len": len(data), "sha256": sha256(data)}


RUN = "acme/run/app/ann/s/i"
RUN_NAME = {"tenant": "acme", "app": "app", "user": "ann", "session": "s", "invocation": "i"}
SESSION = "acme/session/app/ann/s"
SESSION_NAME = {"tenant": "acme", "app": "app", "user": "ann", "session": "s"}
VALUE = "acme/value/rate"


def a_run() -> Journal:
    """A run with words, payloads and an erasure."""
    journal = Journal()
    journal.add(RUN, "run.begun", {"run": RUN_NAME, "input": reference(b"in")}, b"in", [{"desk": "fx"}], by="ann")
    journal.add(RUN, "effect.unknown", {"effect": "a/b#0.1", "cause": "", "observe_at": -5}, b"", ["timeout"])
    confirmed = {"effect": "a/b#0.1", "by": {"who": "person", "reason": ""}, "result": reference(b"")}
    journal.add(RUN, "effect.confirmed", confirmed, b"", ["seen"])
    journal.add(RUN, "payload.erased", {"entries": [2], "reason": ""}, b"", ["asked"])
    journal.streams[RUN][1]["data"] = None
    return journal


def a_value(*versions: int) -> Journal:
    journal = Journal()
    for number, version in enumerate(versions, 1):
        journal.add(VALUE, "value.put", {"version": number, "value": reference(b"1.10")}, b"1.10", v=version)
    return journal


def a_retired_run() -> Journal:
    body = {"run": RUN_NAME, "epoch": 1, "begun_at": 0, "ended_at": 5, "ending": {"how": "failed", "error": ""}, "dropped": 8}
    body.update({"previous": "ab" * 32, "reason": ""})
    return Journal().add(RUN, "run.retired", body, b"", [None, "quarter", "boom"], seq=9)


class TheTables(unittest.TestCase):
    """The tables of the program are those of the page."""

    def page_table(self, title: str) -> Tuple[str, List[List[str]]]:
        match = re.search(rf"^#### {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
        assert match, title
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (always|optional) \| (.*) \|$", match[1], re.MULTILINE)
        return match[1], [list(row) for row in rows]

    def compare(self, fields: List[tv.Field], text: str, rows: List[List[str]]) -> None:
        self.assertEqual([field.name for field in fields], [row[0] for row in rows])
        for field, (name, type_, present, meaning) in zip(fields, rows):
            with self.subTest(name):
                self.assertEqual(self.page_type(field.type), self.plain_type(type_))
                tolerant = "readers take a missing one" in meaning or "Readers take a member that is missing as 0" in text
                where = bool(field.where)
                self.assertEqual((field.mark == "*"), tolerant)
                self.assertEqual(present == "optional", field.mark == "?" or where)
                words = field.type.split("|") if "|" in field.type else []
                self.assertEqual(words, re.findall(r"`(\w+)`", type_))
                if where and "present where" in meaning:
                    said = re.search(r"present where .*? is ((?:`\w+`(?: or )?)+)", meaning)
                    self.assertEqual(list(field.where), re.findall(r"`(\w+)`", said[1] if said else ""))
                from_1 = re.search(r"which \w+, from 1|version, from 1|the version of the deletion", meaning)
                self.assertEqual(field.type in ("u32_1", "number_1"), bool(from_1))

    def plain_type(self, type_: str) -> str:
        """The page's type without the bounds of numbers and the words of texts."""
        type_ = re.sub(r"( from \d+)?( to \d+)?$", "", type_)
        return "text" if type_.startswith("one of ") else {"u64": "number", "content type": "text"}.get(type_, type_)

    def page_type(self, type_: str) -> str:
        plain = {"number_1": "number", "u32_1": "u32"}.get(type_, "text" if "|" in type_ else type_)
        return plain.replace("list<", "list of ").replace("map<", "map of ").replace(">", "").replace("_", " ")

    def test_types(self) -> None:
        titles = set(re.findall(r"^#### Type `(.*)`$", PAGE, re.MULTILINE))
        self.assertEqual(titles, {name.replace("_", " ") for name, _ in tv.rows(tv.OBJECTS_TABLE)})
        for title in titles:
            with self.subTest(title):
                self.compare(tv.OBJECTS[title.replace(" ", "_")], *self.page_table(f"Type `{title}`"))

    def test_kinds(self) -> None:
        titles = re.findall(r"^#### `([a-z_]+\.[a-z_]+)`$", PAGE, re.MULTILINE)
        self.assertEqual(set(titles), set(tv.KINDS))
        for title in titles:
            with self.subTest(title):
                text, rows = self.page_table(f"`{title}`")
                self.compare(tv.KINDS[title].fields, text, rows)
                for word, listed in (("Payloads", tv.KINDS[title].payloads), ("Words", tv.KINDS[title].words)):
                    said = re.search(rf"^{word}: (.*)\.$", text, re.MULTILINE)
                    self.assertEqual(re.findall(r"`([^`]+)`", said[1]) if said else [], listed)

    def test_envelope(self) -> None:
        section = PAGE.split("## Envelope", 1)[1].split("\n## ", 1)[0]
        rows = re.findall(r"^\| `(\w+)` \| .*? \| (always|optional) \|", section, re.MULTILINE)
        self.assertEqual(rows, [(field.name, "optional" if field.mark else "always") for field in tv.OBJECTS["envelope"]])


class TheVectors(unittest.TestCase):
    """The vectors of the page."""

    def test_names(self) -> None:
        for case in vector("names"):
            kind, parts = tv.parse_name(case["stream"])
            self.assertEqual((kind, list(parts.values())), (case["kind"], case["parts"]))
            self.assertEqual(tv.tag_of(case["stream"]).hex(), case["tag"])

    def test_chains(self) -> None:
        for name in ("chain", "transition", "retired"):
            with self.subTest(name):
                case = vector(name)
                code, out = verify(join(self.export(case)))
                self.assertEqual((code, "broken" in out.split("\n")[0]), (tv.SOUND, False), out)
                self.assertIn(f"{case['entries'][-1]['seq']}:{case['entries'][-1]['digest']}", out)

    def export(self, case: Dict[str, Any]) -> List[Dict[str, Any]]:
        lines: List[Dict[str, Any]] = []
        bodies = [json.loads(entry["envelope"])["entry"] for entry in case["entries"]]
        erased = [seq for body in bodies if body["kind"] == "payload.erased" for seq in body["body"]["entries"]]
        for entry in case["entries"]:
            version = json.loads(entry["envelope"])["v"]
            tag = bytes.fromhex(case["tag"]) if version == 2 else b""
            hashed = f"tape entry {version}\n".encode() + tag + bytes.fromhex(entry["previous"]) + entry["envelope"].encode()
            self.assertEqual((len(hashed), sha256(hashed)), (entry["hashed_bytes"], entry["digest"]))
            self.assertEqual("".join(piece["bytes"] for piece in entry["pieces"]), entry["payload"])
            payload = base64.b64encode(entry["payload"].encode()).decode()
            line = {"seq": entry["seq"], "digest": entry["digest"], "envelope": entry["envelope"], "payload": payload}
            if entry["seq"] in erased:
                del line["payload"]
            lines.append(line)
        head = {"seq": lines[-1]["seq"], "digest": lines[-1]["digest"]}
        first = {"stream": case["stream"], "head": head, "snapshot": None}
        return [first, *lines, {"end": case["stream"], "broken": None}, {"streams": 1, "broken": 0}]

    def test_digests_of_texts(self) -> None:
        for case in vector("canonical"):
            self.assertEqual(sha256(case["canonical"].encode()), case["sha256"])
        for case in vector("fingerprint"):
            self.assertEqual(sha256(case["canonical"].encode()), case["digest"])
        self.assertEqual(sha256(vector("snapshot")["bytes"].encode()), vector("snapshot")["sha256"])
        for content in vector("content"):
            self.assertEqual(sha256(content["form"].encode()), content["sha256"])
            kind = content["what"].replace(" ", "_")
            tv.check(kind, tv.parse_json(content["form"].encode()))

    def test_keys(self) -> None:
        for case in vector("keys"):
            tv.check("effect_id", case["effect"])
            self.assertEqual(sha256(case["hashed"].encode()), case["sha256"])
            self.assertEqual(case["key"], "tape-" + case["sha256"][:35])

    def test_requests(self) -> None:
        for case in vector("requests"):
            tv.check("half_digest", case["id"])


class ByHand(unittest.TestCase):
    """Exports made by hand, each with one thing changed."""

    def expect(self, code: int, text: str, data: Any, heads: str = "") -> None:
        if isinstance(data, Journal):
            data = data.bytes()
        got, out = verify(data, heads)
        self.assertEqual(got, code, out)
        self.assertIn(text, out)

    def changed(self, journal: Journal, stream: str, seq: int, change: Callable[[Dict[str, Any]], Any]) -> Journal:
        change(next(entry for entry in journal.streams[stream] if entry["envelope"]["seq"] == seq))
        return journal

    def body(self, journal: Journal, stream: str, number: int, /, **members: Any) -> Journal:
        return self.changed(journal, stream, number, lambda entry: entry["envelope"]["entry"]["body"].update(members))

    def envelope(self, journal: Journal, stream: str, number: int, /, **members: Any) -> Journal:
        return self.changed(journal, stream, number, lambda entry: entry["envelope"].update(members))

    def test_sound(self) -> None:
        self.expect(tv.SOUND, "sound: 1 streams, 4 entries", a_run())
        self.expect(tv.SOUND, "", a_value(1, 1, 2))
        self.expect(tv.SOUND, "", a_retired_run())
        self.expect(tv.SOUND, "", self.envelope(a_run(), RUN, 3, unknown=[1.5, None, 1e300]))
        self.expect(tv.SOUND, "", self.body(a_run(), RUN, 3, unknown={"": -0.0}))

    def test_envelopes(self) -> None:
        members: Any
        for members, text in [
            ({"v": 0}, "`v`"),
            ({"v": 1}, "version 1 after"),
            ({"v": "2"}, "`v`"),
            ({"seq": 4}, "entry 3 should"),
            ({"seq": 2.0}, "`seq`"),
            ({"at": True}, "`at`"),
            ({"at": 1 << 63}, "`at`"),
            ({"req": "A" * 32}, "`req`"),
            ({"by": ""}, "`by`"),
            ({"by": "a\u0085"}, "`by`"),
            ({"trace": "00-0-0-00"}, "`trace`"),
            ({"cmd": None}, "`cmd`"),
            ({"words": {"len": 1}}, "`sha256` is missing"),
            ({"entry": []}, "`entry`"),
        ]:
            with self.subTest(members):
                self.expect(tv.BROKEN, text, self.envelope(a_run(), RUN, 3, **members))
        self.expect(tv.NOT_PROVED, "version 3", self.envelope(a_run(), RUN, 3, v=3, entry=7))
        entry = {"kind": "run.paused", "body": {}}
        self.expect(tv.NOT_PROVED, "the kind 'run.paused'", self.envelope(a_run(), RUN, 3, entry=entry))

    def test_bodies(self) -> None:
        members: Any
        for members, text in [
            ({"effect": "#0"}, "`effect`"),
            ({"effect": "#0.01"}, "`effect`"),
            ({"effect": "#4294967296.0"}, "`effect`"),
            ({"effect": "/".join("x" * 17) + "#0.0"}, "`effect`"),
            ({"by": {"who": "robot"}}, "`who`"),
            ({"by": {"who": ["person"]}}, "`who`"),
            ({"by": {"who": "person"}}, "`reason` is missing"),
            ({"by": {"who": "person", "reason": "seen"}}, "stands in the envelope"),
            ({"result": {"type": None, "len": 0, "sha256": EMPTY}}, "`type`"),
            ({"result": {"type": "a", "len": 0, "sha256": EMPTY.upper()}}, "`sha256`"),
            ({"result": {"type": "a", "len": -1, "sha256": EMPTY}}, "`len`"),
            ({"result": reference(b"s")}, "the bytes of `result`"),
            ({"undo": None}, "`undo`"),
            ({"spent": {}}, "of the type list"),
            ({"spent": [{"budget": "b", "amount": 1 << 64}]}, "`amount`"),
        ]:
            with self.subTest(members):
                self.expect(tv.BROKEN, text, self.body(a_run(), RUN, 3, **members))
        stray = {"effect": "#0.0", "by": {"who": "driver", "reason": 7}, "result": reference(b"")}
        self.expect(tv.SOUND, "", a_run().add(RUN, "effect.confirmed", stray))
        deadline: Any
        for deadline, code in (({"at": 1}, 0), ({"in_ms": 1}, 0), ({}, 1), ({"at": 1, "in_ms": 1}, 1), ({"x": 1}, 1)):
            journal = a_run().add(RUN, "gate.opened", {"gate": "g", "asked": deadline})
            self.expect(code, "", journal)
        for currency, code in (("tokens", 0), ({"unit": "eur"}, 0), ("eur", 1), ({}, 1), ({"unit": ""}, 1)):
            journal = a_run().add(RUN, "budget.opened", {"budget": "b", "currency": currency, "limit": (1 << 64) - 1})
            self.expect(code, "", journal)

    def test_chain(self) -> None:
        lines = a_run().lines()
        lines[3]["digest"] = EMPTY
        self.expect(tv.BROKEN, "entry 3: the digest is not that", join(lines))
        text = compact(a_run().streams[RUN][2]["envelope"])
        self.expect(tv.BROKEN, "line break", self.changed(a_run(), RUN, 3, lambda e: e.update(text=text[:-1] + "\n}")))
        self.expect(tv.SOUND, "", self.changed(a_run(), RUN, 3, lambda e: e.update(text=text[:-1] + ' , "x" : 1 }')))
        moved = self.envelope(a_value(2), VALUE, 1, seq=7, entry={"kind": "value.kept", "body": {}})
        self.expect(tv.NOT_PROVED, "value.kept", moved)
        again = a_run().add(RUN, "run.begun", {"run": RUN_NAME, "input": reference(b"")})
        self.expect(tv.BROKEN, "not the first entry", again)

    def test_time(self) -> None:
        self.expect(tv.BROKEN, "its time is 1000001", self.envelope(a_run(), RUN, 3, at=1_000_001))
        self.expect(tv.SOUND, "", self.envelope(a_run(), RUN, 3, at=1_000_002))
        self.expect(tv.BROKEN, "not before its time", self.envelope(a_run(), RUN, 3, decided=1_000_003))
        self.expect(tv.SOUND, "", self.envelope(a_run(), RUN, 3, decided=-1))
        self.expect(tv.SOUND, "", self.envelope(a_value(1, 1, 2), VALUE, 2, at=1))
        self.expect(tv.BROKEN, "its time is 1", self.envelope(a_value(1, 2), VALUE, 2, at=1))

    def test_doubled_members(self) -> None:
        text = compact(a_run().streams[RUN][2]["envelope"])
        for once, twice, code in [
            ('"seq":3', '"seq":3,"seq":3', tv.BROKEN),
            ('"v":2', '"v":2,"v":3', tv.BROKEN),
            ('"who":"person"', '"who":"person","who":"person"', tv.BROKEN),
            ('"seq":3', '"seq":3,"new":1,"new":2', tv.SOUND),
            ('"who":"person"', '"who":"person","new":1,"new":1', tv.SOUND),
        ]:
            self.assertIn(once, text)
            self.expect(code, "", self.changed(a_run(), RUN, 3, lambda e: e.update(text=text.replace(once, twice))))
        export = a_run().bytes().decode()
        self.expect(tv.BROKEN, "stands twice", export.replace('{"end":', '{"broken": null, "end":').encode())
        self.expect(tv.SOUND, "", export.replace('{"end":', '{"new": null, "new": 1, "end":').encode())
        journal = Journal().add(SESSION, "session.created", {"session": SESSION_NAME, "state": {"a": None}}, b"", b'[{"a":"{","a":"1"}]')
        self.expect(tv.SOUND, "", journal)

    def test_json_of_any_depth(self) -> None:
        for text in ("[]", " {} ", '{"a":[1,-0.5e+7,{"b":"\\ud800"}],"a":null}', "true", "1e400", "[" * 5000 + "]" * 5000, "[[],[]]"):
            self.assertTrue(tv.is_json(text), text[:40])
        for text in ("", " ", "[", "]", "[1,]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "01", "1.", "+1", "nul", "truefalse", '"\n"', "1 2", "[1 2]",
                     '"a" "b"', "NaN", "{]", "[}", '{1:2}', '"\\x"', "\x0c1", "[,1]", ":", '{"a" "b"}', "-", "1e", "[" * 5000):  # fmt: skip
            self.assertFalse(tv.is_json(text), text[:40])

    def test_bytes(self) -> None:
        for data, text in ((b"i", "end within `input`"), (b'in[{"desk":"fx"}]x', "1 bytes are left"), (b'in[{"desk":"f"', "the words")):
            self.expect(tv.BROKEN, text, self.changed(a_run(), RUN, 1, lambda e: e.update(data=data)))
        for payload, text in (("MS4xMA=", "not base64"), ("MS4xMB==", "stray bits"), ("MS4x\nMA==", "not base64"), ("é", "not base64")):
            lines = a_value(2).lines()
            lines[1]["payload"] = payload
            self.expect(tv.BROKEN, text, join(lines))

    def test_missing_members_that_readers_do_without(self) -> None:
        body = {"effect": "#0.0", "connector": "c", "operation": "o", "args": reference(b""), "due_at": 1}
        self.expect(tv.SOUND, "", a_run().add(RUN, "obligation.armed", body))
        del body["due_at"]
        self.expect(tv.BROKEN, "`due_at` is missing", a_run().add(RUN, "obligation.armed", body))

    def test_words(self) -> None:
        for words, text in [
            ([], "array of 1"),
            ([None], "say nothing"),
            ([1], "`by.reason`"),
            ({"a": 1}, "array of 1"),
            (b'["a"', "not JSON"),
            (b'["\xff"]', "not UTF-8"),
            (b"[NaN]", "NaN"),
            (b'["\\udc00"]', "surrogate"),
        ]:
            with self.subTest(words):
                journal = a_run()
                body = {"effect": "#0.0", "by": {"who": "person", "reason": ""}, "result": reference(b"")}
                self.expect(tv.BROKEN, text, journal.add(RUN, "effect.confirmed", body, b"", words))

    def test_deltas(self) -> None:
        for left, words, code in [
            ({"a": None, "b": None}, [{"a": '{"x":1.5}'}], tv.SOUND),
            ({"a": None}, None, tv.SOUND),
            ({"a": None}, [{"b": "1"}], tv.BROKEN),
            ({"a": None}, [{"a": "{"}], tv.BROKEN),
            ({"a": None}, [{"a": None}], tv.BROKEN),
            ({"a": None}, [{"a": "[" * 2000 + "]" * 2000}], tv.SOUND),
            ({"a": "1"}, None, tv.BROKEN),
            ({"": None}, None, tv.BROKEN),
            (None, [{"a": "1"}], tv.BROKEN),
        ]:
            with self.subTest((left, words)):
                body = {"session": SESSION_NAME, **({"state": left} if left else {})}
                self.expect(code, "", Journal().add(SESSION, "session.created", body, b"", words))

    def test_refused_merges_have_a_place_each(self) -> None:
        merge = {"source": 1, "scope": "app", "problem": ""}
        for words, code in (([None, "full"], tv.SOUND), (["full"], tv.BROKEN), ([None, None], tv.BROKEN)):
            journal = Journal().add(SESSION, "session.created", {"session": SESSION_NAME})
            self.expect(code, "", journal.add(SESSION, "session.merged", {"through": 1, "refused": [merge, merge]}, b"", words))

    def test_version_1(self) -> None:
        self.expect(tv.NOT_PROVED, "entry 1: its bytes are gone", self.changed(a_value(1, 2), VALUE, 1, lambda e: e.update(data=None)))
        self.expect(tv.BROKEN, "no entry says", self.changed(a_value(1, 2), VALUE, 2, lambda e: e.update(data=None)))
        self.expect(tv.BROKEN, "version 1 has", self.envelope(a_value(1), VALUE, 1, snapshot=EMPTY))
        erased = self.changed(a_value(1, 2), VALUE, 1, lambda e: e.update(data=None))
        self.expect(tv.SOUND, "", erased.add(VALUE, "payload.erased", {"entries": [1], "reason": ""}))

    def test_erasures(self) -> None:
        self.expect(tv.BROKEN, "entry 2: its bytes are gone", self.body(a_run(), RUN, 4, entries=[1]))
        late = a_run().add(RUN, "effect.unknown", {"effect": "#0.1", "cause": "", "observe_at": 1}, None, ["x"])
        self.expect(tv.BROKEN, "entry 5: its bytes are gone", self.body(late, RUN, 4, entries=[2, 5]))
        kept = self.changed(a_run(), RUN, 2, lambda e: e.update(data=b'["timeout"]'))
        self.expect(tv.SOUND, "", kept)
        self.expect(tv.BROKEN, "the words", self.changed(kept, RUN, 2, lambda e: e.update(data=b'["timeouT"]')))

    def test_erased_bytes_that_come_back(self) -> None:
        def kept(data: Optional[bytes], *entries: Tuple[str, int]) -> Journal:
            journal = self.changed(a_run(), RUN, 2, lambda e: e.update(data=data))
            for kind, number in entries:
                erased = {"entries": [number], "reason": ""}
                journal.add(RUN, kind, erased if kind == "payload.erased" else {"through": number})
            return journal

        bytes_, finished = b'["timeout"]', "payload.erasure_finished"
        self.expect(tv.SOUND, "", kept(None, (finished, 4)))
        self.expect(tv.SOUND, "", kept(bytes_, (finished, 3)))
        self.expect(tv.BROKEN, "entry 2: its bytes are there, and entry 5", kept(bytes_, (finished, 4)))
        self.expect(tv.BROKEN, "entry 2: its bytes are there, and entry 6", kept(bytes_, (finished, 3), (finished, 9)))
        # Listed again, it is of the first erasure all the same. An entry without bytes has none that could come back.
        self.expect(tv.BROKEN, "entry 2: its bytes are there", kept(bytes_, ("payload.erased", 2), (finished, 4)))
        empty = kept(None).add(RUN, "timer.fired", {"timer": "t"}).add(RUN, "payload.erased", {"entries": [5], "reason": ""})
        self.expect(tv.SOUND, "", empty.add(RUN, finished, {"through": 6}))
        # An erasure covers neither itself nor what follows it.
        self.expect(tv.SOUND, "", self.body(kept(None, (finished, 4)), RUN, 4, entries=[2, 4, 5]))

    def test_snapshots_of_before_an_erasure(self) -> None:
        data = b'[3,{"seq":3}]'
        for seq, entries, through, code in [
            (3, [2], 4, tv.BROKEN),
            (3, [3, 9], 4, tv.BROKEN),
            (2, [3], 4, tv.SOUND),
            (3, [2], 3, tv.SOUND),
            (4, [2], 4, tv.SOUND),
        ]:
            with self.subTest((seq, entries, through)):
                journal = self.envelope(self.body(a_run(), RUN, 4, entries=entries), RUN, seq, snapshot=sha256(data))
                for gone in (2, 3):
                    self.changed(journal, RUN, gone, lambda e, g=gone: e.update(data=None if g in entries else e["data"] or b'["timeout"]'))
                journal.snapshots[RUN] = {"seq": seq, "sha256": sha256(data), "bytes": base64.b64encode(data).decode()}
                self.expect(code, "of before an erasure" if code else "", journal.add(RUN, "payload.erasure_finished", {"through": through}))

    def test_names(self) -> None:
        for name in ("", "acme", "acme/run/a/u/s", "acme/value/a.b", "acme/value/a%2e", "acme/value/%41", "acme/value/", "acme/x/y"):
            journal = Journal().add(name, "value.deleted", {"version": 1})
            self.expect(tv.BROKEN, "name", journal)
        self.expect(tv.BROKEN, "its user is 'bob'", self.body(a_run(), RUN, 1, run={**RUN_NAME, "user": "bob"}))
        claim = {"connector": "bank", "key": "k", "run": RUN_NAME, "effect": "#0.0"}
        self.expect(tv.SOUND, "", Journal().add("acme/claim/bank/k", "claim.taken", claim))
        self.expect(tv.BROKEN, "its tenant", Journal().add("beta/claim/bank/k", "claim.taken", claim))
        self.expect(tv.BROKEN, "its key", Journal().add("acme/claim/bank/l", "claim.taken", claim))
        merged = {"session": SESSION_NAME, "source": 1, "delta": {}}
        self.expect(tv.SOUND, "", Journal().add("acme/shared/app", "shared.merged", merged))
        self.expect(tv.BROKEN, "its user", Journal().add("acme/shared/app/bob", "shared.merged", merged))
        self.expect(tv.BROKEN, "another kind", Journal().add("acme/shared/app", "value.deleted", {"version": 1}))

    def test_records_of_relays(self) -> None:
        relay = "acme/relay/own/lake"
        entry = {"stream": VALUE, "seq": 1, "digest": "7" * 64}
        erasure = {"stream": VALUE, "seq": 2}

        def record(name: str = relay, entry: Dict[str, Any] = entry, erasure: Dict[str, Any] = erasure) -> Journal:
            journal = Journal().add(name, "relay.refused", {"entry": entry, "attempts": 1, "reason": ""}, b"", ["no"])
            journal.add(name, "relay.redelivered", {"refusal": 1})
            return journal.add(name, "relay.receipt", {"subscriber": "lake", "erasure": erasure})

        self.expect(tv.SOUND, "", record())
        self.expect(tv.SOUND, "", record("acme/relay/all/lake"))
        self.expect(tv.BROKEN, "neither own nor all", record("acme/relay/any/lake"))
        self.expect(tv.BROKEN, "another kind", record(VALUE))
        self.expect(tv.BROKEN, "another kind", Journal().add(relay, "value.deleted", {"version": 1}))
        for of_another in ({"entry": {**entry, "stream": "beta/value/rate"}}, {"erasure": {**erasure, "stream": "beta/value/rate"}}):
            self.expect(tv.BROKEN, "its tenant", record(**of_another))
        self.expect(tv.BROKEN, "not of the type full_name", record(entry={**entry, "stream": "acme/value/a.b"}))
        self.expect(tv.BROKEN, "not of the type digest", record(entry={**entry, "digest": "7"}))
        self.expect(tv.BROKEN, "`reason` stands in the envelope", self.body(record(), relay, 1, reason="no"))
        self.expect(tv.BROKEN, "its bytes are gone", self.changed(record(), relay, 1, lambda e: e.update(data=None)))

    def test_retired_runs(self) -> None:
        self.expect(tv.BROKEN, "`dropped`", self.body(a_retired_run(), RUN, 9, dropped=7))
        self.expect(tv.BROKEN, "`dropped`", a_run().add(RUN, "run.retired", a_retired_run().streams[RUN][0]["envelope"]["entry"]["body"]))
        self.expect(tv.BROKEN, "entry 1 should", self.envelope(a_value(2), VALUE, 1, seq=2))
        self.expect(tv.BROKEN, "was retired", a_retired_run().add(RUN, "lease.renewed", {"epoch": 1, "until": 1, "retry_at": 1}))
        self.expect(tv.SOUND, "", a_retired_run().add(RUN, "payload.erasure_finished", {"through": 9}))
        head = {seq: f"{RUN} {seq}:{digest}" for seq, digest in ((8, "ab" * 32), (3, "cd" * 32))}
        self.expect(tv.NOT_PROVED, "not covered", a_retired_run(), head[8])
        self.expect(tv.NOT_PROVED, "not covered", a_retired_run(), head[3])
        self.expect(tv.BROKEN, "run.retired says", a_retired_run(), f"{RUN} 8:{'cd' * 32}")

    def test_heads(self) -> None:
        last = a_run().chain(RUN)[-1]
        self.expect(tv.SOUND, "", a_run(), f"{RUN} 4:{last['digest']}\n")
        self.expect(tv.BROKEN, "published here", a_run(), f"{RUN} 3:{last['digest']}")
        self.expect(tv.BROKEN, "the entries end at 4", a_run(), f"{RUN} 5:{last['digest']}")
        self.expect(tv.BROKEN, "no file has", a_run(), f"{VALUE} 1:{last['digest']}")
        printed = RUN.replace("/run/", "/", 1)
        lines = [{"run": printed, "head": f"4:{last['digest']}"}, {"stream": RUN, "head": f"4:{last['digest']}"}, {"broken": 0}]
        self.expect(tv.SOUND, "", a_run(), "\n".join(map(json.dumps, lines)))
        self.expect(tv.BROKEN, "published here", a_run(), json.dumps({"run": printed, "head": f"3:{last['digest']}"}))
        for text in ("{", json.dumps({"head": f"4:{EMPTY}"}), f"{RUN}", f"{RUN} 1:ab", f"{RUN} 01:{EMPTY}", f"acme/a/u/s/i 1:{EMPTY}", f"{RUN} 1:{EMPTY} x"):
            self.expect(tv.USAGE, "line 1", a_run(), text)

    def test_files_of_heads(self) -> None:
        """`tape` has the same cases."""
        for text, is_right in json.loads((HERE / "heads.json").read_text(encoding="utf-8")):
            with self.subTest(text), tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "heads")
                path.write_bytes(text.replace(":D", ":" + EMPTY).encode())
                if is_right:
                    self.assertTrue(tv.read_heads(str(path)))
                else:
                    with self.assertRaises(argparse.ArgumentTypeError):
                        tv.read_heads(str(path))

    def test_own_heads(self) -> None:
        for head, code in (
            ({"seq": 5, "digest": EMPTY}, tv.BROKEN),
            ({"seq": 4, "digest": EMPTY}, tv.BROKEN),
            ({"seq": 3, "digest": a_run().chain(RUN)[2]["digest"]}, tv.SOUND),
            (None, tv.NOT_PROVED),
        ):
            lines = a_run().lines()
            lines[0]["head"] = head
            self.expect(code, "", join(lines))
        empty: List[Dict[str, Any]] = [{"stream": RUN, "head": None, "snapshot": None}, *lines[-2:]]
        self.expect(tv.NOT_PROVED, "whether it ever had entries", join(empty))

    def test_snapshots(self) -> None:
        data = b'[3,{"seq":3}]'
        snapshot = {"seq": 3, "sha256": sha256(data), "bytes": base64.b64encode(data).decode()}
        members: Any
        for named, members, code in [
            (sha256(data), {}, tv.SOUND),
            (EMPTY, {}, tv.BROKEN),
            (sha256(data), {"bytes": ""}, tv.BROKEN),
            (sha256(data), {"seq": 5}, tv.BROKEN),
            (sha256(data), {"seq": 2}, tv.NOT_PROVED),
            (None, {}, tv.NOT_PROVED),
        ]:
            journal = self.envelope(a_run(), RUN, 3, **({"snapshot": named} if named else {}))
            journal.snapshots[RUN] = {**snapshot, **members}
            self.expect(code, "", journal)

    def test_lines_of_the_export(self) -> None:
        good = a_run().lines()
        unread: Dict[str, Any] = {**good[3], "envelope": '{"v":3}'}
        self.expect(tv.SOUND, "", join(good)[:-1])
        self.expect(tv.SOUND, "", join(good[:3] + good))
        for text, lines in [
            ("cut off", []),
            ("no end line", good[:3] + [unread] + good[-1:]),
            ("cut off", good[:-1]),
            ("no end line", good[:-2] + good[-1:]),
            ("no end line", good[:3]),
            ("outside of a stream", good[1:]),
            ("2 streams were written", good[:-1] + [{"streams": 2, "broken": 0}]),
            ("broken 1 times", good[:-1] + [{"streams": 1, "broken": 1}]),
            ("Tape itself found: gone", good[:-2] + [{"end": RUN, "broken": "gone"}, good[-1]]),
            ("behind the end", good + [good[-1]]),
            ("does not stand before", good[:-2] + [{"end": VALUE, "broken": None}] + good[-1:]),
            ("neither", [{"end": RUN, "stream": RUN}] + good),
            ("of entry 3", good[:3] + [{**good[3], "seq": 4}] + good[4:]),
            ("`broken` is missing", good[:-2] + [{"end": RUN}] + good[-1:]),
            ("`head` is missing", [{"stream": RUN, "snapshot": None}] + good[1:]),
        ]:
            with self.subTest(text):
                self.expect(tv.BROKEN, text, join(lines))

    def test_control_characters_are_escaped(self) -> None:
        name = "acme/value/\x1b[2J\u202e\u009b"
        code, out = verify(Journal().add(name, "value.deleted", {"version": 1}).bytes())
        self.assertEqual(code, tv.BROKEN)
        self.assertFalse(re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), repr(out))
        self.assertIn("\\u{1b}[2J\\u{202e}\\u{9b}", out)

    def test_texts_of_any_length_are_told_in_short(self) -> None:
        long = "x" * 1_000_000
        said = a_run().lines()[:-2] + [{"end": RUN, "broken": long}, {"streams": 1, "broken": 0}]
        kind = self.envelope(a_run(), RUN, 3, entry={"kind": long, "body": {}})
        for data in (Journal().add(long, "value.deleted", {"version": 1}).bytes(), join(said), kind.bytes()):
            for arguments in ((), ("--json",)):
                code, out = verify(data, arguments=arguments)
                self.assertNotEqual(code, tv.SOUND)
                self.assertLess(len(out), 20_000)
        longest = "/".join(["%25" * 200, "run"] + ["%25" * 200] * 4)
        tv.parse_name(longest)
        self.assertEqual(tv.brief(longest), longest)

    def test_json_output(self) -> None:
        code, out = verify(a_run().bytes(), arguments=("--json",))
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((code, lines[0]["stream"], lines[0]["verdict"], lines[-1]["verdict"]), (0, RUN, "sound", "sound"))
        code, out = verify(a_run().bytes()[:-5], arguments=("--json",))
        self.assertEqual((code, json.loads(out.splitlines()[-1])["verdict"]), (1, "broken"))


class HostileBytes(unittest.TestCase):
    """Whatever the bytes are, there is a verdict, and it is not that all is sound."""

    def test_files(self) -> None:
        for data in (
            b"\x00", b"\n", b"\xff\xfe", b"null\n", b"[]\n", b"{}\n", b"NaN\n", b"[" * 100_000, b'{"a":' * 100_000, b'"' * 999,
            b"9" * 99_999,
            b'{"seq":' + b"9" * 99_999 + b"}", b'{"streams":1e400,"broken":0}', b'{"streams":0,"streams":0,"broken":0}',
            b'{"stream":"\\ud800","head":null,"snapshot":null}', b'{"stream":"a","head":null,"snapshot":null}\n' * 3,
            b"\xef\xbb\xbf" + a_run().bytes(), a_run().bytes().replace(b"\n", b"\r"), a_run().bytes().decode().encode("utf-16"),
        ):  # fmt: skip
            with self.subTest(data[:30]):
                self.assertIn(verify(data)[0], (tv.BROKEN, tv.NOT_PROVED))

    def test_envelopes(self) -> None:
        huge = '{"v":' + "9" * 9999 + "}"
        for text in ("", "null", "[]", "{}", "1", "NaN", '{"v":NaN}', '{"v":2}', huge, "[" * 9999, '{"v":2,"v":2}', '{"v":2,"\ud800":1}'):
            with self.subTest(text[:30]):
                journal = a_run()
                journal.streams[RUN][2]["text"] = text
                self.assertIn(verify(journal.bytes())[0], (tv.BROKEN, tv.NOT_PROVED))

    def test_random_values_in_every_field(self) -> None:
        """No value of any shape in any field makes a crash."""
        values: List[Any] = [None, True, -1, 1 << 70, tv.Odd("1.5"), "", "x", [], [[]], {}, {"who": []}, {"": None}, {"by": {}}]
        for kind, (fields, _, _) in tv.KINDS.items():
            for value in values:
                with contextlib.suppress(tv.Wrong):
                    tv.check_object(fields, {field.name: value for field in fields})
        for type_ in list(tv.OBJECTS) + ["delta", "flag", "list<spend>", "map<number>"]:
            for value in values:
                with contextlib.suppress(tv.Wrong):
                    tv.check(type_, value)

    def test_long_lines_are_not_read(self) -> None:
        with mock.patch.object(tv, "LINE_MAX", 1000):
            code, out = verify(b"x" * 5000 + b"\n" + a_run().bytes())
        self.assertEqual(code, tv.NOT_PROVED, out)

    def test_hostile_files_cost_what_their_size_says(self) -> None:
        """With a cost that grows with the square of the size, each of these would take minutes."""
        size = 400_000
        doubled = "{" + ",".join(f'"{number}":0,"{number}":0' for number in range(size // 8)) + "}"
        for text in (doubled, "[" * 200 + '\\"' * size, "[" * 200 + '"' + '\\"' * size, "[" * 200 + '"\\' * size, '"' * size):
            with self.subTest(text[:30]), contextlib.suppress(tv.Wrong):
                self.assertEqual(len(tv.parse_json(text.encode()).doubled), size // 8)
        # Each of these lines is something wrong with a stream that has many findings.
        stream = tv.Stream({"stream": VALUE, "head": None, "snapshot": None}, {})
        for number in range(50_000):
            stream.find(tv.BROKEN, number, "")
        for _ in range(50_000):
            stream.stop(tv.BROKEN, None, "")
        self.assertEqual(len(stream.findings), 50_001)
        body = {"entries": list(range(1, 30_000)), "reason": ""}
        journal = Journal()
        for version in range(1, 5_000):
            journal.add(VALUE, "value.put", {"version": version, "value": reference(b"1")}, b"1")
        journal.add(VALUE, "payload.erased", body)
        for _ in range(5_000):
            journal.add(VALUE, "payload.erasure_finished", {"through": 1})
        self.assertEqual(verify(journal.bytes())[0], tv.SOUND)

    def test_json_of_state_takes_no_memory_by_the_character(self) -> None:
        size = 400_000
        for text, is_json in (
            ('"' + "a" * size + '"', True),
            ('"' + "\\n" * size + '"', True),
            ('"' + "\\n" * size, False),
            ("1" * size + "x", False),
            (" " * size, False),
            ("[" * size, False),
        ):
            with self.subTest(text[:9]):
                tracemalloc.start()
                self.assertEqual(tv.is_json(text), is_json)
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                self.assertLess(peak, 16 * size)

    def test_long_names_take_no_memory_by_the_character(self) -> None:
        size = 400_000
        tracemalloc.start()
        with self.assertRaises(tv.Wrong):
            tv.parse_name("acme/value/" + "a" * size)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 16 * size)

    def test_usage(self) -> None:
        absent, export = str(HERE / "is-not-there"), str(HERE / "export.jsonl")
        for arguments in ([], [absent], [str(HERE)], [export, "--heads", absent]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as exit_:
                tv.main(arguments)
            self.assertEqual(exit_.exception.code, tv.USAGE)


# ---- Random changes of a real export ----

KNOWN = {
    "stream": ("stream", "head", "snapshot"),
    "seq": ("seq", "digest", "envelope", "payload"),
    "end": ("end", "broken"),
    "streams": ("streams", "broken"),
}


def meaning(data: bytes) -> Any:
    """What a reader has of a file: the members that the page lists, and of each stream what follows its last line."""
    streams: Dict[str, List[Any]] = {}
    order: List[Any] = []
    for text in data.split(b"\n"):
        if not text:
            continue
        line = json.loads(text)
        (sort,) = [sort for sort in KNOWN if sort in line]
        known = {member: line[member] for member in KNOWN[sort] if member in line}
        if sort == "stream":
            streams[line["stream"]] = order = []
        order.append(known)
    return streams


def renamed(data: bytes, tenant: str) -> bytes:
    """The same journal for another tenant, with its chains computed anew."""
    lines, previous, tag = [], b"", b""
    digests: Dict[str, str] = {}
    for text in data.decode().splitlines():
        line = json.loads(text)
        for member in ("stream", "end"):
            if member in line:
                line[member] = line[member].replace("acme/", tenant + "/", 1)
        if "stream" in line:
            tag, previous = tv.tag_of(line["stream"]), b""
        if "seq" in line:
            line["envelope"] = line["envelope"].replace('"tenant":"acme"', f'"tenant":"{tenant}"')
            envelope = json.loads(line["envelope"])
            previous = previous or bytes.fromhex(envelope["entry"]["body"].get("previous", "00" * 32))
            previous = hashlib.sha256(b"tape entry 2\n" + tag + previous + line["envelope"].encode()).digest()
            digests[line["digest"]] = line["digest"] = previous.hex()
        lines.append(line)
    original = [json.loads(text) for text in data.decode().splitlines()]
    for old, line in zip(original, lines):
        if "seq" in old:
            digests[old["digest"]] = line["digest"]
    for line in lines:
        if line.get("head"):
            line["head"]["digest"] = digests[line["head"]["digest"]]
    return join(lines)


class Mutations(unittest.TestCase):
    """No random change of a real export is taken as sound."""

    COUNT = 2000
    lines: List[bytes]
    data: bytes
    heads: str

    @classmethod
    def setUpClass(cls) -> None:
        acme = (HERE / "export.jsonl").read_bytes()
        beta = renamed(acme, "beta")
        first, second = acme.splitlines(True), beta.splitlines(True)
        streams = json.loads(first[-1])["streams"] + json.loads(second[-1])["streams"]
        cls.lines = first[:-1] + second[:-1] + [compact({"broken": 0, "streams": streams}).encode() + b"\n"]
        cls.data = b"".join(cls.lines)
        cls.heads = cls.all_heads()

    @classmethod
    def all_heads(cls) -> str:
        lines = [json.loads(line) for line in cls.lines]
        return "".join(f"{line['stream']} {line['head']['seq']}:{line['head']['digest']}\n" for line in lines if "stream" in line)

    def setUp(self) -> None:
        self.random = random.Random(20261129)

    def index(self, sort: str) -> int:
        """A random line of a sort."""
        return self.random.choice([number for number, line in enumerate(self.lines) if sort in json.loads(line)])

    def flip(self) -> bytes:
        data = bytearray(self.data)
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def drop(self) -> bytes:
        number = self.random.randrange(len(self.lines))
        return b"".join(self.lines[:number] + self.lines[number + 1 :])

    def swap(self) -> bytes:
        lines, (one, two) = list(self.lines), self.random.sample(range(len(self.lines)), 2)
        lines[one], lines[two] = lines[two], lines[one]
        return b"".join(lines)

    def repeat(self) -> bytes:
        lines, line = list(self.lines), self.random.choice(self.lines)
        lines.insert(self.random.randrange(len(lines) + 1), line)
        return b"".join(lines)

    def cut(self) -> bytes:
        return self.data[: self.random.randrange(len(self.data) - 1)]

    def truncate(self) -> bytes:
        """The last entries of a stream go, and the journal's own head says so."""
        begin = self.index("stream")
        end = next(number for number in range(begin, len(self.lines)) if b'"end"' in self.lines[number])
        keep = self.random.randrange(begin, end - 1)
        first = json.loads(self.lines[begin])
        last = json.loads(self.lines[keep])
        first["head"] = None if keep == begin else {"seq": last["seq"], "digest": last["digest"]}
        return b"".join(self.lines[:begin] + [join([first])] + self.lines[begin + 1 : keep + 1] + self.lines[end:])

    def swap_between(self) -> bytes:
        """All entries of two streams, of one tenant or two, change places, with the heads that the file has for them."""
        blocks: List[List[bytes]] = []
        for line in self.lines[:-1]:
            blocks += [[]] if b'"stream":' in line else []
            blocks[-1].append(line)
        one, two = self.random.sample(range(len(blocks)), 2)
        firsts = [json.loads(blocks[number][0]) for number in (one, two)]
        for member in ("head", "snapshot"):
            firsts[0][member], firsts[1][member] = firsts[1][member], firsts[0][member]
        bodies = blocks[one][1:-1], blocks[two][1:-1]
        blocks[one] = [join(firsts[:1]), *bodies[1], blocks[one][-1]]
        blocks[two] = [join(firsts[1:]), *bodies[0], blocks[two][-1]]
        return b"".join(line for block in blocks for line in block) + self.lines[-1]

    def gone(self) -> bytes:
        """The bytes of an entry are gone."""
        lines, number = list(self.lines), self.index("seq")
        line = json.loads(lines[number])
        line.pop("payload", None)
        lines[number] = join([line])
        return b"".join(lines)

    def is_the_same(self, data: bytes) -> bool:
        """Whether a change touches only what readers ignore."""
        try:
            return bool(meaning(data) == meaning(self.data))
        except (ValueError, TypeError, AttributeError):
            return False

    def test_none_is_taken_as_sound(self) -> None:
        self.assertEqual(verify(self.data, self.heads)[0], tv.SOUND)
        ways = (self.flip, self.drop, self.swap, self.repeat, self.cut, self.truncate, self.swap_between, self.gone)
        ignored = 0
        for number in range(self.COUNT):
            way = self.flip if number % 2 else self.random.choice(ways)
            data = way()
            code, out = verify(data, self.heads)
            if code == tv.SOUND:
                self.assertTrue(self.is_the_same(data), f"{number}: {way.__name__}: {out}")
                ignored += 1
            self.assertIn(code, (tv.SOUND, tv.BROKEN, tv.NOT_PROVED), f"{number}: {way.__name__}: {out}")
        self.assertLess(ignored, self.COUNT // 20)


if __name__ == "__main__":
    unittest.main()

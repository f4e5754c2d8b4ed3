"""Verifies many exports with docs/verify/tape_verify.py in one process.

Usage: outsider.py FOLDER-OF-TAPE-VERIFY. Each request on standard input is the published heads, a stream, a space and SEQ:DIGEST a line,
and then a file; both begin with their length in four bytes, the highest first. Each answer is a line: the exit code, and what was printed.
"""

import contextlib
import io
import struct
import sys
from typing import BinaryIO, Dict, Set

sys.path.insert(0, sys.argv[1])
import tape_verify as tv  # noqa: E402


def part(file: BinaryIO) -> bytes:
    length = file.read(4)
    return file.read(struct.unpack(">I", length)[0]) if length else b""


def heads_of(text: bytes) -> tv.Heads:
    heads: Dict[str, Dict[int, Set[str]]] = {}
    for line in text.decode().splitlines():
        stream, _, head = line.rpartition(" ")
        seq, _, digest = head.partition(":")
        heads.setdefault(stream, {}).setdefault(int(seq), set()).add(digest)
    return heads


def main() -> None:
    requests = sys.stdin.buffer
    while heads := part(requests):
        data = part(requests)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            sys.stdin = io.TextIOWrapper(io.BytesIO(data))
            code = tv.verify(["-"], heads_of(heads), tv.Report(False))
        broken = [line for line in said.getvalue().splitlines() if not line.startswith("sound  ")]
        print(code, " | ".join(broken[:3]).encode("ascii", "backslashreplace").decode(), flush=True)


main()

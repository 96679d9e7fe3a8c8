"""What msgspec knows of a type is built at import, before several threads use it.

The first ``decode(data, type=X)`` builds it, and msgspec 0.22 crashes the process if another thread
decodes an X meanwhile. So each type has a decoder at the top level of its module.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

from segue_support.paths import ROOT

FOLDERS = ("shared", "cli", "functions", "pipelines")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# Types first used by threads, over and over: each is a new one, like those of a new process.
PROGRAM = """
import sys, threading, msgspec
sys.setswitchinterval(1e-7)
for n in range(100):
    inner = msgspec.defstruct("Inner", [("text", str)])
    kind = msgspec.defstruct("Outer", [("items", list[inner]), ("by_name", dict[str, inner])])
    decode = msgspec.json.Decoder(kind).decode
    data = b'{"items": [{"text": "a"}], "by_name": {"b": {"text": "b"}}}'
    threads = [threading.Thread(target=decode, args=(data,)) for _ in range(8)]
    threads += [
        threading.Thread(target=msgspec.convert, args=(msgspec.json.decode(data), kind))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def find_late_decoders(text: str) -> Iterator[int]:
    """Yield the lines on which a type is given to ``decode``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            has_type = any(keyword.arg == "type" for keyword in node.keywords)
            if has_type and ast.unparse(node.func).startswith("msgspec."):
                yield node.lineno


def test_no_function_builds_a_decoder_when_it_is_called():
    found = [f"{path}:{n}" for path in MODULES for n in find_late_decoders(path.read_text())]
    assert found == []


def test_a_late_decoder_is_found():
    text = "def f(data):\n    return msgspec.json.decode(data, type=Message)\n"
    assert list(find_late_decoders(text)) == [2]


def test_a_decoder_that_was_built_before_is_shared_by_threads():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, b"")

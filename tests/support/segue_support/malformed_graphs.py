"""Reads malformed texts of ``jobs.yaml``, made from seeds, and counts what comes of them.

python -m segue_support.malformed_graphs --seeds 0:100000

A text comes from a grammar with odd values, from edits of a valid graph or of its bytes, from
constructions that grow (aliases, nesting, repetition), or from a shuffle of YAML's indicators. One
line of figures is printed. The exit code is 1 after a violation: an exception other than a
``ConfigurationError``, a message with a control character or without its lines, a graph that is not
in order, or more than LIMIT_S of processor time.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.errors import ConfigurationError
from segue.model.graph import SOURCE, Graph, GraphError, parse_graph, read_graph
from segue_support.seeds import parse_seeds

LIMIT_S = 3.0  # a text of the greatest length takes half a second
DAMAGED = "damaged"
KEPT = 5  # examples of violations
LARGE_EVERY = 500  # one in so many texts grows to the limit, and beyond it
MAX_MESSAGE = 100_000  # characters
ENVIRON = {"HOME": "/home/me", "ESC": "\x1b[2J", "LATIN": "caf\udce9", "EMPTY": ""}

# fmt: off
ODD_VALUES = (
    "", "~", "null", "true", "False", "no", "ON", "0", "-1", "1", "3.5", "010", "0o17", "0x1F",
    "0b1", "1_000", "1:30", "1e3", "1.5e+3", ".inf", "-.INF", ".nan", "2020-01-02", "2020-13-45",
    "2001-12-14t21:59:43.10-05:00", "=", "<<", "9" * 30, "9" * 5000, "1.0e+999", "[]", "{}",
    "a@1", "silero_vad@1", "{x: a@1}", "{a@1: {source: x, sha256: 0}}", "{a@1: {}, b: 3, a@0: x}",
    "{a@1: {source: '${HOME}/x', sha256: '" + "0" * 64 + "', convert: [x], size_bytes: 1e9}}",
    "[a, [b, {c: d}]]", "{a: {b: c}}", "[*a]", "*a", "&a x", "&a [*a]", "&a {b: *a}", "!!int 5",
    "!!int x", "!!binary aGk=", "!!timestamp soon", "!!set {a, b}", "!!omap [a: b]", "!mine x",
    "!!python/object/apply:os.system [id]", "!!float .", "!", "! 5", "!!", "'it''s'", '"\\e[2J"',
    '"\\x9b31m"', '"\\u202e"', '"\\ud800"', '"\\U00110000"', '"a\\nb"', '"a\\0b"', "'", '"', "|",
    ">", "${HOME}", "${ESC}", "${LATIN}", "${EMPTY}", "${NONE}", "${NONE:-x}", "${a:-${b:-", "${",
    "@", "`x`", "%", "- x", "? x", "x: y", "a: b: c", "source", "m:f", "m.n:f", "audio/flac",
    "image/png", "application/json", "[source]", "{x: source}", "{x: a, y: b}", "{x-y: a}",
    "{1: a}", "{no: a}", "['0123456789ab']", "[123456789012]", '["*.wav"]', "{gpu: l4}",
    "{memory_gib: 2, gpu: none}", "[job_0, [job_0]]", "{x: [job_0], y: [job_0, job_1]}",
    "\x00", "\x1b[31m", "\x07", "\x85", "\u2028", "\ufeff", "\ufffe",
    "\U0001f3b5", "é", "\t", "\r",
)
KEYS = (
    "run", "needs", "writes", "params", "version", "owner", "description", "timeout_s", "attempts",
    "resources", "equivalents", "verson", "name", "1", "no", "~", "? [a]", "<<", "'<<'", "a.b", "",
    "&k key", "*a", "!!str run", '"\\e[31m"', "é", "k" * 200,
)
TOP_KEYS = (
    "namespace", "catalogue", "artifacts", "include", "exclude", "models", "pipelines", "jobs",
    "catalog", "<<", "1", "x",
)
NAMES = ("a", "b", "beats", "source", "A", "a-b", "1", "no", "", "é", '"\\n"', "a" * 64, "z" * 63)
INDICATORS = (
    "[", "]", "{", "}", ",", ":", ": ", "- ", "? ", "\n", "  ", "#", "&a ", "*a ", "!", "|\n",
    ">\n", "'", '"', "%", "@", "`", "\\", "---\n", "...\n", "<<: ", "x", "1", "\t", "\r\n",
)
UNITS = (
    "[", "{a: ", "- ", "? ", "a: ", "[{", "{? ", "- - ", "[a, ", "{a: b, ", "a\n", "- a\n", "1,",
    "*a ", "&a ", "!a ", "# ", " ", "\t", "\n", "\r", "'", '"', "\\", "%a b\n", "|\n", "---\n",
    "a: &a [*a]\n", "${a:-", "é", "\u2028", "a: no\n", "[no, ", "? a\n", ": ", "${HOME}",
)
# fmt: on


@dataclass(slots=True)
class Figures:
    """What became of the texts."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    slowest_s: float = 0.0  # processor time
    seconds: float = 0.0

    def add_violation(self, seed: int, kind: str, what: str) -> None:
        """Count a violation, and keep the first ones as examples."""
        self.violations += 1
        if len(self.examples) < KEPT:
            self.examples.append(f"seed {seed} ({kind}): {what}")

    def __str__(self) -> str:
        texts = self.kinds.total()
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.kinds.items()))
        outcomes = ", ".join(f"{n:,} {what}" for what, n in sorted(self.outcomes.items()))
        rate = texts / max(self.seconds, 1e-9)
        return (
            f"{texts:,} malformed graphs ({kinds}) in {self.seconds:,.0f} s, {rate:,.0f} per s: "
            f"{outcomes}; the slowest took {self.slowest_s:.2f} s; {self.violations} violations"
        )


def check_graphs(seeds: range) -> Figures:
    """Read the text of each seed, and check what comes of it."""
    figures = Figures()
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "jobs.yaml")
        for seed in seeds:
            kind, data = make_text(seed)
            figures.kinds[kind] += 1
            _check(seed, kind, path, data, figures)
    figures.seconds = time.monotonic() - started_s
    return figures


def _check(seed: int, kind: str, path: str, data: bytes, figures: Figures) -> None:
    if kind == DAMAGED:
        with open(path, "wb") as file:
            file.write(data)
    began_s = time.process_time()
    try:
        if kind == DAMAGED:  # perhaps not UTF-8
            graph = read_graph(path, ENVIRON)
        else:
            text = data.decode("utf-8", "surrogatepass")
            graph = parse_graph(text, path=path, environ=ENVIRON)
        fault = find_graph_fault(graph)
        outcome = "loaded"
    except ConfigurationError as error:
        fault = find_message_fault(error, path, data)
        outcome = "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        fault, outcome = traceback.format_exc()[-2000:], "raised"
    took_s = time.process_time() - began_s
    figures.slowest_s = max(figures.slowest_s, took_s)
    figures.outcomes[outcome] += 1
    if fault is None and took_s > LIMIT_S:
        fault = f"it took {took_s:.1f} s of processor time"
    if fault is not None:
        figures.add_violation(seed, kind, fault)


def find_graph_fault(graph: Graph) -> str | None:
    """Return what is wrong with a graph that was loaded."""
    seen = {SOURCE}
    for job in graph.jobs.values():
        if not seen.issuperset(job.needs.values()):
            return f"job {job.name!r} comes before a job that it needs"
        seen.add(job.name)
    if set(graph.fingerprints) != set(graph.jobs):
        return "a job has no fingerprint"
    if sorted(job for jobs in graph.pipelines.values() for job in jobs) != sorted(graph.jobs):
        return "a job is not in exactly one pipeline"
    return None


def find_message_fault(error: ConfigurationError, path: str, data: bytes) -> str | None:
    """Return what is wrong with a message."""
    message = str(error)
    lines = message.split("\n")
    if not isinstance(error, GraphError):
        return f"it is a {type(error).__name__}: {message[:500]!r}"
    if (
        not message.startswith(f"{path} has ")
        or len(lines) != 1 + len(error.faults)
        or not lines[1:]
    ):
        return f"it does not list its faults below the file's name: {message[:500]!r}"
    if not all(line.isprintable() for line in lines):
        return f"it has an unprintable character: {message[:500]!r}"
    if len(message) > MAX_MESSAGE:
        return f"it has {len(message):,} characters"
    last = len(data.decode("utf-8", "replace").splitlines()) + 1
    for fault in error.faults:
        if fault.line is None or not 1 <= fault.line <= last:
            return f"it names line {fault.line} of {last}: {fault}"
    return None


def make_text(seed: int) -> tuple[str, bytes]:
    """Return the kind of a seed's text, and its bytes."""
    draw = random.Random(seed)
    kinds: dict[str, Callable[[random.Random], bytes]] = {
        "odd": lambda draw: _encode(_write_graph(draw, odd=draw.choice((0.005, 0.05, 0.3)))),
        "edited": lambda draw: _encode(_edit(draw, _write_graph(draw, odd=0.0))),
        DAMAGED: _damage,
        "grown": _grow,
        "shuffled": lambda draw: _encode(_shuffle(draw)),
    }
    (kind,) = draw.choices(list(kinds), weights=(40, 35, 10, 10, 5))
    return kind, kinds[kind](draw)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _write_graph(draw: random.Random, *, odd: float) -> str:
    """Write a graph of some jobs; each value and key is odd with a probability."""

    def choose(plain: str, others: tuple[str, ...] = ODD_VALUES) -> str:
        return draw.choice(others) if draw.random() < odd else plain

    lines = []
    for key, plain in (
        ("namespace", "moods"),
        ("catalogue", "music"),
        ("artifacts", "${NONE:-out}"),
        ("include", '["*.wav"]'),
        ("exclude", '["*/drafts/*"]'),
    ):
        if draw.random() < 0.4:
            lines.append(f"{choose(key, TOP_KEYS)}: {choose(plain)}")
    if draw.random() < 0.4:
        lines.append(f"{choose('pipelines', TOP_KEYS)}:{choose('')}")
        members = ", ".join(
            ["job_0", draw.choice(ODD_VALUES)] if draw.random() < odd else ["job_0"]
        )
        lines.append(f"  {choose('light', NAMES)}: {choose(f'[{members}]')}")
    lines.append(f"{choose('jobs', TOP_KEYS)}:{choose('')}")
    names: list[str] = []
    for number in range(draw.randint(1, 8)):
        name = choose(f"job_{number}", NAMES)
        parents = draw.sample([SOURCE, *names], k=min(draw.randint(1, 2), len(names) + 1))
        needs = ", ".join(f"x{n}: {parent}" for n, parent in enumerate(parents))
        anchor = f" &n{number}" if draw.random() < 0.2 else ""
        lines.append(f"  {name}:{anchor}{choose('')}")
        if number and draw.random() < odd:
            lines.append(f"    <<: *n{draw.randrange(number)}")
        options = {
            "params": f"{{a: {choose('1')}, b: [{choose('x')}, {choose('2.5')}]}}",
            "version": "3",
            "owner": "team",
            "description": "'What it does: all.'",
            "timeout_s": "1.5",
            "attempts": "2",
            "resources": f"{{memory_gib: {choose('2')}, gpu: {choose('none')}}}",
            "equivalents": "['0123456789ab']",
        }
        body = {
            "run": f'"m.n:f{number}"',
            "needs": f"{{{needs}}}",
            "writes": draw.choice(("audio/flac", "application/json", "image/png")),
            **{key: plain for key, plain in options.items() if draw.random() < 0.3},
        }
        lines += [f"    {choose(key, KEYS)}: {choose(plain)}" for key, plain in body.items()]
        names.append(name)
    return "\n".join(lines) + "\n"


def _edit(draw: random.Random, text: str) -> str:
    """Edit a text a few times, as a clumsy author would."""
    for _ in range(draw.randint(1, 6)):
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        place = draw.randrange(len(text) + 1)
        match draw.randrange(8):
            case 0:
                del lines[at]
                text = "\n".join(lines)
            case 1:
                lines.insert(draw.randrange(len(lines) + 1), lines[at])
                text = "\n".join(lines)
            case 2:
                lines[at] = " " * draw.randrange(8) + lines[at].strip()
                text = "\n".join(lines)
            case 3:
                text = text[:place]
            case 4:
                text = text[:place] + draw.choice(INDICATORS) + text[place:]
            case 5:
                text = text[:place] + text[place + draw.randrange(1, 12) :]
            case 6:
                text = text[:place] + draw.choice(ODD_VALUES) + text[place:]
            case 7:
                other = draw.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
                text = "\n".join(lines)
    return text


def _damage(draw: random.Random) -> bytes:
    """Return the bytes of a valid graph with some of them changed."""
    data = bytearray(_encode(_write_graph(draw, odd=0.0)))
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _shuffle(draw: random.Random) -> str:
    return "".join(draw.choice(INDICATORS) for _ in range(draw.randint(1, 200)))


def _grow(draw: random.Random) -> bytes:
    """Return a text that is long, deep, or stands for more than it says."""
    is_large = draw.randrange(LARGE_EVERY // 10) == 0
    size = draw.randrange(900_000, 1_200_000) if is_large else draw.randrange(1, 5_000)
    deep = min(size, 100_000)
    head = draw.choice(("", "jobs: ", "jobs:\n  a:\n    params: ", "x: &a y\njobs: "))
    width, levels = draw.randint(1, 12), draw.randint(1, 40)
    unit = draw.choice(UNITS)
    match draw.randrange(6):
        case 0:
            text = head + unit * (size // len(unit))
        case 1:
            text = head + "[" + unit * (size // len(unit)) + "]"
        case 2:
            leaf = draw.choice(("a", "[a]", "{a: b}", "[" + "y" * size + "]"))
            lines = [f"x0: &x0 {leaf}"]
            for n in range(1, levels):
                inner = ", ".join([f"*x{n - 1}"] * width)
                form = draw.choice(("[{}]", "{{<<: [{}]}}", "{{<<: *x{n}, k: [{}]}}"))
                lines.append(f"x{n}: &x{n} " + form.format(inner, n=n - 1))
            text = "\n".join(lines) + "\njobs: {}\n"
        case 3:
            text = "".join(f"{' ' * n}k{n}:\n" for n in range(min(deep, 1_400)))
        case 4:
            jobs = min(size // 20, 3_000)
            step = draw.choice((-1, 1, 7))
            needs = (f"{{x: j{(n + step) % jobs}}}" for n in range(jobs))
            text = "jobs:\n" + "".join(
                f'  j{n}: {{run: "m:f", needs: {need}, writes: image/png}}\n'
                for n, need in enumerate(needs)
            )
        case _:
            text = head + "{" + ", ".join(f"k{n}: {unit!r}" for n in range(size // 10)) + "}"
    return _encode(text)


def main(argv: list[str] | None = None) -> int:
    """Check a range of seeds, and print the figures; return 1 if there is a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.malformed_graphs", description=__doc__
    )
    parser.add_argument("--seeds", type=parse_seeds, required=True, metavar="FIRST:END")
    figures = check_graphs(parser.parse_args(argv).seeds)
    for example in figures.examples:
        print(example)
    print(figures, flush=True)
    return int(figures.violations > 0)


if __name__ == "__main__":
    sys.exit(main())

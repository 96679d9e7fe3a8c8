"""Reads a YAML document into plain values and the lines that they are on, within limits.

A stranger may have written the text, so it is read without recursion, in time and memory
proportional to its length. A document is made of mappings with text as keys, lists, text, numbers,
booleans and nulls. Aliases and merge keys work, within the limits. Tags are refused, and so are
values without quotes that YAML 1.1 and YAML 1.2 read differently, such as ``no``, ``010``,
``1:30``, ``1e3`` and dates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from segue.model.media_file import is_unicode

MAX_CHARACTERS = 2**20  # of the text, and of all values with the aliases written out
MAX_VALUES = 100_000  # also with the aliases written out
MAX_DEPTH = 32
MAX_KEY = 128  # characters
MAX_FAULTS = 50  # to report
# The characters that YAML 1.2.2 allows, section 5.1.
NOT_ALLOWED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The core schema of YAML 1.2.2, section 10.3.2.
CORE_SCHEMA = {
    "null": re.compile(r"|~|null|Null|NULL"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
OCTAL = re.compile(r"[-+]?0[0-9]+")  # in YAML 1.1; decimal in YAML 1.2
# How to write a value that is not text so that both versions read it alike.
SPELLINGS = {
    "bool": "write true or false",
    "int": "write a number in digits, the first not 0, such as 90",
    "float": "write a number with a digit on each side of the point, such as 0.5 or 1.0e-5",
}
# Both parsers yield the same events, libyaml's forty times faster.
PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class YamlFault:
    """One thing that is wrong with a document, and the remedy."""

    line: int  # from 1
    place: str  # such as jobs.energy.needs; empty for the whole document
    message: str


class YamlError(ValueError):
    """A text is not a document that can be read; the error lists its faults."""

    def __init__(self, faults: list[YamlFault]) -> None:
        self.faults = faults
        places = (f"line {f.line}, {f.place}" if f.place else f"line {f.line}" for f in faults)
        lines = (f"{place}: {f.message}" for place, f in zip(places, faults, strict=True))
        super().__init__("; ".join(lines))


@dataclass(slots=True)
class _Lines:
    """The lines on which the items of a mapping or list are."""

    at: dict[str | int, int] = field(default_factory=dict)
    below: dict[str | int, _Lines] = field(default_factory=dict)  # of items with items


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The value of a document, and where its parts are."""

    value: Any
    lines: _Lines

    def find_line(self, place: str) -> int:
        """Return the line of a place such as ``jobs.a.params.x[0]``, or of what should hold it."""
        found, lines, steps = 1, self.lines, re.findall(r"[^.\[]+|\[\d+\]", place)
        while steps:
            # A key may contain a dot, so it may be several steps.
            for n in range(len(steps), 0, -1):
                key: str | int = ".".join(steps[:n])
                if n == 1 and steps[0][0] == "[":
                    key = int(steps[0][1:-1])
                if key in lines.at:
                    break
            else:
                break
            found, lines, steps = lines.at[key], lines.below.get(key, _Lines()), steps[n:]
        return found


@dataclass(slots=True, kw_only=True)
class _Part:
    """A value, and what the limits depend on."""

    value: Any
    values: int = 1  # with aliases written out
    characters: int = 0  # with aliases written out
    height: int = 0  # levels below it
    lines: _Lines = field(default_factory=_Lines)


@dataclass(slots=True, kw_only=True)
class _OpenPart(_Part):
    """A mapping or list that is being read."""

    anchor: str | None
    key: str | int | None  # of the item that is read; None while a mapping's key is read
    keys: set[str] = field(default_factory=set)
    merged: list[_Part] = field(default_factory=list)  # an earlier one takes precedence


class _MergeKey(str):
    """The key ``<<`` without quotes, whose value are mappings to merge (YAML 1.1)."""

    __slots__ = ()


class _Stopped(Exception):
    """Nothing more is read, because of the last fault or the number of faults."""


def parse_yaml(text: str) -> YamlDocument:
    """Parse a text with one document.

    Raises
    ------
    YamlError
        If it is not valid YAML, has values that are not plain, or is beyond a limit.
    """
    if len(text) > MAX_CHARACTERS:
        message = f"has {len(text):,} characters; write at most {MAX_CHARACTERS:,}"
        raise YamlError([YamlFault(1, "", message)])
    if found := NOT_ALLOWED.search(text):
        line = text.count("\n", 0, found.start()) + 1
        message = f"is not valid YAML: it contains the character {found[0]!a}; remove it"
        raise YamlError([YamlFault(line, "", message)])
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=PARSER):
            reader.take(event)
    except _Stopped:
        pass
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The last two are the Python parser's, for an escape beyond Unicode.
        reader.faults.append(_describe_error(error, reader.line))
    if reader.faults:
        raise YamlError(reader.faults)
    return YamlDocument(reader.root.value, reader.root.lines)


def _describe_error(error: Exception, line: int) -> YamlFault:
    message = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = line if mark is None else mark.line + 1
        message = " ".join(filter(None, (error.context, error.problem)))
    remedy = "indent with spaces, and put text with special characters in quotes"
    return YamlFault(line, "", f"is not valid YAML: {message}; {remedy}")


class _Reader:
    """Builds values from the events of a parser."""

    def __init__(self) -> None:
        self.root = _Part(value=None)
        self.faults: list[YamlFault] = []
        self.line = 1
        self._open: list[_OpenPart] = []
        self._anchors: dict[str, _Part | None] = {}  # None while the part is being read
        self._documents = 0

    def take(self, event: Any) -> None:
        """Take the next event."""
        self.line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                self._take_scalar(event)
            case yaml.AliasEvent():
                self._take_alias(str(event.anchor))
            case yaml.MappingStartEvent():
                self._start(event, {}, None)
            case yaml.SequenceStartEvent():
                self._start(event, [], 0)
            case yaml.CollectionEndEvent():
                self._finish()
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop("is followed by a second document; write a single document")

    def _report(self, message: str, key: str | None = None) -> None:
        """Report a fault of the next value, or of a key of the innermost mapping."""
        self.faults.append(YamlFault(self.line, self._find_place(key), message))
        if len(self.faults) >= MAX_FAULTS:
            raise _Stopped

    def _stop(self, message: str) -> None:
        self.faults.append(YamlFault(self.line, self._find_place(), message))
        raise _Stopped

    def _find_place(self, key: str | None = None) -> str:
        keys = [*(part.key for part in self._open), key]
        place = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys if k is not None)
        return place.removeprefix(".")

    @property
    def _expects_key(self) -> bool:
        return bool(self._open) and self._open[-1].key is None

    def _take_scalar(self, event: Any) -> None:
        text: str = event.value
        part = _Part(value=text, characters=len(text))
        self._check_tag(event)
        if not is_unicode(text):
            self._report("has half of a surrogate pair; write the character itself")
        elif event.tag is None and event.implicit[0]:
            is_merge = text == "<<" and self._expects_key
            part.value = _MergeKey(text) if is_merge else self._resolve(text)
        if event.anchor is not None:
            self._anchors[event.anchor] = part
        self._add(part)

    def _check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!"):
            tag = abbreviate(event.tag)
            self._report(f"has the tag {tag}; leave it out, and put text in quotes")

    def _resolve(self, text: str) -> Any:
        """Return the value of a scalar without quotes."""
        core = next((tag for tag, form in CORE_SCHEMA.items() if form.fullmatch(text)), "str")
        before = _resolve_yaml_1_1(text)
        if core != before or (core == "int" and OCTAL.fullmatch(text)):
            remedy = "put it in quotes"
            spelling = SPELLINGS.get(before if core == "str" else core)
            if spelling and not self._expects_key:
                remedy = f"{remedy} to make it text, or {spelling}"
            self._report(
                f"{abbreviate(text)} is read differently by YAML 1.1 and 1.2; {remedy}",
                text if self._expects_key else None,
            )
            return text
        match core:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "int":
                try:
                    return int(text, 16 if "x" in text else 10)
                except ValueError:  # Python reads 4,300 digits
                    self._report(f"{abbreviate(text)} has too many digits; put it in quotes")
        return text

    def _take_alias(self, anchor: str) -> None:
        name = abbreviate(anchor)
        if anchor not in self._anchors:
            self._report(f"the alias {name} has no anchor above it; name an anchor")
        part = self._anchors.get(anchor, _Part(value=None))
        if part is None:
            self._stop(f"the alias {name} is within its own anchor; write the value out")
        else:
            self._add(part)

    def _start(self, event: Any, empty: Any, first_key: int | None) -> None:
        if self._expects_key:
            self._stop("has a mapping or list as a key; write text")
        if len(self._open) >= MAX_DEPTH:
            self._stop(f"is nested more than {MAX_DEPTH} levels deep; flatten it")
        self._check_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if self._open and isinstance(key := self._open[-1].key, int):
            self._open[-1].lines.at[key] = self.line
        self._open.append(_OpenPart(value=empty, anchor=event.anchor, key=first_key))

    def _finish(self) -> None:
        part = self._open.pop()
        if part.merged:
            sources = [*reversed(part.merged), part]
            part.value = {k: v for source in sources for k, v in source.value.items()}
            part.lines = _Lines(
                at={k: at for source in sources for k, at in source.lines.at.items()},
                below={k: b for source in sources for k, b in source.lines.below.items()},
            )
        if part.anchor is not None:
            self._anchors[part.anchor] = part
        self._add(part)

    def _add(self, part: _Part) -> None:
        """Add a value or a key to the innermost mapping or list, or make it the document."""
        if not self._open:
            self.root = part
            return
        above = self._open[-1]
        above.values += part.values
        above.characters += part.characters
        above.height = max(above.height, part.height + 1)
        if above.values > MAX_VALUES or above.characters > MAX_CHARACTERS:
            limit = f"{MAX_VALUES:,} values or {MAX_CHARACTERS:,} characters"
            self._stop(f"with its aliases written out, has more than {limit}; shorten it")
        if len(self._open) + part.height > MAX_DEPTH:
            rule = f"is more than {MAX_DEPTH} levels deep"
            self._stop(f"with its aliases written out, {rule}; flatten it")
        if above.key is None:
            self._add_key(above, part.value)
            return
        if isinstance(above.key, _MergeKey):
            self._merge(above, part)
        elif isinstance(above.key, int):
            above.value.append(part.value)
            above.lines.at.setdefault(above.key, self.line)
        else:
            above.value[above.key] = part.value
        if part.lines.at:
            above.lines.below[above.key] = part.lines
        above.key = above.key + 1 if isinstance(above.key, int) else None

    def _add_key(self, above: _OpenPart, value: Any) -> None:
        key = value if isinstance(value, str) else str(value)
        if len(key) > MAX_KEY:
            key = key[:MAX_KEY]
            self._report(f"has a key of more than {MAX_KEY} characters; shorten it")
        elif key is not value:
            self._report(f"the key {key} is not text; put it in quotes", key)
        elif key in above.keys:
            self._report(f"{key!r} is written twice; keep one")
        above.keys.add(key)
        above.lines.at[key] = self.line
        above.key = key

    def _merge(self, above: _OpenPart, part: _Part) -> None:
        parts = [part]
        if isinstance(part.value, list):
            below = part.lines.below
            parts = [
                _Part(value=value, lines=below.get(i, _Lines()))
                for i, value in enumerate(part.value)
            ]
        if all(isinstance(source.value, dict) for source in parts):
            above.merged += parts
        else:
            self._report("is not a mapping, and cannot be merged; name the anchor of one")


def _resolve_yaml_1_1(text: str) -> str:
    """Return what YAML 1.1 takes a scalar without quotes for."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, form in [*resolvers.get(text[:1], ()), *resolvers.get(None, ())]:
        if form.match(text):
            return str(tag).rpartition(":")[2]
    return "str"


def abbreviate(value: Any) -> str:
    """Return a value for a message, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

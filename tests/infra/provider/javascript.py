"""Parses the generated JavaScript of one resource type into its schema.

Each argument occurs twice: as a getter below a comment that says whether it is required, optional
or computed, and in a table that says whether it is a block and of which kind. What only the
provider sets has only a getter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from provider.schema import Attribute, Block, Mode, Nested, Type

CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
TABLE_OF = re.compile(
    r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
MEMBER = re.compile(
    r"^    // (?P<name>\w+) - computed: (?P<computed>true|false), "
    r"optional: (?P<optional>true|false), required: (?P<required>true|false)\n"
    r"(?P<body>.*?)(?=^    // \w+ - computed: |^    // =+\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
ENTRY = re.compile(
    r"^\s+(?P<name>\w+): \{\n\s+value: (?P<value>.*?),\n\s+isBlock: (?P<is_block>true|false),\n"
    r'\s+type: "(?P<kind>\w+)",\n\s+storageClassType: "(?P<storage>\w+)"',
    re.MULTILINE | re.DOTALL,
)
TYPE_NAME = re.compile(r'static tfResourceType = "([\w-]+)"')
# new PubsubTopicTransformsList(this, "transforms", false); from another module, with its alias.
STRUCT = re.compile(
    r'new (?:\w+\.)?(?P<name>\w+?)(?P<form>List|Map|OutputReference)\(this, "\w+"'
    r"(?:, (?P<is_set>true|false))?\)"
)
STRUCT_TABLE = re.compile(r"(\w+)ToHclTerraform")
ROOTS = {"TerraformResource", "TerraformDataSource", "TerraformProvider"}

# What a getter calls → the type that it returns.
GETTERS: Mapping[str, Type] = {
    "getStringMapAttribute(": ["map", "string"],
    "new cdktn.StringMap(": ["map", "string"],
    "new cdktn.NumberMap(": ["map", "number"],
    "new cdktn.BooleanMap(": ["map", "bool"],
    "new cdktn.StringMapList(": ["list", ["map", "string"]],
    "getStringAttribute(": "string",
    "getNumberAttribute(": "number",
    "getBooleanAttribute(": "bool",
}
LIST_GETTERS = {"getNumberListAttribute(": "number", "getListAttribute(": "string"}
# The entry of a table → the type, for the provider's settings, whose getters do not say it.
STORED: Mapping[tuple[str, str], Type] = {
    ("simple", "string"): "string",
    ("simple", "number"): "number",
    ("simple", "boolean"): "bool",
    ("list", "stringList"): ["list", "string"],
    ("set", "stringList"): ["set", "string"],
    ("list", "numberList"): ["list", "number"],
    ("set", "numberList"): ["set", "number"],
    ("map", "stringMap"): ["map", "string"],
}
MODES: Mapping[str, Mode] = {"struct": "single", "list": "list", "set": "set", "map": "map"}


class UnreadableBinding(RuntimeError):
    """The generated code has an unknown form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One argument in a table."""

    value: str
    is_block: bool
    kind: str
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Struct:
    """A group of members: a block, or the value of an attribute."""

    block: Block
    form: Literal["single", "list", "set", "map"]


_Table = Mapping[str, _Entry]


class Module:
    """The modules of one resource type, as one text."""

    def __init__(self, text: str) -> None:
        self._classes = {m[1]: m[3] for m in CLASS.finditer(text)}
        self._tables = {m[1]: _parse_table(m[2]) for m in TABLE_OF.finditer(text)}
        roots = [m[1] for m in CLASS.finditer(text) if m[2] in ROOTS]
        if len(roots) != 1:
            raise UnreadableBinding(f"{len(roots)} classes of {sorted(ROOTS)} in one folder, not 1")
        self._root = roots[0]

    @property
    def type(self) -> str:
        """The resource's type, such as google_pubsub_topic."""
        found = TYPE_NAME.search(self._classes[self._root])
        assert found is not None
        return found[1]

    def build_block(self) -> Block:
        """Return the schema of the resource."""
        body = self._classes[self._root]
        return self._build_block(
            self._root, _parse_table(body[body.find("synthesizeHclAttributes") :])
        )

    def _build_block(self, name: str, table: _Table) -> Block:
        attributes: dict[str, Attribute] = {}
        blocks: dict[str, Nested] = {}
        for member in MEMBER.finditer(self._classes[name]):
            entry = table.get(member["name"])
            struct, type_ = self._read_member(name, member, entry)
            if struct is not None and entry is not None and entry.is_block:
                blocks[member["name"]] = _build_nested(member, entry, struct)
            else:
                attributes[member["name"]] = _build_attribute(member, type_)
        return Block(attributes=attributes, blocks=blocks)

    def _read_member(
        self, place: str, member: re.Match[str], entry: _Entry | None
    ) -> tuple[_Struct | None, Type]:
        """Return the type of a member, and its struct if it has one."""
        body = member["body"]
        if (type_ := _find_type(body)) is not None:
            return None, type_
        if found := STRUCT.search(body):
            struct = self._build_struct(found)
        elif entry is not None and (entry.kind, entry.storage) in STORED:
            return None, STORED[entry.kind, entry.storage]
        elif entry is not None and (setting := self._build_setting(entry)) is not None:
            struct = setting
        else:
            raise UnreadableBinding(f"{place}.{member['name']} has no known form: {body[:300]!r}")
        if struct.form == "single" and entry is not None and entry.kind == "struct":
            return struct, struct.block.type
        form = "list" if struct.form == "single" else struct.form
        return struct, [form, struct.block.type]

    def _build_struct(self, found: re.Match[str]) -> _Struct:
        name = found["name"]
        table = self._tables.get(name[0].lower() + name[1:], {})
        block = self._build_block(f"{name}OutputReference", table)
        if found["form"] == "OutputReference":
            return _Struct(block=block, form="single")
        if found["form"] == "Map":
            return _Struct(block=block, form="map")
        return _Struct(block=block, form="set" if found["is_set"] == "true" else "list")

    def _build_setting(self, entry: _Entry) -> _Struct | None:
        """Return a block of the provider's settings, which is only in the table."""
        found = STRUCT_TABLE.search(entry.value)
        if found is None or found[1] not in self._tables:
            return None
        attributes = {
            name: Attribute(type=STORED[e.kind, e.storage], optional=True)
            for name, e in self._tables[found[1]].items()
        }
        form: Literal["single", "list"] = "list" if "listMapper" in entry.value else "single"
        return _Struct(block=Block(attributes=attributes), form=form)


def _parse_table(text: str) -> _Table:
    return {
        m["name"]: _Entry(
            value=m["value"], is_block=m["is_block"] == "true", kind=m["kind"], storage=m["storage"]
        )
        for m in ENTRY.finditer(text)
    }


def _find_type(body: str) -> Type | None:
    for getter, type_ in GETTERS.items():
        if getter in body:
            return type_
    for getter, of in LIST_GETTERS.items():
        if getter in body:
            return ["set" if "Fn.tolist" in body else "list", of]
    return None


def _build_attribute(member: re.Match[str], type_: Type) -> Attribute:
    is_ = {flag: member[flag] == "true" for flag in ("required", "optional", "computed")}
    if not any(is_.values()):
        is_["optional"] = True
    return Attribute(type=type_, **is_)


def _build_nested(member: re.Match[str], entry: _Entry, struct: _Struct) -> Nested:
    mode = MODES[entry.kind]
    many = mode != "single"
    return Nested(
        block=struct.block,
        mode=mode,
        min_items=1 if many and member["required"] == "true" else 0,
        max_items=1 if many and struct.form == "single" else 0,
    )

"""The schema of a provider: the attributes and blocks of each resource type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# A type as Terraform writes it in JSON: "string", ["map", "string"], ["object", {…}] and the like.
Type = Any
Mode = Literal["single", "list", "set", "map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One argument of a block, or one value that the provider sets."""

    type: Type
    required: bool = False
    optional: bool = False
    computed: bool = False

    @property
    def is_read_only(self) -> bool:
        """Whether only the provider may set it."""
        return self.computed and not self.optional


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """A block within a block, and how often it may occur; a maximum of 0 is no limit."""

    block: Block
    mode: Mode
    min_items: int = 0
    max_items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The body of a resource, of a data source, of the provider's settings, or of a part of one."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: Mapping[str, Nested] = field(default_factory=dict)

    @property
    def type(self) -> Type:
        """The type of a value of this block."""
        members = {name: a.type for name, a in self.attributes.items()}
        for name, nested in self.blocks.items():
            kind = "list" if nested.mode == "single" else nested.mode
            members[name] = [kind, nested.block.type]
        return ["object", members]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One provider, with the requested types."""

    address: str  # with the registry's host before hashicorp/google
    version: str
    provider: Block
    resources: Mapping[str, Block]
    data_sources: Mapping[str, Block]

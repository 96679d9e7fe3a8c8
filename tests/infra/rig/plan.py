"""What a plan or a state says, in a form that can be read and compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Names that hold a hash of contents change with every line of code.
HASH = re.compile(r"\b[0-9a-f]{16}\b")
# What a resource is called, the first of these that it has.
NAMES = (
    "account_id",
    "repository_id",
    "role_id",
    "service",
    "field",
    "display_name",
    "name",
    "collection",
)
# On what a role is given, the first of these that the resource has.
TARGETS = (
    "topic",
    "subscription",
    "bucket",
    "repository",
    "service_account_id",
    "crypto_key_id",
    "name",
    "project",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One managed resource with all its values."""

    address: str
    type: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called in the cloud."""
        if self.type == "google_firestore_index":
            return ", ".join(f["field_path"] for f in self.values["fields"])
        found = next((self.values[n] for n in NAMES if self.values.get(n)), self.address)
        return HASH.sub("HASH", str(found))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """Somebody may do something with something."""

    member: str
    role: str
    on: str  # a type and a name, such as topic:segue-beats-live
    only: str = ""  # the condition

    def __str__(self) -> str:
        return f"{self.member} {self.role} {self.on}" + (f" if {self.only}" if self.only else "")


def resources(state: Mapping[str, Any]) -> list[Resource]:
    """All managed resources of a state, or of what a plan will make of it."""
    values = state.get("planned_values") or state["values"]
    return [
        Resource(address=r["address"], type=r["type"], values=r["values"])
        for module in _modules(values["root_module"])
        for r in module.get("resources", ())
        if r["mode"] == "managed"
    ]


def grants(found: list[Resource]) -> list[Grant]:
    """All that identities may do."""
    return sorted(_grant(r) for r in found if r.type.endswith("_iam_member"))


def counts(found: list[Resource]) -> dict[str, int]:
    """How many resources of each type there are."""
    return dict(sorted(Counter(r.type for r in found).items()))


def names(found: list[Resource], type_: str) -> list[str]:
    """What the resources of one type are called."""
    return sorted(r.name for r in found if r.type == type_)


def changes(plan: Mapping[str, Any]) -> dict[str, str]:
    """What a plan does, by address: create, update, delete, or replace."""
    done = {c["address"]: c["change"]["actions"] for c in plan["resource_changes"]}
    idle = (["no-op"], ["read"])
    return {a: "replace" if len(w) > 1 else w[0] for a, w in sorted(done.items()) if w not in idle}


def summary(found: list[Resource]) -> dict[str, Any]:
    """An environment in short: how much of what, what it is called, and who may do what."""
    types = {r.type for r in found if not r.type.endswith("_iam_member")} - {"terraform_data"}
    return {
        "counts": counts(found),
        "names": {type_: names(found, type_) for type_ in sorted(types)},
        "grants": [str(grant) for grant in grants(found)],
    }


def _modules(module: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield module
    for child in module.get("child_modules", ()):
        yield from _modules(child)


def _grant(resource: Resource) -> Grant:
    values = resource.values
    target = next(t for t in TARGETS if values.get(t))
    kind = "service" if target == "name" else target.removesuffix("_id")
    conditions = values.get("condition") or []
    return Grant(
        member=values["member"],
        role=values["role"],
        on=f"{kind}:{values[target].rpartition('/')[2]}",
        only=" and ".join(c["expression"] for c in conditions),
    )

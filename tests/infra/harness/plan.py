"""Reads plans and states of Terraform into values that tests can compare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Names that hold a hash of contents change with every line of code.
HASH = re.compile(r"\b[0-9a-f]{16}\b")
# A resource is named by the first of these attributes that it has.
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
# A role is granted on the first of these that the resource has.
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
        """Its name in the cloud."""
        if self.type == "google_firestore_index":
            return ", ".join(f["field_path"] for f in self.values["fields"])
        found = next((self.values[n] for n in NAMES if self.values.get(n)), self.address)
        return HASH.sub("HASH", str(found))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """A role of a member on a resource."""

    member: str
    role: str
    on: str  # a type and a name, such as topic:segue-done-beats
    condition: str = ""

    def __str__(self) -> str:
        condition = f" if {self.condition}" if self.condition else ""
        return f"{self.member} {self.role} {self.on}{condition}"


def list_resources(state: Mapping[str, Any]) -> list[Resource]:
    """Return all managed resources of a state, or of what a plan will make of it."""
    values = state.get("planned_values") or state["values"]
    return [
        Resource(address=r["address"], type=r["type"], values=r["values"])
        for module in _walk_modules(values["root_module"])
        for r in module.get("resources", ())
        if r["mode"] == "managed"
    ]


def list_grants(found: list[Resource]) -> list[Grant]:
    """Return all grants."""
    return sorted(_build_grant(r) for r in found if r.type.endswith("_iam_member"))


def count_types(found: list[Resource]) -> dict[str, int]:
    """Count the resources of each type."""
    return dict(sorted(Counter(r.type for r in found).items()))


def list_names(found: list[Resource], type_: str) -> list[str]:
    """Return the names of the resources of one type."""
    return sorted(r.name for r in found if r.type == type_)


def list_changes(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return what a plan does, by address: create, update, delete, or replace."""
    done = {c["address"]: c["change"]["actions"] for c in plan["resource_changes"]}
    idle = (["no-op"], ["read"])
    return {a: "replace" if len(w) > 1 else w[0] for a, w in sorted(done.items()) if w not in idle}


def summarize(found: list[Resource]) -> dict[str, Any]:
    """Summarize an environment: its resources by type, their names, and all grants."""
    types = {r.type for r in found if not r.type.endswith("_iam_member")} - {"terraform_data"}
    return {
        "counts": count_types(found),
        "names": {type_: list_names(found, type_) for type_ in sorted(types)},
        "grants": [str(grant) for grant in list_grants(found)],
    }


def _walk_modules(module: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield module
    for child in module.get("child_modules", ()):
        yield from _walk_modules(child)


def _build_grant(resource: Resource) -> Grant:
    values = resource.values
    target = next(t for t in TARGETS if values.get(t))
    kind = "service" if target == "name" else target.removesuffix("_id")
    conditions = values.get("condition") or []
    return Grant(
        member=values["member"],
        role=values["role"],
        on=f"{kind}:{values[target].rpartition('/')[2]}",
        condition=" and ".join(c["expression"] for c in conditions),
    )

"""Plans, applies and reads resources as a provider does, without a cloud.

A plan knows what the real provider's plan knows, and nothing more: a value that is known too early
would hide that a count or a key of ``for_each`` depends on it. Values that the cloud would return
are computed from the configuration, so they never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from provider.fake_cloud import compute_attributes, compute_blocks, read_data_source
from provider.schema import Block, Nested, Type
from provider.values import UNKNOWN, Unknown

Values = dict[str, Any]
ATTRIBUTION = {"goog-terraform-provisioned": "true"}  # a label that the real provider adds


def find_read_only(block: Block, values: Any, place: str = "") -> Iterator[str]:
    """Yield the arguments of a configuration that only the provider may set."""
    if not isinstance(values, dict):
        return
    for name, attribute in block.attributes.items():
        if attribute.is_read_only and values.get(name) is not None:
            yield place + name
    for name, nested in block.blocks.items():
        for each in _list_blocks(nested, values.get(name)):
            yield from find_read_only(nested.block, each, f"{place}{name}.")


def plan_resource(
    type_: str, block: Block, proposed: Values, settings: Values, prior: Values | None = None
) -> Values:
    """Plan a resource: arguments, values that are known beforehand, and the unknown rest."""
    _add_known_values(type_, block, proposed, settings)
    _map_attributes(block, proposed, lambda a, value, _: UNKNOWN if a and value is None else value)
    for name in compute_blocks(type_, proposed):
        proposed[name] = proposed.get(name) or (prior or {}).get(name) or UNKNOWN
    return proposed


def apply_plan(type_: str, block: Block, plan: Values) -> Values:
    """Apply a plan: replace the unknown values."""
    computed = compute_attributes(type_, plan)

    def replace(_: bool, value: Any, name_and_type: tuple[str, Type]) -> Any:
        name, kind = name_and_type
        return compute_value(kind, name, computed.get(name)) if value is UNKNOWN else value

    for name, filled in compute_blocks(type_, plan).items():
        if plan.get(name) is UNKNOWN:
            plan[name] = filled
    _map_attributes(block, plan, replace)
    return plan


def read_data(type_: str, block: Block, query: Values, settings: Values) -> Values:
    """Read a data source: the arguments, and computed values for the rest."""
    values = read_data_source(type_, settings, query)
    query.update({k: v for k, v in values.items() if query.get(k) is None})
    return apply_plan(type_, block, plan_resource(type_, block, query, settings))


def compute_value(kind: Type, name: str, known: object = None) -> Any:
    """Return a known value, else one of the right type."""
    if known is not None:
        return known
    match kind:
        case "string":
            return f"computed-{name}"
        case "number":
            return 0
        case "bool":
            return False
        case ["map", *_]:
            return {}
        case ["object", members]:
            return {member: compute_value(of, member) for member, of in members.items()}
        case _:
            return []


Replace = Callable[[bool, Any, tuple[str, Type]], Any]


def _map_attributes(block: Block, values: Values, replace: Replace) -> None:
    """Replace every attribute, given whether it is computed, its value, its name and type."""
    for name, a in block.attributes.items():
        values[name] = replace(a.computed, values.get(name), (name, a.type))
    for name, nested in block.blocks.items():
        for each in _list_blocks(nested, values.get(name)):
            _map_attributes(nested.block, each, replace)


def _list_blocks(nested: Nested, value: Any) -> list[Values]:
    """Return the blocks of a name."""
    if nested.mode == "single":
        return [value] if isinstance(value, dict) else []
    if nested.mode == "map":
        return list(value.values()) if isinstance(value, dict) else []
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _add_known_values(type_: str, block: Block, values: Values, settings: Values) -> None:
    """Add the values that the real provider knows before it creates a resource."""
    if "project" in block.attributes and values.get("project") is None:
        values["project"] = settings.get("project")
    if "terraform_labels" in block.attributes:
        own, default = values.get("labels") or {}, settings.get("default_labels") or {}
        if isinstance(own, Unknown) or isinstance(default, Unknown):
            labels: object = UNKNOWN
        else:
            labels = {**ATTRIBUTION, **default, **own}
        values["terraform_labels"] = values["effective_labels"] = labels
    if type_ == "google_service_account":
        name, project = values.get("account_id"), values.get("project")
        if isinstance(name, str) and isinstance(project, str):
            values["email"] = f"{name}@{project}.iam.gserviceaccount.com"
            values["member"] = f"serviceAccount:{values['email']}"

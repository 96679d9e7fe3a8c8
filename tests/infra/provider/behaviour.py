"""How the stand-in decides what a provider decides, with no cloud behind it.

What the real provider knows before it has made anything is known here, too, and nothing more: a
value that is known too early would hide that a count or a key of ``for_each`` depends on it. What
it would learn from the cloud is made up, always in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from provider.made_up_cloud import answers, blocks_filled_in, learned
from provider.schema import Block, Nested, Type
from provider.values import UNKNOWN, Unknown

Values = dict[str, Any]
ATTRIBUTION = {"goog-terraform-provisioned": "true"}  # a label that the real provider adds


def configured_read_only(block: Block, values: Any, place: str = "") -> Iterator[str]:
    """Name what a configuration sets though only the provider may decide it."""
    if not isinstance(values, dict):
        return
    for name, attribute in block.attributes.items():
        if attribute.is_read_only and values.get(name) is not None:
            yield place + name
    for name, nested in block.blocks.items():
        for each in _each(nested, values.get(name)):
            yield from configured_read_only(nested.block, each, f"{place}{name}.")


def planned(
    type_: str, block: Block, proposed: Values, settings: Values, prior: Values | None = None
) -> Values:
    """Say what a resource will be: what is set, what is known beforehand, and the unknown rest."""
    _foresee(type_, block, proposed, settings)
    _replace(block, proposed, lambda a, value, _: UNKNOWN if a and value is None else value)
    for name in blocks_filled_in(type_, proposed):
        proposed[name] = proposed.get(name) or (prior or {}).get(name) or UNKNOWN
    return proposed


def applied(type_: str, block: Block, plan: Values) -> Values:
    """Make a resource: what was unknown gets a value."""
    told = learned(type_, plan)

    def decide(_: bool, value: Any, name_and_type: tuple[str, Type]) -> Any:
        name, kind = name_and_type
        return made_up(kind, name, told.get(name)) if value is UNKNOWN else value

    for name, filled in blocks_filled_in(type_, plan).items():
        if plan.get(name) is UNKNOWN:
            plan[name] = filled
    _replace(block, plan, decide)
    return plan


def found(type_: str, block: Block, query: Values, settings: Values) -> Values:
    """Answer a data source: what was asked for, and made-up values for the rest."""
    query.update({k: v for k, v in answers(type_, settings).items() if query.get(k) is None})
    return applied(type_, block, planned(type_, block, query, settings))


def made_up(kind: Type, name: str, told: object = None) -> Any:
    """A value of a type."""
    if told is not None:
        return told
    match kind:
        case "string":
            return f"made-up-{name}"
        case "number":
            return 0
        case "bool":
            return False
        case ["map", *_]:
            return {}
        case ["object", members]:
            return {member: made_up(of, member) for member, of in members.items()}
        case _:
            return []


Decide = Callable[[bool, Any, tuple[str, Type]], Any]


def _replace(block: Block, values: Values, decide: Decide) -> None:
    """Decide on every attribute, given whether it is computed, its value, and its name and type."""
    for name, a in block.attributes.items():
        values[name] = decide(a.computed, values.get(name), (name, a.type))
    for name, nested in block.blocks.items():
        for each in _each(nested, values.get(name)):
            _replace(nested.block, each, decide)


def _each(nested: Nested, value: Any) -> list[Values]:
    """The blocks of a name."""
    if nested.mode == "single":
        return [value] if isinstance(value, dict) else []
    if nested.mode == "map":
        return list(value.values()) if isinstance(value, dict) else []
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _foresee(type_: str, block: Block, values: Values, settings: Values) -> None:
    """Fill in what the real provider knows before it makes a resource."""
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

"""Decides whether grants allow a call on an object or a bucket, as IAM does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace

from harness.plan import Grant

# Role → its permissions on objects and buckets, of those that Segue's code and Dataflow's use;
# https://cloud.google.com/iam/docs/roles-permissions
PERMISSIONS: Mapping[str, frozenset[str]] = {
    role: frozenset(f"storage.objects.{name}" for name in names.split())
    for role, names in {
        "roles/dataflow.worker": "create get",
        "roles/storage.objectCreator": "create",
        "roles/storage.objectUser": "create delete get list update",
        "roles/storage.objectViewer": "get list",
    }.items()
}


def is_allowed(grants: Iterable[Grant], permission: str, resource: str) -> bool:
    """Whether one of an identity's grants allows a call on ``BUCKET`` or ``BUCKET/OBJECT``."""
    bucket, slash, name = resource.partition("/")
    full = f"projects/_/buckets/{bucket}" + (f"/objects/{name}" if slash else "")
    kind = f"storage.googleapis.com/{'Object' if slash else 'Bucket'}"
    return any(
        permission in PERMISSIONS.get(grant.role, ())
        and (grant.on == f"bucket:{bucket}" or grant.on.startswith("project:"))
        and evaluate_condition(grant.condition, name=full, type_=kind)
        for grant in grants
    )


def evaluate_condition(condition: str, *, name: str, type_: str) -> bool:
    """Evaluate the part of IAM's expressions that infra/ uses; no condition is always true."""
    if not condition:
        return True
    for theirs, ours in (("startsWith", "startswith"), ("||", " or "), ("&&", " and ")):
        condition = condition.replace(theirs, ours)
    condition = re.sub(r"!(?!=)", " not ", condition)
    resource = SimpleNamespace(name=name, type=type_)
    return bool(eval(condition, {"__builtins__": {}}, {"resource": resource}))

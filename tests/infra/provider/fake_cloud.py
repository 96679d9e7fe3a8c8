"""Computes the values that the cloud would return: ids, numbers, names of Google's identities.

Only values that other resources refer to, or that a test checks, are realistic.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

PROJECT_NUMBER = "123456789012"
OTHER_NUMBER = "210987654321"  # of any other project

# The format of a new resource's id.
IDS: Mapping[str, str] = {
    "google_artifact_registry_repository": (
        "projects/{project}/locations/{location}/repositories/{repository_id}"
    ),
    "google_cloudfunctions2_function": "projects/{project}/locations/{location}/functions/{name}",
    "google_firestore_database": "projects/{project}/databases/{name}",
    "google_monitoring_notification_channel": (
        "projects/{project}/notificationChannels/{display_name}"
    ),
    "google_project_iam_custom_role": "projects/{project}/roles/{role_id}",
    "google_pubsub_subscription": "projects/{project}/subscriptions/{name}",
    "google_pubsub_topic": "projects/{project}/topics/{name}",
    "google_service_account": "projects/{project}/serviceAccounts/{email}",
}
# Types whose name is the id, and types whose name is another argument.
NAMED_BY_ID = {"google_service_account", "google_monitoring_notification_channel"}
NAMED_BY: Mapping[str, str] = {"google_artifact_registry_repository": "repository_id"}


def compute_attributes(type_: str, values: Mapping[str, Any]) -> dict[str, object]:
    """Return what the cloud would return for a new resource."""
    known = {k: v for k, v in values.items() if isinstance(v, str)}
    name = next((known[k] for k in ("name", "account_id", "display_name") if k in known), "one")
    parts = defaultdict(lambda: "computed", {"name": name, **known})
    id_ = IDS.get(type_, f"{type_}/{{name}}").format_map(parts)
    computed: dict[str, object] = {"id": id_}
    if type_ in NAMED_BY_ID:
        computed["name"] = id_
    if type_ in NAMED_BY:
        computed["name"] = known[NAMED_BY[type_]]
    if type_ == "google_storage_bucket_object":
        computed["generation"] = 1 + zlib.crc32(known["name"].encode())  # one of each upload
    if type_ == "google_project_service_identity":
        computed |= _build_agent(f"gcp-sa-{known['service'].partition('.')[0]}")
    if "project" in known:
        computed["self_link"] = f"https://www.googleapis.com/{id_}"
    return computed


def read_data_source(
    type_: str, settings: Mapping[str, Any], query: Mapping[str, Any]
) -> dict[str, object]:
    """Return what the cloud would return for a data source."""
    project = settings.get("project")
    if type_ == "google_project":
        return {"number": PROJECT_NUMBER, "project_id": project, "name": project}
    if type_ == "google_client_config":
        return {"project": project, "region": settings.get("region")}
    if type_ == "google_storage_project_service_account":
        is_own = query.get("project") in {None, project}
        agent = _build_agent("gs-project-accounts", PROJECT_NUMBER if is_own else OTHER_NUMBER)
        return {"email_address": agent["email"], "member": agent["member"]}
    return {}


def compute_blocks(type_: str, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the blocks that the provider adds if the configuration has none.

    The schema does not name them; the documentation calls them optional and computed.
    """
    if type_ == "google_eventarc_trigger":
        name = f"eventarc-{values.get('name')}"
        return {"transport": [{"pubsub": [{"topic": name, "subscription": f"{name}-sub"}]}]}
    return {}


def _build_agent(domain: str, number: str = PROJECT_NUMBER) -> dict[str, str]:
    email = f"service-{number}@{domain}.iam.gserviceaccount.com"
    return {"email": email, "member": f"serviceAccount:{email}"}

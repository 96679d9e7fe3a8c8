"""What the cloud would tell a provider: ids, numbers and names of Google's own identities.

Only what other resources refer to, or what a test looks at, has a form of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

PROJECT_NUMBER = "123456789012"

# The form of a new resource's id.
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
# Where the name is the id, and where it is something that the configuration says otherwise.
NAMED_BY_ID = {"google_service_account", "google_monitoring_notification_channel"}
NAMED_BY: Mapping[str, str] = {"google_artifact_registry_repository": "repository_id"}


def learned(type_: str, values: Mapping[str, Any]) -> dict[str, object]:
    """What the cloud tells of a resource that was made."""
    known = {k: v for k, v in values.items() if isinstance(v, str)}
    name = next((known[k] for k in ("name", "account_id", "display_name") if k in known), "one")
    parts = defaultdict(lambda: "made-up", {"name": name, **known})
    id_ = IDS.get(type_, f"{type_}/{{name}}").format_map(parts)
    told: dict[str, object] = {"id": id_}
    if type_ in NAMED_BY_ID:
        told["name"] = id_
    if type_ in NAMED_BY:
        told["name"] = known[NAMED_BY[type_]]
    if type_ == "google_project_service_identity":
        told |= _agent(f"gcp-sa-{known['service'].partition('.')[0]}")
    if "project" in known:
        told["self_link"] = f"https://www.googleapis.com/{id_}"
    return told


def answers(type_: str, settings: Mapping[str, Any]) -> dict[str, object]:
    """What the cloud answers a data source."""
    project = settings.get("project")
    if type_ == "google_project":
        return {"number": PROJECT_NUMBER, "project_id": project, "name": project}
    if type_ == "google_client_config":
        return {"project": project, "region": settings.get("region")}
    if type_ == "google_storage_project_service_account":
        agent = _agent("gs-project-accounts")
        return {"email_address": agent["email"], "member": agent["member"]}
    return {}


def blocks_filled_in(type_: str, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Blocks that the provider fills in where a configuration has none.

    A schema does not say which they are; the documentation calls them optional and computed.
    """
    if type_ == "google_eventarc_trigger":
        name = f"eventarc-{values.get('name')}"
        return {"transport": [{"pubsub": [{"topic": name, "subscription": f"{name}-sub"}]}]}
    return {}


def _agent(domain: str) -> dict[str, str]:
    email = f"service-{PROJECT_NUMBER}@{domain}.iam.gserviceaccount.com"
    return {"email": email, "member": f"serviceAccount:{email}"}

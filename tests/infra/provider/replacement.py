"""Knows which changes of a resource make the real provider delete it and create another.

A schema does not say so; the provider's documentation and source do. The facts are written down for
the types of infra/, and for the arguments that infra/ sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Type → the arguments and blocks of it that cannot be changed in place.
REPLACING: Mapping[str, frozenset[str]] = {
    type_: frozenset(names.split())
    for type_, names in {
        "google_artifact_registry_repository": "project location repository_id format kms_key_name",
        "google_billing_budget": "billing_account",
        "google_cloud_scheduler_job": "project region name",
        "google_cloud_run_v2_service": "project location name",
        "google_cloudfunctions2_function": "project location name",
        "google_compute_firewall": "project name direction",
        "google_compute_network": "project name description auto_create_subnetworks",
        "google_compute_subnetwork": "project region name network",
        "google_dataflow_flex_template_job": (
            "project region name num_workers max_workers enable_streaming_engine"
        ),
        "google_eventarc_trigger": "project location name transport",
        "google_firestore_backup_schedule": "project database daily_recurrence",
        "google_firestore_database": "project name location_id cmek_config",
        "google_firestore_field": "project database collection field",
        "google_firestore_index": "project database collection query_scope fields",
        "google_logging_metric": "project name",
        "google_monitoring_alert_policy": "project",
        "google_monitoring_dashboard": "project",
        "google_monitoring_notification_channel": "project",
        "google_project_iam_custom_role": "project role_id",
        "google_project_service": "project service",
        "google_project_service_identity": "project service",
        "google_pubsub_subscription": "project name topic",
        "google_pubsub_topic": "project name",
        "google_service_account": "project account_id",
        "google_storage_bucket": "project name location",
        "google_storage_bucket_object": "bucket name source content_type",
        "google_storage_notification": (
            "bucket topic payload_format event_types object_name_prefix custom_attributes"
        ),
    }.items()
}
MEMBER = "_iam_member"  # a grant: it has no argument that can be changed
COMPUTED_FOR_GRANTS = {"id", "etag"}


def list_replacing(type_: str, prior: Mapping[str, Any], planned: Mapping[str, Any]) -> list[str]:
    """Return the changed arguments that replace a resource."""
    if type_.endswith(MEMBER):
        names = frozenset(planned) - COMPUTED_FOR_GRANTS
    else:
        names = REPLACING.get(type_, frozenset())
    return sorted(n for n in names if n in planned and planned[n] != prior.get(n))

"""Asks Dataflow to cancel a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

ENDPOINT = "https://dataflow.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = 60.0


def cancel_job(
    name: str, *, endpoint: str = ENDPOINT, credentials: Credentials | None = None
) -> None:
    """Ask the service to cancel a job; it takes some minutes, and kills what runs.

    https://cloud.google.com/dataflow/docs/reference/rest/v1b3/projects.locations.jobs/update

    Parameters
    ----------
    name : str
        ``projects/PROJECT/locations/REGION/jobs/ID``
    endpoint : str
    credentials : Credentials, optional
        By default those of this machine.

    Raises
    ------
    ConfigurationError
        If the service refuses it: there is no such job, it has ended, or a right is missing.
    Unavailable
        If the service cannot be reached, or fails.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from requests import RequestException

    project, region, job = name.split("/")[1::2]
    gcloud = f"gcloud dataflow jobs cancel {job} --project={project} --region={region}"
    if credentials is None:
        from segue.adapters.connect import check_credentials

        check_credentials()
        credentials, _ = google.auth.default(scopes=[SCOPE])
    try:
        with AuthorizedSession(credentials) as session:  # type: ignore[no-untyped-call]
            response = session.put(
                f"{endpoint}/v1b3/{name}",
                json={"requestedState": "JOB_STATE_CANCELLED"},
                timeout=TIMEOUT_S,
            )
    except (GoogleAuthError, RequestException) as error:
        raise Unavailable(
            f"Dataflow cannot be reached ({error}); try again, or run {gcloud}"
        ) from error
    if response.ok:
        return
    said = f"Dataflow does not cancel the job {name} ({response.status_code} {response.reason})"
    if response.status_code >= 500 or response.status_code == 429:
        raise Unavailable(f"{said}; try again")
    if response.status_code in (401, 403):
        raise ConfigurationError(
            f"{said}; grant roles/dataflow.developer to the account that runs this"
        )
    raise ConfigurationError(f"{said}: it may have ended; look with 'segue runs', or run {gcloud}")

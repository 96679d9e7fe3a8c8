"""Jobs of Flex Templates: what the real provider finds of their settings when it reads one back.

It looks for them among the options that the job itself tells Dataflow, by the names of Beam's Java
SDK. A setting that the job does not tell under such a name is lost from Terraform's state.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Mapping
from typing import Any, Literal

TYPE = "google_dataflow_flex_template_job"
# Argument → the option that tells it, and when the provider takes the job's own setting instead.
OPTIONS: Mapping[str, tuple[str, Literal["never", "if the state has none", "always"]]] = {
    "temp_location": ("tempLocation", "never"),
    "staging_location": ("stagingLocation", "never"),
    "num_workers": ("numWorkers", "if the state has none"),
    "machine_type": ("workerMachineType", "if the state has none"),
    "sdk_container_image": ("sdkContainerImage", "if the state has none"),
    "max_workers": ("maxNumWorkers", "always"),
}


class FlexJobs:
    """The jobs that were launched, by id; each launch has an id of its own, an update's too."""

    def __init__(self, published: Collection[str]) -> None:
        self._published = published
        self._launched: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Launch a job, or update the running one; return what is read of it."""
        settings = {**settings, "job_id": f"job-{next(self._numbers)}"}
        settings["id"] = settings["job_id"]
        self._launched[settings["id"]] = copy.deepcopy(settings)
        return self.read(settings)

    def read(self, state: dict[str, Any]) -> dict[str, Any]:
        """Read a job back into a state."""
        job = self._launched.get(state["id"])
        if job is None:  # launched by another stand-in
            return state
        found = dict(state)
        for name, (option, fallback) in OPTIONS.items():
            known = option in self._published or fallback == "always"
            if fallback == "if the state has none":
                known = known or not state.get(name)
            found[name] = job.get(name) if known else None
        return found

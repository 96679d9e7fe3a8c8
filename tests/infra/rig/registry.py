"""The real providers, where somebody wants them and their registry can be reached."""

from __future__ import annotations

import os
from pathlib import Path

from rig.terraform import Terraform, TerraformError
from rig.tools import REGISTRY

# Terraform asks the registry once, and gives up soon.
IMPATIENT = {"TF_REGISTRY_CLIENT_TIMEOUT": "3", "TF_REGISTRY_DISCOVERY_RETRY": "0"}


def is_wanted() -> bool:
    """Whether they were asked for."""
    return os.environ.get(REGISTRY) == "1"


def answers(folder: Path, versions: str) -> bool:
    """Whether the providers that some versions.tf pins can be had; they are kept for later."""
    (folder / "versions.tf").write_text(versions)
    try:
        Terraform(folder, {**variables(), **IMPATIENT}).init()
    except TerraformError:
        return False
    return True


def variables() -> dict[str, str]:
    """What Terraform is told: where to keep what it downloads, and that nobody is logged in."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kept = os.path.join(home, "segue", "terraform-plugins")
    os.makedirs(kept, exist_ok=True)
    return {"TF_PLUGIN_CACHE_DIR": kept, "GOOGLE_OAUTH_ACCESS_TOKEN": "nobody"}

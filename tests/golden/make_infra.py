"""Writes ``infra/ENVIRONMENT.json``: what each environment consists of, and who may do what in it.

Run it after a change of infra/ or of the graph that ships, and read the difference before you
commit it. It needs Terraform, and what 'make infra' installs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "infra"))

from rig import environment, plan, stand_in, tools  # noqa: E402 - found by the line above


def main() -> None:
    (HERE / "infra").mkdir(exist_ok=True)
    with stand_in.serving([tools.INFRA]) as attached, tempfile.TemporaryDirectory() as folder:
        for name in environment.ENVIRONMENTS:
            built = environment.build(
                name, Path(folder) / name, {"TF_REATTACH_PROVIDERS": attached}
            )
            text = json.dumps(plan.summary(plan.resources(built.state)), indent=1) + "\n"
            (HERE / "infra" / f"{name}.json").write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}: {len(text.splitlines())} lines\n")


if __name__ == "__main__":
    main()

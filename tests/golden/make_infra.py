"""Writes ``infra/ENVIRONMENT.json``: what each environment consists of, and who may do what in it.

Run it after a change of infra/ or of the graph that ships, and read the difference before you
commit it. It also compiles the graphs of infra/tests again. It needs Terraform, and what 'make
infra' installs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "infra"))

from harness import environment, plan  # noqa: E402 - found by the line above
from harness.terraform import INFRA  # noqa: E402

from segue.model.settings import Settings  # noqa: E402
from segue_cli.function_archive import compile_graph  # noqa: E402


def main() -> None:
    for graph in (INFRA / "tests").glob("*/jobs.yaml"):
        compiled = compile_graph(Settings(graph=str(graph)))
        (graph.parent / "graph.json").write_bytes(compiled)
    (HERE / "infra").mkdir(exist_ok=True)
    with environment.serve_provider() as variables, tempfile.TemporaryDirectory() as folder:
        for name in environment.ENVIRONMENTS:
            built = environment.build_environment(name, Path(folder) / name, variables)
            summary = plan.summarize(plan.list_resources(built.state))
            text = json.dumps(summary, indent=1) + "\n"
            (HERE / "infra" / f"{name}.json").write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}: {len(text.splitlines())} lines\n")


if __name__ == "__main__":
    main()

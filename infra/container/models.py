"""Gets the models that a graph names, while the image is built.

``list`` writes what is known of them, and ``get`` gets what such a list names: in a stage of its
own, which depends on nothing but the list and the code that gets models.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict


def list_models() -> str:
    """Return all that is known of the models of the environment's graph, as JSON.

    Those are left out that need a file or a module beside the graph: this image has none.
    """
    from segue.model.model_entry import parse_source
    from segue.model.settings import Settings
    from segue.stack import load_graph

    graph = load_graph(Settings.load())
    listed = []
    for entry in graph.find_models(graph.jobs):
        needed = "" if parse_source(entry.source).scheme else entry.source
        if entry.convert and not entry.convert.startswith("segue."):
            needed = needed or entry.convert
        if needed:
            print(
                f"{entry.reference} needs {needed}, which this image does not have: an image FROM "
                "it has to copy that to /opt/segue, and run "
                f"'segue models get {entry.reference}'",
                file=sys.stderr,
            )
        else:
            listed.append(asdict(entry))
    return json.dumps(sorted(listed, key=lambda entry: (entry["name"], entry["version"])), indent=1)


def get_models(path: str, folder: str) -> None:
    """Get the models that a list names into a folder, which is there even if it has none."""
    from segue.model.model_entry import ModelEntry
    from segue.models.fetch import fetch_model
    from segue.models.library import ModelLibrary

    os.makedirs(folder, exist_ok=True)
    with open(path, encoding="utf-8") as file:
        entries = [ModelEntry(**fields) for fields in json.load(file)]
    for entry in entries:
        model = fetch_model(entry, ModelLibrary(folder=folder))
        print(f"{entry.reference} ({entry.licence or 'no licence given'}) is in {model.path}")


def main() -> None:
    """Do what the arguments say."""
    if sys.argv[1] == "list":
        print(list_models())
    else:
        get_models(*sys.argv[2:])


if __name__ == "__main__":
    main()

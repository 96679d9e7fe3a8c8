"""The context of a command: its settings, the stack that they select, and its output."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.adapters.empty_ledger import ledger_exists
from segue.model.settings import Settings
from segue.stack import Stack, load_graph, open_stack

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue_cli.views.output import Output


@dataclass(frozen=True, kw_only=True)
class Context:
    """The settings and output of a command, built from the options that all commands share."""

    settings: Settings
    output: Output

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that the settings select."""
        return load_graph(self.settings)

    @contextlib.contextmanager
    def open(self, *, create: bool = False) -> Iterator[Stack]:
        """Open the stack; with ``create``, create the ledger if it does not exist yet."""
        if not create and not ledger_exists(self.settings.ledger):
            self.output.note(
                f"There is no ledger {self.settings.ledger} yet; nothing has been recorded."
            )
        with open_stack(self.settings, graph=self.graph, create=create) as stack:
            yield stack

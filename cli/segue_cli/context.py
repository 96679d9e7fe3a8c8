"""What a command works with: the settings, the stack that they choose, and where its results go."""

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
    """What each command gets in place of the options that all of them share."""

    settings: Settings
    output: Output

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that the settings mean."""
        return load_graph(self.settings)

    @contextlib.contextmanager
    def open(self, *, create: bool = False) -> Iterator[Stack]:
        """Open the stack; with ``create``, a ledger that does not exist yet is made."""
        if not create and not ledger_exists(self.settings.ledger):
            self.output.note(
                f"There is no ledger {self.settings.ledger} yet; nothing was recorded."
            )
        with open_stack(self.settings, graph=self.graph, create=create) as stack:
            yield stack

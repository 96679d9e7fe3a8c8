"""Killed at random moments while files come, change and go: every file is complete in the end."""

from __future__ import annotations

import pytest

from segue_support.killed import VICTIMS, run_round

KILLS = 4


@pytest.mark.parametrize(("seed", "mode"), list(enumerate(VICTIMS)))
def test_processes_that_are_killed_lose_nothing_and_double_nothing(mode, seed):
    figures = run_round(seed, mode=mode, kills=KILLS)
    assert figures.violations == []
    assert figures.kills.total() == KILLS
    assert figures.results > 0

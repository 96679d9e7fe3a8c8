"""Signals are counted where they are waited for."""

from __future__ import annotations

import os
import signal

from segue_cli.local.signals import Signals


def test_signals_are_counted_where_they_are_waited_for():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signals.wait(0.0) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(10.0) == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.wait(10.0) == 2
    assert signal.getsignal(signal.SIGTERM) is before

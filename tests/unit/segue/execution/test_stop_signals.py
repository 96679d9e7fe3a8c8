"""A stream worker is stopped by a signal whenever it comes, also while it is being opened."""

from __future__ import annotations

import os
import signal

import pytest

from segue.execution.stop_signals import stop_at_signals
from segue.execution.stream_worker import StreamWorker
from segue_support.queue import MemoryQueue

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class IdleEngine:
    """Has nothing to do."""

    pending = 0


@pytest.fixture
def worker():
    return StreamWorker(queue=MemoryQueue(), ledger=None, engine=IdleEngine(), subscriptions=())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_worker_is_opened_stops_it_then(worker, number):
    with stop_at_signals() as attach:
        os.kill(os.getpid(), number)
        assert not worker.is_over
        attach(worker)
        assert worker.is_over


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_an_open_worker(worker, number):
    with stop_at_signals() as attach:
        attach(worker)
        assert not worker.is_over
        os.kill(os.getpid(), number)
        assert worker.is_over


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_interrupts_at_once(worker, number):
    with stop_at_signals() as attach:
        attach(worker)
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_the_handlers_from_before_are_restored(worker):
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_at_signals() as attach:
        attach(worker)
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before

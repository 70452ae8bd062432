import os
import signal
import threading

import pytest

from delineate.workflow.progress import StopRequest, stop_on_signals


def ask() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_asks_once_and_then_stops() -> None:
    with stop_on_signals() as stop:
        assert [stop.asked] == [False]
        ask()
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            ask()


def test_a_part_that_is_asked_stops_the_whole() -> None:
    with stop_on_signals() as whole:
        with stop_on_signals() as part:
            ask()
        assert part.asked
        assert whole.asked


def test_a_part_that_begins_after_the_whole_was_asked_ends_at_once() -> None:
    with stop_on_signals() as whole:
        ask()
        with stop_on_signals() as part:
            assert part.asked
        assert whole.asked
    with stop_on_signals() as later:
        assert not later.asked


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(), stop_on_signals():
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_does_not_listen() -> None:
    found: list[StopRequest] = []

    def work() -> None:
        with stop_on_signals() as stop:
            found.append(stop)

    with stop_on_signals() as whole:
        ask()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert whole.asked
    assert not found[0].asked

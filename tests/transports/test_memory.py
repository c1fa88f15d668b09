from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from drf_concord.transports.memory import Memory

from .listening import PATIENCE, Listening


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_it_is_always_there(memory: Memory) -> None:
    assert memory.available()
    memory.announce()  # to nobody


def test_every_event_loop_is_woken(memory: Memory) -> None:
    with Listening(memory) as one, Listening(memory) as two:
        for _ in range(3):
            memory.announce()
            one.hears()
            two.hears()

    assert one.wakes.empty()
    assert two.wakes.empty()


def test_many_announcements_wake_a_busy_loop_once() -> None:
    async def main() -> int:
        memory, wakes = Memory(), []
        listening = asyncio.create_task(memory.listen(lambda: wakes.append(None)))
        await asyncio.sleep(0)
        writers = [threading.Thread(target=memory.announce) for _ in range(20)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(PATIENCE)  # the loop stands still meanwhile
        before = len(wakes)
        await asyncio.sleep(0)
        memory.announce()
        await asyncio.sleep(0)
        listening.cancel()
        return len(wakes) - before

    assert asyncio.run(main()) == 2


def test_what_is_announced_while_a_listener_is_woken_wakes_it_again() -> None:
    async def main() -> list[str]:
        memory, wakes = Memory(), []

        def wake() -> None:
            wakes.append("wake")
            if len(wakes) == 2:
                memory.announce()

        listening = asyncio.create_task(memory.listen(wake))
        await asyncio.sleep(0)
        memory.announce()
        for _ in range(5):
            await asyncio.sleep(0)
        listening.cancel()
        return wakes

    assert len(asyncio.run(main())) == 3


def test_a_cancelled_listener_is_gone(memory: Memory) -> None:
    with Listening(memory) as listening:
        assert len(memory._listeners) == 1
    assert memory._listeners == ()

    memory.announce()
    assert listening.wakes.empty()


def test_a_loop_that_was_closed_is_dropped(memory: Memory) -> None:
    loop = asyncio.new_event_loop()
    listening = loop.create_task(memory.listen(lambda: None))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(memory._listeners) == 1
    listening._log_destroy_pending = False  # type: ignore[attr-defined]  # that it is lost is the point
    loop.close()

    memory.announce()
    assert memory._listeners == ()
    memory.announce()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_process_does_not_wake_the_parent(memory: Memory) -> None:
    with Listening(memory) as listening:
        with memory._lock:  # some other thread is just about to listen
            pid = os.fork()
            if pid == 0:
                try:
                    signal.alarm(int(PATIENCE))
                    memory.announce()
                    with memory._lock:
                        os._exit(0 if memory._listeners == () else 1)
                finally:
                    os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        memory.announce()
        listening.hears()
        assert listening.wakes.empty()

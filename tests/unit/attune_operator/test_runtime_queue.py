"""Which key is processed next, and when again."""

import asyncio
import time

from support.eventually import until

from attune_kit.backoff import Backoff
from attune_operator.runtime.queue import PriorityQueue


async def take(queue: PriorityQueue[str]) -> str:
    key, _ = await queue.get()
    return key


async def test_a_key_that_waits_is_one_entry() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a")
    queue.enqueue("b")
    queue.enqueue("a")
    assert len(queue) == 2
    assert [await take(queue), await take(queue)] == ["a", "b"]


async def test_a_key_that_is_worked_on_comes_again_afterwards_and_not_before() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a")
    await take(queue)
    queue.enqueue("a")
    assert len(queue) == 0
    queue.done("a")
    assert await take(queue) == "a"


async def test_what_is_urgent_goes_first() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    for key in "abc":
        queue.enqueue(key, urgent=False)
    queue.enqueue("c")
    queue.enqueue("d")
    assert [await take(queue) for _ in range(4)] == ["c", "d", "a", "b"]


async def test_what_became_urgent_while_it_was_worked_on_stays_so() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a")
    await take(queue)
    queue.enqueue("a")
    queue.enqueue("a", urgent=False)
    queue.enqueue("b", urgent=False)
    queue.done("a")
    assert await take(queue) == "a"


async def test_of_several_times_the_earliest_holds() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a", after=3600)
    queue.enqueue("a", after=0.01)
    queue.enqueue("a", after=1800)
    async with asyncio.timeout(150):
        assert await take(queue) == "a"


async def test_a_look_takes_the_place_of_the_one_that_was_to_come() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a", after=0.01)
    queue.enqueue("a")
    await take(queue)
    queue.done("a", requeue_after=3600)
    queue.enqueue("b", after=0.05)
    async with asyncio.timeout(150):
        assert await take(queue) == "b"


async def test_a_key_whose_work_brings_it_back_does_not_keep_the_others_from_running() -> None:
    queue: PriorityQueue[str] = PriorityQueue(burst=50, rate=2)
    turns: list[str] = []

    async def work() -> None:
        while True:
            key = await take(queue)
            turns.append(key)
            if key == "loops":
                queue.enqueue(key)  # what it wrote is seen as a change
            queue.done(key)

    began = time.monotonic()
    queue.enqueue("loops")
    worker = asyncio.create_task(work())
    await asyncio.sleep(0.3)
    queue.enqueue("other")
    await until(lambda: "other" in turns, what="other keys, and other tasks, have their turn")
    await asyncio.sleep(0.3)
    worker.cancel()
    allowed = 50 + 2 * (time.monotonic() - began) + 8
    assert turns.count("loops") <= allowed, "it comes at once for a while, and then twice a second"


async def test_after_a_failure_a_key_waits_longer_each_time_and_success_forgets_that() -> None:
    queue: PriorityQueue[str] = PriorityQueue(random_=lambda: 1.0)
    delays = []
    for _ in range(4):
        queue.enqueue("a")
        await take(queue)
        delays.append(queue.failed("a"))
    assert delays == [0.25, 0.5, 1.0, 2.0]
    queue.enqueue("a")
    await take(queue)
    queue.done("a")
    queue.enqueue("a")
    await take(queue)
    assert queue.failed("a") == 0.25
    queue.forget("a")


async def test_urgent_keys_go_first_and_each_key_comes_once() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue_all(["a", "b", "c"])
    queue.enqueue("b", urgent=True)
    queue.enqueue("b", urgent=False)
    assert len(queue) == 3
    taken = [queue.get_nowait() for _ in range(4)]
    assert taken == [("b", True), ("a", False), ("c", False), None]
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.enqueue("d")
    assert await waiting == ("d", True)


async def test_the_bulk_waits_while_another_queue_is_not_empty() -> None:
    first: PriorityQueue[str] = PriorityQueue()
    second: PriorityQueue[str] = PriorityQueue(yields_to=first)
    first.enqueue("x")
    second.enqueue("bulk", urgent=False)
    second.enqueue("urgent")
    assert await take(second) == "urgent"
    waiting = asyncio.create_task(take(second))
    await asyncio.sleep(0)
    assert not waiting.done()
    await first.get()
    assert await waiting == "bulk"


async def test_a_key_that_is_held_after_a_failure_waits_also_when_it_changes() -> None:
    queue: PriorityQueue[str] = PriorityQueue(retry=Backoff(initial=60, maximum=60))
    queue.enqueue("a")
    await queue.get()
    queue.enqueue("a")
    queue.enqueue("a", after=0.001)
    queue.failed("a", hold=True)
    await asyncio.sleep(0.01)
    assert (len(queue), queue.is_failing("a"), queue.outstanding) == (0, True, 1)


async def test_delays_that_did_not_come_to_pass_take_no_room() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    for _ in range(1000):
        queue.enqueue("a")
        await queue.get()
        queue.done("a", requeue_after=3600)
    assert len(queue._heap) < 100

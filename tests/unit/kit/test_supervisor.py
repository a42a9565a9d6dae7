"""A task that dies is known; one that is stopped is not dead."""

import asyncio

from support.eventually import until

from attune_kit.supervisor import Supervisor, TaskDiedError


async def test_a_task_that_dies_is_known_and_one_that_is_stopped_is_not() -> None:
    told: list[str] = []
    supervisor = Supervisor(on_died=told.append)

    async def fail() -> None:
        raise LookupError("lost")

    async def finish() -> None:
        return

    supervisor.start("failing", fail())
    supervisor.start("ending", finish())
    supervisor.start("running", asyncio.sleep(3600))
    await until(lambda: len(supervisor.dead) == 2)
    assert supervisor.dead == {"failing": "LookupError('lost')", "ending": "it ended"}
    died = await supervisor.failed()
    assert isinstance(died, TaskDiedError)
    assert isinstance(died.__cause__, LookupError)
    await supervisor.stop_all()
    assert told == ["failing", "ending"]


async def test_tasks_are_stopped_in_the_reverse_order_of_their_start() -> None:
    supervisor = Supervisor()
    stopped: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.append(number)

    for number in range(3):
        supervisor.start(str(number), work(number))
    await asyncio.sleep(0)
    await supervisor.stop_all()
    assert stopped == [2, 1, 0]


async def test_a_task_that_does_not_stop_in_time_is_left_behind() -> None:
    supervisor = Supervisor()
    leave = asyncio.Event()

    async def stubborn() -> None:
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue

    supervisor.start("stubborn", stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(150):
        await supervisor.stop_all(within=0.1)
    assert supervisor.dead == {}
    leave.set()
    await asyncio.sleep(0)

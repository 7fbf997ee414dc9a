"""Lending of warm workers: in the order of asking, to whoever is still there, and only whole processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import ray

from orchestrator.backends.worker_pool import PoolSize, WorkerPool
from orchestrator.errors import InfeasibleError


class NumberedWorkers(WorkerPool):
    """The same pool, of numbers instead of processes: order needs no Ray."""

    def __init__(self, workers: int, max_groups: int | None = None) -> None:
        self._numbers: Iterator[int] = count()
        super().__init__(
            PoolSize(workers=workers, cpus_per_worker=1, gpus_per_worker=0, max_groups=max_groups or workers)
        )

    def _start(self) -> int:
        return next(self._numbers)


async def settled() -> None:
    """Let every coroutine that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_workers_are_lent_in_the_order_of_asking() -> None:
    async def story() -> list[str]:
        pool, served = NumberedWorkers(1), []

        async def borrow(lease: str) -> None:
            await pool.borrow(lease, 1)
            served.append(lease)

        asking = [asyncio.ensure_future(borrow(lease)) for lease in "abcd"]
        for lease in "abc":
            await settled()
            await pool.give_back(lease)
        await asyncio.gather(*asking)
        return served

    assert asyncio.run(story()) == list("abcd")


def test_a_trial_that_needs_every_worker_is_not_starved_by_small_ones() -> None:
    async def story() -> tuple[list[int], bool]:
        pool = NumberedWorkers(2)
        await pool.borrow("small 1", 1)
        large = asyncio.ensure_future(pool.borrow("large", 2))
        await settled()
        small = asyncio.ensure_future(pool.borrow("small 2", 1))  # one is idle, but it was asked for before
        await settled()
        waited = not small.done()
        await pool.give_back("small 1")
        group = await large
        await pool.give_back("large")
        await small
        return sorted(group), waited

    assert asyncio.run(story()) == ([0, 1], True)


def test_workers_given_back_together_are_never_lent_twice() -> None:
    async def story() -> list[list[int]]:
        pool = NumberedWorkers(2)
        await pool.borrow("first", 2)
        waiting = [asyncio.ensure_future(pool.borrow(lease, 1)) for lease in ("a", "b", "c")]
        await settled()
        # None of those who wait runs between these two calls.
        await asyncio.gather(pool.give_back("first"), pool.give_back("nobody"))
        await settled()
        return [future.result() for future in waiting if future.done()]

    assert sorted(asyncio.run(story())) == [[0], [1]]


def test_no_more_groups_are_out_than_the_config_allows() -> None:
    async def story() -> tuple[bool, bool]:
        pool = NumberedWorkers(4, max_groups=1)
        await pool.borrow("a", 1)
        second = asyncio.ensure_future(pool.borrow("b", 1))
        await settled()
        waited = not second.done()
        await pool.give_back("a")
        await settled()
        return waited, second.done()

    assert asyncio.run(story()) == (True, True)


def test_giving_back_what_was_never_lent_is_nothing() -> None:
    async def story() -> list[int]:
        pool = NumberedWorkers(2)
        await pool.give_back("unknown")
        await pool.give_back("unknown", True)
        return sorted(await pool.borrow("a", 2))

    assert asyncio.run(story()) == [0, 1]


def test_who_gives_up_waiting_leaves_the_queue_to_the_next() -> None:
    async def story() -> tuple[list[int], list[int]]:
        pool = NumberedWorkers(1)
        await pool.borrow("a", 1)
        gone, next_one = (asyncio.ensure_future(pool.borrow(lease, 1)) for lease in ("gone", "next"))
        await settled()
        await pool.give_back("gone", True)
        await pool.give_back("a")
        return await gone, await next_one

    assert asyncio.run(story()) == ([], [0])


def test_once_lending_has_stopped_nobody_waits_and_it_can_begin_again() -> None:
    async def story() -> tuple[list[int], list[int], list[int]]:
        pool = NumberedWorkers(1)
        await pool.borrow("a", 1)
        waiting = asyncio.ensure_future(pool.borrow("b", 1))
        await settled()
        await pool.stop_lending()
        late = await pool.borrow("c", 1)
        await pool.give_back("a")
        await pool.start_lending(1)
        return await waiting, late, await pool.borrow("d", 1)

    assert asyncio.run(story()) == ([], [], [0])


def test_nothing_is_lent_before_everyone_has_asked() -> None:
    async def story() -> tuple[bool, list[int]]:
        pool = NumberedWorkers(2)
        await pool.start_lending(2)
        first = asyncio.ensure_future(pool.borrow("a", 1))
        await settled()
        was_early = first.done()
        await pool.borrow("b", 1)
        return was_early, await first

    assert asyncio.run(story()) == (False, [0])


def test_more_workers_than_there_are_is_refused_at_once() -> None:
    with pytest.raises(InfeasibleError, match="3 workers asked for, but the pool has 2"):
        asyncio.run(NumberedWorkers(2).borrow("a", 3))


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_broken_group_is_replaced_by_fresh_processes(cluster: Any) -> None:
    size = PoolSize(workers=2, cpus_per_worker=1, gpus_per_worker=0, max_groups=2)
    pool = ray.remote(num_cpus=0, max_concurrency=10)(WorkerPool).remote(size)
    try:
        before = ray.get(pool.ready.remote())
        (lent,) = ray.get(pool.borrow.remote("a", 1))
        broken = ray.get(lent.ready.remote())

        ray.get(pool.give_back.remote("a", True))
        after = ray.get(pool.ready.remote())
    finally:
        ray.kill(pool)

    assert len(set(after)) == 2
    assert set(before) - set(after) == {broken}

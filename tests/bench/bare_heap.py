"""The reference of ``bench_timer_accuracy``: the same timers in a bare asyncio heap that does nothing else.

``python bare_heap.py <anchors.json> <interval µs> <begin µs> <end µs>`` writes how late they fired, in microseconds.
"""

import asyncio
import heapq
import json
import sys
import time
from pathlib import Path


async def run(anchors: list[int], interval: int, begin: int, end: int) -> list[int]:
    """Fire until ``end``; returns how late each occurrence from ``begin`` on was."""
    now = time.time_ns() // 1000
    heap = [(anchor + ((now - anchor) // interval + 1) * interval, number) for number, anchor in enumerate(anchors)]
    heapq.heapify(heap)
    late: list[int] = []
    while heap[0][0] < end:
        at, number = heap[0]
        now = time.time_ns() // 1000
        if at > now:
            await asyncio.sleep((at - now) / 1e6)
            continue
        heapq.heapreplace(heap, (at + interval, number))
        if at >= begin:
            late.append(time.time_ns() // 1000 - at)
    return late


if __name__ == "__main__":
    anchors = json.loads(Path(sys.argv[1]).read_text())
    interval, begin, end = map(int, sys.argv[2:])
    sys.stdout.write(json.dumps(asyncio.run(run(anchors, interval, begin, end))))

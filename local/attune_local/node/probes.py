"""HTTP probes, as kubelet asks them: any status from 200 to 399 is a yes."""

import asyncio
import contextlib


async def answers_yes(*, port: int, path: str, timeout: float) -> bool:  # noqa: ASYNC109 - part of what is asked
    """Ask once, on loopback."""
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode("ascii"))
            await writer.drain()
            line = await reader.readline()
        words = line.split()
        return len(words) >= 2 and words[1].isdigit() and 200 <= int(words[1]) < 400
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

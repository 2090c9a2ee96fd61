"""A TCP proxy that simulates a distant server: it delays all data, in both directions."""

import asyncio
import contextlib
import threading


async def carry(reader, writer, seconds):
    """Forwards data, each piece delayed by `seconds`. Reading continues meanwhile, so the bandwidth does not change."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 18):
            loop.call_later(seconds, writer.write, piece)
    loop.call_later(seconds, writer.close)


@contextlib.contextmanager
def far(port, round_trip):
    """Runs a proxy to a port of this machine, with this round-trip time in seconds. Yields the proxy's port."""

    async def meet(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await asyncio.gather(carry(reader, back, round_trip / 2), carry(there, writer, round_trip / 2))

    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(asyncio.start_server(meet, "127.0.0.1", 0, limit=1 << 20))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listener.close()

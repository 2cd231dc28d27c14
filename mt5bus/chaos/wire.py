"""A forwarder between the nodes: every connection of the bus passes it, and it cuts, holds, slows or refuses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from threading import Thread
from types import TracebackType
from typing import Any, Final

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536


class _Line:
    """One forwarded port: what passes, and who is connected."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.passing = asyncio.Event()
        self.passing.set()
        self.pause_s = 0.0
        self.refusing = False
        self.connections: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection without a goodbye, as a network that fails does."""
        for writer in self.connections:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways, until either side ends it or it is cut."""
        self.connections.add(writer)
        try:
            if self.refusing:
                return
            try:
                to_reader, to_writer = await asyncio.open_connection(_HOST, self.target_port)
            except OSError:
                return  # nobody listens there now: the caller sees its connection closed and comes again
            self.connections.add(to_writer)
            try:
                await _both(self._pump(reader, to_writer), self._pump(to_reader, writer))
            finally:
                self.connections.discard(to_writer)
                to_writer.transport.abort()
        finally:
            self.connections.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await self.passing.wait()
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # the connection was cut, by us or by its other end


async def _both(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run both directions until the first of them ends."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Wire:
    """Forwards ports on the loopback interface, in a thread of its own, until it is closed.

    Args:
        lines: By name of the line the port it listens at and the port it forwards to.

    Raises:
        OSError: A port cannot be listened at.
    """

    def __init__(self, lines: dict[str, tuple[int, int]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._lines: dict[str, _Line] = {}
        self._servers: list[asyncio.Server] = []
        try:
            self._loop.run_until_complete(self._listen(lines))
        except OSError:
            self._loop.run_until_complete(self._end())
            self._loop.close()
            raise
        self._thread = Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything and leave the ports; waits for the thread's end."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, names: Iterable[str]) -> None:
        """Break every connection of these lines; new ones are let through."""
        self._each(names, _Line.cut)

    def hold(self, names: Iterable[str]) -> None:
        """Let nothing pass on these lines, and break nothing: a network that swallows."""
        self._each(names, lambda line: line.passing.clear())

    def slow(self, names: Iterable[str], pause_s: float) -> None:
        """Let each 64 KiB or less wait so long, in seconds, before it passes."""

        def change(line: _Line) -> None:
            line.pause_s = pause_s

        self._each(names, change)

    def refuse(self, names: Iterable[str]) -> None:
        """Break every connection and close each new one at once."""

        def change(line: _Line) -> None:
            line.refusing = True
            line.cut()

        self._each(names, change)

    def heal(self, names: Iterable[str]) -> None:
        """Let everything pass again."""

        def change(line: _Line) -> None:
            line.passing.set()
            line.pause_s, line.refusing = 0.0, False

        self._each(names, change)

    def _each(self, names: Iterable[str], change: Callable[[_Line], None]) -> None:
        for name in names:
            self._loop.call_soon_threadsafe(change, self._lines[name])

    async def _listen(self, lines: dict[str, tuple[int, int]]) -> None:
        for name, (port, target_port) in lines.items():
            line = self._lines[name] = _Line(target_port)
            self._servers.append(await asyncio.start_server(line.serve, _HOST, port))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for line in self._lines.values():
            line.cut()
        own = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not own]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

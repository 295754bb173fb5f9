"""A TCP proxy that does to a connection what networks do: delay, cut, reset, truncate, slow down."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass

FAULTS = ("latency", "cut", "reset", "truncation", "slow")


@dataclass
class Fault:
    """What happens to the next connections. times: how many of them; after: bytes that pass first."""

    kind: str
    times: int = 1
    after: int = 0
    seed: int = 0


class FaultProxy:
    """Listens on its own port and passes everything on to ``port``. sent: bytes that went to the worker."""

    def __init__(self, port: int) -> None:
        self._target, self._fault = port, Fault("none", 0)
        self.sent = 0
        self.hit = 0
        self.struck = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])

    def plan(self, fault: Fault) -> None:
        """Do this to the next connections."""
        self._fault, self.sent, self.hit, self.struck = fault, 0, 0, False

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._fault
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            budget = Budget(self, fault)
            tasks = [
                asyncio.create_task(self._pass(reader, far_writer, budget, up=True)),
                asyncio.create_task(self._pass(far_reader, writer, budget, up=False)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            for end in (writer, far_writer):
                if budget.broken == "reset":
                    linger = struct.pack("ii", 1, 0)
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                end.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: Budget, up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(16384):
                data = await budget.spend(data)
                if up:
                    self.sent += len(data)
                writer.write(data)
                await writer.drain()
                if budget.broken:
                    return


class Budget:
    """How much of a connection passes before its fault strikes."""

    def __init__(self, proxy: FaultProxy, fault: Fault) -> None:
        self.proxy, self.fault, self.left, self.broken = proxy, fault, fault.after, ""
        self._rng = random.Random(fault.seed)

    async def spend(self, data: bytes) -> bytes:
        """The part of the data that passes."""
        if self.fault.times <= self.proxy.hit and not self.broken:
            return data
        if self.left >= len(data):
            self.left -= len(data)
            return data
        kind, self.proxy.struck = self.fault.kind, True
        if kind in ("latency", "slow"):
            self.proxy.hit += kind == "latency"
            await asyncio.sleep(0.5 if kind == "latency" else 0.05)
            self.proxy.hit += kind == "slow" and self._rng.random() < 0.1
            return data
        self.proxy.hit += 1
        self.broken = kind
        return data[: self._rng.randrange(len(data))] if kind == "truncation" else b""

"""Connections that do not say what they want are closed: uvicorn itself waits for headers without end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 2.0


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 whose request headers must arrive within HEADER_SECONDS of the first byte (or of the connection)."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watch()
        elif self._watch is None and self.conn.trailing_data[0]:
            self._start_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        super().connection_lost(exc)

    def _start_watch(self) -> None:
        self._watch = self.loop.call_later(HEADER_SECONDS, self._close_idle)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _close_idle(self) -> None:
        self._watch = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()

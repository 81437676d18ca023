"""A QUIC connection of other make (aioquic) to a node, for the devices beside this file.

Their arguments: PORT CERTIFICATE FINGERPRINT.
"""

import asyncio
import socket
import sys
from collections import defaultdict
from contextlib import asynccontextmanager

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset

PORT, CERTIFICATE, FINGERPRINT = int(sys.argv[1]), sys.argv[2], sys.argv[3]
WAIT_MAX_S = 20


class Device(QuicConnectionProtocol):
    """One connection, what came on its streams, and how it ended."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.came, self.fin, self.reset, self.ended = defaultdict(bytes), set(), {}, None
        self.rung = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.came[event.stream_id] += event.data
            if event.end_stream:
                self.fin.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.ended = event
        self.rung.set()

    async def until(self, what, condition):
        async def wait():
            while not condition():
                self.rung.clear()
                await self.rung.wait()

        try:
            await asyncio.wait_for(wait(), WAIT_MAX_S)
        except TimeoutError:
            raise AssertionError(f"waited too long for {what}; there is {self.came!r}, {self.ended}") from None

    def send(self, data, fin=False, stream=0):
        self._quic.send_stream_data(stream, data, fin)
        self.transmit()

    async def move(self):
        """Goes on from another port, as after a change of network."""
        left = self._transport
        other = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        other.bind(("::", 0))
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=other)
        assert self._transport is not left
        left.abort()


@asynccontextmanager
async def opened(alpn, made=None, kind=Device):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name="localhost", max_datagram_frame_size=65536
    )
    configuration.load_verify_locations(CERTIFICATE)

    def make(*args, **kwargs):
        device = kind(*args, **kwargs)
        if made is not None:
            made.append(device)
        return device

    async with connect("127.0.0.1", PORT, configuration=configuration, create_protocol=make) as device:
        yield device

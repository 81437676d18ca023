"""MQTT over QUIC with a QUIC of other make: aioquic, and packets made by hand.

usage: mqtt_device.py PORT CERTIFICATE FINGERPRINT; ends with 0 and "all is well", or with what is wrong.
"""

import asyncio
import hashlib

from connection import FINGERPRINT, Device, opened
from cryptography.hazmat.primitives.serialization import Encoding

STREAM_LIMIT_ERROR = 0x04
CRYPTO_NO_APPLICATION_PROTOCOL = 0x100 + 120


class MqttDevice(Device):
    """MQTT on the connection's first stream."""

    async def packet(self):
        """The next packet: its first byte, and what follows its length."""
        await self.until("a packet", lambda: self.whole() is not None)
        end = self.whole()
        packet, self.came[0] = self.came[0][:end], self.came[0][end:]
        return packet[0], packet[1 + len(length(end - 2)) :]

    def whole(self):
        number, shift = 0, 0
        for at, byte in enumerate(self.came[0][1:5], start=2):
            number, shift = number | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return at + number if len(self.came[0]) >= at + number else None
        return None


def mqtt(alpn="mqtt", made=None):
    return opened(alpn, made, MqttDevice)


def length(number):
    encoded = b""
    while True:
        number, digit = number >> 7, number & 0x7F
        encoded += bytes([digit | (0x80 if number else 0)])
        if not number:
            return encoded


def packet(first, body):
    return bytes([first]) + length(len(body)) + body


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(level, client):
    properties = b"\0" if level == 5 else b""
    return packet(0x10, text("MQTT") + bytes([level, 2, 0, 0]) + properties + text(client))


def publish(level, topic, number, payload):
    properties = b"\0" if level == 5 else b""
    return packet(0x32, text(topic) + number.to_bytes(2, "big") + properties + payload.encode())


def is_ack(answer, number):
    first, body = answer
    return first == 0x40 and body[:2] == number.to_bytes(2, "big") and (len(body) < 3 or body[2] < 0x80)


async def both_versions():
    for level in (4, 5):
        async with mqtt() as device:
            certificate = device._quic.tls._peer_certificate.public_bytes(Encoding.DER)
            assert hashlib.sha256(certificate).hexdigest() == FINGERPRINT, "another fingerprint"
            for byte in connect_packet(level, f"py{level}"):
                device.send(bytes([byte]))
            first, body = await device.packet()
            assert (first, body[:2]) == (0x20, b"\0\0"), (first, body)
            properties = b"\0" if level == 5 else b""
            device.send(packet(0x82, b"\0\1" + properties + text(f"py{level}/#") + b"\1"))
            first, body = await device.packet()
            assert (first, body[-1]) == (0x90, 1), (first, body)
            device.send(publish(level, f"py{level}/t", 9, "hello " * 20_000))
            answers = [await device.packet(), await device.packet()]
            assert any(is_ack(answer, 9) for answer in answers), [answer[0] for answer in answers]
            assert any(a[0] & 0xF0 == 0x30 and a[1].endswith(b"hello " * 20_000) for a in answers)
            device.send(b"\xe0\0", fin=True)
            await device.until("the end", lambda: device.ended)
            assert (device.fin, device.ended.error_code) == ({0}, 0), device.ended


async def reason_before_close():
    async with mqtt() as device:
        device.send(connect_packet(5, "twice"))
        await device.packet()
        device.send(connect_packet(5, "twice"))
        first, body = await device.packet()
        assert (first, body[0]) == (0xE0, 0x82), (first, body)
        await device.until("the stream's end", lambda: 0 in device.fin)
        assert device.ended is None, "the connection was closed before the client had ended"
        device.send(b"", fin=True)
        await device.until("the end", lambda: device.ended)
        assert device.ended.error_code == 0, device.ended


async def address_change():
    async with mqtt() as device:
        device.send(connect_packet(5, "truck"))
        await device.packet()
        for number in range(1, 301):
            device.send(publish(5, "truck", number, str(number)))
            if number % 100 == 50:
                await device.move()
        for number in range(1, 301):
            assert is_ack(await device.packet(), number), number
        assert device.ended is None


async def wrong_protocol():
    made = []
    try:
        async with mqtt("http/9", made):
            raise AssertionError("http/9 was taken")
    except ConnectionError:
        assert made[0].ended.error_code == CRYPTO_NO_APPLICATION_PROTOCOL, made[0].ended


async def further_streams():
    for kind, attribute, stream in (("two-way", "bidi", 4), ("one-way", "uni", 2)):
        async with mqtt() as device:
            device.send(connect_packet(5, kind))
            await device.packet()
            # A client that does not keep to what it was granted.
            setattr(device._quic, f"_remote_max_streams_{attribute}", 100)
            limit = f"_remote_max_stream_data_{'bidi_remote' if attribute == 'bidi' else 'uni'}"
            setattr(device._quic, limit, 1000)
            device.send(b"x", stream=stream)
            await device.until(f"the end after a {kind} stream", lambda: device.ended)
            assert device.ended.error_code == STREAM_LIMIT_ERROR, (kind, device.ended)


async def main():
    for part in (both_versions, reason_before_close, address_change, wrong_protocol, further_streams):
        print(part.__name__, flush=True)
        await part()
    print("all is well")


asyncio.run(main())

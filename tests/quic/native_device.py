"""edgeway/1 with a QUIC of other make: aioquic, and frames made by hand after docs/edgeway-1.md.

usage: native_device.py PORT CERTIFICATE FINGERPRINT; ends with 0 and "all is well", or with what is wrong.
"""

import asyncio
import uuid

from connection import Device, opened

NAME = "py-1"
CONTROL, FIRST, SECOND, THIRD = 0, 4, 8, 12  # two-way streams, as a client numbers them
MALFORMED, TOO_LARGE, OUT_OF_PLACE, TOO_MUCH, TAKEN_OVER, NOT_ALLOWED = 4, 5, 6, 7, 8, 9
STALE_BOOT, TOPIC_INVALID = 4, 0


def number(value):
    encoded = b""
    while True:
        value, digit = value >> 7, value & 0x7F
        encoded += bytes([digit | (0x80 if value else 0)])
        if not value:
            return encoded


def signed(value):
    return number(value << 1 if value >= 0 else (-value << 1) - 1)


def text(value):
    encoded = value if isinstance(value, bytes) else value.encode()
    return number(len(encoded)) + encoded


def frame(*parts):
    body = b"".join(parts)
    return number(len(body)) + body


def hello(device, commands=True):
    return frame(number(0), text(device), text("py"), bytes([commands]), text(b""))


def lane(at):
    return frame(number(1), bytes([at]))


def publish(topic, boot, first, payloads, when=0):
    events = b"".join(number(0) + signed(0) + text(payload) + number(0) for payload in payloads)
    return frame(text(topic), number(boot), number(first), signed(when), number(len(payloads)), events)


class Reader:
    """The fields of one frame, one after the other."""

    def __init__(self, body):
        self.body = body

    def byte(self):
        first, self.body = self.body[0], self.body[1:]
        return first

    def number(self):
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    def take(self, count):
        taken, self.body = self.body[:count], self.body[count:]
        assert len(taken) == count, "a frame is too short"
        return taken

    def text(self):
        return self.take(self.number())

    def position(self):
        return self.number(), self.number()


class NativeDevice(Device):
    async def frame(self, stream):
        await self.until(f"a frame on stream {stream}", lambda: self.whole(stream) is not None)
        begin, end = self.whole(stream)
        body, self.came[stream] = self.came[stream][begin:end], self.came[stream][end:]
        return Reader(body)

    def whole(self, stream):
        length, shift = 0, 0
        for at, byte in enumerate(self.came[stream][:3], start=1):
            length, shift = length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return (at, at + length) if len(self.came[stream]) >= at + length else None
        return None

    async def acked(self, stream):
        reply = await self.frame(stream)
        assert reply.byte() == 1, "no Acked"
        return reply.position()


def native(made=None):
    return opened("edgeway/1", made, NativeDevice)


async def welcomed(device, name=NAME):
    device.send(hello(name), stream=CONTROL)
    welcome = await device.frame(CONTROL)
    assert welcome.byte() == 0, "no Welcome"
    welcome.text(), welcome.number(), welcome.number()
    limits = [welcome.number() for _ in range(3)]
    lanes = {welcome.byte(): welcome.position() for _ in range(welcome.number())}
    assert welcome.body == b"", "Welcome is longer than it should be"
    return limits, lanes


async def opened_lane(device, at, stream):
    device.send(lane(at), stream=stream)
    reply = await device.frame(stream)
    assert reply.byte() == 0, "no Opened"
    return reply.position() if reply.byte() else None


async def numbered_once():
    async with native() as device:
        limits, lanes = await welcomed(device)
        assert (limits[:2], lanes) == ([262144, 4096], {}), (limits, lanes)
        assert await opened_lane(device, 1, FIRST) is None
        # Byte by byte, so that nothing depends on how the bytes come.
        for byte in publish("py/t", 1, 1, ["1", "2", "3"]):
            device.send(bytes([byte]), stream=FIRST)
        assert await device.acked(FIRST) == (1, 3)
        # The lane is opened anew, and all is sent again with one more.
        assert await opened_lane(device, 1, SECOND) == (1, 3)
        device.send(publish("py/t", 1, 1, ["1", "2", "3", "4"]), stream=SECOND)
        assert await device.acked(SECOND) == (1, 4)
    async with native() as device:
        _, lanes = await welcomed(device)
        assert lanes == {1: (1, 4)}, lanes
        assert await opened_lane(device, 1, FIRST) == (1, 4)
        device.send(publish("py/t", 1, 1, ["1", "2", "3", "4", "5"]), stream=FIRST)
        assert await device.acked(FIRST) == (1, 5)
        device.send(publish("py/t", 3, 1, ["6"]), stream=FIRST)
        assert await device.acked(FIRST) == (3, 1)
        await opened_lane(device, 1, SECOND)
        device.send(publish("py/t", 2, 9, ["stale"]), stream=SECOND)
        refused = await device.frame(SECOND)
        assert (refused.byte(), refused.number(), refused.position(), refused.number()) == (2, 2, (9, 9), STALE_BOOT)


async def refused_alone():
    async with native() as device:
        await welcomed(device, "py-2")
        await opened_lane(device, 0, FIRST)
        device.send(publish("py/+", 1, 1, ["wrong"]) + publish("py/refused", 1, 2, ["right"]), stream=FIRST)
        refused = await device.frame(FIRST)
        assert (refused.byte(), refused.number(), refused.position(), refused.number()) == (2, 1, (1, 1), TOPIC_INVALID)
        while await device.acked(FIRST) != (1, 2):
            pass


async def commanded():
    async with native() as device:
        await welcomed(device, "py-pump")
        command = await device.frame(CONTROL)
        assert (command.byte(), command.number(), command.text()) == (1, 1, b"py-pump")
        id = uuid.UUID(bytes=command.take(16))
        assert command.text() == b"open"
        device.send(frame(number(0), number(1)), stream=CONTROL)
        await opened_lane(device, 0, FIRST)
        device.send(publish(f"edgeway/answer/py-pump/{id}/succeeded", 1, 1, ["done"]), stream=FIRST)
        assert await device.acked(FIRST) == (1, 1)
        device.send(frame(number(1)), fin=True, stream=CONTROL)
        await device.until("the end", lambda: device.ended)
        assert device.ended.error_code == 0, device.ended


async def told():
    async with native() as device:
        await welcomed(device, "py-ear")
        device.send(frame(number(2)) + frame(number(0), text("py/told/#")), stream=FIRST)
        subscribed = await device.frame(FIRST)
        assert (subscribed.byte(), subscribed.byte()) == (0, 0)
        await opened_lane(device, 1, SECOND)
        device.send(publish("py/told/a", 1, 1, ["x" * 1000], when=1000), stream=SECOND)
        event = await device.frame(FIRST)
        assert (event.byte(), event.text(), event.number(), event.text()) == (2, b"py/told/a", 2000, b"x" * 1000)
        device._quic.send_datagram_frame(text("py/told/b") + signed(0) + text("may be lost"))
        device.transmit()
        event = await device.frame(FIRST)
        assert (event.byte(), event.text()) == (2, b"py/told/b")


async def address_change():
    async with native() as device:
        await welcomed(device, "py-truck")
        await opened_lane(device, 1, FIRST)
        for at in range(1, 301):
            device.send(publish("py/truck", 1, at, [str(at)]), stream=FIRST)
            if at % 40 == 20:
                await device.move()
            if at % 40 == 0:
                while await device.acked(FIRST) != (1, at):
                    pass
        while device.ended is None and (await device.acked(FIRST))[1] < 300:
            pass
        assert device.ended is None


async def mistakes():
    rest = publish("py/t", 1, 1, ["x"])
    cases = [
        ("no frame at all", [(CONTROL, b"\x01\x09")], MALFORMED),
        ("a length over the bound", [(CONTROL, b"\xff\xff\x7f")], TOO_LARGE),
        ("a lane before Hello", [(CONTROL, lane(1))], OUT_OF_PLACE),
        ("a name that cannot be one", [(CONTROL, hello("a/b"))], NOT_ALLOWED),
        ("a second Hello", [(CONTROL, hello("py-x")), (FIRST, hello("py-x"))], OUT_OF_PLACE),
        ("an unknown lane", [(CONTROL, hello("py-x")), (FIRST, lane(3))], OUT_OF_PLACE),
        ("bytes left over", [(CONTROL, hello("py-x")), (FIRST, lane(1) + frame(rest[1:], b"\0"))], MALFORMED),
        (
            "numbers that do not rise",
            [(CONTROL, hello("py-x")), (FIRST, lane(1) + publish("t", 1, 2, ["x"]) + publish("t", 1, 2, ["x"]))],
            OUT_OF_PLACE,
        ),
        ("no events", [(CONTROL, hello("py-x")), (FIRST, lane(1) + publish("t", 1, 1, []))], OUT_OF_PLACE),
        ("Received of nothing", [(CONTROL, hello("py-x")), (CONTROL, frame(number(0), number(7)))], OUT_OF_PLACE),
    ]
    for what, sent, code in cases:
        async with native() as device:
            for at, (stream, data) in enumerate(sent):
                device.send(data, stream=stream)
                if at == 0 and len(sent) > 1:
                    await device.frame(CONTROL)
            await device.until(f"the end after {what}", lambda: device.ended)
            assert device.ended.error_code == code, (what, device.ended)


async def taken_over():
    async with native() as old:
        await welcomed(old, "py-two")
        async with native() as new:
            await welcomed(new, "py-two")
            await old.until("the end", lambda: old.ended)
            assert old.ended.error_code == TAKEN_OVER, old.ended
            assert new.ended is None


async def main():
    parts = (numbered_once, refused_alone, commanded, told, address_change, mistakes, taken_over)
    for part in parts:
        print(part.__name__, flush=True)
        await part()
    print("all is well")


asyncio.run(main())

"""A slow link that can be cut: the sea between two regions, as a TCP proxy.

    link.py --control PORT --delay MS us=LISTEN:TARGET eu=LISTEN:TARGET,LISTEN:TARGET

All ports are on loopback. Each named link takes connections on each LISTEN and passes every byte on
to the TARGET beside it, each way MS later. A cut link is silent, not closed: nothing gets through in either
direction until it is healed, then what was sent meanwhile arrives, late but in order. So the ends
see what a lost route looks like to TCP and find out by their own time-outs.

The control port takes one command a line and answers with one line of JSON, the links' state
or {"error": …}:    cut [LINK]    heal [LINK]    delay MS [LINK]    status
Without LINK it means all of them.
"""

import argparse
import asyncio
import functools
import json

CHUNK_BYTES = 64 * 1024
# Bytes under way in one direction of one connection: 256 chunks of at most 64 KiB. A full pipe
# stops reading, and TCP's own window passes the pressure back to the sender.
PIPE_CHUNKS = 256


class Link:
    def __init__(self, ways, delay_ms):
        """`ways`: (port to listen on, port that it leads to), one for each broker beyond."""
        self.ways = ways
        self.delay_ms = delay_ms
        self.connections = 0
        self.healed = asyncio.Event()
        self.healed.set()

    def state(self):
        return {
            "cut": not self.healed.is_set(),
            "delay_ms": self.delay_ms,
            "connections": self.connections,
        }

    async def serve(self):
        """Listens on every port; returns the servers."""
        return [
            await asyncio.start_server(functools.partial(self.connect, target), "127.0.0.1", listen)
            for listen, target in self.ways
        ]

    async def connect(self, target, near_reader, near_writer):
        """Carries one connection until either end closes it."""
        self.connections += 1
        writers = [near_writer]
        try:
            await self.healed.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            writers.append(far_writer)
            directions = [
                asyncio.create_task(self.carry(near_reader, far_writer)),
                asyncio.create_task(self.carry(far_reader, near_writer)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                # Gathered only so that an end's reset is not reported as a lost exception.
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # The target is down: closing the near end is the answer.
        finally:
            self.connections -= 1
            for writer in writers:
                writer.close()

    async def carry(self, reader, writer):
        """One direction: a reader that stamps chunks and a writer that lets them go when due."""
        pipe = asyncio.Queue(PIPE_CHUNKS)
        clock = asyncio.get_running_loop().time

        async def fill():
            try:
                while data := await reader.read(CHUNK_BYTES):
                    await pipe.put((clock() + self.delay_ms / 1000, data))
            except ConnectionError:
                pass  # A reset ends the direction as a close does: after what was sent before it.
            await pipe.put((clock() + self.delay_ms / 1000, None))

        filling = asyncio.create_task(fill())
        try:
            while True:
                due, data = await pipe.get()
                await asyncio.sleep(due - clock())
                await self.healed.wait()
                if data is None:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            filling.cancel()


class Control:
    def __init__(self, links):
        self.links = links

    async def serve(self, reader, writer):
        while line := await reader.readline():
            try:
                answer = self.obey(line.decode().split())
            except (ValueError, KeyError, IndexError) as error:
                answer = {"error": f"{line.decode().strip()!r}: {error!r}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def obey(self, words):
        verb, arguments = words[0], words[1:]
        delay_ms = float(arguments.pop(0)) if verb == "delay" else None
        for link in [self.links[name] for name in arguments] or self.links.values():
            if verb == "cut":
                link.healed.clear()
            elif verb == "heal":
                link.healed.set()
            elif verb == "delay":
                link.delay_ms = delay_ms
            elif verb != "status":
                raise ValueError("no such command")
        return {name: link.state() for name, link in self.links.items()}


async def main():
    parser = argparse.ArgumentParser(description="a slow link that can be cut")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True, metavar="MS")
    parser.add_argument("links", nargs="+", metavar="NAME=LISTEN:TARGET,…")
    args = parser.parse_args()

    links = {}
    for spec in args.links:
        name, _, ports = spec.partition("=")
        ways = [tuple(map(int, way.split(":"))) for way in ports.split(",")]
        links[name] = Link(ways, args.delay)
    servers = [server for link in links.values() for server in await link.serve()]
    # Last, so that whoever reaches the control port knows that the links are listening.
    servers.append(await asyncio.start_server(Control(links).serve, "127.0.0.1", args.control))
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())

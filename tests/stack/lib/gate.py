"""A gate before a server: while it is shut, what a client sends is kept, and nothing is lost or reordered. What the
server answers passes always."""

import queue
import socket
import threading

CHUNK = 1 << 16


class Gate:
    def __init__(self, target):
        """`target`: HOST:PORT."""
        host, port = target.rsplit(":", 1)
        self.target = host, int(port)
        self.is_open = threading.Event()
        self.is_open.set()
        self.held_bytes = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self):
        self.is_open.clear()

    def open(self):
        self.is_open.set()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            for pair in (client, server, True), (server, client, False):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, sink, is_gated):
        chunks = queue.SimpleQueue()
        threading.Thread(target=self._let_through, args=(chunks, source, sink, is_gated), daemon=True).start()
        try:
            while chunk := source.recv(CHUNK):
                if is_gated and not self.is_open.is_set():
                    self.held_bytes += len(chunk)
                chunks.put(chunk)
        except OSError:
            pass  # It is gone: what it sent before is let through, and then the other end sees it.
        chunks.put(b"")

    def _let_through(self, chunks, source, sink, is_gated):
        try:
            while chunk := chunks.get():
                if is_gated:
                    self.is_open.wait()
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # It is gone: the sender is to see it.
            for end in (source, sink):
                end.close()

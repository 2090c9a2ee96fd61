"""A TCP proxy between the program and its server, which can be slowed down."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

CHUNK = 16 * 1024


class Gate:
    """Forwards bytes between its own port and the server's, and can slow down those to the server.

    So a load takes long enough to be interrupted, on any machine.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self.server = (parts.hostname, parts.port)
        self.opened = threading.Event()
        self.opened.set()
        self.turn = threading.Lock()
        self.bytes_per_second = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"{parts.scheme}://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def slow(self, bytes_per_second):
        """Limits the speed of all connections together from now on."""
        self.bytes_per_second = bytes_per_second
        self.opened.clear()

    def hold(self):
        """Lets almost nothing through from now on."""
        self.slow(1)

    def open(self):
        self.opened.set()

    def close(self):
        self.open()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.server)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.connect, args=(client, server), daemon=True).start()

    def connect(self, client, server):
        """Forwards both directions of a connection until both have ended."""
        with client, server:
            back = threading.Thread(target=self.carry, args=(server, client, False), daemon=True)
            back.start()
            self.carry(client, server, True)
            back.join()

    def carry(self, source, sink, may_be_slow):
        try:
            while data := source.recv(CHUNK):
                if may_be_slow and not self.opened.is_set():
                    with self.turn:
                        self.opened.wait(len(data) / self.bytes_per_second)
                sink.sendall(data)
        except OSError:
            pass
        for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
            with contextlib.suppress(OSError):
                end.shutdown(how)

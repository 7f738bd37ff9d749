"""The driver's end of a child's socket."""

from __future__ import annotations

import select
import socket

from .protocol import Frames, Json, encode


class Mailbox:
    """Sends and receives without waiting: no child must hold the driver."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        channel.setblocking(False)
        self.unsent = bytearray()
        self.frames = Frames()

    def send(self, message: Json) -> None:
        self.unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Sends as much as the child takes now."""
        try:
            del self.unsent[: self.channel.send(self.unsent)]
        except BlockingIOError:
            return
        except OSError:  # It hung up, which is noticed at the next receive.
            self.unsent.clear()

    def receive(self) -> bytes | None:
        """What has come, None if nothing has, or no bytes if the child ended or hung up."""
        try:
            return self.channel.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def is_readable(self) -> bool:
        return bool(select.select([self.channel], [], [], 0)[0])

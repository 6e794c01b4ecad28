"""Free ports on loopback."""

import secrets
import socket

LISTEN = range(20_000, 30_000)
"""Below the range from which systems take the ports of outgoing connections, so that none of those gets in between."""

RTP = range(10_000, 19_000)
RTP_SIZE = 400
"""Two ports per stream: 200 streams, so twice the calls that MikoPBX's default of 10000-10200 allows."""


def free(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 on which nobody listens right now; who binds it next has it."""
    while True:
        port = secrets.choice(LISTEN)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def rtp_range() -> tuple[int, int]:
    """First and last port of a range for media. Ranges may overlap: Asterisk passes over a port that is taken."""
    first = secrets.choice(RTP[::2])
    return first, first + RTP_SIZE - 1

"""What is true of the libraries whatever they are used for: their logs hold keys and customers' data."""

import logging

LOUD = ("websockets", "realtime", "postgrest", "supabase", "supabase_auth", "httpx", "httpcore", "hpack", "h11")
"""At DEBUG `websockets` prints the request line with the key, `realtime` whole rows (RT-25, RT-17)."""


def quiet() -> None:
    """Hold the libraries' loggers at WARNING or above, whatever the level of the root."""
    for name in LOUD:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)

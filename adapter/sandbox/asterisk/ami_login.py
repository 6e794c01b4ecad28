"""The least of AMI: does this port let this user in?"""

import asyncio
import contextlib

SECONDS = 5.0
"""A login is answered at once; a refusal is held back for about a second."""


async def lets_in(host: str, port: int, username: str, password: str) -> bool:
    """True if an AMI at this address accepts the user. False too where somebody else listens on that port."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                login = ("Action: Login", f"Username: {username}", f"Secret: {password}", "Events: off", "", "")
                writer.write("\r\n".join(login).encode())
                answer = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    return b"Response: Success" in answer

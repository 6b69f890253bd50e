"""A small mail server: takes messages over SMTP, with STARTTLS and AUTH PLAIN where a test wants them."""

from __future__ import annotations

import asyncio
import base64
import email
import subprocess
import threading
from email.policy import default


def self_signed(folder):
    """A certificate for 127.0.0.1, and its key."""
    certificate, key = folder / "mail.pem", folder / "mail.key"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*request, *map(str, named)], check=True, capture_output=True)
    return certificate, key


class MailServer:
    """Runs in a thread of its own.

    Args:
        tls: What STARTTLS is answered with; None offers none.
        is_encrypted: Whether it speaks TLS from the start instead.
        refuses: How many messages it refuses first.

    Attributes:
        messages: What it took.
        logins: With whom, and whether that was encrypted.
    """

    def __init__(self, *, tls=None, is_encrypted=False, refuses=0) -> None:
        self._tls, self._is_encrypted, self._refuses = tls, is_encrypted, refuses
        self.messages: list = []
        self.logins: list = []
        self._loop = asyncio.new_event_loop()

    def __enter__(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, ready):
        self._done = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self._tls if self._is_encrypted else None)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._done.wait()
        server.close()
        await server.wait_closed()
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader, writer):
        secure, plain = self._is_encrypted, ""
        writer.write(b"220 mail\r\n")
        try:
            while line := (await reader.readline()).decode().strip():
                verb = line.split()[0].upper()
                if verb == "EHLO":
                    offers = [*(["STARTTLS"] if self._tls and not secure else []), "AUTH PLAIN"]
                    writer.write(b"250-mail\r\n" + b"".join(b"250-%s\r\n" % o.encode() for o in offers[:-1]) + b"250 AUTH PLAIN\r\n")
                elif verb == "STARTTLS":
                    writer.write(b"220 go\r\n")
                    await writer.drain()
                    await writer.start_tls(self._tls)
                    secure = True
                elif verb == "AUTH":
                    plain = base64.b64decode(line.split()[2]).decode()
                    self.logins.append((*plain.split("\0")[1:], secure))
                    writer.write(b"235 welcome\r\n")
                elif verb == "DATA":
                    writer.write(b"354 go\r\n")
                    await writer.drain()
                    taken = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                    if self._refuses > 0:
                        self._refuses -= 1
                        writer.write(b"451 later\r\n")
                    else:
                        self.messages.append(email.message_from_bytes(taken, policy=default))
                        writer.write(b"250 taken\r\n")
                else:
                    writer.write(b"221 bye\r\n" if verb == "QUIT" else b"250 fine\r\n")
                await writer.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()

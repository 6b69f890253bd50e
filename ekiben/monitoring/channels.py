"""Channels: how people hear of an alert: a signed webhook, a Slack-compatible one, e-mail.

A delivery names its channel; the address is read from the settings when it is sent, so that the control database holds no secret.
Every message has an id that all its tries share: the header ``webhook-id``, of an e-mail its ``Message-ID``.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from ekiben.settings import Settings
from ekiben.state.deliveries import Delivery
from ekiben.state.delivering import Tried
from ekiben.state.events import Event
from ekiben.state.webhooks import Send, body_of, message_id, try_post

_TIMEOUT_S: Final = 10.0
_PORTS: Final = {"smtp": 587, "smtps": 465}
_COLOURS: Final = {"critical": "#b3261e", "warning": "#e69f00", "info": "#0072b2"}
_OVER: Final = "#009e73"

SendMail = Callable[[str, EmailMessage], None]
"""Hands a message to the mail server of a URL; raises `OSError` where it does not take it."""


class Channels:
    """Sends messages about alerts.

    Args:
        settings: The settings in force.
        wall: Seconds since the epoch.
        send: What posts.
        mail: What mails.
    """

    def __init__(self, settings: Settings, *, wall: Callable[[], float], send: Send, mail: SendMail) -> None:
        self._settings = settings
        self._wall = wall
        self._send = send
        self._mail = mail

    def attempt(self, delivery: Delivery) -> Tried:
        """Sends an alert's event to a channel, once."""
        event, identifier = delivery.event, message_id(delivery.event, delivery.url)
        sender = {"webhook": self._webhook, "slack": self._slack, "email": self._email}.get(delivery.url)
        if sender is None:
            return Tried(f"{delivery.url!r} is not a channel; there are webhook, slack and email", is_final=True)
        return sender(event, identifier)

    def _webhook(self, event: Event, identifier: str) -> Tried:
        url, secret = self._settings.webhook_url, self._settings.webhook_secret_file
        if not url:
            return Tried("EKIBEN_WEBHOOK_URL is not set", is_final=True)
        return self._post(url, body_of(event, f"alert.{event.details.get('state', '')}"), identifier, secret)

    def _slack(self, event: Event, identifier: str) -> Tried:
        file = self._settings.slack_url_file
        if file is None:
            return Tried("EKIBEN_SLACK_URL_FILE is not set", is_final=True)
        url = _secret(file)
        if not url.startswith(("http://", "https://")):
            return Tried("the file of EKIBEN_SLACK_URL_FILE holds no URL that begins with https://")
        return self._post(url, slack_body(event), identifier, None)

    def _email(self, event: Event, identifier: str) -> Tried:
        settings = self._settings
        if settings.smtp_url_file is None or not settings.alert_email_to:
            missing = "EKIBEN_SMTP_URL_FILE" if settings.smtp_url_file is None else "EKIBEN_ALERT_EMAIL_TO"
            return Tried(f"{missing} is not set", is_final=True)
        message = mail_of(event, identifier, sender=settings.alert_email_from, to=settings.alert_email_to)
        try:
            self._mail(_secret(settings.smtp_url_file), message)
        except (OSError, smtplib.SMTPException) as e:
            return Tried(f"the mail server did not take it: {type(e).__name__}: {e}")
        return Tried()

    def _post(self, url: str, body: bytes, identifier: str, secret: Path | None) -> Tried:
        secret_file = "" if secret is None else str(secret)
        return try_post(self._send, url, body, identifier=identifier, secret_file=secret_file, now=self._wall())


def slack_body(event: Event) -> bytes:
    """An event in the form that Slack's incoming webhooks take, and what is compatible with them."""
    is_firing, severity = event.details.get("state") == "firing", str(event.details.get("severity", "warning"))
    fields = [{"title": name, "value": text, "short": True} for name, text in _fields(event)]
    colour = _COLOURS.get(severity, _OVER) if is_firing else _OVER
    attachment = {"color": colour, "fallback": event.message, "fields": fields, "ts": int(event.time)}
    return msgspec.json.encode({"text": f"[{_mark(event)}] {event.message}", "attachments": [attachment]})


def mail_of(event: Event, identifier: str, *, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """An event as an e-mail.

    Args:
        event: The event.
        identifier: Its id, the same in every try.
        sender: From whom.
        to: To whom.
    """
    from datetime import UTC, datetime  # noqa: PLC0415  only where something is mailed

    message = EmailMessage()
    subject = f"[{_mark(event)}] {event.model}: {event.details.get('alert', event.kind)}"
    message["Subject"] = " ".join(subject.split())
    message["From"], message["To"] = sender, ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(event.time, UTC))
    message["Message-ID"] = f"<{identifier}@ekiben.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [event.message, "", *(f"{name}: {text}" for name, text in _fields(event))]
    message.set_content("\n".join(lines) + "\n")
    return message


def send_mail(url: str, message: EmailMessage) -> None:
    """Hands a message to a mail server, encrypted where the server can.

    Args:
        url: ``smtp://user:password@host:587``, with STARTTLS where the server offers it, or ``smtps://…``. User and password may be
            left out; they go over no connection that is not encrypted.
        message: The message.

    Raises:
        OSError: The server does not answer, or the URL is none.
        smtplib.SMTPException: It does not take the message.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise OSError("the file of EKIBEN_SMTP_URL_FILE holds no URL like smtp://user:password@host:587")
    context = ssl.create_default_context()
    port = parts.port or _PORTS[parts.scheme]
    if parts.scheme == "smtps":
        with smtplib.SMTP_SSL(parts.hostname, port, timeout=_TIMEOUT_S, context=context) as server:
            _hand_over(server, parts, message, is_encrypted=True)
        return
    with smtplib.SMTP(parts.hostname, port, timeout=_TIMEOUT_S) as server:
        server.ehlo()
        if is_offered := server.has_extn("starttls"):
            server.starttls(context=context)
        _hand_over(server, parts, message, is_encrypted=is_offered)


def _hand_over(server: smtplib.SMTP, parts: SplitResult, message: EmailMessage, *, is_encrypted: bool) -> None:
    if parts.username:
        if not is_encrypted:
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, and the password would be readable; use smtps://, or no password")
        server.login(unquote(parts.username), unquote(parts.password or ""))
    server.send_message(message)


def _secret(file: Path) -> str:
    """What a file holds; nothing where it cannot be read."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _mark(event: Event) -> str:
    """What a reader needs to see first."""
    is_firing = event.details.get("state") == "firing"
    return str(event.details.get("severity", "warning")) if is_firing else "resolved"


def _fields(event: Event) -> list[tuple[str, str]]:
    """What is known beside the sentence."""
    known: dict[str, Any] = {"model": event.model} | event.details
    names = ("model", "version", "alert", "severity", "value", "threshold", "checks")
    return [(name, _text(known[name])) for name in names if known.get(name) not in (None, "")]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

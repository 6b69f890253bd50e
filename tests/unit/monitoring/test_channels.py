import json
import smtplib
import ssl

import msgspec
import pytest
from unit.monitoring.mail_server import MailServer, self_signed

from ekiben.monitoring.channels import Channels, mail_of, send_mail, slack_body
from ekiben.settings import load_settings
from ekiben.state.deliveries import Delivery
from ekiben.state.events import Event
from ekiben.state.webhooks import headers_of

EVENT = Event(
    id=7,
    time=1_700_000_000.0,
    who="monitor",
    model="tiny",
    kind="alert",
    message="tiny:v1: drift fires: a (PSI 0.50) drifted, in 500 rows",
    details={
        "alert": "drift",
        "state": "firing",
        "severity": "critical",
        "version": "v1",
        "value": 0.512345,
        "threshold": None,
        "checks": 3,
    },
)
OVER = msgspec.structs.replace(EVENT, message="tiny:v1: drift is over", details=EVENT.details | {"state": "resolved"})


class Wire:
    """What is sent, and what is answered."""

    def __init__(self):
        self.posted, self.mailed = [], []
        self.status, self.problem = 200, None

    def post(self, url, body, headers):
        self.posted.append((url, json.loads(body), headers, body))
        return self.status

    def mail(self, url, message):
        if self.problem is not None:
            raise self.problem
        self.mailed.append((url, message))


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def attempt(wire, tmp_path):
    """A function that sends an event to a channel, with files of secrets and other settings."""

    def made(channel, event=EVENT, **given):
        environ = {"EKIBEN_HOME": str(tmp_path)}
        for name, value in given.items():
            is_secret = name.endswith("_file")
            if is_secret:
                (tmp_path / name).write_text(value)
            environ[f"EKIBEN_{name.upper()}"] = str(tmp_path / name) if is_secret else value
        channels = Channels(load_settings(environ), wall=lambda: 1_700_000_001.5, send=wire.post, mail=wire.mail)
        return channels.attempt(Delivery(event=event, url=channel, queue="alerts"))

    return made


# webhooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_gets_the_event_signed(attempt, wire):
    assert attempt("webhook", webhook_url="http://hooks/a", webhook_secret_file="secret").problem == ""
    [(url, message, headers, body)] = wire.posted
    assert (url, message["type"], message["data"]["details"]["alert"]) == ("http://hooks/a", "alert.firing", "drift")
    assert headers == headers_of(headers["webhook-id"], 1_700_000_001, body, b"secret")


def test_a_message_has_one_id_in_all_its_tries_and_another_in_each_channel(attempt, wire):
    given = {"webhook_url": "http://hooks/a", "slack_url_file": "http://slack/b", "smtp_url_file": "smtp://m", "alert_email_to": "ann@x"}
    for channel in ("webhook", "webhook", "slack", "email"):
        attempt(channel, **given)
    first, again, slack = [headers["webhook-id"] for _, _, headers, _ in wire.posted]
    mail = wire.mailed[0][1]["Message-ID"]
    assert first == again
    assert len({first, slack, mail.strip("<>").partition("@")[0]}) == 3


def test_slack_gets_its_own_form(attempt, wire):
    assert attempt("slack", slack_url_file="https://slack/T0/secret\n").problem == ""
    [(url, message, headers, _)] = wire.posted
    assert url == "https://slack/T0/secret"
    assert message["text"] == "[critical] tiny:v1: drift fires: a (PSI 0.50) drifted, in 500 rows"
    [attachment] = message["attachments"]
    assert {"title": "value", "value": "0.5123", "short": True} in attachment["fields"]
    assert "threshold" not in [field["title"] for field in attachment["fields"]]
    assert "webhook-signature" not in headers


def test_the_colour_says_how_bad_it_is():
    colours = [json.loads(slack_body(e))["attachments"][0]["color"] for e in (EVENT, OVER)]
    assert len(set(colours)) == 2
    assert json.loads(slack_body(OVER))["text"].startswith("[resolved] ")


def test_what_is_answered_decides_whether_it_arrived(attempt, wire):
    wire.status = 500
    assert attempt("slack", slack_url_file="https://slack/x").problem == "it answered 500"


@pytest.mark.parametrize("content", ["", "no url", "ftp://x"])
def test_a_file_without_url_is_said_without_its_content(attempt, wire, content):
    tried = attempt("slack", slack_url_file=content)
    assert tried.problem == "the file of EKIBEN_SLACK_URL_FILE holds no URL that begins with https://"
    assert not tried.is_final
    assert wire.posted == []


def test_a_file_that_is_gone_is_as_good_as_empty(wire, tmp_path):
    settings = msgspec.structs.replace(load_settings({}), slack_url_file=tmp_path / "gone")
    channels = Channels(settings, wall=lambda: 1.0, send=wire.post, mail=wire.mail)
    assert "holds no URL" in channels.attempt(Delivery(event=EVENT, url="slack", queue="alerts")).problem


@pytest.mark.parametrize(
    ("channel", "given", "missing"),
    [
        ("webhook", {}, "EKIBEN_WEBHOOK_URL"),
        ("slack", {}, "EKIBEN_SLACK_URL_FILE"),
        ("email", {"alert_email_to": "ann@x"}, "EKIBEN_SMTP_URL_FILE"),
        ("email", {"smtp_url_file": "smtp://m"}, "EKIBEN_ALERT_EMAIL_TO"),
    ],
)
def test_a_channel_that_is_not_set_up_is_given_up_at_once(attempt, channel, given, missing):
    tried = attempt(channel, **given)
    assert (tried.problem, tried.is_final) == (f"{missing} is not set", True)


def test_a_channel_that_there_is_not(attempt):
    tried = attempt("pigeon")
    assert tried.is_final
    assert "'pigeon' is not a channel; there are webhook, slack and email" in tried.problem


# e-mail ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_e_mail_says_it_all_and_can_be_told_from_a_persons(attempt, wire):
    given = {"smtp_url_file": "smtp://u:p@mail\n", "alert_email_to": "ann@x.org, bob@x.org", "alert_email_from": "ekiben@x.org"}
    assert attempt("email", **given).problem == ""
    [(url, message)] = wire.mailed
    assert url == "smtp://u:p@mail"
    assert (message["Subject"], message["To"], message["From"]) == ("[critical] tiny: drift", "ann@x.org, bob@x.org", "ekiben@x.org")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    lines = message.get_content().splitlines()
    assert (lines[0], lines[-1]) == (EVENT.message, "checks: 3")


@pytest.mark.parametrize("problem", [ConnectionRefusedError("refused"), smtplib.SMTPDataError(451, b"later")])
def test_a_mail_server_that_does_not_take_it_is_asked_again(attempt, wire, problem):
    wire.problem = problem
    tried = attempt("email", smtp_url_file="smtp://m", alert_email_to="ann@x.org")
    assert tried.problem.startswith(f"the mail server did not take it: {type(problem).__name__}")
    assert not tried.is_final


def message():
    return mail_of(OVER, "msg_1", sender="ekiben@x.org", to=("ann@x.org",))


def test_over_a_plain_connection_no_password_is_sent():
    with MailServer() as server:
        send_mail(f"smtp://127.0.0.1:{server.port}", message())
        with pytest.raises(smtplib.SMTPNotSupportedError, match="offers no STARTTLS"):
            send_mail(f"smtp://ann:word@127.0.0.1:{server.port}", message())
    assert [m["Subject"] for m in server.messages] == ["[resolved] tiny: drift"]
    assert server.logins == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_where_the_server_can_the_connection_is_encrypted_and_its_certificate_checked(scheme, tmp_path, monkeypatch):
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with MailServer(tls=tls, is_encrypted=scheme == "smtps") as server:
        url = f"{scheme}://ann:a%2Fword@127.0.0.1:{server.port}"
        with pytest.raises(ssl.SSLCertVerificationError):
            send_mail(url, message())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        send_mail(url, message())
    assert server.logins == [("ann", "a/word", True)]
    assert len(server.messages) == 1


@pytest.mark.parametrize("url", ["", "mail.example.org", "http://mail.example.org", "smtp://"])
def test_what_is_no_url_of_a_mail_server_is_said(url):
    with pytest.raises(OSError, match="EKIBEN_SMTP_URL_FILE holds no URL like"):
        send_mail(url, message())

"""No name, no route, no listener, no trust, and proxies in between."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent_magic._stream import Policy
from agent_magic.errors import ConfigError, StreamLost
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import (
    Certificates,
    Connection,
    RunAgentService,
    ScriptedServer,
    Service,
    YouService,
    head,
    refuses,
    run_against,
    says,
)
from tests.faults._cases import BRIEF, KEY, ONCE, Case, check_ending, complaints

WIRES: list[AgentProtocol] = [RunAgent(), You()]
SERVICES: list[Service] = [RunAgentService(["Once ", "upon ", "a time"]), YouService(["Once ", "upon ", "a time"])]
WHOLE = "Once upon a time"
COMPANY = Certificates()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def addresses(protocol: AgentProtocol) -> Iterator[Case]:
    """Hosts that are not there."""
    for url, words in (
        ("https://no-such-host.invalid", "o connection"),
        ("https://" + "a" * 63 + ".invalid", "o connection"),
        (f"http://127.0.0.1:{closed_port()}", "o connection"),
        (f"http://[::1]:{closed_port()}", "o connection"),
    ):
        yield Case(f"{protocol.name}: {url[:40]}", None, protocol, ONCE, text="", error=StreamLost, words=words, url=url)  # fmt: skip


def certificates(service: Service) -> Iterator[Case]:
    """Certificates that are not to be trusted are a mistake that no retry mends; the company's own is trusted by `verify`."""
    name, protocol, whole = service.protocol.name, service.protocol, says(service.recorded)
    never = {"protocol": protocol, "text": "", "requests": 0}
    untrusted = {"error": ConfigError, "words": "is not trusted", **never}
    for what, context in (("self-signed", COMPANY.good()), ("expired", COMPANY.expired()), ("wrong host", COMPANY.wrong_host())):  # fmt: skip
        yield Case(f"{name}: {what}", whole, tls=context, **untrusted)  # type: ignore[arg-type]
    yield Case(f"{name}: plain http where TLS is due", None, protocol, ONCE, error=StreamLost, url=f"https://127.0.0.1:{closed_port()}")  # fmt: skip


def trusted(service: Service, verify: str) -> Iterator[Case]:
    """With the company's authority named in `verify`."""
    name, protocol, policy = service.protocol.name, service.protocol, Policy(timeout=20, retries=0, verify=verify)
    whole = says(service.recorded)
    yield Case(f"{name}: verify names the CA", whole, protocol, policy, "done", WHOLE, tls=COMPANY.good())
    for what, context, words in (
        ("expired", COMPANY.expired(), "expired"),
        ("wrong host", COMPANY.wrong_host(), "not valid for"),
        ("another CA", Certificates().good(), "not trusted"),
    ):
        yield Case(f"{name}: {what}, with a CA", whole, protocol, policy, error=ConfigError, words=words, tls=context, requests=0)  # fmt: skip
    body = head() + service.recorded
    for place in range(0, len(body), 97):

        async def cut(connection: Connection, place: int = place) -> None:
            await connection.send(body[:place])
            await connection.reset()

        yield Case(f"{name}: TLS torn at {place}", cut, protocol, policy, None, part_of=WHOLE, tls=COMPANY.good())


def _offline(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have every connection fail as it does on a machine without a network."""

    async def nowhere(*_: Any, **__: Any) -> None:
        raise OSError(number, "as if")

    monkeypatch.setattr(anyio, "connect_tcp", nowhere)


def cases() -> Iterator[Case]:
    """All of this family that wants no environment of its own."""
    for protocol in WIRES:
        yield from addresses(protocol)
    for service in SERVICES:
        yield from certificates(service)


def test_addresses_and_certificates() -> None:
    """Each is one sentence with the host; the key was sent to nobody."""
    assert complaints(cases()) == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.protocol.name)
def test_a_companys_own_authority(service: Service, tmp_path: Path) -> None:
    """`verify` trusts the company's certificates and no others; a torn TLS connection is a lost one."""
    assert complaints(trusted(service, COMPANY.write_ca(tmp_path / "ca.pem"))) == []


def test_the_variable_that_others_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names an authority too."""
    from agent_magic import _connection

    monkeypatch.setenv("SSL_CERT_FILE", COMPANY.write_ca(tmp_path / "ca.pem"))
    _connection.certificates.cache_clear()
    try:
        with ScriptedServer(says(SERVICES[0].recorded), tls=COMPANY.good()) as server:
            assert run_against(server.url, RunAgent(), ONCE).transcript.text == WHOLE
    finally:
        _connection.certificates.cache_clear()


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("protocol", WIRES, ids=lambda protocol: protocol.name)
def test_no_network(number: int, protocol: AgentProtocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network gets a sentence with the host."""
    _offline(monkeypatch, number)
    found = complaints([Case("offline", None, protocol, ONCE, error=StreamLost, words="o connection", url="https://api.example")])  # fmt: skip
    assert found == []


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that fails for now is a connection that could not be made."""

    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert complaints([Case("EAI_AGAIN", None, RunAgent(), ONCE, error=StreamLost, url="https://api.example")]) == []


def test_a_handshake_that_never_ends() -> None:
    """A server that accepts and says nothing, where TLS is due, is given up after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert complaints([Case("silent", None, RunAgent(), BRIEF, error=StreamLost, words="in time", url=url)]) == []


def test_plain_http_where_tls_is_due() -> None:
    """A server that knows no TLS is one sentence."""
    with ScriptedServer(says(b"")) as server:
        url = server.url.replace("http:", "https:")
        assert complaints([Case("plain", None, RunAgent(), BRIEF, error=StreamLost, url=url)]) == []


class TestProxies:
    """What the environment says of proxies holds for other machines."""

    URL = "http://agent.example"

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set = monkeypatch.setenv

    def _ask(self, url: str, key: str | None = None) -> Any:
        run = run_against(url, RunAgent(), ONCE)
        assert list(check_ending(run, url, key)) == []
        return run.transcript

    def test_a_proxy_is_asked(self) -> None:
        """A plain request goes to the proxy, whole."""
        with ScriptedServer(says(SERVICES[0].recorded)) as proxy:
            self.set("HTTP_PROXY", proxy.url)
            assert self._ask(self.URL).text == WHOLE
        assert proxy.requests[0].startswith(b"POST http://agent.example/v1/agents/demo/stream")

    def test_a_proxy_that_is_not_there(self) -> None:
        """A proxy where nobody listens is one sentence; its password is not in it."""
        self.set("HTTPS_PROXY", f"http://me:sk-password@127.0.0.1:{closed_port()}")
        error = self._ask("https://agent.example", "sk-password").error
        assert isinstance(error, StreamLost)

    @pytest.mark.parametrize(
        "status", ["407 Proxy Authentication Required", "403 No", "502 Bad Gateway", "504 Gateway Timeout"]
    )
    def test_a_proxy_that_refuses(self, status: str) -> None:
        """A tunnel that is refused is one sentence; the key is in no request."""
        with ScriptedServer(refuses(status)) as proxy:
            self.set("HTTPS_PROXY", proxy.url)
            error = self._ask("https://agent.example").error
        assert isinstance(error, StreamLost)
        assert "proxy" in str(error)
        assert status[:3] in str(error)
        assert all(KEY.encode() not in request for request in proxy.requests)

    def test_a_tunnel(self, tmp_path: Path) -> None:
        """Through a tunnel the certificate is the agent's own, and must be."""
        context = COMPANY.good("agent.example")

        async def tunnel(connection: Connection) -> None:
            await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await connection.start_tls(context)
            await connection.read_request()
            await connection.send(head() + SERVICES[0].recorded)

        policy = Policy(timeout=20, retries=0, verify=COMPANY.write_ca(tmp_path / "ca.pem"))
        with ScriptedServer(tunnel) as proxy:
            self.set("HTTPS_PROXY", proxy.url)
            run = run_against("https://agent.example", RunAgent(), policy)
            other = run_against("https://elsewhere.example", RunAgent(), policy)
        assert run.transcript.text == WHOLE, run.transcript.error
        assert isinstance(other.transcript.error, ConfigError)

    @pytest.mark.parametrize(
        "proxy", ["nonsense://x", "http://", "http://:1", "::::", "http://[", "socks5://127.0.0.1:1"]
    )
    def test_a_proxy_that_cannot_be(self, proxy: str) -> None:
        """A proxy setting that no request could use is one sentence."""
        self.set("HTTPS_PROXY", proxy)
        run = run_against("https://agent.example", RunAgent(), BRIEF)
        assert isinstance(run.transcript.error, ConfigError | StreamLost)
        said = str(run.transcript.error)
        assert said.endswith(".")
        assert "could not read" not in said

    def test_no_proxy(self) -> None:
        """NO_PROXY holds."""
        with ScriptedServer(says(b"")) as proxy:
            self.set("HTTPS_PROXY", proxy.url)
            self.set("NO_PROXY", "*")
            self._ask("https://no-such-host.invalid")
        assert proxy.requests == []


def test_certificates_are_checked_at_all() -> None:
    """The store that is used by default checks names and chains."""
    from agent_magic import _connection

    context = _connection.certificates(None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

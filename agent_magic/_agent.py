"""An agent: settings in, results out. The magic is one of its callers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent_magic._config import AgentConfig, check_values, keeps_journal, load_settings
from agent_magic._connection import check_request
from agent_magic._journal import journal_folder
from agent_magic._keys import Secret, check_variable, find_key
from agent_magic._map import Map
from agent_magic._pace import Pace
from agent_magic._policy import Policy
from agent_magic._request import AgentRequest, HTTPRequest, check_base_url
from agent_magic._result import AgentResult
from agent_magic._results import Results
from agent_magic._run import Run
from agent_magic._trust import Destination, Trust, origin_of
from agent_magic.errors import ConfigError, PromptError
from agent_magic.events import AgentEvent
from agent_magic.protocols import get_protocol

__all__ = ["Agent"]

SECRET_HEADER = re.compile("auth(?!or$)|key|token|secret|cookie|passw|jwt|credential|session|signature", re.IGNORECASE)


class Agent:
    """A configured agent by name, or one described in place::

        Agent("researcher")
        Agent(protocol="you", agent="advanced", key_env="YDC_API_KEY")

    Settings given here stand above those of the files. Raises `ConfigError`.
    """

    def __init__(self, name: str | None = None, /, **settings: Any) -> None:
        if name is None and "protocol" in settings:
            self.name, base = settings.get("agent", settings["protocol"]), AgentConfig()
            self._project: Path | None = None
            self._trust = Trust()
        else:
            known = load_settings()
            self.name, base = known.agent(name)
            self._project, self._trust = known.projects.get(self.name), known.trust
        self._given = frozenset(settings)
        self.config = _configured(base, settings)
        self._protocol = get_protocol(self.config.protocol)
        self.last_results: Results | None = None

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: no key, and none of the answers. Raises `ConfigError` where a header holds a secret."""
        secret = [name for name, value in self.headers().items() if isinstance(value, Secret)]
        if secret:
            raise ConfigError(
                f"An agent whose header {secret[0]!r} holds a secret is not pickled: no key travels so. "
                "Name the key's variable in key_env; the other side reads its own."
            )
        return {**self.__dict__, "_protocol": None, "last_results": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _protocol=get_protocol(state["config"].protocol))

    @property
    def wire(self) -> str:
        """The name of the protocol that the agent speaks."""
        return self._protocol.name

    def prepare(self, prompt: str, parameters: dict[str, Any] | None = None, *, with_key: bool = True) -> AgentRequest:
        """The request for `prompt`, with everything checked that can be before it is sent.

        `with_key` False leaves the key out, for a request that another process will send. Raises
        `PromptError`, `ConfigError` and `AuthError`.
        """
        if not prompt.strip():
            raise PromptError("The prompt is blank; write the question below the %%agent line.")
        config = self.config
        base_url = check_base_url(self._base_url())
        if variable := self._key_variable():
            check_variable(variable)
        self._check_trust(base_url)
        ask = AgentRequest(
            prompt=prompt,
            base_url=base_url,
            agent=config.agent,
            parameters={**config.parameters, **(parameters or {})},
            headers=self.headers(),
            key=find_key(variable) if variable and with_key else None,
            key_env=variable,
            auth=config.auth,
        )
        check_request(self._protocol.request(ask), self._policy())
        return ask

    def headers(self) -> dict[str, str | Secret]:
        """The headers that the settings name; a value that its name calls a secret is one."""
        return {name: _guarded(name, value) for name, value in self.config.headers.items()}

    def request(self, prompt: str, parameters: dict[str, Any] | None = None) -> HTTPRequest:
        """What would be sent for `prompt`; the key in it prints as ``***``."""
        return self._protocol.request(self.prepare(prompt, parameters))

    def begin(self, prompt: str, parameters: dict[str, Any] | None = None) -> tuple[AgentResult, Run]:
        """Begin to ask; returns at once with the growing result."""
        return self.asking()(self.prepare(prompt, parameters))

    def asking(self, pace: Pace | None = None) -> Callable[[AgentRequest], tuple[AgentResult, Run]]:
        """What begins to ask the requests that `prepare` gives, as runs that share `pace`."""
        policy = self._policy()
        journal = journal_folder() if keeps_journal() else None  # settings files are read for it: once for all rows

        def begin(ask: AgentRequest) -> tuple[AgentResult, Run]:
            run = Run(self._protocol, ask, policy, self.name, journal, pace=pace)
            result = AgentResult(run, ask.parameters)
            run.start()
            return result, run

        return begin

    def ask(self, prompt: str, **parameters: Any) -> AgentResult:
        """Ask, and block until the answer is there. Raises what made it fail; Ctrl-C ends the run."""
        result, run = self.begin(prompt, parameters)
        try:
            result.wait()
        except BaseException:
            run.stop("interrupted")
            raise
        return _raised(result)

    async def aask(self, prompt: str, **parameters: Any) -> AgentResult:
        """`ask`, awaited; cancelling it ends the run."""
        result, run = self.begin(prompt, parameters)
        try:
            await result
        except BaseException:
            run.stop("interrupted")
            raise
        return _raised(result)

    async def stream(self, prompt: str, **parameters: Any) -> AsyncIterator[AgentEvent]:
        """Ask, and give each event as it arrives. Leaving the loop closes the connection.

        Raises what made the run fail, after its last event.
        """
        result, run = self.begin(prompt, parameters)
        try:
            async for event in result.follow():
                yield event
        finally:
            run.stop()
        _raised(result)

    def map(
        self,
        prompts: Iterable[Any],
        /,
        *,
        concurrency: int = 8,
        progress: bool = True,
        client: Any = None,
        **parameters: Any,
    ) -> Results:
        """Ask each of `prompts`, at most `concurrency` at once, and block until all are answered; in order.

        A row that fails is a failed result. `prompts` may be a column of pandas or polars. `client` is a
        `distributed.Client`, on whose cluster the rows are spread; each worker reads its own key. Raises
        `ConfigError`, `AuthError` and `PromptError` before anything is sent. After an interrupt, and
        always, `last_results` holds what has arrived.
        """
        return Map(self, parameters, concurrency, client, progress=progress).ask(prompts)

    def amap(
        self,
        prompts: Iterable[Any],
        /,
        *,
        concurrency: int = 8,
        progress: bool = True,
        client: Any = None,
        **parameters: Any,
    ) -> Coroutine[Any, Any, Results]:
        """`map`, to be awaited; in a notebook its bar has a Stop button. Cancelling it ends the rows."""
        return Map(self, parameters, concurrency, client, progress=progress).aask(prompts)

    def _check_trust(self, base_url: str) -> None:
        """Raise `ConfigError` where a project's file would have a key of the person's go where it may not."""
        variable = self._key_variable()
        own_headers = self.config.headers if "headers" in self._given else {}
        guarded = any(isinstance(_guarded(name, value), Secret) for name, value in own_headers.items())
        if self._project is None or (variable is None and not guarded):
            return
        to = Destination(
            url=base_url,
            service=self._protocol.base_url,
            variable=variable,
            variable_of_service=self._protocol.key_env,
            says_url="base_url" not in self._given,
            says_variable=variable is not None and "key_env" not in self._given,
            says_verify=self.config.verify is not None and "verify" not in self._given,
            says_insecure=self.config.insecure_http and "insecure_http" not in self._given,
        )
        self._trust.check(self._project, to)

    def asks(self, protocol: str, agent: str, base_url: str) -> bool:
        """Whether this agent is that one: of the same wire, of the same name there, at the same place."""
        said = (self.config.protocol, self.config.agent, origin_of(self._base_url()))
        return said == (protocol, agent, origin_of(base_url))

    def _policy(self) -> Policy:
        return Policy(**{field: getattr(self.config, field) for field in Policy.__struct_fields__})

    def _base_url(self) -> str:
        if self.config.embedded and self.config.base_url is None:
            return _embedded_url()
        return self.config.base_url or self._protocol.base_url

    def _key_variable(self) -> str | None:
        if self.config.embedded and self.config.key_env is None:
            return None
        if self.config.key_env is not None:
            return self.config.key_env or None
        return self._protocol.key_env


def _configured(base: AgentConfig, settings: dict[str, Any]) -> AgentConfig:
    try:
        unchecked = msgspec.structs.replace(base, **settings)
        config = msgspec.convert(msgspec.to_builtins(unchecked), AgentConfig)
    except (TypeError, msgspec.ValidationError) as error:
        raise ConfigError(f"These settings make no agent: {error}.") from None
    check_values(config)
    return config


def _guarded(name: str, value: str) -> str | Secret:
    """A header's value; a `Secret` where its name says that it is one. A scheme before it is none."""
    if not SECRET_HEADER.search(name):
        return value
    scheme = re.match("(?:basic|bearer|token) +", value, re.IGNORECASE)
    return Secret(value) if scheme is None else Secret(value[scheme.end() :], scheme[0])


def _raised(result: AgentResult) -> AgentResult:
    if result.error is not None:
        raise result.error
    return result


def _embedded_url() -> str:
    try:
        from agent_magic.demo import embedded_url
    except ImportError as error:
        raise ConfigError(
            f"The embedded agent needs {error.name}: pip install 'agent-magic[demo]'. To ask an agent of your own, "
            'write it into agent_magic.toml: [agents.NAME] with protocol = "runagent" or "you", agent and key_env.'
        ) from None
    return embedded_url()

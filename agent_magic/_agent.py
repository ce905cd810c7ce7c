"""An agent: settings in, results out. The magic is one of its callers."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec import structs

from agent_magic._check import local_defaults
from agent_magic._config import AgentConfig, Source, keeps_journal, load_settings
from agent_magic._connection import check_request
from agent_magic._journal import journal_folder
from agent_magic._key_sources import checked_key, find_key, look_up
from agent_magic._keys import Secret
from agent_magic._local import SMOLLM2, local_model
from agent_magic._map import Map
from agent_magic._pace import Pace
from agent_magic._policy import Policy
from agent_magic._request import ALONE, AgentRequest, Earlier, HTTPRequest, SocketRequest, check_base_url, host_of
from agent_magic._resolve import combined
from agent_magic._result import AgentResult
from agent_magic._results import Results
from agent_magic._run import Run
from agent_magic._shelf import Shelf
from agent_magic._taping import Taping
from agent_magic._trust import Destination, Trust, origin_of, real_path
from agent_magic.errors import ConfigError, PromptError
from agent_magic.events import AgentEvent
from agent_magic.protocols import AgentProtocol, Keeper, get_protocol

__all__ = ["Agent"]


class Begin(Protocol):
    """Begins to ask a request that is ready."""

    def __call__(self, ask: AgentRequest, earlier: Earlier = ALONE) -> tuple[AgentResult, Run]: ...


# What llama.cpp's server speaks.
LOCAL_WIRES = ("openai", "openai-responses", "anthropic")
SECRET_HEADER = re.compile("auth(?!or$)|key|token|secret|cookie|passw|jwt|credential|session|signature", re.IGNORECASE)


class Agent:
    """A configured agent by name, or one described in place::

        Agent("researcher")
        Agent(protocol="you", agent="advanced", key_env="YDC_API_KEY")

    Settings given here stand above those of the environment and of ``%config``, and those above the files'.
    `origins` says where each that is not the default came from. Raises `ConfigError`.
    """

    def __init__(self, name: str | None = None, /, **settings: Any) -> None:
        if isinstance(gguf := settings.get("gguf"), os.PathLike | str) and gguf not in {"", SMOLLM2}:
            settings["gguf"] = str(real_path(os.fspath(gguf)))  # the working folder may be another one when it is asked
        if name is None and not {"protocol", "gguf"}.isdisjoint(settings):
            base = AgentConfig(**local_defaults(settings))
            self.name = settings.get("agent", settings.get("protocol", base.agent))
            self._project: Path | None = None
            self._trust = Trust()
            source = Source("Agent(...)")
        else:
            known = load_settings()
            self.name, base = known.agent(name)
            self._project, self._trust = known.projects.get(self.name), known.trust
            source = known.sources[self.name]
        self._given = frozenset(settings)
        self.config, self.origins = combined(base, source, settings)
        self.protocol = self._found_protocol()
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
        return {**self.__dict__, "protocol": None, "last_results": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, protocol=get_protocol(state["config"].protocol))

    @property
    def wire(self) -> str:
        """The name of the protocol that the agent speaks."""
        return self.protocol.name

    @property
    def asked(self) -> str:
        """Who is asked: the agent's id at its service, or its name here where the whole endpoint is the agent's own."""
        return self.config.agent if self.protocol.base_url or "agent" in self.origins else self.name

    @property
    def tapes(self) -> Shelf:
        """Its tapes."""
        return Shelf(self.name, self.protocol, self.config.tape or "live")

    @property
    def conversations(self) -> Keeper:
        """Who remembers what was said before: the "server", the "client", or "nobody"."""
        return self.protocol.conversations

    def prepare(
        self,
        prompt: str,
        parameters: dict[str, Any] | None = None,
        earlier: Earlier = ALONE,
        *,
        dry: bool = False,
    ) -> AgentRequest:
        """The request for `prompt`, with everything checked that can be before it is sent.

        `dry` asks nobody for a key: where there is none, an empty one stands in its place. Where a tape may answer,
        neither place nor key is looked for yet, but with `dry`. Raises `PromptError`, `ConfigError` and `AuthError`.
        """
        question = self._question(prompt, parameters, earlier)
        return question if self.tapes.may_answer and not dry else self._addressed(question, dry=dry)

    def prepare_all(self, prompts: Sequence[str], parameters: dict[str, Any], *, dry: bool = False) -> AgentRequest:
        """The request for one of `prompts`, in whose place each can be put. Raises as `prepare` does.

        Where tapes have all the answers, neither place nor key is looked for.
        """
        ask = self.prepare("?", parameters, dry=dry)
        if dry or self.config.tape != "auto":
            return ask
        each = (structs.replace(ask, prompt=prompt) for prompt in prompts)
        return ask if all(map(self.tapes.has, each)) else self._addressed(ask)

    def _addressed(self, question: AgentRequest, *, dry: bool = False) -> AgentRequest:
        """`question` with its place and its key."""
        base_url = self.checked_url()
        variable = self.key_variable
        ask = structs.replace(
            question,
            base_url=base_url,
            headers=self.headers(),
            key=Secret("") if variable else None,
            key_env=variable,
            auth=self.config.auth,
        )
        # Nobody is asked for the key of a request that cannot be sent.
        check_request(self.protocol.request(ask), self._policy())
        if self.config.gguf is not None:
            return structs.replace(ask, key=local_model(self.config.gguf).key)
        if variable is None:
            return ask
        if not dry:
            return structs.replace(ask, key=find_key(variable, host_of(base_url)))
        found = look_up(variable, host=host_of(base_url))
        return ask if found is None else structs.replace(ask, key=checked_key(variable, found))

    def checked_url(self) -> str:
        """The base URL, which may have this agent's key. Raises `ConfigError` where it may not."""
        if not self.base_url:
            raise ConfigError(
                f"The agent {self.name!r} speaks {self.wire}, which has no address of its own: set base_url to the "
                "agent's whole endpoint, such as https://api.example.com/agent."
            )
        base_url = check_base_url(self.base_url)
        self._check_trust(base_url)
        # Of a whole endpoint nothing is left out: a slash at its end makes it another one.
        return base_url if self.protocol.base_url else self.base_url

    def _question(self, prompt: str, parameters: dict[str, Any] | None, earlier: Earlier) -> AgentRequest:
        """What is asked, without where and with which key. Raises `PromptError` and `ConfigError`."""
        if not isinstance(prompt, str):
            raise PromptError(f"A prompt is a text, and a {type(prompt).__name__} is none; for many there is map.")
        if not prompt.strip():
            raise PromptError("The prompt is blank; write the question below the %%agent line, or as the text to ask.")
        config = self.config
        named = "agent" in self.origins or config.gguf is not None
        if self.conversations == "client" and self.protocol.base_url and not named:
            raise ConfigError(
                f'The agent {self.name!r} does not say which model it asks: add agent = "…", the model\'s name at '
                f"{host_of(self.base_url)}."
            )
        if config.system is not None and not self.protocol.has_system:
            raise ConfigError(
                f"The agent {self.name!r} has a system text, and its protocol, {config.protocol}, has no place for "
                "one; take `system` out of its settings, and write it into the prompt."
            )
        return AgentRequest(
            prompt=prompt,
            base_url="",
            agent=self.asked,
            parameters={**config.parameters, **(parameters or {})},
            session_id=earlier.session_id,
            system=config.system,
            said=earlier.said if self.conversations == "client" else (),
        )

    def headers(self) -> dict[str, str | Secret]:
        """The headers that the settings name; a value that its name calls a secret is one."""
        return {name: _guarded(name, value) for name, value in self.config.headers.items()}

    def request(
        self, prompt: str, parameters: dict[str, Any] | None = None, earlier: Earlier = ALONE
    ) -> HTTPRequest | SocketRequest:
        """What would be sent for `prompt`; the key in it prints as ``***``, also where there is none yet."""
        return self.protocol.request(self.prepare(prompt, parameters, earlier, dry=True))

    def begin(
        self, prompt: str, parameters: dict[str, Any] | None = None, earlier: Earlier = ALONE
    ) -> tuple[AgentResult, Run]:
        """Begin to ask, or to replay; returns at once with the growing result.

        Raises as `prepare` does, and `TapeMissing`.
        """
        return self.asking()(self.prepare(prompt, parameters, earlier), earlier)

    def asking(self, pace: Pace | None = None) -> Begin:
        """What begins to ask the requests that `prepare` gives, as runs that share `pace`."""
        policy, gguf = self._policy(), self.config.gguf
        journal = journal_folder() if keeps_journal() else None  # settings files are read for it: once for all rows

        def begin(ask: AgentRequest, earlier: Earlier = ALONE) -> tuple[AgentResult, Run]:
            found = self.tapes.find(ask, earlier)
            if found is None and not ask.base_url:
                ask = self._addressed(ask)
            taping = Taping(journal, self.tapes.new(ask, earlier)) if found is None else Taping(replays=found)
            local = None if gguf is None or found is not None else local_model(gguf)
            run = Run(self.protocol, ask, policy, self.name, taping, pace=pace, local=local)
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
        variable = self.key_variable
        own_headers = self.config.headers if "headers" in self._given else {}
        guarded = any(isinstance(_guarded(name, value), Secret) for name, value in own_headers.items())
        if self._project is None or (variable is None and not guarded):
            return
        to = Destination(
            url=base_url,
            service=self.protocol.base_url,
            variable=variable,
            variable_of_service=self.protocol.key_env,
            says_url="base_url" not in self._given,
            says_variable=variable is not None and "key_env" not in self._given,
            says_verify=self.config.verify is not None and "verify" not in self._given,
            says_insecure=self.config.insecure_http and "insecure_http" not in self._given,
        )
        self._trust.check(self._project, to)

    def asks(self, protocol: str, agent: str, base_url: str) -> bool:
        """Whether this agent is that one: of the same wire, of the same name there, at the same place."""
        said = (self.config.protocol, self.asked, origin_of(self.base_url))
        return said == (protocol, agent, origin_of(base_url))

    def _policy(self) -> Policy:
        return Policy(**{field: getattr(self.config, field) for field in Policy.__struct_fields__})

    @property
    def base_url(self) -> str:
        """The URL that is asked: the settings' own, or the protocol's.

        A model of this machine's has one while its process runs; before that it is this machine's, without a port.
        """
        if self.config.gguf is not None:
            return self._local_url(self.config.gguf)
        if self.config.embedded and self.config.base_url is None:
            return _embedded_url()
        return self.config.base_url or self.protocol.base_url

    @property
    def key_variable(self) -> str | None:
        """The name of the key, where one goes along; the one of a model's process has none, for it is made here."""
        if self.config.gguf is not None:
            return None
        if self.config.embedded and self.config.key_env is None:
            return None
        if self.config.key_env is not None:
            return self.config.key_env or None
        return self.protocol.key_env

    def _local_url(self, gguf: str) -> str:
        if self.protocol.name not in LOCAL_WIRES:
            raise ConfigError(
                f"The agent {self.name!r} is a model that is served here, by {', '.join(LOCAL_WIRES[:-1])} or "
                f"{LOCAL_WIRES[-1]}; {self.protocol.name} is not among them."
            )
        if self._project is not None and gguf != SMOLLM2 and "gguf" not in self._given:
            self._trust.check_model(self._project, gguf)
        place = local_model(gguf).url or "http://127.0.0.1"
        return f"{place}{urlsplit(self.protocol.base_url).path}"

    def _found_protocol(self) -> AgentProtocol:
        try:
            return get_protocol(self.config.protocol)
        except ConfigError as error:
            where = self.origins.get("protocol", "Agent(...)")
            place = "" if where == "Agent(...)" else f"agents.{self.name}."
            raise ConfigError(f"{where}: {place}protocol: {error}") from None


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

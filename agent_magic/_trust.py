"""Whether a key may go where a settings file sends it.

A settings file that is found upwards of the working folder came with the project: it was cloned, unpacked,
or put into a shared folder by somebody else. It may name agents, but it may not decide who gets a key of
the person's. So, where an agent comes from such a file, a key goes only

- to the wire's own service, or to a host that the person's own settings name. This machine is no
  exception: on a shared one, any user can listen on a port of it;
- from the variable that is the wire's own, or that the person's own settings name: a project could else
  send ``AWS_SECRET_ACCESS_KEY`` to a service that keeps logs;
- under the certificates that the person trusts: ``verify`` would let a stranger on the network read along;
- over https: ``insecure_http`` would let everybody on the network.

Nor does such a file decide which model is loaded: what reads a model is native code, and runs as the person. It may
name one that the person's own settings name too.

The person's own settings are the user's file, ``AGENT_MAGIC_CONFIG``, ``%config`` and ``Agent(...)``. Those that name a
host or a variable for one agent have named it for all. Proxies come from the environment alone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from agent_magic.errors import ConfigError

__all__ = ["Destination", "Trust", "origin_of", "real_path"]

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of `url`, the port also where the scheme implies it."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)


def real_path(path: str) -> Path:
    """The file that `path` leads to, whichever way it is written."""
    found = Path(path)
    with suppress(RuntimeError, OSError):  # a user that does not exist, links in a circle
        found = found.expanduser().resolve()
    return found


def _place_of(url: str) -> str:
    """The host of `url` as `allow_hosts` writes it: with its port only where that is not the scheme's own."""
    scheme, host, port = origin_of(url)
    name = f"[{host}]" if ":" in host else host
    return name if port == DEFAULT_PORTS.get(scheme) else f"{name}:{port}"


class Destination(Struct, frozen=True):
    """Where a key is about to go, and what of that a project's file has said.

    `service` is the wire's own base URL and `variable_of_service` its own variable. `variable` is None where no
    key but a secret header goes along.
    """

    url: str
    service: str
    variable: str | None
    variable_of_service: str | None
    says_url: bool
    says_variable: bool
    says_verify: bool
    says_insecure: bool


class Trust(Struct, frozen=True):
    """What the person's own settings name: hosts, variables, models' files. `own_file` is where more can be named."""

    hosts: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    own_file: Path = Path()
    models: frozenset[Path] = frozenset()

    def naming(self, url: str | None, variable: str | None, gguf: str | None = None) -> Trust:
        """What is trusted when an agent of the person's own names these, too."""
        hosts = self.hosts
        if url is not None:
            with suppress(ValueError):  # no URL: that agent says so itself when it is asked
                hosts |= {_place_of(url)}
        variables = self.variables | ({variable} if variable else set())
        return Trust(hosts, variables, self.own_file, self.models | ({real_path(gguf)} if gguf else set()))

    def check_model(self, project: Path, gguf: str) -> None:
        """Raise `ConfigError` where the agent, which the file `project` describes, may not have `gguf` loaded."""
        if real_path(gguf) not in self.models:
            raise ConfigError(
                f"{project} would have the model {gguf} loaded, which your own settings do not name; if you trust that "
                f'file, write allow_models = ["{real_path(gguf)}"] into {self.own_file}.'
            )

    def check(self, project: Path, to: Destination) -> None:
        """Raise `ConfigError` where the agent, which the file `project` describes, may not have a key."""
        key = f"the key in {to.variable}" if to.variable else "a secret header"
        place = _place_of(to.url)
        if to.says_url and origin_of(to.url) != origin_of(to.service) and place not in self.hosts:
            raise ConfigError(
                f"{project} would send {key} to {place}, which your own settings do not name; if you trust it, write "
                f'allow_hosts = ["{place}"] into {self.own_file}, or key_env = "" for a server that wants no key.'
            )
        if to.says_variable and to.variable not in {to.variable_of_service, *self.variables}:
            raise ConfigError(
                f"{project} would send the variable {to.variable} to {place}, and your own settings do not name that "
                f'variable; if it is meant for it, write allow_keys = ["{to.variable}"] into {self.own_file}.'
            )
        for says, name in ((to.says_verify, "verify"), (to.says_insecure, "insecure_http")):
            if says:
                raise ConfigError(
                    f"{project} sets {name} for an agent that gets {key}, which only settings of your own may; "
                    f"describe the agent in {self.own_file}."
                )

"""The person's keyring: a key is read, stored, deleted. The only room that knows the keyring library.

A keyring may be locked, broken, or wait for a dialog that nobody sees: it is asked in a
thread, for so long and no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import ModuleType

from agent_magic._keys import Secret

__all__ = ["KeyringTrouble", "ask_again", "delete_key", "read_key", "store_key"]

SERVICE = "agent_magic"
# Somebody may be typing the keyring's own password.
PATIENCE = 20.0
# A backend that once gave no answer is not asked again in this process.
_SILENT: list[KeyringTrouble] = []


class KeyringTrouble(Exception):
    """The keyring cannot be used. `is_missing`: the library is not installed."""

    def __init__(self, words: str, *, is_missing: bool = False) -> None:
        super().__init__(words)
        self.is_missing = is_missing


def read_key(variable: str) -> Secret | None:
    """The key that is stored under `variable`, if one is. Raises `KeyringTrouble`."""
    return _asked(lambda keyring: Secret((keyring.get_password(SERVICE, variable) or "").strip()))


def ask_again() -> None:
    """Have a backend that gave no answer be asked once more."""
    _SILENT.clear()


def store_key(variable: str, key: Secret) -> None:
    """Store `key` under `variable`, and see that it is there. Raises `KeyringTrouble`."""

    def store(keyring: ModuleType) -> None:
        keyring.set_password(SERVICE, variable, key.reveal())
        if keyring.get_password(SERVICE, variable) != key.reveal():
            raise KeyringTrouble("it keeps nothing")

    _asked(store)


def delete_key(variable: str) -> bool:
    """Delete what is stored under `variable`; whether there was anything. Raises `KeyringTrouble`."""
    if read_key(variable) is None:
        return False
    _asked(lambda keyring: keyring.delete_password(SERVICE, variable))
    return True


def _asked(do: Callable[[ModuleType], Secret | None]) -> Secret | None:
    """What `do` gets of the keyring, None for a key that is empty. What a backend raises is not shown: it may quote."""
    if _SILENT:  # it is waited for once, and not for each agent, row and cell
        raise _SILENT[0]
    outcome: list[Secret | KeyringTrouble | None] = []

    def work() -> None:
        try:
            import keyring

            outcome.append(do(keyring))
        except KeyringTrouble as trouble:
            outcome.append(trouble.with_traceback(None))
        except BaseException as error:  # noqa: BLE001 (a backend is somebody else's, and the key may be elsewhere)
            outcome.append(_trouble(error))

    thread = Thread(target=work, name="agent_magic keyring", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        _SILENT.append(KeyringTrouble(f"no answer in {PATIENCE:g} s"))
        raise _SILENT[0]
    (found,) = outcome
    if isinstance(found, KeyringTrouble):
        raise found
    return None if found is None or found.is_empty else found


def _trouble(error: BaseException) -> KeyringTrouble:
    if isinstance(error, ModuleNotFoundError) and error.name == "keyring":
        return KeyringTrouble("not installed", is_missing=True)
    words = type(error).__name__
    with suppress(ImportError):
        from keyring.errors import KeyringLocked, NoKeyringError

        known = ((NoKeyringError, "no backend"), (KeyringLocked, "locked"))
        words = next((said for kind, said in known if isinstance(error, kind)), words)
    return KeyringTrouble(words)

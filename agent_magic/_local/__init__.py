"""A model of this machine's own: llama.cpp's server, in a process that belongs to this one.

`_parts` says what is there, without importing any of it; `_process` starts the server, watches it and ends it;
`_server` is the program that runs there. Nothing of llama.cpp is ever loaded into the process that asks.
"""

from __future__ import annotations

from agent_magic._local._parts import AT_ITS_BEST, SMOLLM2, is_complete, missing, model_file, model_name
from agent_magic._local._process import LocalModel, Served, local_model, running

__all__ = [
    "AT_ITS_BEST",
    "SMOLLM2",
    "LocalModel",
    "Served",
    "is_complete",
    "local_model",
    "missing",
    "model_file",
    "model_name",
    "running",
]

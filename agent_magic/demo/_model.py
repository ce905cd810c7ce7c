"""A real model behind the demo's wires: its tokens are the pieces, as they come.

The model is generated from by whoever reads: when the client leaves, so does the reader, and llama.cpp stops. What had
come is kept, and a reader that comes back is given it, and then what the model goes on with.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from agent_magic._local import AT_ITS_BEST, SMOLLM2, LocalModel, local_model
from agent_magic.errors import StreamLost

__all__ = ["ModelAnswer", "Models"]

# What of a request's parameters is the model's.
TAKEN = frozenset({"max_tokens", "repeat_penalty", "seed", "stop", "temperature", "top_k", "top_p"})


class Models:
    """Makes answers of the model in one file."""

    def __init__(self, gguf: str = SMOLLM2) -> None:
        self._model = local_model(gguf)
        # SmolLM2 is at its best without the system text that its file has for it.
        self._system = [{"role": "system", "content": ""}] if gguf == SMOLLM2 else []

    async def load(self) -> None:
        """Wait until the model is there. Raises `AgentMagicError`."""
        await self._model.ready(await self._model.serve())

    def answer(self, turns: Sequence[tuple[str, str]], question: str, parameters: Mapping[str, Any]) -> ModelAnswer:
        """An answer to `question`, behind what was asked and answered before."""
        messages = list(self._system)
        for asked, answered in turns:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        messages.append({"role": "user", "content": question})
        options = AT_ITS_BEST | {name: value for name, value in parameters.items() if name in TAKEN}
        if type(options["max_tokens"]) is not int:
            options |= {"max_tokens": AT_ITS_BEST["max_tokens"]}
        return ModelAnswer(self._model, messages, options)


class ModelAnswer:
    """One answer, as far as it has been read."""

    half = 10  # of an answer whose length nobody knows

    def __init__(self, model: LocalModel, messages: list[dict[str, str]], options: dict[str, Any]) -> None:
        self._model = model
        self._messages = messages
        self._options = options
        self._most = options["max_tokens"]
        self._reader = 0
        self._is_whole = False
        self.pieces: list[str] = []
        self.usage: dict[str, int] = {}

    @property
    def text(self) -> str:
        """What has come of it."""
        return "".join(self.pieces)

    async def read(self, start: int = 0) -> AsyncGenerator[tuple[int, str]]:
        """The pieces from `start` on, each with its place. A reader that comes later takes over.

        Raises `StreamLost` where the model ended, and `AgentMagicError` where there is none.
        """
        self._reader += 1
        me = self._reader
        for index in range(start, len(self.pieces)):
            yield index, self.pieces[index]
        if self._is_whole:
            return
        kept = len(self.pieces)
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                if me != self._reader:
                    return
                if usage := chunk.get("usage"):
                    self.usage = _joined(kept, usage)
                for choice in chunk.get("choices", ()):
                    if piece := choice.get("delta", {}).get("content"):
                        self.pieces.append(piece)
                        yield len(self.pieces) - 1, piece
        self._is_whole = True

    async def _chunks(self) -> AsyncGenerator[dict[str, Any]]:
        """What llama.cpp says, to its end; it goes on from the text that is there."""
        served = await self._model.serve()
        url = await self._model.ready(served)
        said = [{"role": "assistant", "content": self.text}] if self.pieces else []
        body = {
            **self._options,
            "max_tokens": max(1, self._most - len(self.pieces)),
            "messages": [*self._messages, *said],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Authorization": self._model.key.behind("Bearer ").reveal()}
        try:
            async with (
                httpx.AsyncClient(trust_env=False, timeout=None) as client,  # noqa: S113 (its end is waited for)
                client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as reply,
            ):
                if not reply.is_success:
                    raise StreamLost(f"The model answered {reply.status_code}: {(await reply.aread()).decode()[:300]}")
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        yield json.loads(line.removeprefix("data: "))
        except httpx.TransportError as error:
            ended = await served.fate()
            raise ended or StreamLost(f"The model's connection broke ({type(error).__name__}).") from None


def _joined(kept: int, usage: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of an answer of which `kept` had come before: to the model they went in, to the client they came."""
    went, came = usage.get("prompt_tokens", 0) - kept, usage.get("completion_tokens", 0) + kept
    return {"prompt_tokens": went, "completion_tokens": came, "total_tokens": went + came}

"""The help that ``%%agent?``, ``%agent help`` and ``--help`` show: examples first, then options and verbs."""

from __future__ import annotations

from agent_magic._options import help_text

__all__ = ["Help"]

EXAMPLES = """\
Ask an agent in a cell of its own, %%agent, and look after the agents with %agent.

    %%agent
    Why is the sky blue?

    %%agent researcher -o answer -p verbosity=high
    What did we learn about {{ topic }} from these rows?
    {{ df | head(20) }}

    answer.text, answer.usage, answer.sources      # in the next cell; _agent is always the last answer

    %%agent --dry-run                              # shows what would be sent, and sends nothing
    %agent                                         # the agents, and what is running
    %agent doctor                                  # what works here, and what does not"""


class Help:
    """A page of help that shows itself. `verbs` is what there is to say of ``%agent``."""

    def __init__(self, verbs: str) -> None:
        self.text = f"{EXAMPLES}\n\n{help_text().strip()}\n\n{verbs}\n"

    def __repr__(self) -> str:
        return self.text.rstrip()

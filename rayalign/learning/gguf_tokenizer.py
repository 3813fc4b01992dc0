"""The tokenizer that a GGUF header describes: as transformers reads it, mended where it does not follow the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.learning.gguf_header import GgufHeader, GgufSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEDY = "name the model's folder in Hugging Face format, or its hub id, or a GGUF file that was made of all of it"
_BYTE_LEVEL, _PIECES = "gpt2", "llama"
_CONTROL, _USER_DEFINED = 3, 4
_GPT2 = {"default", "gpt-2", "mpt", "olmo", "jais", "trillion", "phi-2", "roberta-bpe"}
"""Values of `tokenizer.ggml.pre` whose text is split as GPT-2's is, which is what transformers does by default."""
_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
"""The same, but every digit stands alone."""
_LLAMA3 = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}
_OTHERS = {"tekken", "qwen2", "qwen35", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "gpt-4o", "llama4", "kanana2"}
_WHOLE_WORDS = _LLAMA3 | {"tekken"}
"""A word that is a token is one token, though no merges lead there."""


def write_tokenizer(source: GgufSource, folder: Path) -> None:
    """Write the tokenizer into the folder, with the chat template and the special tokens of the header.

    Raises:
        ModelError: the header has none, or transformers cannot read it rightly.
    """
    from transformers import PreTrainedTokenizerFast

    metadata = source.header.metadata
    if not metadata.get("tokenizer.ggml.tokens") or not metadata.get("tokenizer.ggml.model"):
        raise source.refused("it holds no tokenizer", "its header lists no tokens that text could become", REMEDY)
    read = source.load(PreTrainedTokenizerFast.from_pretrained, REMEDY)
    _mended(read, source.header).save_pretrained(folder)
    _check(PreTrainedTokenizerFast.from_pretrained(folder), source)


def unknown_splitting(header: GgufHeader) -> str | None:
    """What is not known of how text is split before it becomes tokens; None where all is."""
    if header.metadata.get("tokenizer.ggml.model") != _BYTE_LEVEL:
        return None
    pre = header.metadata.get("tokenizer.ggml.pre")
    if pre in _GPT2 | _DIGITS | _LLAMA3 | _OTHERS:
        return None
    return "its header does not say how text is split" if pre is None else f"how {pre} splits text is not known here"


def _mended(read: Any, header: GgufHeader) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(read.backend_tokenizer.to_str())
    metadata, tokens = header.metadata, header.metadata["tokenizer.ggml.tokens"]
    pre = metadata.get("tokenizer.ggml.pre")
    # transformers' tokenizer classes add their own special tokens, for which the model has no embedding.
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < len(tokens)]
    if metadata["tokenizer.ggml.model"] == _BYTE_LEVEL:
        _as_spelled(state, header)
        if pre in _DIGITS:
            state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_EACH_DIGIT, state["pre_tokenizer"]]}
        state["model"]["ignore_merges"] = pre in _WHOLE_WORDS
    elif metadata["tokenizer.ggml.model"] == _PIECES and metadata.get("tokenizer.ggml.add_space_prefix") is False:
        _without_first_space(state)
    special = {}
    for name, field in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        identity = metadata.get(f"tokenizer.ggml.{field}_token_id")
        special[f"{name}_token"] = None if identity is None else tokens[identity]
    mended = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        **special,
        add_bos_token=_adds_bos(header),
        add_eos_token=metadata.get("tokenizer.ggml.add_eos_token", False),
        model_max_length=header.of_model("context_length"),
        clean_up_tokenization_spaces=False,
    )
    mended.chat_template = metadata.get("tokenizer.chat_template")
    return mended


def _as_spelled(state: dict[str, Any], header: GgufHeader) -> None:
    """Special tokens outside the alphabet of bytes, such as DeepSeek's, which transformers spells in bytes."""
    types = dict(enumerate(header.metadata.get("tokenizer.ggml.token_type", [])))
    there, vocabulary = {token["id"] for token in state["added_tokens"]}, state["model"]["vocab"]
    spelled = {identity: token for token, identity in vocabulary.items()}
    for identity, token in enumerate(header.metadata["tokenizer.ggml.tokens"]):
        if types.get(identity) in (_CONTROL, _USER_DEFINED) and identity not in there:
            del vocabulary[spelled[identity]]
            vocabulary[token] = identity
            plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            state["added_tokens"].append(
                {"id": identity, "content": token, "special": types[identity] == _CONTROL, **plain}
            )
    state["added_tokens"].sort(key=lambda token: token["id"])


_EACH_DIGIT = {"type": "Digits", "individual_digits": True}


def _without_first_space(state: dict[str, Any]) -> None:
    if (splitter := state["pre_tokenizer"]) and splitter["type"] == "Metaspace":
        splitter["prepend_scheme"] = "never"
    decoder = state["decoder"]
    if decoder and decoder["type"] == "Sequence":
        decoder["decoders"] = [step for step in decoder["decoders"] if step["type"] != "Strip"]


def _adds_bos(header: GgufHeader) -> bool:
    """Whether BOS stands before bare text: as the header says, else as llama.cpp does."""
    metadata = header.metadata
    if metadata.get("tokenizer.ggml.bos_token_id") is None:
        return False
    usual = metadata["tokenizer.ggml.model"] == _PIECES or metadata.get("tokenizer.ggml.pre") in _LLAMA3
    return metadata.get("tokenizer.ggml.add_bos_token", usual)


def _check(tokenizer: PreTrainedTokenizerBase, source: GgufSource) -> None:
    """Refuse a tokenizer that, read back, does not do what the header says."""
    metadata, tokens = source.header.metadata, source.header.metadata["tokenizer.ggml.tokens"]
    problems = []
    if len(tokenizer) > len(tokens):
        problems.append(f"{len(tokenizer)} tokens, and the header lists {len(tokens)}")
    for name, field in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        wanted, found = metadata.get(f"tokenizer.ggml.{field}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if wanted != found:
            problems.append(f"{name}_token_id {found}, and the header says {wanted}")
    types = metadata.get("tokenizer.ggml.token_type", [])
    for identity, (token, kind) in enumerate(zip(tokens, types, strict=False)):
        if kind == _CONTROL and tokenizer(token, add_special_tokens=False)["input_ids"] != [identity]:
            problems.append(f"{token!r} is not token {identity}")
    starts = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    if starts != _adds_bos(source.header):
        problems.append(f"BOS {'' if starts else 'not '}added to bare text")
    if problems:
        raise source.refused(
            f"its tokenizer is read wrongly: {'; '.join(problems[:5])}",
            "transformers makes another tokenizer of it than its header describes",
            REMEDY,
        )

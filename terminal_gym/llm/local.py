"""transformers in this process: Qwen2.5-Coder and its like by name or folder, with a LoRA adapter if wanted.

Many threads ask at once; their replies are decoded in one batch (`decoding.py`). A conversation's next prompt begins
with the very ids that were read and sampled before, never with text tokenised again, so that what a trajectory keeps is
what the model saw, and what was computed for it can be used again. torch is imported when a model is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting, ContextFull, ProviderDown
from terminal_gym.llm.chat import Completion, Sampling, Tool, merged
from terminal_gym.trajectory.dialogue import Finish, Message, ToolCall, Usage

_LONGEST_REPLY = 2_048  # tokens, where nobody says
_SESSIONS = 4_096  # conversations whose ids are remembered
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.S)
_MISSING = "The packages torch and transformers are missing, or peft. pip install 'terminal-gym[local]'"


class LocalModel:
    """A model in this process.

    Args:
        model: A name on the model hub, a folder, or the folder of a LoRA adapter, which names its base.
        adapter: Folder or name of a LoRA adapter on top.
        device: "auto": the first accelerator, else the processor; or "cpu", "cuda:1".
        dtype: "auto": as the checkpoint has it; or "bfloat16", "float32".
        context_tokens: Of prompt and reply together; None: as the checkpoint says.
        chat_template: File with a Jinja template, for checkpoints without one.
        temperature: 0: the likeliest token each time. None: as the checkpoint says; likewise `top_p`.
        top_p: Nucleus.
        max_tokens: Of one reply; None: 2,048.
        seed: The same prompt gets the same reply, up to rounding; None: chance.
        batch: Replies decoded at once; more wait.
        kept_tokens: Tokens whose keys and values are kept between turns; 0: none.

    Raises:
        BadSetting: A package is missing, the checkpoint cannot be loaded, or cannot be decoded here.
    """

    def __init__(
        self,
        model: str,
        *,
        adapter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        context_tokens: int | None = None,
        chat_template: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        batch: int = 16,
        kept_tokens: int = 65_536,
    ):
        if batch < 1 or kept_tokens < 0:
            raise BadSetting(
                f"batch is {batch} and kept_tokens is {kept_tokens}; give 1 or more, and 0 or more."
            )
        try:
            from terminal_gym.llm import decoding  # brings torch
        except ImportError as error:
            raise BadSetting(f"{_MISSING} ({error})") from error
        self.name = f"local/{model}"
        self._make_row = decoding.Row
        tokenizer, loaded = _loaded(model, adapter, device=device, dtype=dtype)
        if chat_template is not None:
            tokenizer.chat_template = _read(Path(chat_template))
        if not tokenizer.chat_template:
            raise BadSetting(f"{model} has no chat template. Give one: chat_template=FILE.")
        said = loaded.generation_config
        self._stops = _ids(said.eos_token_id) | _ids(tokenizer.eos_token_id)
        own = (said.temperature, said.top_p) if said.do_sample else (0.0, 1.0)
        self._sampling = Sampling(
            own[0] if temperature is None else temperature,
            own[1] if top_p is None else top_p,
            max_tokens or _LONGEST_REPLY,
            seed,
        )
        self.context_tokens = context_tokens or int(loaded.config.max_position_embeddings)
        self._chats = _Chats(tokenizer)
        self.decoder = decoding.Decoder(loaded, stops=self._stops, rows=batch, kept_tokens=kept_tokens)

    def __repr__(self) -> str:
        return f"LocalModel({self.name.removeprefix('local/')!r})"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        """Return the model's next message; see `ChatModel`."""
        prompt = self._chats.prompt(messages, tools, session)
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise ContextFull(
                f"{self.name}: {len(prompt)} tokens, of {self.context_tokens} that it has room for."
            )
        how = merged(self._sampling, sampling)
        row = self._make_row(
            prompt,
            limit=min(how.max_tokens or _LONGEST_REPLY, room),
            temperature=how.temperature or 0.0,
            top_p=1.0 if how.top_p is None else how.top_p,
            seed=None if how.seed is None else _seed(how.seed, prompt),
            session=session,
        )
        try:
            told = self.decoder.submit(row).result()
        except Exception as error:
            raise ProviderDown(f"{self.name} broke: {type(error).__name__}: {error}") from error
        text = self._chats.text(told.ids, self._stops)
        content, calls = _calls(text) if tools else (text, ())
        reply = Message("assistant", content, calls)
        self._chats.remember(session, (*messages, reply), (*prompt, *told.ids))
        finish: Finish = ("tool_calls" if calls else "stop") if told.stopped else "length"
        usage = Usage(len(prompt), len(told.ids), told.reused, 0.0)
        return Completion(reply, finish, "", prompt, told.ids, told.logprobs, usage)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens these messages have, the template's own included."""
        return len(self._chats.ids(messages, (), reply=True))

    def close(self) -> None:
        """Stop decoding. Safe to call again."""
        self.decoder.close()


class _Chats:
    """Conversations as token ids; remembers what each has read and sampled."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._mutex = threading.Lock()  # fast tokenizers must not be borrowed twice
        self._known: OrderedDict[str, tuple[tuple[Message, ...], tuple[int, ...]]] = OrderedDict()

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], session: str) -> tuple[int, ...]:
        """Return the ids of the whole prompt; they go on from what is remembered, where the messages do."""
        with self._mutex:
            said, ids = self._known.get(session, ((), ()))
        if said and tuple(messages[: len(said)]) == said and (more := self._more(said, messages, tools, ids)):
            return (*ids, *more)
        return self.ids(messages, tools, reply=True)

    def _more(
        self, said: Sequence[Message], messages: Sequence[Message], tools: Sequence[Tool], ids: Sequence[int]
    ) -> tuple[int, ...]:
        """Return the ids that follow `ids`; () where the template does not continue a chat by adding to it.

        What is added begins at the token that ends the reply: special tokens are borders that no merge crosses.
        """
        end = self._tokenizer.eos_token
        before, until = self._as_text(said[:-1], tools, reply=True), self._as_text(said, tools, reply=False)
        whole = self._as_text(messages, tools, reply=True)
        cut = until.rfind(end, len(before))
        if not (whole.startswith(until) and until.startswith(before)) or cut < 0:
            return ()
        more = self._tokenised(whole[cut:])
        return more[1:] if ids[-1] == more[0] else more

    def remember(self, session: str, messages: tuple[Message, ...], ids: tuple[int, ...]) -> None:
        if session:
            with self._mutex:
                self._known[session] = (messages, ids)
                self._known.move_to_end(session)
                while len(self._known) > _SESSIONS:
                    self._known.popitem(last=False)

    def ids(self, messages: Sequence[Message], tools: Sequence[Tool], *, reply: bool) -> tuple[int, ...]:
        return self._tokenised(self._as_text(messages, tools, reply=reply))

    def _tokenised(self, text: str) -> tuple[int, ...]:
        with self._mutex:
            return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _as_text(self, messages: Sequence[Message], tools: Sequence[Tool], *, reply: bool) -> str:
        given = [{"type": "function", "function": asdict(tool)} for tool in tools] or None
        with self._mutex:
            return str(
                self._tokenizer.apply_chat_template(
                    [_as_read(message) for message in messages],
                    tools=given,
                    tokenize=False,
                    add_generation_prompt=reply,
                )
            )

    def text(self, ids: Sequence[int], stops: frozenset[int]) -> str:
        """Return what was said, without the token that ended it."""
        said = ids[:-1] if ids and ids[-1] in stops else ids
        with self._mutex:
            text = str(self._tokenizer.decode(list(said), skip_special_tokens=True))
        return text.encode("utf-8", "replace").decode("utf-8")


def _as_read(message: Message) -> dict[str, Any]:
    """Return a message as chat templates take it."""
    read: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        read["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.tool_calls
        ]
    return read


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """(what was said beside them, calls as Qwen and Hermes write them)"""
    calls: list[ToolCall] = []
    for number, found in enumerate(_CALL.finditer(text)):
        try:
            call = json.loads(found[1])
            arguments = call.get("arguments", {})
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            calls.append(ToolCall(f"call-{number}", str(call["name"]), written))
        except (ValueError, LookupError, AttributeError):
            return text, ()  # malformed: the agent says so to the model
    return (_CALL.sub("", text).strip() if calls else text), tuple(calls)


def _seed(seed: int, prompt: Iterable[int]) -> int:
    """Return a seed of this prompt's own, so that a reply does not depend on who asks when."""
    text = f"{seed} {','.join(map(str, prompt))}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def _ids(told: int | Sequence[int] | None) -> frozenset[int]:
    return frozenset() if told is None else frozenset([told] if isinstance(told, int) else told)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadSetting(f"The chat template {path} cannot be read: {error.strerror}.") from error


# ── loading ─────────────────────────────────────────────────────────────────────────────────────


def _loaded(model: str, adapter: str | None, *, device: str, dtype: str) -> tuple[Any, Any]:
    """(tokenizer, model in eval mode on its device)"""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = _place(model)
    adapter = None if adapter is None else _place(adapter)
    if (named := _base_of(place)) is not None:
        base, adapter = named, adapter or place
    else:
        base = place
    try:
        tokenizer = AutoTokenizer.from_pretrained(place if _has_tokenizer(place) else base)
        loaded = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        if adapter is not None:
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(loaded, adapter)
    except ImportError as error:
        raise BadSetting(f"{_MISSING} ({error})") from error
    except (OSError, ValueError) as error:
        raise BadSetting(f"{model} cannot be loaded: {str(error)[:500]}") from error
    kinds = set(getattr(loaded.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        advice = "Serve it with vLLM and name it as openai/<model>."
        raise BadSetting(f"{model} has layers of kind {', '.join(sorted(kinds))}, not decoded here. {advice}")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return tokenizer, loaded.to(where).eval()


def _place(named: str) -> str:
    """Return a name of the hub as it is, and a folder where there is one."""
    if not named.startswith(("/", "./", "~")):
        return named
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise BadSetting(
            f"There is no folder {named}. Name a folder with a checkpoint, or a model of the hub."
        )
    return str(folder)


def _base_of(place: str) -> str | None:
    """Return the base that an adapter's folder names, None where the folder is none."""
    try:
        told: Mapping[str, Any] = json.loads((Path(place) / "adapter_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(told.get("base_model_name_or_path") or "") or None


def _has_tokenizer(place: str) -> bool:
    return not Path(place).is_dir() or (Path(place) / "tokenizer_config.json").is_file()

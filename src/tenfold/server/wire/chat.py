"""The body of a chat completion request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from tenfold.server.wire.base import Wire
from tenfold.server.wire.sampling import GenerationRequest


class ContentPart(Wire):
    """A piece of a message; only text is understood."""

    type: Literal["text", "refusal"] = "text"
    text: str | None = None
    refusal: str | None = None

    @property
    def words(self) -> str:
        return self.text or self.refusal or ""


def _text_parts_only(value: Any) -> Any:
    """Refuses images and sounds by name: the union's own error would not say what is the matter."""
    for part in value if isinstance(value, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in ("text", "refusal"):
            raise PydanticCustomError(
                "unsupported_content",
                "content part of type '{kind}' is not supported (this model reads text only: "
                "send a string, or parts of type 'text')",
                {"kind": kind[:40]},
            )
    return value


Content = Annotated[str | list[ContentPart] | None, BeforeValidator(_text_parts_only)]


class CalledFunction(Wire):
    """The function an assistant called, with its arguments as JSON text."""

    name: str
    arguments: str


class AssistantToolCall(Wire):
    """A call in an earlier assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None  # left there by clients that glue streamed calls together


_SOME_TEXT: JsonValue = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}
_NO_CALLS: dict[str, JsonValue] = {"tool_calls": {"type": "null"}}
# Which fields go with which role; `messages.to_messages` checks it and says what is missing.
_ROLES: list[JsonValue] = [
    {
        "properties": {
            "role": {"enum": ["system", "developer", "user"]},
            "content": _SOME_TEXT,
            **_NO_CALLS,
        },
        "required": ["content"],
    },
    {
        "properties": {"role": {"enum": ["assistant"]}, "content": _SOME_TEXT},
        "required": ["content"],
    },
    {
        "properties": {
            "role": {"enum": ["assistant"]},
            "tool_calls": {"type": "array", "minItems": 1},
        },
        "required": ["tool_calls"],
    },
    {
        "properties": {
            "role": {"enum": ["tool"]},
            "content": _SOME_TEXT,
            "tool_call_id": {"type": "string"},
            **_NO_CALLS,
        },
        "required": ["content", "tool_call_id"],
    },
]


class ChatMessage(Wire):
    """One message. The fields at the end are what clients echo from earlier answers."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _ROLES})

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    name: str | None = None
    tool_calls: list[AssistantToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @property
    def text(self) -> str | None:
        if isinstance(self.content, list):
            return "".join(part.words for part in self.content)
        return self.content


class FunctionSpec(Wire):
    """A function the model may call."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionSpec


class FunctionName(Wire):
    """Names a function."""

    name: str


class NamedTool(Wire):
    """A `tool_choice` that names the function to call."""

    type: Literal["function"]
    function: FunctionName


class JsonSchemaFormat(Wire):
    """A schema the answer has to match."""

    name: str | None = None
    description: str | None = None
    # `schema` itself would shadow a method of pydantic's.
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """Free text, any JSON object, or JSON that matches a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class ChatMemory(Wire):
    """What the chat does with the memory of whoever sends it."""

    recall: bool = Field(True, description="tell the model what answers the last user turn")
    remember: bool = Field(True, description="keep the turns since the last answer, and the answer")
    conversation: str = Field("", description="its name in memory; by default one for the request")
    key: str = Field("", max_length=200, description="a request sent again is remembered once")
    budget: int = Field(512, ge=1, le=100_000, description="tokens of what is recalled, at most")
    form: Literal["turns", "facts"] = Field(
        "turns", description="quoted turns with citations, or what is believed of the member"
    )


class ChatRequest(GenerationRequest):
    """OpenAI's chat completion request with tenfold's `decode` and `memory`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    memory: Annotated[
        ChatMemory | None,
        BeforeValidator(lambda value: {} if value is True else value),
        Field(description="an object, or true for its defaults"),
    ] = None
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    modalities: list[Literal["text"]] | None = None
    # Known to OpenAI's clients, without meaning here; refusing them would break such clients.
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    parallel_tool_calls: bool | None = None
    service_tier: str | None = None
    prediction: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

"""What a decoder is: sizes, switches and multipliers of the model families tenfold runs.

On the main path: `loading.load_model` reads config.json into a `DecoderSpec`; the decoder, the
engine's attention, the KV pool and the native executor read nothing else about the architecture. No
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenfold.errors import CheckpointError
from tenfold.models.rope import Rope
from tenfold.models.values import CONFIG, integer, number, token_ids

FAMILIES = ("granite", "llama", "mistral", "qwen2", "qwen3")
_CLASS = {
    "granite": "Granite",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}
# The largest sizes that are read: far above any model there is, small enough to hold in memory
# until the weights have shown whether they are true.
_VOCABULARY, _WIDTH, _LAYERS, _HEADS = 2**24, 2**24, 2**16, 2**16
_POSITIONS = 2**22  # the rope table has a row for each
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """The shape of one decoder-only transformer. Immutable and hashable.

    `windows` has one entry per layer: how many tokens, itself included, a query may see, or None
    for all.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int  # context length
    norm_eps: float = 1e-6
    rope: Rope = field(default_factory=Rope)
    windows: tuple[int | None, ...] = ()
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # RMSNorm over each query and key head, before rope
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    attention_multiplier: float | None = None  # softmax scale; None = head_dim ** -0.5
    logits_divisor: float = 1.0
    num_labels: int = 0  # > 0: there is a classification head, `score.weight`
    language_head: bool = True  # False: a classifier without vocabulary logits
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None

    def __post_init__(self) -> None:
        if not self.windows:
            object.__setattr__(self, "windows", (None,) * self.layers)
        _check(self)

    @property
    def attention_scale(self) -> float:
        """What query-key products are multiplied by before the softmax."""
        if self.attention_multiplier is not None:
            return self.attention_multiplier
        return float(self.head_dim**-0.5)

    def window(self, layer: int) -> int | None:
        """How many tokens, itself included, a query of `layer` may see; None = all before it."""
        return self.windows[layer]

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together (values are as wide)."""
        return self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, bits: int = 16) -> int:
        """Bytes of keys and values one token costs over all layers, at `bits` per number."""
        return self.layers * 2 * self.kv_size * bits // 8

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint holds; tied embeddings count once."""
        from tenfold.models.layout import expected_shapes

        total = 0
        for shape in expected_shapes(self).values():
            size = 1
            for n in shape:
                size *= n
            total += size
        return total

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], *, quantized: bool = False) -> DecoderSpec:
        """Read a Hugging Face config.json.

        Raises CheckpointError naming what is unsupported: model type, experts, activation, rope
        type, architecture, or a `quantization_config` unless the caller says it reads those
        (`quantized`); or naming the field whose value is missing, no number or absurd.
        """
        family = config.get("model_type")
        if family not in FAMILIES:
            raise CheckpointError(
                f"model type {family!r} is not supported", hint=f"supported: {', '.join(FAMILIES)}"
            )
        _refuse_unsupported(config, quantized)
        try:
            labels, language_head = _heads(config, family)
            hidden = integer(config, "hidden_size", high=_WIDTH)
            heads = integer(config, "num_attention_heads", high=_HEADS)
            layers = integer(config, "num_hidden_layers", high=_LAYERS)
            vocabulary = integer(config, "vocab_size", high=_VOCABULARY)
            bos = token_ids(config, "bos_token_id", vocabulary)
            biases, rope = _biases(config, family), Rope.from_hf(config)
            return cls(
                family=family,
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=integer(config, "intermediate_size", high=_WIDTH),
                layers=layers,
                heads=heads,
                kv_heads=integer(config, "num_key_value_heads", heads, high=_HEADS),
                head_dim=_head_dim(config, family, hidden // heads),
                max_positions=_context(config, rope),
                norm_eps=number(config, "rms_norm_eps", 1e-6, low=0),
                rope=rope,
                windows=_windows(config, family, layers),
                tied_embeddings=bool(config.get("tie_word_embeddings", False)),
                qk_norm=family == "qwen3",
                num_labels=labels,
                language_head=language_head,
                bos_id=bos[0] if bos else None,
                eos_ids=token_ids(config, "eos_token_id", vocabulary),
                pad_id=_pad(config, vocabulary),
                **biases,
                **_multipliers(config, family),
            )
        except KeyError as e:
            raise CheckpointError(
                f"{CONFIG} lacks {e.args[0]!r}", hint=f"a {family} config needs it"
            ) from None

    def to_hf(self, dtype: str = "float32") -> dict[str, Any]:
        """The config.json of this spec, readable by transformers 4 and 5."""
        kind = "ForCausalLM" if self.language_head else "ForSequenceClassification"
        eos = list(self.eos_ids) if len(self.eos_ids) != 1 else self.eos_ids[0]
        config: dict[str, Any] = {
            "architectures": [_CLASS[self.family] + kind],
            "model_type": self.family,
            "torch_dtype": dtype,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied_embeddings,
            "bos_token_id": self.bos_id,
            "eos_token_id": None if eos == [] else eos,
            "pad_token_id": self.pad_id,
            **self.rope.to_hf(),
            **_family_keys(self),
        }
        if self.num_labels:
            config["id2label"] = {str(i): f"LABEL_{i}" for i in range(self.num_labels)}
            config["label2id"] = {f"LABEL_{i}": i for i in range(self.num_labels)}
        return config


def _check(spec: DecoderSpec) -> None:
    """Refuse shapes no forward pass could honour."""
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads")
    for name in (*sizes, "head_dim", "max_positions"):
        if getattr(spec, name) <= 0:
            raise CheckpointError(
                f"{name} is {getattr(spec, name)}", hint="it must be a positive number"
            )
    if spec.heads % spec.kv_heads:
        raise CheckpointError(
            f"{spec.heads} query heads cannot share {spec.kv_heads} key-value heads evenly",
            hint="num_attention_heads must be a multiple of num_key_value_heads",
        )
    if spec.head_dim % 2:
        raise CheckpointError(f"head_dim {spec.head_dim} is odd", hint="rope rotates pairs")
    if len(spec.windows) != spec.layers:
        raise CheckpointError(
            f"{len(spec.windows)} attention windows for {spec.layers} layers",
            hint="layer_types must have one entry per layer",
        )
    if any(w is not None and w < 1 for w in spec.windows):
        raise CheckpointError("a sliding window below 1 token", hint="see sliding_window")


def _refuse_unsupported(config: Mapping[str, Any], quantized: bool) -> None:
    for key in _EXPERTS:
        if config.get(key):
            raise CheckpointError(
                f"mixture of experts ({key}={config[key]}) is not supported",
                hint="tenfold runs dense decoders",
            )
    method = config.get("quantization_config")
    if method and not quantized:
        name = method.get("quant_method", "unknown") if isinstance(method, Mapping) else method
        raise CheckpointError(
            f"weights quantized by {name!r} cannot be read as a plain checkpoint",
            hint="point at the unquantized checkpoint",
        )
    activation = config.get("hidden_act") or config.get("hidden_activation") or "silu"
    if activation not in ("silu", "swish"):
        raise CheckpointError(f"activation {activation!r} is not supported", hint="supported: silu")


def _heads(config: Mapping[str, Any], family: str) -> tuple[int, bool]:
    """(number of labels, is there a language head) from `architectures`."""
    architectures = config.get("architectures") or [f"{_CLASS[family]}ForCausalLM"]
    name = str(architectures[0] if isinstance(architectures, list) else architectures)
    if name.endswith("ForCausalLM"):
        return 0, True
    if name.endswith("ForSequenceClassification"):
        labels = config.get("id2label")
        if isinstance(labels, Mapping) and labels:
            return len(labels), False
        return integer(config, "num_labels", 2, high=_VOCABULARY), False
    raise CheckpointError(
        f"architecture {name!r} is not supported",
        hint="supported: ...ForCausalLM and ...ForSequenceClassification",
    )


def _head_dim(config: Mapping[str, Any], family: str, share: int) -> int:
    """As stated, else the family's own default: a head's share of the hidden size, or 128."""
    return integer(config, "head_dim", 128 if family == "qwen3" else share, high=_WIDTH)


def _context(config: Mapping[str, Any], rope: Rope) -> int:
    """The context length; configs that switch YaRN on often leave the unstretched one standing."""
    stated = integer(config, "max_position_embeddings", high=_POSITIONS)
    if rope.kind != "yarn":
        return stated
    stretched = rope.original_positions * rope.factor
    if stretched > _POSITIONS:
        raise CheckpointError(
            f"{CONFIG}: rope scaling stretches the context to {stretched:g} tokens",
            hint=f"at most {_POSITIONS}; see factor and original_max_position_embeddings",
        )
    return max(stated, int(stretched))


def _biases(config: Mapping[str, Any], family: str) -> dict[str, bool]:
    if family == "qwen2":
        return {"qkv_bias": True, "output_bias": False, "mlp_bias": False}
    if family == "mistral":
        return {}
    attention = bool(config.get("attention_bias", False))
    mlp = bool(config.get("mlp_bias", False)) and family != "qwen3"
    return {"qkv_bias": attention, "output_bias": attention, "mlp_bias": mlp}


def _multipliers(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    if family != "granite":
        return {}
    return {
        "embedding_multiplier": number(config, "embedding_multiplier", 1.0),
        "residual_multiplier": number(config, "residual_multiplier", 1.0),
        "attention_multiplier": number(config, "attention_multiplier", 1.0),
        "logits_divisor": number(config, "logits_scaling", 1.0, above=0),
    }


def _windows(config: Mapping[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    """Mistral slides in every layer; Qwen only where asked, by default only in upper layers."""
    default = 4096 if family in ("mistral", "qwen2", "qwen3") else None
    if family in ("llama", "granite") or config.get("sliding_window", default) is None:
        return (None,) * layers
    if family != "mistral" and not config.get("use_sliding_window", False):
        return (None,) * layers
    size = integer(config, "sliding_window", default, high=2**31)
    if family == "mistral":
        return (size,) * layers
    types = config.get("layer_types")
    if types is None:
        full = integer(config, "max_window_layers", 28, low=0, high=2**31)
        return tuple(None if i < full else size for i in range(layers))
    if not isinstance(types, list):
        raise CheckpointError(f"{CONFIG}: layer_types is no list", hint="one entry per layer")
    strange = sorted({str(t) for t in types} - {"full_attention", "sliding_attention"})
    if strange:
        raise CheckpointError(
            f"layer types {strange} are not supported",
            hint="supported: full_attention, sliding_attention",
        )
    return tuple(size if kind == "sliding_attention" else None for kind in types)


def _family_keys(spec: DecoderSpec) -> dict[str, Any]:
    """Config keys that only some families have."""
    if spec.family == "mistral":
        return {"sliding_window": spec.windows[0]}
    if spec.family in ("qwen2", "qwen3"):
        keys: dict[str, Any] = {"attention_bias": spec.qkv_bias} if spec.family == "qwen3" else {}
        size = next((w for w in spec.windows if w is not None), None)
        kinds = ["full_attention" if w is None else "sliding_attention" for w in spec.windows]
        full = kinds.count("full_attention")
        return keys | {
            "use_sliding_window": size is not None,
            "sliding_window": size,
            "max_window_layers": full,
            "layer_types": kinds,
        }
    keys = {"attention_bias": spec.qkv_bias, "mlp_bias": spec.mlp_bias}
    if spec.family == "granite":
        keys |= {
            "embedding_multiplier": spec.embedding_multiplier,
            "residual_multiplier": spec.residual_multiplier,
            "attention_multiplier": spec.attention_scale,
            "logits_scaling": spec.logits_divisor,
        }
    return keys


def _pad(config: Mapping[str, Any], vocabulary: int) -> int | None:
    """The padding token; old configs say -1 where there is none."""
    if config.get("pad_token_id") == -1:
        return None
    ids = token_ids(config, "pad_token_id", vocabulary)
    return ids[0] if ids else None

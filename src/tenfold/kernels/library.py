"""Loads the native library and says what is in it. No torch here: `tenfold doctor` may ask first.

The library is a plain C shared object beside this file (built from `native/`), so nothing is
compiled against Python or torch.
"""

from __future__ import annotations

import ctypes
import json
import os
from functools import cache
from pathlib import Path

from tenfold.errors import BackendUnavailable

ABI = 1
NAME = "libtenfold_native.so"
ISA_NAMES = ("baseline", "avx2", "avx512")
_FEATURES = {
    0: "avx2",
    1: "fma",
    2: "avx512f",
    3: "avx512bw",
    4: "avx512vl",
    5: "avx512_vnni",
    6: "avx512_bf16",
    7: "avx_vnni",
    8: "amx_tile",
    9: "amx_int8",
    10: "amx_bf16",
    16: "neon",
    17: "dotprod",
    18: "i8mm",
}


class CGroup(ctypes.Structure):
    """`tf_group` of tenfold_native.h."""

    _fields_ = (
        ("begin", ctypes.c_int32),
        ("end", ctypes.c_int32),
        ("shared_blocks", ctypes.c_int32),
    )


class CAttention(ctypes.Structure):
    """`tf_attention` of tenfold_native.h."""

    _fields_ = (
        *((n, ctypes.c_int32) for n in ("dtype", "rows", "heads", "kv_heads", "head_dim")),
        *((n, ctypes.c_int32) for n in ("block_size", "max_blocks", "groups_count")),
        ("slots", ctypes.c_int64),
        ("scale", ctypes.c_float),
        *((n, ctypes.c_void_p) for n in ("block_tables", "lengths", "starts", "groups")),
    )


def _folders() -> list[Path]:
    # An editable install spreads the package over two folders; both are on the package's path.
    import tenfold.kernels

    return [Path(p) / "_native" for p in tenfold.kernels.__path__]


def _signatures(lib: ctypes.CDLL) -> None:
    i32, i64, ptr = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    for name, result, arguments in (
        ("tf_cpu_features", ctypes.c_uint32, ()),
        ("tf_isa", i32, ()),
        ("tf_set_isa", i32, (i32,)),
        ("tf_set_threads", i32, (i32,)),
        ("tf_attention_check", i32, (ptr,)),
        ("tf_error", ctypes.c_char_p, (i32,)),
        ("tf_paged_attention", None, (ptr, ptr, i64, ptr, ptr, ptr)),
        ("tf_kv_write", i32, (ptr, i64, ptr, i64, ptr, ptr, ptr, i64, i64, i64)),
    ):
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    found = next((f / NAME for f in _folders() if (f / NAME).is_file()), None)
    if found is None:
        return _build_reason()
    try:
        lib = ctypes.CDLL(str(found))
        lib.tf_abi.restype = ctypes.c_int32
        lib.tf_abi.argtypes = ()
        abi = int(lib.tf_abi())
    except (OSError, AttributeError) as e:
        return f"{found.name} cannot be loaded: {e}"
    if abi != ABI:
        return f"{found.name} has ABI {abi}, this tenfold needs {ABI}: reinstall or `make native`"
    _signatures(lib)
    lib.tf_set_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    return lib


def _build_reason() -> str:
    for folder in _folders():
        try:
            build = json.loads((folder / "build.json").read_text())
        except (OSError, ValueError):
            continue
        if build.get("reason"):
            return f"{build['reason']}; install g++ or clang++ and install tenfold again"
    return "the native library was not built; `make native` builds it"


def absent() -> str | None:
    """Why the native library cannot be used here; None when it can."""
    lib = _load()
    return lib if isinstance(lib, str) else None


def library() -> ctypes.CDLL:
    """The loaded library. Raises BackendUnavailable when there is none."""
    lib = _load()
    if isinstance(lib, str):
        raise BackendUnavailable(f"no native kernels: {lib}")
    return lib


def cpu_features() -> list[str]:
    """Names of the processor features found; empty without the library."""
    lib = _load()
    if isinstance(lib, str):
        return []
    bits = int(lib.tf_cpu_features())
    return [name for bit, name in _FEATURES.items() if bits >> bit & 1]


def isa() -> str:
    """The instruction set whose variant of the kernels runs; "none" without the library."""
    lib = _load()
    return "none" if isinstance(lib, str) else ISA_NAMES[lib.tf_isa()]


def set_isa(name: str | None) -> None:
    """Chooses a variant (tests and benchmarks), or with None the best one.

    Raises BackendUnavailable when the processor lacks it.
    """
    level = -1 if name is None else ISA_NAMES.index(name)
    if library().tf_set_isa(level) < 0:
        raise BackendUnavailable(f"this processor cannot run the {name} kernels")


def set_threads(count: int) -> int:
    """Threads for the kernels of this process, the caller's included; returns how many."""
    return int(library().tf_set_threads(count))


def compiler() -> str | None:
    """What the library was built with, if the build wrote it down."""
    for folder in _folders():
        try:
            return str(json.loads((folder / "build.json").read_text())["compiler"]) or None
        except (OSError, ValueError, KeyError):
            continue
    return None

"""Whether a model fits into the volume of the models. Pure.

Ollama tells nothing of its disk, and the volume is mounted where Ollama runs, nowhere else. Known
are the size that was asked for and the sizes of what is there. So a model larger than the whole
volume is refused before its download goes on; one that seems not to fit beside the others is warned
of, as layers may be shared; and a disk that is full all the same stops Ollama, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.pull.progress import size
from app.pull.server import Held

_FULL = ("no space left", "disk quota exceeded")


def refusal(need: int, volume: int) -> str:
    """Why a model of ``need`` bytes can never be in a volume of that size; empty if it can."""
    if not volume or need <= volume:
        return ""
    return (
        f"it needs {size(need)} and the whole volume has {size(volume)}: set ollama.storage.size "
        f"to more than {size(need)}"
    )


def warning(need: int, volume: int, others: Iterable[Held]) -> str:
    """What to tell of a model that fits only if it shares layers with the others; else empty."""
    taken = sum({held.digest or held.name: held.size for held in others}.values())
    if not volume or need + taken <= volume:
        return ""
    return (
        f"it may not fit: it needs {size(need)}, and of the volume's {size(volume)} other models "
        f"take up to {size(taken)}"
    )


def cure(reason: str) -> str:
    """What to do about the reason that Ollama gave; empty if it speaks for itself.

    Ollama gives reasons as text alone, so their words are all there is to go by; nothing but this
    advice depends on them.
    """
    text = reason.lower()
    if any(words in text for words in _FULL):
        return "make the volume larger (ollama.storage.size), or set ollama.pull.prune"
    if "file does not exist" in text or "not found" in text:
        return "the registry has no such model: correct its name in models"
    if "certificate" in text or "x509" in text or "server gave http response" in text:
        return "for a registry without a known certificate see ollama.pull.insecure"
    if any(w in text for w in ("dial tcp", "lookup", "timeout", "refused", "unreachable", "eof")):
        return "the registry cannot be reached: see ollama.pull.proxy and ollama.pull.registry"
    if "unauthorized" in text or "401" in text or "403" in text or "forbidden" in text:
        return "the registry refuses it: see docs/models.md"
    return ""

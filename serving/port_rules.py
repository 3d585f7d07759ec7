"""Rules of the inputs and outputs in a manifest; an error names the entry and its key."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving import kinds
from serving.errors import UsageError, one_line
from serving.inputs import DTYPES, FILLS, SEEDED
from serving.mel import Mel

_MAX_PORTS = 99
_MAX_VALUES = 2**31  # of one sample
_KEYS = ("name", "dtype", "shape", "kind", "meta")
_INPUT_KEYS = (*_KEYS, "fill", "stream", "value")


class Wrong(NamedTuple):
    """A value of a manifest that breaks a rule.

    Args:
        key: where it is, such as `inputs[1].shape`.
        rule: the rule as it completes "must be ...".
        value: what was received.
    """

    key: str
    rule: str
    value: Any


class _Words:
    """Words in the place of a received value.

    Args:
        text: how an error shows them.
    """

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


_MISSING = _Words("nothing")  # the value of a key that an object does not have


def find_wrong_output(value: Any, field: str = "outputs") -> Wrong | None:
    """Returns the first broken rule of the outputs of a manifest, `None` if all hold."""
    return _find_wrong_list(field, value, _KEYS, _find_wrong_port)


def find_wrong_input(value: Any, field: str = "inputs") -> Wrong | None:
    """Returns the first broken rule of the inputs of a manifest, `None` if all hold."""
    if wrong := _find_wrong_list(field, value, _INPUT_KEYS, _find_wrong_fill):
        return wrong
    streams: dict[int, str] = {}
    classes: list[str] = []
    for number, port in enumerate(value):
        key, stream = f"{field}[{number}]", port["stream"]
        if port["fill"] in SEEDED and stream in streams:
            rule = f"another stream than that of {streams[stream]}"
            return Wrong(f"{key}.stream", rule, stream)
        if port["fill"] in SEEDED:
            streams[stream] = key
        if port["fill"] == "class" and classes:
            return Wrong(f"{key}.fill", f"another fill than that of {classes[0]}", port["fill"])
        classes += [key] if port["fill"] == "class" else []
    return None


def _find_wrong_list(
    field: str,
    value: Any,
    keys: tuple[str, ...],
    find: Callable[[str, dict[str, Any]], Wrong | None],
) -> Wrong | None:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_PORTS:
        received = _Words(f"{len(value)} entries") if isinstance(value, list) and value else value
        return Wrong(field, f"a list of 1 to {_MAX_PORTS} objects", received)
    names: dict[str, str] = {}
    for number, port in enumerate(value):
        key = f"{field}[{number}]"
        if not isinstance(port, dict):
            return Wrong(key, f"an object with {', '.join(keys)}", port)
        wrong = find(key, dict.fromkeys(keys, _MISSING) | port)
        if wrong is not None:
            return wrong
        if (other := names.setdefault(port["name"], key)) != key:
            return Wrong(f"{key}.name", f"another name than that of {other}", port["name"])
    return None


def _find_wrong_port(key: str, port: dict[str, Any]) -> Wrong | None:
    """Checks what inputs and outputs have in common."""
    name, shape = port["name"], port["shape"]
    is_name = isinstance(name, str) and re.fullmatch(r"\w{1,200}", name)
    if not is_name or name == "seeds":
        return Wrong(f"{key}.name", "1 to 200 letters, digits and '_', other than seeds", name)
    if not isinstance(port["dtype"], str) or port["dtype"] not in DTYPES:
        return Wrong(f"{key}.dtype", f"one of {', '.join(DTYPES)}", port["dtype"])
    if not _is_shape(shape):
        rule = 'a list of "batch", then sizes above 0 or names of small letters for any size'
        return Wrong(f"{key}.shape", rule, shape)
    if port["kind"] not in kinds.names():
        return Wrong(f"{key}.kind", f"one of {', '.join(kinds.names())}", port["kind"])
    if not isinstance(port["meta"], dict):
        return Wrong(f"{key}.meta", "an object of properties", port["meta"])
    return _find_wrong_kind(key, port)


def _find_wrong_kind(key: str, port: dict[str, Any]) -> Wrong | None:
    """Checks that the shape and the properties fit the kind."""
    kind, meta = kinds.get(port["kind"]), port["meta"]
    sizes = [None if isinstance(size, str) else size for size in port["shape"][1:]]
    if (reason := _refusal(kind, sizes, {})) is not None:
        fits = f"one that fits the kind {kind.name} ({reason})"
        return Wrong(f"{key}.shape", fits, port["shape"])
    for name, value in meta.items():
        if name != "value_range" and name not in kind.meta:
            valid = ", ".join(("value_range", *kind.meta))
            return Wrong(f"{key}.meta", f"properties of the kind {kind.name}: {valid}", meta)
        if name in _META and not _META[name][0](value):
            return Wrong(f"{key}.meta.{name}", _META[name][1], value)
    if (reason := _refusal(kind, sizes, meta)) is not None:
        return Wrong(f"{key}.meta", f"properties that fit ({reason})", meta)
    return None


def _refusal(kind: kinds.Kind, sizes: list[int | None], meta: dict[str, Any]) -> str | None:
    """Returns the rule of a kind that a shape and properties break, in printable characters."""
    try:
        kind.check(sizes, meta)
    except (UsageError, TypeError) as error:
        text = one_line(error, 1000).partition(". Received: ")[0][:200]
        return "".join(character if character.isprintable() else "?" for character in text)
    return None


def _find_wrong_fill(key: str, port: dict[str, Any]) -> Wrong | None:
    """Checks an input."""
    if wrong := _find_wrong_port(key, port):
        return wrong
    fill, stream, value = port["fill"], port["stream"], port["value"]
    if not isinstance(fill, str) or fill not in FILLS:
        return Wrong(f"{key}.fill", f"one of {', '.join(FILLS)}", fill)
    if type(stream) is not int or not 0 <= stream < 2**32:
        return Wrong(f"{key}.stream", "an integer of at least 0 and below 2**32", stream)
    if fill in ("normal", "uniform"):
        if not port["dtype"].startswith("float"):
            return Wrong(f"{key}.dtype", f"a float for the fill {fill}", port["dtype"])
        is_pair = fill == "uniform" and is_range(value)
        if value not in (None, _MISSING) and not is_pair:
            pair = " or a pair of limits" if fill == "uniform" else ""
            return Wrong(f"{key}.value", f"null{pair} for the fill {fill}", value)
    elif fill == "class":
        return _find_wrong_classes(key, port)
    elif fill == "constant":
        several = isinstance(value, list) and all(map(is_number, value))
        if not several and not is_number(value):
            return Wrong(f"{key}.value", "a number or a list of numbers for a constant", value)
    return None


def _find_wrong_classes(key: str, port: dict[str, Any]) -> Wrong | None:
    """Checks an input of classes."""
    meta, count = port["meta"], port["meta"].get("num_classes", _MISSING)
    if count is _MISSING:
        return Wrong(f"{key}.meta.num_classes", _META["num_classes"][1], count)
    if len(port["shape"]) != 1:
        return Wrong(f"{key}.shape", '["batch"] for an input of classes', port["shape"])
    if "int" not in port["dtype"]:
        return Wrong(f"{key}.dtype", "an integer for an input of classes", port["dtype"])
    for name in ("class_names", "frequencies"):
        if meta.get(name) and len(meta[name]) != count:
            return Wrong(f"{key}.meta.{name}", f"{count} values, one for each class", meta[name])
    return None


# ------------------------------------------------------------------------ translation

_SIZES = ("scale", "multiple_of", "min_side")
_REQUIRED = ("input", "output", *_SIZES, "radius", "tileable")
_OPTIONAL = {
    "gray": (("keep",), "'keep', or absent"),
    "input_channels": (("L", "RGB"), "'L' or 'RGB'"),
    "output_channels": (("L", "RGB"), "'L' or 'RGB'"),
}


def find_wrong_translation(value: Any) -> Wrong | None:
    """Returns the first broken rule of `translation` in a manifest, `None` if all hold."""
    names = (*_REQUIRED, *_OPTIONAL, "backward")
    if not isinstance(value, dict) or value.keys() - {*names}:
        return Wrong("translation", f"an object with {', '.join(names)}", value)
    facts = dict.fromkeys(_REQUIRED, _MISSING) | value
    tileable = facts["tileable"]
    rules = {name: (_is_size(facts[name]), "an integer from 1 to 4096") for name in _SIZES}
    rules |= {name: (is_line(facts[name]), "the name of a port") for name in ("input", "output")}
    rules["tileable"] = (type(tileable) is bool, "true or false")
    rules["radius"] = (
        facts["radius"] == 0 or _is_size(facts["radius"]) if tileable else facts["radius"] is None,
        "an integer from 0 to 4096, or null for a network that cannot be tiled",
    )
    rules |= {n: (value[n] in each, rule) for n, (each, rule) in _OPTIONAL.items() if n in value}
    if "backward" in value:  # the bundle of the opposite direction, for the page's switch
        rules["backward"] = (is_line(value["backward"]), "the name of a bundle, or absent")
    for name, (holds, rule) in rules.items():
        if not holds:
            return Wrong(f"translation.{name}", rule, facts[name])
    return None


def find_wrong_translated_ports(manifest: Mapping[str, Any]) -> Wrong | None:
    """Returns a port that `translation` names and that is none of pictures of any size."""
    facts = manifest.get("translation")
    if facts is None:
        return None
    for field, group in (("input", "inputs"), ("output", "outputs")):
        ports = [port for port in manifest[group] if port["name"] == facts[field]]
        if not ports or not _is_picture_of_any_size(ports[0]):
            rule = f"one of `{group}` that holds pictures of any size with 1 or 3 channels"
            return Wrong(f"translation.{field}", rule, facts[field])
    return None


def _is_picture_of_any_size(port: Mapping[str, Any]) -> bool:
    kind, shape = kinds.get(port["kind"]), port["shape"][1:]
    is_image = kind.has_pixels and len(kind.axes) == len(shape) == 3
    free = all(isinstance(size, str) for size in shape[:2])
    return is_image and free and shape[2] in (1, 3) and port["dtype"] == "float32"


# ------------------------------------------------------------------------ vocoders

_MAX_CONTEXT = 4096  # frames


def find_wrong_audio(value: Any) -> Wrong | None:
    """Returns the first broken rule of `audio` in a manifest, `None` if all hold."""
    if not isinstance(value, dict) or value.keys() != {"context"}:
        return Wrong("audio", "an object with context", value)
    context = value["context"]
    if context is not None and not (type(context) is int and 0 <= context <= _MAX_CONTEXT):
        rule = f"an integer from 0 to {_MAX_CONTEXT}, or null for a network without a finite one"
        return Wrong("audio.context", rule, context)
    return None


def find_wrong_audio_ports(manifest: Mapping[str, Any]) -> Wrong | None:
    """Returns the ports of a manifest with `audio` that are not those of a vocoder."""
    if manifest.get("audio") is None:
        return None
    inputs, outputs = manifest["inputs"], manifest["outputs"]
    meta = inputs[0]["meta"].get("mel")
    definition = Mel.from_meta(meta) if meta else None
    free = [port["shape"][1:2] for port in (inputs[0], outputs[0])]
    if (
        len(inputs) != 1
        or inputs[0]["fill"] != "given"
        or definition is None
        or inputs[0]["shape"][2:] != [definition.mels]
        or not all(size and isinstance(size[0], str) for size in free)
    ):
        rule = "one given spectrogram of any length, with its definition `mel`, beside `audio`"
        return Wrong("inputs", rule, inputs)
    rate = outputs[0]["meta"].get("sample_rate")
    if outputs[0]["shape"][2:] != [1] or rate != definition.sample_rate:
        rule = f"sound of one channel at {definition.sample_rate} Hz, beside `audio`"
        return Wrong("outputs", rule, outputs)
    return None


def find_wrong_text(value: Any) -> Wrong | None:
    """Returns the first broken rule of `text` in a manifest, `None` if all hold."""
    if not isinstance(value, dict) or value.keys() != {"width", "ends"}:
        return Wrong("text", "an object with width and ends", value)
    if type(value["width"]) is not int or not 0 < value["width"] < 2**15:
        return Wrong("text.width", "an integer from 1 to 32767", value["width"])
    if type(value["ends"]) is not bool:
        return Wrong("text.ends", "true or false", value["ends"])
    return None


def find_wrong_text_ports(manifest: Mapping[str, Any]) -> Wrong | None:
    """Returns the ports of a manifest with `text` that are not those of a sampler of texts."""
    if manifest.get("text") is None:
        return None
    inputs, shape = manifest["inputs"], manifest["outputs"][0]["shape"][1:]
    kind = kinds.get(manifest["outputs"][0]["kind"])
    if not kind.has_tokens or len(shape) != 2 or not _is_sizes(shape):
        rule = "weights of the tokens of a text, of one length, beside `text`"
        return Wrong("outputs", rule, manifest["outputs"])
    found = {port["name"]: (port["fill"], port["shape"][1:]) for port in inputs}
    labels = {"labels": ("class", [])} if "labels" in found else {}
    wanted = {
        "latents": ("normal", [shape[0] * shape[1]]),
        **labels,
        "temperature": ("constant", []),
        "prefix": ("constant", shape[:1]),
        "mask": ("constant", shape[1:]),
    }
    if found != wanted:
        return Wrong("inputs", "latents, temperature, prefix and mask, beside `text`", inputs)
    return None


def _is_sizes(shape: Any) -> bool:
    return all(type(size) is int for size in shape)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= 4096


def _is_shape(value: Any) -> bool:
    if not isinstance(value, list) or value[:1] != ["batch"] or not 0 < len(value) < 16:
        return False
    names = [size for size in value[1:] if isinstance(size, str)]
    sizes = [size for size in value[1:] if not isinstance(size, str)]
    return (
        all(re.fullmatch(r"[a-z]\w{0,39}", name) and name != "batch" for name in names)
        and all(type(size) is int and size > 0 for size in sizes)
        and math.prod(sizes) < _MAX_VALUES
    )


def is_number(value: Any) -> bool:
    """Checks for a finite number as JSON gives it."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def is_line(value: Any) -> bool:
    """Checks for text that one line of a terminal can show, whoever wrote it."""
    return isinstance(value, str) and value.isprintable() and len(value) <= 500


def is_range(value: Any) -> bool:
    """Checks for a pair of numbers in ascending order."""
    numbers = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
    return numbers and value[0] < value[1]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_line, value))


def _is_tokens(value: Any) -> bool:
    """Checks for tokens: texts of any script, whose joiners and spaces are not all printable."""
    return isinstance(value, list) and all(map(_is_token, value))


def _is_token(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > 500:
        return False
    return value.isprintable() or all(
        x in "\t\n\r" or unicodedata.category(x) not in ("Cc", "Cs") for x in value
    )


def _is_frequencies(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 0 and all(is_number(x) and x >= 0 for x in value)
    )


def _is_categories(value: Any) -> bool:
    return isinstance(value, list) and all(type(x) is int and 1 < x < 2**15 for x in value)


# Properties of a port that decide how its values are read; `serving.kinds` checks the others.
_META: dict[str, tuple[Callable[[Any], bool], str]] = {
    "value_range": (is_range, "two numbers, the smaller one first"),
    "stored_range": (is_range, "two numbers, the smaller one first"),
    "num_classes": (lambda value: type(value) is int and 0 < value < 2**31, "an integer above 0"),
    "class_names": (_is_texts, "a list of printable texts"),
    "columns": (_is_texts, "a list of printable texts"),
    "vocabulary": (_is_tokens, "a list of texts without control characters but \\t, \\n, \\r"),
    "frequencies": (_is_frequencies, "a list of numbers of at least 0"),
    "categorical": (_is_categories, "a list of integers of at least 2"),
    "continuous": (lambda value: type(value) is int and 0 <= value < 2**15, "an integer from 0"),
}

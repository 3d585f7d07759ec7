"""Inputs and outputs of an exported network, and how each input is filled.

An input declares its `fill`: from the seed (`normal`, `uniform`, on a numbered stream), a class
(`class`, from the request, else from the seed), a constant (`constant`), or by whoever asks
(`given`: a picture to translate, a mel spectrogram to speak, columns to keep). One integer seed
therefore names one sample in every runtime, whatever the network needs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from serving import kinds, value_ranges
from serving.checks import (
    MAX_SEED,
    check_integer,
    check_label_count,
    check_truncation,
    flatten,
    is_integer,
)
from serving.errors import UsageError, short_repr
from serving.labels import check_classes, class_id, several
from serving.seeds import classes_from_seeds, normals, uniforms

FILLS = ("normal", "uniform", "class", "constant", "given")
SEEDED = ("normal", "uniform", "class")
# Names that numpy, TensorFlow and ONNX share.
DTYPES = ("bool", "float16", "float32", "float64")
DTYPES += tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


class Port:
    """An output of a network, and what an input has in common with it.

    A port is not to be changed; see `replace`. It is not a dataclass: creating one would add 4 ms
    to every start of `keras-gan sample`.

    Args:
        name: name in the graph, in requests and in files.
        dtype: a name of `DTYPES`.
        shape: shape of one sample, without the batch. A name in the place of a number stands for
            any size; sizes of one name are equal in all ports of a call.
        kind: kind of the values, see `serving.kinds`.
        meta: properties of the values by kind: `value_range`, `class_names`, `sample_rate`, ...
    """

    _FIELDS = ("name", "dtype", "shape", "kind", "meta")

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: tuple[int | str, ...],
        kind: str = "array",
        meta: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.kind = kind
        self.meta: Mapping[str, Any] = {} if meta is None else meta

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # `meta` has none

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"

    def replace(self, **fields: Any) -> Any:
        """Returns a copy with other values of some fields."""
        return type(self)(**(vars(self) | fields))

    @property
    def is_dynamic(self) -> bool:
        """True if some dimension besides the batch may have any size."""
        return any(isinstance(size, str) for size in self.shape)

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """The shape with `None` where any size goes."""
        return tuple(None if isinstance(size, str) else size for size in self.shape)

    def to_json(self) -> dict[str, Any]:
        """Returns the port as `manifest.json` holds it: its shape begins with `"batch"`."""
        return vars(self) | {"shape": ["batch", *self.shape], "meta": dict(self.meta)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Any:
        """Builds a port from the content that `serving.manifest` has checked."""
        fields = {key: value for key, value in content.items() if key in cls._FIELDS}
        fields["shape"] = tuple(content["shape"][1:])
        return cls(**fields)


class Input(Port):
    """An input of a network.

    Args:
        name: as of `Port`; so are `dtype`, `shape`, `kind` and `meta`.
        fill: one of `FILLS`.
        stream: number of the stream of random numbers, of a seeded input; two inputs of one
            network have different ones.
        value: of a constant its default; of `uniform` the pair of its limits, by default 0, 1.
    """

    _FIELDS = (*Port._FIELDS, "fill", "stream", "value")

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: tuple[int | str, ...],
        kind: str = "array",
        meta: Mapping[str, Any] | None = None,
        fill: str = "given",
        stream: int = 0,
        value: Any = None,
    ):
        super().__init__(name, dtype, shape, kind, meta)
        self.fill = fill
        self.stream = stream
        self.value = value

    @property
    def num_classes(self) -> int:
        """Number of classes of a `class` input."""
        return int(self.meta.get("num_classes", 0))


class Inputs:
    """All inputs of a network, filled together.

    Args:
        ports: the inputs, in the network's order.
    """

    def __init__(self, ports: Sequence[Input]):
        self.ports = tuple(ports)
        self.by_name = {port.name: port for port in ports}
        self.seeded = tuple(p for p in ports if p.fill in SEEDED)
        self.given = tuple(p for p in ports if p.fill == "given")
        self.constants = tuple(p for p in ports if p.fill == "constant")
        self.normal = tuple(p for p in ports if p.fill == "normal")
        self.classes = next((p for p in ports if p.fill == "class"), None)
        self.drawn = tuple(p.name for p in ports if p.fill in ("normal", "uniform"))
        self._is_dynamic = any(p.is_dynamic for p in ports)
        # False if seeds and labels suffice.
        self.needs_arrays = bool(self.given) or self._is_dynamic

    def fill(
        self,
        seeds: np.ndarray,
        labels: np.ndarray | None = None,
        truncation: float = 1.0,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns every input by its name, for a batch.

        Args:
            seeds: checked seeds, int64 `(batch,)`.
            labels: class ids `(batch,)` in place of the seeds' own.
            truncation: value of the input `truncation` where the network has one, else a factor
                on the normal inputs.
            given: arrays by name: the given inputs, checked by `check_given`, and any other
                input that is to have other values than its fill.
        """
        found = dict(given or {})
        if "truncation" in self.by_name:
            port = self.by_name["truncation"]
            found.setdefault(port.name, _constant(port, truncation, len(seeds), {}))
            truncation = 1.0
        sizes = self.named_sizes(found) if found else {}
        for port in self.ports:
            if port.name in found:
                continue
            if port.fill == "class":
                found[port.name] = (
                    self.own_classes(seeds) if labels is None else np.asarray(labels)
                ).astype(port.dtype)
            elif port.fill == "constant":
                found[port.name] = _constant(port, port.value, len(seeds), sizes)
            elif port.fill in ("normal", "uniform"):
                shape: Any = resolve(port, sizes) if self._is_dynamic else port.shape
                found[port.name] = draw(port, seeds, shape, truncation)
        return {port.name: found[port.name] for port in self.ports}

    def named_sizes(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Returns the sizes that the arrays `(batch, ...)` give to the names in the shapes.

        Raises:
            UsageError: one name with two sizes.
        """
        found: dict[str, int] = {}
        for port in self.ports:
            if port.name not in arrays:
                continue
            for name, size in zip(port.shape, arrays[port.name].shape[1:], strict=True):
                if isinstance(name, str) and found.setdefault(name, size) != size:
                    raise UsageError(
                        f"The inputs must have one size {name!r}. "
                        f"Received: {found[name]} and {size}"
                    )
        return found

    def check_sizes(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Returns the named sizes of given arrays, and checks that they determine all inputs.

        Raises:
            UsageError: one name with two sizes, or an input whose size no given input has.
        """
        if not self._is_dynamic:
            return {}
        sizes = self.named_sizes(arrays)
        for port in self.ports:
            if port.name not in arrays:
                resolve(port, sizes)
        return sizes

    def own_classes(self, seeds: np.ndarray) -> np.ndarray:
        """Returns the class of each seed, int64 `(batch,)`."""
        port = self.classes
        if port is None:
            raise UsageError("This network has no input of classes. Received: labels")
        return classes_from_seeds(
            seeds, port.meta["num_classes"], port.meta.get("frequencies"), port.stream
        )

    def class_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray:
        """Returns the class id of each sample, int64 `(batch,)`.

        Args:
            seeds: array `(batch,)`; sets the number of samples and the default classes.
            labels: class ids or names, one for all or one for each; `None` for the default.

        Raises:
            UsageError: no class input, an unknown class, or the wrong number of labels.
        """
        if labels is None or self.classes is None:
            return self.own_classes(seeds)
        found = several(labels)
        given = [labels] if found is None else found
        check_label_count(len(given), len(seeds))
        names = self.classes.meta.get("class_names") or ()
        ids = np.array([class_id(x, self.classes.num_classes, names) for x in given], np.int64)
        return np.broadcast_to(ids, len(seeds)).copy()

    def check_truncation(self, value: Any, given: Collection[str] = ()) -> float:
        """Returns a checked truncation.

        Args:
            value: the factor on the normal inputs, or the value of the input of this name; 1
                changes nothing.
            given: names of inputs that are given in place of their fill.

        Raises:
            UsageError: not a finite number of at least 0, or nothing that it applies to.
        """
        number = check_truncation(value)
        if number == 1:
            return number
        if "truncation" in given:
            raise UsageError(
                "`truncation` and the input 'truncation' exclude each other. "
                f"Received: truncation={number:g}"
            )
        if "truncation" not in self.by_name and {x.name for x in self.normal} <= set(given):
            what = "normal inputs, which here are all given" if self.normal else "normal inputs"
            raise UsageError(
                f"`truncation` needs an input of this name or draws of {what}. "
                f"Received: truncation={number:g}"
            )
        return number

    def check_seeded(self, name: str, value: Any) -> None:
        """Checks that seeds have an effect.

        Args:
            name: of the argument or field that names the seeds.
            value: its value, for the error.

        Raises:
            UsageError: no input is filled from a seed.
        """
        if not self.seeded:
            raise UsageError(
                f"`{name}` needs a network with random inputs. "
                f"Received: {name}={short_repr(value)} for the inputs {', '.join(self.by_name)}"
            )

    def check_seed(self, value: Any) -> int:
        """Returns the seed of a single sample; 0 for `None`.

        Args:
            value: an integer from 0 to 2**63 - 1, or `None`.

        Raises:
            UsageError: another value, or no input is filled from a seed.
        """
        if value is None:
            return 0
        seed = check_integer("seed", int(value) if is_integer(value) else value, 0, MAX_SEED)
        self.check_seeded("seed", seed)
        return seed

    def check_given(
        self, given: Mapping[str, Any] | None, count: int | None = None
    ) -> dict[str, np.ndarray]:
        """Checks the arrays of the given inputs, and of others that replace a fill.

        Args:
            given: arrays `(batch, ...)` by name; one sample `(1, ...)` serves for all.
            count: number of samples; by default that of the arrays.

        Raises:
            UsageError: an unknown or missing input, another dtype, shape or number of samples.
        """
        if not given and not self.given:
            return {}
        given = dict(given or {})
        for name in given:
            if name not in self.by_name:
                valid = ", ".join(self.by_name) or "none"
                raise UsageError(f"The inputs are {valid}. Received: {short_repr(name)}")
        for port in self.given:
            if port.name not in given:
                raise UsageError(
                    f"The input {port.name!r} of kind {port.kind!r} must be given. Received: none"
                )
        found = {name: check_array(self.by_name[name], value) for name, value in given.items()}
        counts = {len(x) for x in found.values()} - {1}
        wanted = count if count is not None else max(counts, default=1)
        for name, array in found.items():
            if len(array) not in (1, wanted):
                raise UsageError(
                    f"The input {name!r} must have one sample for all or one for each of {wanted}. "
                    f"Received: {len(array)}"
                )
            if len(array) != wanted:
                found[name] = np.broadcast_to(array, (wanted, *array.shape[1:]))
        return found


def resolve(port: Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Returns a port's shape with its named sizes filled in.

    Raises:
        UsageError: a name whose size is not known, because no given input has it.
    """
    missing = [size for size in port.shape if isinstance(size, str) and size not in sizes]
    if missing:
        raise UsageError(
            f"The size {missing[0]!r} of the input {port.name!r} follows a given input. "
            "Received: no input that has it"
        )
    return tuple(sizes[size] if isinstance(size, str) else size for size in port.shape)


def draw(
    port: Input, seeds: np.ndarray, shape: tuple[int, ...], truncation: float = 1.0
) -> np.ndarray:
    """Returns the random numbers of a seeded input, `(batch, *shape)`."""
    size = math.prod(shape)
    if port.fill == "normal":
        values = normals(seeds, size, port.stream)
        if truncation != 1.0:
            values = values * np.float32(truncation)
    else:
        low, high = port.value or (0.0, 1.0)
        values = uniforms(seeds, size, port.stream)
        values = values * np.float32(high - low) + np.float32(low)
    values = values.reshape(len(seeds), *shape)
    return values if port.dtype == "float32" else values.astype(port.dtype)


def _constant(port: Input, value: Any, count: int, sizes: Mapping[str, int]) -> np.ndarray:
    array = np.asarray(value, port.dtype)
    return np.broadcast_to(array, (count, *resolve(port, sizes))).copy()


def check_array(port: Port, value: Any) -> np.ndarray:
    """Returns an array `(batch, ...)` in the dtype and the range of a port.

    Integers of a dtype in which the port's kind is stored, such as uint8 pixels, are mapped to the
    range, as those of a file are.

    Raises:
        UsageError: values that are not numbers of this dtype, another shape, NaN or infinity,
            values outside the range.
    """
    array = np.asarray(value)
    wanted = np.dtype(port.dtype)
    kind = kinds.get(port.kind)
    whole = array.dtype.kind in "iub"
    fits = array.dtype.kind in "fiu" if wanted.kind == "f" else whole
    if not fits or (array.dtype.kind == "b") != (wanted.kind == "b"):
        raise UsageError(
            f"The input {port.name!r} must be of dtype {port.dtype}. Received: {array.dtype}"
        )
    sizes = array.shape[1:]
    ranks = array.ndim == len(port.shape) + 1
    if not ranks or any(n not in (None, m) for n, m in zip(port.sizes, sizes, strict=True)):
        shape = ", ".join(str(n) for n in port.shape)
        raise UsageError(
            f"The input {port.name!r} must have the shape (batch{', ' if shape else ''}{shape}). "
            f"Received: shape={array.shape}"
        )
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise UsageError(
                f"The input {port.name!r} must fit {port.dtype}. "
                f"Received: values from {array.min()} to {array.max()}"
            )
    is_float = wanted.kind == "f"
    if is_float and array.dtype.name in kind.stored:
        array = kind.from_stored(array, port.meta)
    with np.errstate(over="ignore"):
        array = array.astype(wanted, copy=False)
    # Integers that replace a constant, such as the ids of a prefix, have a range as well.
    is_limited = is_float or (wanted.kind != "b" and getattr(port, "fill", "") == "constant")
    if is_limited and array.size:
        _check_values(port, array, kind.is_ids(port.sizes))
    if isinstance(port, Input) and port.fill == "class" and array.size:
        check_classes(array, port.num_classes)
    elif array.size:
        kind.check_given(array, port.meta, port.name)
    return array


def _check_values(port: Port, array: np.ndarray, is_ids: bool) -> None:
    """Refuses numbers that are not finite, and those outside the declared range of a port."""
    low, high = float(array.min()), float(array.max())  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(f"The input {port.name!r} must be finite. Received: NaN or infinity")
    limits = port.meta.get("value_range")
    if limits and not is_ids and value_ranges.leaves_rounded(low, high, limits):
        least, most = map(float, limits)
        hint = value_ranges.rescaling(low, high, (least, most))
        raise UsageError(
            f"The input {port.name!r} must have values in [{least:g}, {most:g}]{hint}. "
            f"Received: values from {low:g} to {high:g}"
        )


def array_from_json(port: Port, value: Any) -> np.ndarray:
    """Converts nested lists from JSON to an array `(batch, ...)`; one sample may lack the batch.

    Raises:
        UsageError: rows of different lengths, or values of another type than the port's.
    """
    dtype = np.dtype(port.dtype)
    words = {"f": "numbers", "b": "true or false"}.get(dtype.kind, "integers")
    try:
        flat, shape = flatten(value, dtype.kind)
        array = np.array(flat, np.float64 if dtype.kind == "f" else None).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"The input {port.name!r} must be {words} in rows of equal length. "
            f"Received: {port.name}={short_repr(value)}"
        ) from error
    return array[np.newaxis] if array.ndim == len(port.shape) else array


def decode_given(port: Port, content: bytes, media_type: str) -> np.ndarray:
    """Decodes the file of one sample of a given input, `(1, ...)`.

    Args:
        port: the input.
        content: the file.
        media_type: its Content-Type.

    Raises:
        UsageError: a Content-Type that the kind does not have, or a file that does not fit.
    """
    kind = kinds.get(port.kind)
    form = kind.format_of(media_type)
    if form is None:
        forms = kind.all_formats().values()
        valid = ", ".join(f.media_type for f in forms if f.decode)
        raise UsageError(
            f"The input {port.name!r}, of kind {port.kind!r}, takes files of {valid}. "
            f"Received: {media_type[:80]!r}"
        )
    sample = kind.decode(content, form.name, port.sizes, port.meta)
    return check_array(port, sample[np.newaxis])

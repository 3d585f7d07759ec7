"""Bundles, opened for sampling with onnxruntime."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving import kinds
from serving.bundle_folder import find_bundle
from serving.checks import check_batch_size, describe_not_finite, describe_sample, is_finite
from serving.classification import Classifier, classify, describe_missing, find_classifier
from serving.errors import NotFiniteWarning, UsageError, one_line, short_repr
from serving.inputs import Input, Inputs, Port
from serving.manifest import read_manifest
from serving.output_shapes import empty_outputs, fits
from serving.seeds import check_seeds
from serving.sessions import DEVICES, ModelFiles, check_ports, open_session
from serving.sound_bundle import SoundInterface
from serving.text_bundle import TextInterface

if TYPE_CHECKING:
    from serving.acting import Actor, Policy
    from serving.endless import VideoFacts

# Maps the inputs of a batch by name to its outputs, in the order of `Bundle.outputs`.
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


class Bundle(SoundInterface, TextInterface):
    """An exported network that maps seeds and given inputs to samples, in onnxruntime.

    Args:
        path: folder of a bundle, of a run that holds one in `bundle/`, or of several versions, of
            which the latest is opened; or a file in one of these.
        threads: threads for one operation; by default onnxruntime chooses.
        device: `"auto"` (a GPU if onnxruntime can use one, else the CPU), `"cpu"`, `"cuda"` or
            `"tensorrt"`.
        precision: `"float32"`; or `"float16"` (for GPUs) or `"int8"` (for CPUs) if the bundle was
            exported with it.
        sessions: number of onnxruntime sessions for `runners`; on a GPU always 1.

    Attributes:
        role: role of the network, such as `"generator"` or `"translator"`.
        inputs: its inputs, with the way in which each is filled.
        outputs: its outputs; the first one is what `generate` returns.
        classifier: facts about a network that `classify` can use, `None` for another one.
        vocoder: facts about a network that `vocode` can use, `None` for another one.
        video: facts about a generator of videos of any number of frames
            (`serving.endless.stream_video`), `None` for another one.
        policy: facts about a network that `act` can use, `None` for another one.
        kind: kind of the first output, likewise `shape` (a name for any size), `value_range` and
            `meta`.
        num_classes: number of classes of the class input, 0 without one; `class_names` likewise.
        latent_dim: size of the first normal input, 0 without one or if it may have any size.

    Raises:
        UsageError: the folder is not a bundle, its manifest or model is damaged, or it has no
            model of this precision.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        sessions: int = 1,
    ):
        self.path = find_bundle(path)
        self.manifest = read_manifest(self.path)
        self.name: str = self.manifest["name"]
        self.role: str = self.manifest["role"]
        self.precision = precision
        self._set_ports()
        files = ModelFiles(self.path, self.manifest, precision)
        self.file, self.sha256 = files.name, files.sha256
        self._files = files
        model, data = files.read()
        self._session = open_session(model, data, files.path, threads, device)
        check_ports(self, self._session)
        self._sessions = [self._session]
        # One for each thread of the caller, from the same verified bytes.
        while len(self._sessions) < sessions and self.device == "cpu":
            self._sessions.append(open_session(model, data, files.path, threads, device))

    def _set_ports(self) -> None:
        self.inputs = Inputs([Input.from_json(port) for port in self.manifest["inputs"]])
        self.outputs: tuple[Port, ...] = tuple(
            Port.from_json(port) for port in self.manifest["outputs"]
        )
        self._output_names = [port.name for port in self.outputs]
        self._shapes = [port.shape for port in self.outputs]
        self.classifier = find_classifier(self.role, self.inputs, self.outputs)
        if (audio := self.manifest.get("audio")) is not None:
            from serving.vocoding import find_vocoder  # other bundles open without it

            self.vocoder = find_vocoder(self.role, self.inputs, self.outputs, audio)
        self.video: VideoFacts | None = None
        if (video := self.manifest.get("video")) is not None:
            from serving.endless import find_video

            self.video = find_video(video, self.inputs, self.outputs)
        self.policy: Policy | None = None
        if (facts := self.manifest.get("environment")) is not None:
            from serving.acting import find_policy

            self.policy = find_policy(self.role, self.inputs, self.outputs, facts)
        if (text := self.manifest.get("text")) is not None:
            from serving.texts import find_sampler  # other bundles open without it

            self.text_sampler = find_sampler(self.inputs, self.outputs, text)
        self._first_input = self.inputs.ports[0].name
        first = self.outputs[0]
        self.kind, self.shape, self.meta = first.kind, first.shape, first.meta
        limits = first.meta.get("value_range") or kinds.get(first.kind).value_range
        self.value_range = None if limits is None else (float(limits[0]), float(limits[1]))
        self.num_classes, self.class_names = 0, ()
        if (port := self.inputs.classes) is not None:
            self.num_classes = port.num_classes
            self.class_names = tuple(port.meta.get("class_names") or ())
        sizes = self.inputs.normal[0].sizes if self.inputs.normal else (None,)
        self.latent_dim = 0 if None in sizes else math.prod(n or 0 for n in sizes)

    @property
    def device(self) -> str:
        """Device that runs the model: `"cuda"`, `"tensorrt"` or `"cpu"`."""
        return DEVICES.get(self._session.get_providers()[0], "cpu")

    def runners(self) -> list[Run]:
        """Returns a callable from feeds to all outputs for each session, to run in threads."""
        return [functools.partial(self._run, session=session) for session in self._sessions]

    def wide_runner(self, threads: int) -> Run:
        """Returns one more such callable, with a session of several threads on the CPU.

        Raises:
            UsageError: the files have changed since the bundle was opened.
        """
        session = open_session(*self._files.read(), self._files.path, threads, "cpu", shared=True)
        return functools.partial(self._run, session=session)

    def open_other(self, name: str, threads: int | None = 1, device: str = "cpu") -> Any:
        """Opens a session for another graph of the bundle, whose bytes it verifies.

        Args:
            name: the file.
            threads: threads for one operation; `None` leaves the choice to onnxruntime.
            device: as for the bundle.

        Raises:
            UsageError: a file that the bundle does not have, or that is damaged.
        """
        content = self._files.read_other(name)
        return open_session(content, b"\0", self.path / name, threads, device)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on all of its inputs, and returns all outputs by name.

        Args:
            feeds: an array `(batch, ...)` of the declared dtype for each input.

        Raises:
            UsageError: the model does not run, or returns outputs of undeclared shapes.
        """
        return dict(zip(self._output_names, self._run(dict(feeds)), strict=True))

    def generate(
        self,
        seeds: Any = None,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
        **given: Any,
    ) -> np.ndarray:
        """Generates the sample that each seed names.

        Args:
            seeds: integers, each `0 <= seed < 2**63`; by default 0, 1, ..., one for each sample of
                the given inputs. A network without inputs that are drawn from seeds needs none.
            labels: class ids or names, one for all or one for each seed; by default the seed
                modulo the number of classes, or drawn by their frequencies if the bundle has them.
            truncation: value of the input `truncation` if the network has one, else a factor on
                the normal inputs, 0 or more; below 1, samples are more typical and less varied.
            batch_size: samples per run of the model.
            given: arrays `(batch, ...)` by the names of inputs: all inputs that must be given, and
                any others that are to have other values than those of the seed. One sample
                `(1, ...)` serves for all seeds.

        Returns:
            The first output, an array of shape `(len(seeds), *shape)`. A `NotFiniteWarning` counts
            values that are NaN or infinite.

        Raises:
            UsageError: a seed, label, truncation, batch size or given input that is not allowed.
        """
        drawn = self._draw(seeds, labels, truncation, batch_size, given)
        self._warn(drawn, self._output_names[:1], truncation)
        return drawn[self._output_names[0]]

    def translate(self, picture: Any, tile: Any = "auto", seed: int | None = None) -> Any:
        """Translates a picture of any size, and returns the answer in its form.

        The answer has exactly `scale` times the height and width of the picture (`translation` in
        the manifest). Alpha is resized and kept; a file is upright by its EXIF orientation, and in
        sRGB.

        Args:
            picture: a path or an image of Pillow, answered by an image of Pillow; or an array
                `(height, width)` or `(height, width, channels)`, answered by an array of its dtype:
                uint8 pixels with 1, 3 or 4 channels, or floats in the range and with the channels
                of the input, answered in the range of the output.
            tile: height and width of tiles in pixels; `"auto"` cuts pictures of more than 2^20
                pixels, where the network allows it; `None` runs the whole picture. Tiles have the
                margin that the network needs, so the answer is the same.
            seed: seed of the random inputs, from 0 to 2**63 - 1, by default 0; only for a network
                that has some. All tiles of a picture have the same.

        Raises:
            UsageError: a network that does not translate pictures of any size, a picture that
                cannot be read or is too large, tiles of a network that cannot be tiled, a seed
                that has no effect.
        """
        from serving import picture_forms  # Pillow is only needed here

        facts, source, target = self.translation
        run = functools.partial(self.translate_tile, seed=self.inputs.check_seed(seed))
        return picture_forms.translate(facts, source, target, run, picture, tile)

    def classify(self, pictures: Any, batch_size: int = 64) -> Any:
        """Returns the probabilities of the classes of a picture, or of several.

        A picture is read upright by its EXIF orientation and in sRGB, cropped around its center to
        the shape of the network's pictures, resized, and made gray for a network of gray pictures;
        `notes` says what was changed.

        Args:
            pictures: a path, an image of Pillow, or a uint8 array `(height, width)` or `(height,
                width, channels)` with 1, 3 or 4 channels, of any size; or an array of floats of the
                shape and range of the input, which need not be a picture. For several, a list of
                these, or an array with one more axis.
            batch_size: pictures per run of the model.

        Returns:
            A `serving.classification.Classification`: `probabilities`, `label`, `top(count)`,
            `novelty`, `notes`. A list of them for several pictures.

        Raises:
            UsageError: a bundle that is not a classifier, or a picture that cannot be read or has
                another form.
        """
        found = self.require_classifier()

        def run(batch: np.ndarray) -> dict[str, np.ndarray]:
            given = {found.source.name: np.ascontiguousarray(batch)}
            return self.run(self.inputs.fill(np.zeros(len(batch), np.int64), given=given))

        return classify(found, run, pictures, check_batch_size(batch_size))

    def require_classifier(self) -> Classifier:
        """Returns `classifier`.

        Raises:
            UsageError: a bundle that is not a classifier.
        """
        if self.classifier is None:
            raise describe_missing(self)
        return self.classifier

    def act(self, observation: Any) -> Any:
        """Returns the action of a policy for an observation, or for several, on one CPU thread.

        Args:
            observation: numbers of the shape of one, or with one more axis for several.

        Returns:
            An int for a discrete action, float32 `(values,)` for a continuous one; for several
            observations an array with one more axis.

        Raises:
            UsageError: a bundle that is not a policy, or an observation of another shape, of NaN
                or outside the bounds of the environment.
        """
        return self.actor.act(observation)

    @functools.cached_property
    def actor(self) -> Actor:
        """The policy that `act` runs, in a session of its own; a `UsageError` without one."""
        from serving.acting import Actor, require_policy

        found, files = require_policy(self), self._files
        return Actor(found, open_session(*files.read(), files.path, 1, "cpu"), self)

    @property
    def translation(self) -> tuple[Mapping[str, Any], Input, Port]:
        """`translation` of the manifest, and the input and the output that it names.

        Raises:
            UsageError: a network that does not translate pictures of any size.
        """
        facts = self.manifest.get("translation")
        if facts is None:
            raise UsageError(
                "`translate` needs a network from pictures of any height and width to pictures. "
                f"Received: bundle {self.name!r} of role {self.role!r}, with the inputs "
                f"{', '.join(self.inputs.by_name)}"
            )
        target = next(port for port in self.outputs if port.name == facts["output"])
        return facts, self.inputs.by_name[facts["input"]], target

    def translate_tile(self, tile: np.ndarray, seed: int = 0) -> np.ndarray:
        """Runs the network on pictures of one size that it takes, such as a tile.

        Args:
            tile: array `(batch, height, width, channels)` in the range of the input.
            seed: seed of the inputs besides the picture, the same for the whole batch.

        Returns:
            The output that `translation` names.
        """
        facts = self.translation[0]
        feeds = self.inputs.fill(np.full(len(tile), seed, np.int64), given={facts["input"]: tile})
        return self.run(feeds)[facts["output"]]

    def sample(
        self,
        seeds: Any = None,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
        **given: Any,
    ) -> dict[str, np.ndarray]:
        """Generates samples, and returns them with their inputs.

        Takes the arguments of `generate`.

        Returns:
            Every output and every input by its name, and `seeds` where they were given or used.

        Raises:
            UsageError: as for `generate`.
        """
        drawn = self._draw(seeds, labels, truncation, batch_size, given)
        self._warn(drawn, self._output_names, truncation)
        return drawn

    def _draw(
        self, seeds: Any, labels: Any, truncation: float, batch_size: int, given: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        batch_size = check_batch_size(batch_size)
        truncation = self.inputs.check_truncation(truncation, given)
        if seeds is not None:
            self.inputs.check_seeded("seeds", seeds)
        used = {} if seeds is None else {"seeds": check_seeds(seeds)}
        arrays = self.inputs.check_given(given, len(used["seeds"]) if used else None)
        if not used:
            count = max((len(x) for x in arrays.values()), default=1)
            own = np.arange(count, dtype=np.int64)
            used = {"seeds": own} if self.inputs.seeded else {}
        else:
            own = used["seeds"]
        ids = None if self._takes_classes(arrays, labels) else self.label_ids(own, labels)
        feeds = self.inputs.fill(own, ids, truncation, arrays)
        return self._run_batches(feeds, len(own), batch_size) | used | feeds

    def _warn(
        self, drawn: Mapping[str, np.ndarray], names: Sequence[str], truncation: float
    ) -> None:
        """Warns of outputs that are not finite, with the caller of `generate` or `sample`."""
        if all(is_finite(drawn[name]) for name in names):
            return
        labels = None if self.inputs.classes is None else drawn[self.inputs.classes.name]
        describe = functools.partial(
            describe_sample, seeds=drawn.get("seeds"), labels=labels, truncation=truncation
        )
        line = describe_not_finite([({name: drawn[name] for name in names}, describe)])
        if line is not None:
            warnings.warn(line, NotFiniteWarning, stacklevel=3)

    def _takes_classes(self, arrays: Mapping[str, np.ndarray], labels: Any) -> bool:
        """Returns True if the class input is among the given arrays, in place of labels."""
        port = self.inputs.classes
        if port is None or port.name not in arrays:
            return False
        if labels is not None:
            raise UsageError(
                f"`labels` and the input {port.name!r} exclude each other. "
                f"Received: labels={short_repr(labels)}"
            )
        return True

    def _run_batches(
        self, feeds: Mapping[str, np.ndarray], count: int, batch_size: int
    ) -> dict[str, np.ndarray]:
        if not count:
            return empty_outputs(self.outputs, self.inputs.named_sizes(feeds))
        if count <= batch_size:
            outputs = self._run({name: np.ascontiguousarray(x) for name, x in feeds.items()})
            return dict(zip(self._output_names, outputs, strict=True))
        arrays: list[np.ndarray] = []
        for start in range(0, count, batch_size):
            rows = slice(start, start + batch_size)
            outputs = self._run({n: np.ascontiguousarray(x[rows]) for n, x in feeds.items()})
            arrays = arrays or [np.empty((count, *x.shape[1:]), x.dtype) for x in outputs]
            for array, output in zip(arrays, outputs, strict=True):
                if output.shape[1:] != array.shape[1:]:
                    raise UsageError(
                        f"{self.file} must return equal sizes for all batches of a call. "
                        f"Received: {array.shape[1:]} and {output.shape[1:]}"
                    )
                array[rows] = output
        return dict(zip(self._output_names, arrays, strict=True))

    def _run(self, feeds: dict[str, np.ndarray], session: Any = None) -> list[np.ndarray]:
        try:
            outputs = (session or self._session).run(self._output_names, feeds)
        except Exception as error:  # onnxruntime has a class for each failure
            line = one_line(error)
            raise UsageError(
                f"{self.file} must run in onnxruntime. Received: {str(self.path)!r} ({line})"
            ) from error
        count = len(feeds[self._first_input])
        for port, shape, output in zip(self.outputs, self._shapes, outputs):  # noqa: B905 - fast
            if output.shape != (count, *shape) and not fits(port, output.shape, count):
                raise UsageError(
                    f"{self.file} must return {port.name} of the shape in the manifest. "
                    f"Received: {str(self.path)!r} with {port.name} of {output.shape}"
                )
        return outputs

    def label_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray | None:
        """Returns the class id of each sample, `None` for a generator without labels.

        Args:
            seeds: array `(batch,)`; sets the number of samples and the default labels.
            labels: class ids or names, one for all or one for each; `None` for the default.

        Raises:
            UsageError: labels for a generator without labels, an unknown class, or the wrong
                number of labels.
        """
        if not self.num_classes:
            if labels is not None:
                raise UsageError(
                    f"Bundle {self.name!r} takes no labels. Received: labels={short_repr(labels)}"
                )
            return None
        return self.inputs.class_ids(seeds, labels)

"""Rules on GPUs: drivers, and CUDA's libraries of two generations in one environment."""

from __future__ import annotations

from collections.abc import Iterator

from serving.cuda import installed_cudnn, obstacle
from serving.doctor.cuda import CUDNN, ONNXRUNTIME, TENSORFLOW, Cudnn, listed_by
from serving.doctor.facts import Facts, Finding
from serving.doctor.machine import UNKNOWN
from serving.doctor.rules._rule import rule

# Oldest driver for each generation of CUDA, on Linux (CUDA's release notes, "CUDA Driver").
DRIVERS = {12: "525.60.13", 13: "580"}
TWO_ENVIRONMENTS = (
    "train in one environment (pip install 'keras-gan[gpu]') and serve from another "
    "(serving/requirements-gpu.txt)"
)
SERVE_ON_GPU = (
    "to serve on the GPU, install serving/requirements-gpu.txt in an environment of its own"
)
# Its onnxruntime is the last one for TensorFlow's CUDA.
ONE_ENVIRONMENT = "pip install 'keras-gan[cuda12]' for both in one"


@rule
def two_cudarts(facts: Facts) -> Iterator[Finding]:
    """Finds the CUDA runtimes of two generations in the packages."""
    found = {
        x.name.removeprefix("libcudart.so.").split(".")[0]: x.path
        for x in facts.cuda.of_packages("libcudart.so.")
    }
    if len(found) > 1:
        packages = [x.name for path in found.values() for x in listed_by(path, facts.packages)]
        of = f", of {' and '.join(packages)}" if packages else ""
        # An evaluation loads TensorFlow's and onnxruntime's; a server loads only its own.
        why = ": evaluations load both in one process, which cuDNN refuses" if facts.trains else ""
        yield Finding(
            facts.breaks_gpu if facts.trains else "warning",
            "training" if facts.trains else "serving",
            "two-cudarts",
            "the environment has CUDA runtimes of two generations, "
            f"{' and '.join(sorted(x.name for x in found.values()))}{of}{why}",
            f"make new environments: {TWO_ENVIRONMENTS}",
        )


def _packaged_cudnn(facts: Facts) -> Cudnn | None:
    return next((x for x in facts.cuda.cudnns if x.source == "package"), None)


@rule
def cudnn_of_two_packages(facts: Facts) -> Iterator[Finding]:
    """Finds two packages of cuDNN, which overwrite each other, and files of both."""
    names = [f"nvidia-cudnn-cu{n}" for n in DRIVERS if facts.packages.get(f"nvidia-cudnn-cu{n}")]
    cudnn = _packaged_cudnn(facts)
    there = sorted(set(cudnn.generations.values())) if cudnn else []
    if cudnn and len(there) > 1:
        yield Finding(
            facts.breaks_gpu,
            "both",
            "cudnn-mixed",
            f"cuDNN's files in {cudnn.folder} are of CUDA {' and '.join(map(str, there))}",
            "uninstall all packages nvidia-cudnn-*, then reinstall the one that is needed",
        )
    elif len(names) > 1:
        whose = f"CUDA {there[0]}" if there else "an unknown generation"
        yield Finding(
            "warning",
            "both",
            "two-cudnn-packages",
            f"{' and '.join(names)} unpack to the same files; those of {whose} are there now",
            f"pip uninstall {' '.join(names)}, then reinstall the one that is needed",
        )


@rule
def cudnn_of_wrong_generation(facts: Facts) -> Iterator[Finding]:
    """Finds a cuDNN for another generation of CUDA than a package is built for."""
    cudnn = _packaged_cudnn(facts)
    there = cudnn.generation if cudnn else None
    if there is None:
        return
    for part, package, wanted in _builds(facts):
        # A package without its own CUDA runtime runs on the CPU and opens no cuDNN.
        has_runtime = facts.cuda.has_runtime(wanted)
        if wanted != there and has_runtime:
            yield Finding(
                facts.breaks_gpu,
                part,
                "cudnn-wrong-generation",
                f"{CUDNN} is for CUDA {there}, as its files show; {package} needs CUDA {wanted}",
                f"pip uninstall nvidia-cudnn-cu{there}, then "
                f"pip install --force-reinstall --no-deps nvidia-cudnn-cu{wanted}; or "
                f"{TWO_ENVIRONMENTS}",
            )


def _builds(facts: Facts) -> Iterator[tuple[str, str, int]]:
    """Yields part, package and generation of the builds for CUDA."""
    tensorflow = facts.packages.any_of("tensorflow")
    if facts.trains and facts.cuda.tensorflow:
        name = f"{tensorflow.name} {tensorflow.version}" if tensorflow else "tensorflow"
        yield "training", name, facts.cuda.tensorflow
    if facts.cuda.onnxruntime:
        package = facts.packages.get(facts.cuda.onnxruntime_package)
        version = f" {package.version}" if package else ""
        yield "serving", f"{facts.cuda.onnxruntime_package}{version}", facts.cuda.onnxruntime


@rule
def empty_libraries(facts: Facts) -> Iterator[Finding]:
    """Finds libraries of packages without content, of which pip reports nothing."""
    empty = [x.path for x in facts.cuda.of_packages("") if not x.size]
    if empty:
        of = dict.fromkeys(x.name for path in empty for x in listed_by(path, facts.packages))
        yield Finding(
            facts.breaks_gpu,
            "both",
            "cuda-library-empty",
            f"{', '.join(map(str, empty[:3]))}{' and others' if len(empty) > 3 else ''} have no "
            "content, as after an installation on a full disk",
            f"pip install --force-reinstall --no-deps {' '.join(of)}"
            if of
            else "reinstall the package that they are of",
        )


@rule
def onnxruntime_beside_tensorflow(facts: Facts) -> Iterator[Finding]:
    """Finds an onnxruntime-gpu beside the CUDA libraries of another generation.

    The extra `gpu` installs them so on Linux: TensorFlow uses the GPU, and onnxruntime the CPU.
    """
    builds = {part: (package, wanted) for part, package, wanted in _builds(facts)}
    if len(builds) < 2 or not facts.cuda.of_packages("libcudart.so."):
        return
    (training, ours), (serving, theirs) = builds["training"], builds["serving"]
    has_ours = facts.cuda.has_runtime(ours)
    has_theirs = facts.cuda.has_runtime(theirs)  # then see two-cudarts
    if ours != theirs and has_ours and not has_theirs:
        yield Finding(
            "note",
            "serving",
            "onnxruntime-cuda-mismatch",
            f"{serving} is built for CUDA {theirs}, and the CUDA libraries of {training} are for "
            f"CUDA {ours}: onnxruntime runs on the CPU here, as intended",
            f"do not add CUDA {theirs} here; {SERVE_ON_GPU}, or {ONE_ENVIRONMENT}",
        )


@rule
def driver_too_old(facts: Facts) -> Iterator[Finding]:
    """Finds a driver that is too old for CUDA libraries that are installed."""
    driver = facts.machine.driver
    if driver == UNKNOWN:
        return
    for part, package, wanted in _builds(facts):
        has_runtime = facts.cuda.has_runtime(wanted)
        least = DRIVERS.get(wanted)
        if driver and least and has_runtime and _numbers(driver) < _numbers(least):
            yield Finding(
                "error",
                part,
                "driver-too-old",
                f"NVIDIA's driver is {driver}; CUDA {wanted}, which {package} uses, needs {least} "
                "or newer",
                "update the driver of the machine, in a container that of the host"
                + ("; or use packages for CUDA 12" if wanted > 12 else ""),
            )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@rule
def gpu_without_libraries(facts: Facts) -> Iterator[Finding]:
    """Finds a GPU that a package cannot use, as libraries are missing or hidden."""
    if not facts.machine.has_gpu or facts.hides_gpus:
        return
    if facts.trains and not facts.gpus_of_tensorflow:
        missing = facts.cuda.missing(TENSORFLOW.get(facts.cuda.tensorflow or 0, ()))
        if facts.cuda.tensorflow is None:
            found = "TensorFlow is a build without CUDA"
        elif missing:
            found = f"TensorFlow lacks {', '.join(missing)}"
        else:
            found = "TensorFlow lists none, although its CUDA libraries are there"
        if missing or facts.probe("training").status == "ok":
            yield Finding(
                "warning",
                "training",
                "gpu-unused-by-tensorflow",
                f"the machine has a GPU, and {found}: training runs on the CPU",
                "pip install 'keras-gan[gpu]'" if missing else _LOG,
            )
    provider = facts.probe("serving").value("a session of onnxruntime", "provider")
    if facts.cuda.onnxruntime_package and provider != _CUDA:
        yield from _unused_by_onnxruntime(facts)


_CUDA = "CUDAExecutionProvider"
_LOG = "run `python -c 'import tensorflow as tf; tf.config.list_physical_devices()'` and read why"


def _unused_by_onnxruntime(facts: Facts) -> Iterator[Finding]:
    generation = facts.cuda.onnxruntime
    missing = facts.cuda.missing(ONNXRUNTIME.get(generation or 0, ()))
    reason = _refusal_of_serving(facts)
    if generation is None:
        found = f"{facts.cuda.onnxruntime_package} is a build without CUDA"
    elif reason:
        found = f"serving does not use it: {reason}"
    elif missing:
        found = f"{facts.cuda.onnxruntime_package} lacks {', '.join(missing)}"
    elif facts.probe("serving").status == "ok":
        found = "onnxruntime does not use it, although its CUDA libraries are there"
    else:
        return
    has_runtime = facts.cuda.has_runtime(generation)
    is_meant = facts.trains and not has_runtime  # as the extra gpu installs it
    yield Finding(
        "note" if generation is None or is_meant else "warning",
        "serving",
        "gpu-unused-by-onnxruntime",
        f"the machine has a GPU, and {found}; onnxruntime runs on the CPU here"
        + ", as intended" * is_meant,
        f"{SERVE_ON_GPU}, or {ONE_ENVIRONMENT}" if facts.trains else SERVE_ON_GPU,
    )


def _refusal_of_serving(facts: Facts) -> str | None:
    """Returns why `keras-gan serve` would leave the GPU alone, as it decides itself."""
    cudnn = installed_cudnn(lambda name: facts.packages.get(name) is not None)
    return obstacle(str(facts.cuda.onnxruntime or ""), loaded=set(), cudnn=cudnn)


@rule
def gpu_out_of_reach(facts: Facts) -> Iterator[Finding]:
    """Finds GPUs that are hidden from the process, or not given to the container."""
    if facts.machine.driver and not facts.machine.device_files:
        yield Finding(
            "note",
            "both",
            "gpu-not-passed",
            f"NVIDIA's driver {facts.machine.driver} runs, and there is no /dev/nvidia0",
            "start the container with its GPUs: docker run --gpus all",
        )
    if facts.hides_gpus:
        hidden = facts.variables["CUDA_VISIBLE_DEVICES"]
        yield Finding(
            "note",
            "both",
            "gpu-hidden",
            f"CUDA_VISIBLE_DEVICES={hidden!r} hides the machine's GPUs",
            "unset CUDA_VISIBLE_DEVICES to use them",
        )


@rule
def library_path(facts: Facts) -> Iterator[Finding]:
    """Finds libraries of LD_LIBRARY_PATH that are loaded in place of those of packages."""
    others = [x for x in facts.cuda.libraries if x.source == "LD_LIBRARY_PATH"]
    for library in others:
        ours = [x for x in facts.cuda.of_packages(library.name) if x.name == library.name]
        is_first = library.name == CUDNN or library.name.startswith("libcudart.so.")
        if not (is_first and ours):
            continue
        generation = _generation_in(facts, library.path.parent) if library.name == CUDNN else None
        of = f", for CUDA {generation}," if generation else ""
        yield Finding(
            "warning",
            "both",
            "library-path-cudnn" if library.name == CUDNN else "library-path-cudart",
            f"LD_LIBRARY_PATH names {library.path}{of} which may be loaded in place of "
            f"{ours[0].path}",
            f"remove {library.path.parent} from LD_LIBRARY_PATH",
        )


def _generation_in(facts: Facts, folder: object) -> int | None:
    return next((x.generation for x in facts.cuda.cudnns if x.folder == folder), None)

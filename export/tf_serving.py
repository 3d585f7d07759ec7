"""Configuration of TensorFlow Serving for a bundle that is mounted at `/models`.

Protocol buffers in text format: `ModelServerConfig`, `BatchingParameters`, `MonitoringConfig`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = "tf_serving"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

_MODELS = """# tensorflow_model_server --model_config_file=/models/tf_serving/models.config
# The bundle, or a folder of its versions, is mounted at /models.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/saved_model/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""

_BATCHING = """# --enable_batching --batching_parameters_file=/models/tf_serving/batching.config
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 2000 }}  # longest wait of a request for others
max_enqueued_batches {{ value: 100 }}  # further ones are rejected as UNAVAILABLE
num_batch_threads {{ value: 4 }}  # the number of cores
# A batch is padded to the next of these sizes: few shapes, each planned once.
{allowed}
"""

_MONITORING = """# --monitoring_config_file=/models/tf_serving/monitoring.config
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def configuration(name: str) -> dict[str, str]:
    """Returns the content of each file of the bundle's folder `tf_serving`, by name."""
    return {
        "models.config": _MODELS.format(name=name),
        "batching.config": batching_parameters(),
        "monitoring.config": _MONITORING,
    }


def batching_parameters() -> str:
    """Returns the batching parameters, with the sizes to which a batch is padded."""
    allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in BATCH_SIZES)
    return _BATCHING.format(largest=BATCH_SIZES[-1], allowed=allowed)


def write_configuration(bundle: Path, name: str) -> None:
    """Writes the folder `tf_serving` of a bundle, and the batching parameters of its model.

    A server started with `--enable_per_model_batching_parameters` reads the latter.
    """
    (bundle / FOLDER).mkdir(exist_ok=True)
    for file, content in configuration(name).items():
        (bundle / FOLDER / file).write_text(content, encoding="utf-8")
    version = bundle / "saved_model" / name / "1"
    (version / "batching_params.pbtxt").write_text(batching_parameters(), encoding="utf-8")

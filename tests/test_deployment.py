"""The files for Docker, Kubernetes, KServe and Ray, held against the server; and Ray itself.

Nothing is started by Docker or Kubernetes here: the files are parsed, and their flags, paths, ports
and metrics are those of the code.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from environments import python_with

import serving
from serving import UsageError, cli, ray_app
from serving.limits import Settings
from serving.telemetry import Metrics

ROOT = Path(__file__).parents[1]
FILES = ROOT / "serving"
ROUTES = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


def documents(name):
    return list(yaml.safe_load_all((FILES / name).read_text()))


def find(name, kind):
    (found,) = (document for document in documents(name) if document["kind"] == kind)
    return found


def parsed(args):
    """The options of keras-gan serve, parsed by itself."""
    return cli._serve_parser().parse_args(args)


# ------------------------------------------------------------------------------------ Docker


def instructions(name):
    text = re.sub(r"\\\n", " ", (FILES / "docker" / name).read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_the_image_runs_the_server_as_an_unprivileged_user(name):
    steps = instructions(name)
    last = dict(steps)  # of each instruction, the last
    entry = yaml.safe_load(last["ENTRYPOINT"])
    assert entry[:4] == ["python", "-m", "serving.cli", "serve"]
    options = parsed([*entry[4:], *yaml.safe_load(last["CMD"])])
    assert (options.host, options.paths) == ("0.0.0.0", ["/models"])
    assert last["EXPOSE"] == str(options.port)
    assert last["USER"].split(":")[0] != "0"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["HEALTHCHECK"].count(f":{options.port}/healthz'") == 1
    for step, what in steps:
        for name in what.split()[:-1] if step == "COPY" and "--from" not in what else ():
            assert (ROOT / name).exists(), name
    assert steps[0] == ("FROM", "python:3.11-slim AS build")


def test_the_image_for_a_gpu_differs_in_its_packages_and_device_only():
    usual, gpu = instructions("Dockerfile"), instructions("Dockerfile.gpu")
    entry = yaml.safe_load(dict(gpu)["ENTRYPOINT"])
    assert entry[:-2] == yaml.safe_load(dict(usual)["ENTRYPOINT"])
    assert parsed([*entry[4:], "/models"]).device == "cuda"
    added = [what for step, what in gpu if step == "ENV" and ("ENV", what) not in usual]
    assert "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility" in added
    steps = [(s, w.replace("requirements-gpu", "requirements")) for s, w in gpu if w not in added]
    changed = ("ENTRYPOINT", "HEALTHCHECK")  # the latter waits longer for the start
    assert [x for x in steps if x[0] not in changed] == [x for x in usual if x[0] not in changed]
    lines = (FILES / "requirements-gpu.txt").read_text().splitlines()
    usual_lines = (FILES / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line not in usual_lines and line[0] != "#"} == {
        "onnxruntime-gpu[cuda,cudnn]>=1.27,<1.32"
    }


def test_the_health_check_of_the_image_is_a_program():
    for name in ("Dockerfile", "Dockerfile.gpu"):
        (_, check) = next(step for step in instructions(name) if step[0] == "HEALTHCHECK")
        command = yaml.safe_load(check.partition("CMD ")[2])
        compile(command[2], "healthcheck", "exec")


def test_the_files_of_the_image_run_in_this_environment(clothes, tmp_path):
    """Its entry point and health check, with `serving/` alone, in this environment."""
    shutil.copytree(FILES, tmp_path / "app" / "serving", ignore=shutil.ignore_patterns("__pyc*"))
    steps = dict(instructions("Dockerfile"))
    entry = [word.replace("8000", "0") for word in yaml.safe_load(steps["ENTRYPOINT"])]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    paths = [
        str(tmp_path / "app"),
        *(path for path in sys.path if path and ROOT not in (Path(path), Path(path).parent)),
    ]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    process = subprocess.Popen(
        [sys.executable, *entry[1:], clothes.path],
        cwd=tmp_path / "app",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = process.stdout.readline().strip().rpartition(":")[2]
        check = yaml.safe_load(steps["HEALTHCHECK"].partition("CMD ")[2])[2]
        check = check.replace("8000", port)
        subprocess.run([sys.executable, "-c", check], check=True, timeout=30)
        samples = serving.Client(f"http://127.0.0.1:{port}").generate([7])
        np.testing.assert_allclose(samples, serving.Bundle(clothes.path).generate([7]), atol=1e-6)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert not list((tmp_path / "app").rglob("__pycache__"))
    finally:
        process.kill()
        process.wait()


def test_the_image_contains_the_server_only():
    for name in ("Dockerfile", "Dockerfile.gpu", "Dockerfile.ray"):
        ignored = (FILES / "docker" / f"{name}.dockerignore").read_text().split()
        assert ignored[:2] == ["*", "!serving"]


def test_the_requirements_suffice_for_the_server():
    lines = (FILES / "requirements.txt").read_text().splitlines()
    names = {re.split(r"[^\w-]", line)[0] for line in lines if line and line[0] != "#"}
    assert {"numpy", "onnxruntime", "pillow"} <= {name.lower() for name in names}
    assert not names & {"tensorflow", "keras", "tf2onnx", "onnx", "keras-gan"}


def test_compose_runs_the_image_read_only():
    services = yaml.safe_load((FILES / "docker" / "compose.yaml").read_text())["services"]
    service = services["keras-gan"]
    build = FILES / "docker" / service["build"]["context"]
    assert (build / service["build"]["dockerfile"]).resolve() == FILES / "docker" / "Dockerfile"
    options = parsed(service["command"])
    (volume,) = service["volumes"]
    assert volume.endswith(f":{options.paths[0]}:ro")
    assert service["read_only"] is True
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert int(service["stop_grace_period"].rstrip("s")) > Settings(("x",)).drain_seconds
    gpu = services["keras-gan-gpu"]
    assert gpu["extends"] == {"service": "keras-gan"}
    assert (build / gpu["build"]["dockerfile"]).resolve() == FILES / "docker" / "Dockerfile.gpu"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    prometheus = yaml.safe_load((FILES / "docker" / "prometheus.yaml").read_text())
    (scrape,) = prometheus["scrape_configs"]
    assert scrape["metrics_path"] in ROUTES
    assert scrape["static_configs"] == [{"targets": ["keras-gan:8000"]}]
    assert any("./prometheus.yaml:" in v for v in services["prometheus"]["volumes"])


# -------------------------------------------------------------------------------- Kubernetes


def paths_of(container):
    probes = [container[name] for name in container if name.endswith("Probe")]
    return [probe["httpGet"]["path"] for probe in probes]


def check_container(container, arguments):
    options = parsed(arguments)
    assert set(paths_of(container)) <= ROUTES
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert [port["containerPort"] for port in container["ports"]] == [options.port]
    assert options.workers == int(container["resources"]["requests"]["cpu"])
    return options


def test_the_deployment_matches_the_server():
    deployment = find("kubernetes/deployment.yaml", "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = check_container(container, container["args"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert options.paths == ["/models"]
    assert mounts["/models"]["readOnly"]
    assert str(Path(options.tokens).parent) in mounts
    assert {mount["name"] for mount in mounts.values()} == {v["name"] for v in pod["volumes"]}
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= wait + options.drain_seconds + 5
    probes = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert {name: container[name]["httpGet"]["path"] for name in probes} == probes
    assert pod["securityContext"]["runAsNonRoot"]


def test_service_and_budget_select_the_pods():
    deployment = find("kubernetes/deployment.yaml", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    service = find("kubernetes/deployment.yaml", "Service")
    assert service["spec"]["selector"] == labels
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    budget = find("kubernetes/deployment.yaml", "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["maxUnavailable"] == 1  # whatever the autoscaler makes of the number
    monitor = find("kubernetes/autoscaler.yaml", "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["spec"]["endpoints"][0]["path"] in ROUTES


def test_the_autoscaler_uses_an_existing_metric(clothes, tmp_path):
    from serving.app import create_app

    autoscaler = find("kubernetes/autoscaler.yaml", "HorizontalPodAutoscaler")["spec"]
    deployment = find("kubernetes/deployment.yaml", "Deployment")
    assert autoscaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # or each apply would undo the autoscaler's work
    pods, _ = autoscaler["metrics"]
    name = pods["pods"]["metric"]["name"]
    app = create_app(Settings((str(clothes.path),)))
    try:
        assert f"# TYPE {name} gauge\n" in Metrics().text(app)
    finally:
        app.close()
    rules = yaml.safe_load(find("kubernetes/autoscaler.yaml", "ConfigMap")["data"]["rules.yaml"])
    (rule,) = rules["rules"]
    assert rule["seriesQuery"].startswith(name + "{")
    assert int(pods["pods"]["target"]["averageValue"]) == Settings(("x",)).max_batch


@pytest.mark.parametrize("name", ["deployment", "kserve", "ray"])
def test_images_have_a_tag_and_are_pulled_only_if_missing(name):
    text = (FILES / f"kubernetes/{name}.yaml").read_text()
    images = re.findall(r"image: (\S+).*\n +imagePullPolicy: IfNotPresent\n", text)
    assert len(images) == text.count("image: ")
    assert all(re.fullmatch(r"keras-gan-\w+:\w+", image) for image in images)


def test_kserve_runs_the_image_with_v2():
    runtime = find("kubernetes/kserve.yaml", "ServingRuntime")
    service = find("kubernetes/kserve.yaml", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert {k: supported[k] for k in ("name", "version")} == model["modelFormat"]
    (container,) = runtime["spec"]["containers"]
    options = check_container(container, container["args"])
    assert options.paths == ["/mnt/models"]  # where KServe puts what storageUri names
    assert container["name"] == "kserve-container"


def test_kuberay_passes_valid_arguments():
    spec = find("kubernetes/ray.yaml", "RayService")["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    (application,) = config["applications"]
    module, _, function = application["import_path"].partition(":")
    assert module == ray_app.__name__
    assert callable(getattr(ray_app, function))
    settings, scale = ray_app._read(application["args"])
    assert settings.paths == ("/models",)
    assert not settings.is_local
    cluster = spec["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    groups = [cluster["headGroupSpec"], workers]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["volumeMounts"][0]["mountPath"] == settings.paths[0]
    cpus = int(container["resources"]["limits"]["cpu"])
    assert scale["max_replicas"] <= workers["maxReplicas"] * cpus // settings.workers
    image = dict(instructions("Dockerfile.ray"))["FROM"]
    assert image == f"rayproject/ray:{cluster['rayVersion']}-py311"
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    assert ports["serve"] == config["http_options"]["port"]


# --------------------------------------------------------------------------------------- Ray


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "`paths` must name"),
        ({"paths": ""}, "`paths` must name"),
        ({"paths": ["x"], "max_replicas": "many"}, "`max_replicas` must be at least 0"),
        ({"paths": ["x"], "replicas": 2}, "must be one of paths, host.*Received: 'replicas'"),
        ({"paths": ["x"], "min_replicas": 0}, "`min_replicas` must be at least 1"),
        ({"paths": ["x"], "queue": -1}, "`queue` must be above 0"),
    ],
)
def test_arguments_for_ray_are_checked(arguments, rule):
    with pytest.raises(UsageError, match=rule):
        ray_app._read(arguments)


def test_arguments_of_serve_run_are_text():
    settings, scale = ray_app._read(
        {"paths": "/a:/b", "queue": "7", "min_replicas": "2", "timeout": "2.5"}
    )
    assert settings.timeout == 2.5
    assert (settings.paths, settings.queue, settings.workers) == (("/a", "/b"), 7, 1)
    assert scale["min_replicas"] == 2


def test_a_mistake_or_missing_ray_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert ray_app.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "pip install 'keras-gan[serve,scale]'" in error
    assert error.count("\n") == 1


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_serve_responds_like_the_server(clothes, tmp_path):
    needed = ("onnxruntime", "pillow", "httptools", "orjson")
    python = python_with("ray", "ray[serve,data]", *needed)
    models = tmp_path / "models"
    shutil.copytree(clothes.path, models / "1")
    port = free_port()
    command = [python, "-m", "serving.ray_app", models, "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command[:3], tmp_path / "nowhere"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("serving.ray_app: error: ")
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [*command, "--max-replicas", "2"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving "), (tmp_path / "log").read_text()[-3000:]
        bundle = serving.Bundle(clothes.path)
        with serving.Client(f"http://127.0.0.1:{port}", timeout=120) as client:
            samples = client.generate(range(20))
            np.testing.assert_allclose(samples, bundle.generate(range(20)), atol=1e-5)
            assert client.models()[0]["name"] == "clothes"
            assert len(client.pictures([1, 2])) == 2
            with pytest.raises(serving.ServerError, match="A label must be"):
                client.generate([1], labels=9)
        v2 = serving.Client(f"http://127.0.0.1:{port}/clothes", protocol="v2", timeout=120)
        np.testing.assert_allclose(
            v2.generate([3], labels=1), bundle.generate([3], labels=1), atol=1e-5
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    time.sleep(1)
    with pytest.raises(serving.UsageError, match="must answer"):
        serving.Client(f"http://127.0.0.1:{port}", retries=0).models()


def test_the_commands_in_the_files_name_existing_files():
    """The first lines of each say how to use it."""
    names = [*FILES.glob("docker/*"), *FILES.glob("kubernetes/*.yaml")]
    assert len(names) >= 9
    for path in names:
        for line in path.read_text().splitlines():
            for word in shlex.split(line.removeprefix("#")) if line.startswith("#   ") else ():
                if word.startswith("serving/"):
                    assert (ROOT / word).is_file(), f"{path.name}: {word}"

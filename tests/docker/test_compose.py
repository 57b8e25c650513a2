"""What docker-compose.yaml promises, without an engine."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

VARIABLE = re.compile(r"\$\{([A-Z_]+)(:[-?])([^}]*)\}")
FOREIGN = {"postgres", "redis"}
OURS = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "trainer"}
LASTING = FOREIGN | OURS
SECRET = re.compile(r"PASSWORD$|SECRET|_KEY$|CONN$|BROKER_URL$|_AUTH$")


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def secret_names(repository: Path) -> set[str]:
    return set(runpy.run_path(str(repository / "docker/make_env.py"))["SECRETS"])


@pytest.fixture(scope="module")
def example(repository: Path) -> dict[str, str]:
    lines = (repository / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def our_services(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services.items() if name not in FOREIGN}


def test_the_services(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == LASTING | {"migrate"}


def test_each_variable_is_in_the_example_with_the_default_that_it_has_here(
    compose_text: str, example: dict[str, str], secret_names: set[str]
) -> None:
    # $$ is a shell's variable in the container.
    text = compose_text.replace("$$", "")
    assert text.count("$") == len(VARIABLE.findall(text)), "a variable without :- or :?"
    used: dict[str, set[tuple[str, str]]] = {}
    for name, kind, rest in VARIABLE.findall(compose_text):
        used.setdefault(name, set()).add((kind, rest))
    assert set(used) == set(example)
    for name, ways in used.items():
        (way,) = ways
        expected = (":?", "run python3 docker/make_env.py first") if name in secret_names else (":-", example[name])
        assert way == expected, name


def test_no_secret_has_a_default(
    services: dict[str, dict[str, Any]], example: dict[str, str], secret_names: set[str]
) -> None:
    found = set()
    for service in services.values():
        for name, value in service["environment"].items():
            inside = [variable for variable in VARIABLE.findall(str(value)) if variable[0] in secret_names]
            found |= {variable[0] for variable in inside}
            assert all(kind == ":?" for _, kind, _ in inside)
            assert inside or not SECRET.search(name), f"{name} is a secret, and written down"
    assert found == secret_names
    assert {name for name in example if SECRET.search(name)} == secret_names
    assert not any(example[name] for name in secret_names)


def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"api-server": ["127.0.0.1:${AIRFLOW_PORT:-8080}:8080"]}
    assert not any("network_mode" in service or service.get("privileged") for service in services.values())


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Path in the container to what is mounted there, with ``:ro`` if it cannot be written."""
    found = {}
    for line in service.get("volumes", []):
        source, path, *mode = VARIABLE.sub(lambda match: match[3], line).split(":")
        found[path] = ":".join([source, *mode])
    return found


def test_every_volume_is_declared_and_used(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    used = {source for service in services.values() for source in mounts(service).values()}
    assert {source for source in used if not source.startswith(".")} == set(compose["volumes"])
    assert {source for source in used if source.startswith(".")} == {"./inputs:ro"}


def test_the_run_volume_is_one_and_at_the_same_path_everywhere(services: dict[str, dict[str, Any]]) -> None:
    for name, service in our_services(services).items():
        home = service["environment"]["MEDLLM_HOME"]
        assert home == "/srv/medllm", name
        below = {path: source for path, source in mounts(service).items() if path.startswith(home)}
        # A job is taken from its queue by a rename, which cannot leave a volume.
        assert below == {home: "medllm"}, name
        assert mounts(service)["/srv/inputs"] == "./inputs:ro"
        assert service["environment"]["MEDLLM_TRAINER"] == "service", name


def test_what_lasts_is_watched_restarted_and_given_time_to_end(services: dict[str, dict[str, Any]]) -> None:
    for name in LASTING:
        service = services[name]
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert {"interval", "timeout", "retries", "start_period"} < set(service["healthcheck"]), name
        assert service["stop_grace_period"].endswith("m"), name
        assert service["restart"] == "unless-stopped", name
        assert service["init"] is True, name
        assert service["logging"]["options"]["max-size"], name
    assert services["migrate"]["restart"] == "no"


def test_nothing_of_ours_runs_as_root(services: dict[str, dict[str, Any]], images: dict[str, Any]) -> None:
    for name, service in our_services(services).items():
        assert service["user"] == "${MEDLLM_UID:-10001}:${MEDLLM_GID:-10001}", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["build"]["args"]["MEDLLM_UID"] == "${MEDLLM_UID:-10001}", name
    for image in images.values():
        assert (image.defaults["MEDLLM_UID"], image.defaults["MEDLLM_GID"]) == ("10001", "10001")
        assert image.arguments("USER") == ["medllm"]


def test_host_names_are_fixed_and_differ(services: dict[str, dict[str, Any]]) -> None:
    names = [service["hostname"] for name, service in our_services(services).items() if name != "migrate"]
    assert len(set(names)) == len(names) == len(OURS)


def test_only_the_trainer_has_gpus(services: dict[str, dict[str, Any]]) -> None:
    asked = {name: service["deploy"] for name, service in services.items() if "deploy" in service}
    (device,) = asked.pop("trainer")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert not asked


def test_tasks_run_where_swift_is_and_hear_of_the_end(services: dict[str, dict[str, Any]]) -> None:
    by_image = {name: service["image"] for name, service in our_services(services).items()}
    assert {name for name, image in by_image.items() if image == "medllm-ops/trainer:local"} == {"worker", "trainer"}
    for name, service in our_services(services).items():
        kind = "trainer" if "trainer" in service["image"] else "airflow"
        assert service["build"]["dockerfile"] == f"docker/{kind}.Dockerfile", name
    # tini tells the whole group: those who wait for jobs are processes of the worker. In the trainer the group is the
    # trainer alone; a job ends with its container, and waits again.
    told = {name for name, service in services.items() if "TINI_KILL_PROCESS_GROUP" in service["environment"]}
    assert told == {"worker"}
    assert services["worker"]["environment"]["TINI_KILL_PROCESS_GROUP"] == "1"


def test_who_hands_tasks_out_and_who_takes_them_know_the_broker_and_no_other(
    services: dict[str, dict[str, Any]],
) -> None:
    environments = {name: service["environment"] for name, service in our_services(services).items()}
    airflow = {name: environment for name, environment in environments.items() if name != "trainer"}
    assert {environment["AIRFLOW__CORE__EXECUTOR"] for environment in airflow.values()} == {"CeleryExecutor"}
    knows = {name for name, environment in environments.items() if "REDIS_PASSWORD" in str(environment)}
    assert knows == {"scheduler", "worker"}
    for name in knows:
        assert VARIABLE.sub("*", environments[name]["AIRFLOW__CELERY__BROKER_URL"]) == "redis://:*@redis:6379/0"
        # A task that watches its job for days is not handed out a second time.
        assert environments[name]["AIRFLOW__CELERY__TASK_ACKS_LATE"] == "False"
    # As many places as tasks: none waits in the broker while another runs for days.
    assert environments["worker"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "${AIRFLOW_PARALLELISM:-8}"
    assert airflow["scheduler"]["AIRFLOW__CORE__PARALLELISM"] == "${AIRFLOW_PARALLELISM:-8}"


def test_services_end_in_the_order_in_which_they_need_each_other(services: dict[str, dict[str, Any]]) -> None:
    # compose stops whoever depends on another before that one.
    assert services["scheduler"]["depends_on"]["worker"] == {"condition": "service_started"}
    assert services["worker"]["depends_on"]["api-server"] == {"condition": "service_healthy"}
    for name in ("scheduler", "worker"):
        assert services[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_no_command_line_holds_a_secret(services: dict[str, dict[str, Any]], secret_names: set[str]) -> None:
    for name, service in services.items():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            assert not any(secret in str(words) for secret in secret_names), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_the_broker_wants_its_password_and_does_not_show_it(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    service, password = services["redis"], "a-password-of-a-test"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [word.replace("$$", "$") for word in service["command"]]
    command[-1] = command[-1].replace("redis-server -", f"redis-server - --bind 127.0.0.1 --port {port}")
    environment = {**os.environ, "REDISCLI_AUTH": password}
    check = service["healthcheck"]["test"][1:]
    check[1:1] = ["-p", port]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(check, env=environment, capture_output=True).returncode:
                assert time.monotonic() < deadline, "not healthy"
                time.sleep(0.1)
            for wrong in ("", "another"):
                refused = subprocess.run(check, env={**environment, "REDISCLI_AUTH": wrong}, capture_output=True)
                assert refused.returncode, wrong
            # The shell has become the server: it gets the engine's signals itself.
            shown = psutil.Process(server.pid).cmdline()
            assert "redis-server" in shown[0]
            assert password not in str(shown)
        finally:
            server.terminate()
    assert server.returncode == 0
    assert not list(tmp_path.iterdir())


def test_our_variables_are_read_somewhere(services: dict[str, dict[str, Any]], repository: Path) -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("plugins", "dags", "docker")
        for path in (repository / folder).rglob("*.py")
    )
    names = {name for service in services.values() for name in service["environment"] if name.startswith("MEDLLM_")}
    assert not {name for name in names if f'"{name}"' not in code}


# Without torch and swift, as in the Airflow image: reads every command line as Airflow's own parser does, and executes
# every DAG file and the plugin.
WITHOUT_TORCH = """
import json, runpy, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "swift", "transformers", "peft", "deepspeed", "gradio", "modelscope"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.jobs import scheduler_job_runner

read = json.loads(sys.argv[1])
parser = get_parser()
for line in read["commands"]:
    parser.parse_args(line)
scheduler = Path(scheduler_job_runner.__file__).read_text()
for section, option in read["options"]:
    # Airflow reads this one, and does not describe it.
    if option == "num_stuck_in_queued_retries" and f'key="{option}"' in scheduler:
        continue
    assert conf.configuration_description.get(section, {}).get("options", {}).get(option), f"no [{section}] {option}"
sys.path.insert(0, read["plugins"])
for path in [*sorted(Path(read["dags"]).glob("*.py")), Path(read["plugins"]) / "medllm_plugin.py"]:
    runpy.run_path(str(path))
print("read", len(read["commands"]))
"""


def test_airflow_takes_each_command_line_and_option_and_needs_no_torch(
    services: dict[str, dict[str, Any]], repository: Path, tmp_path: Path
) -> None:
    lines, options = [], set()
    for name, service in our_services(services).items():
        command = service["command"]
        if "airflow" in command:
            lines.append(command[command.index("airflow") + 1 :])
        else:
            assert name == "trainer"
        for variable in service["environment"]:
            if variable.startswith("AIRFLOW__"):
                _, section, option = variable.lower().split("__")
                options.add((section, option))
    assert len(lines) == 6
    request = {
        "commands": lines,
        "options": sorted(options),
        "dags": str(repository / "dags"),
        "plugins": str(repository / "plugins"),
    }
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "MEDLLM_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(request)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "read 6"


def test_the_trainer_of_the_file_starts_and_its_health_is_seen(
    services: dict[str, dict[str, Any]], repository: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "MEDLLM_HOME": str(tmp_path), "PYTHONPATH": str(repository / "plugins")}
    check = [sys.executable, str(repository / "docker/healthy.py"), *services["trainer"]["healthcheck"]["test"][3:]]
    before = subprocess.run(check, capture_output=True, text=True, env=environment)
    assert before.returncode == 1
    assert "No such file" in before.stderr
    program, *rest = services["trainer"]["command"]
    assert program == "medllm-ops"
    run = [sys.executable, "-c", "from medllm_ops.cli import main; main()", *rest, "--once"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(check, env=environment).returncode == 0
    (beat,) = (tmp_path / "trainer" / "trainers").glob("*.json")
    beat.write_text(json.dumps({**json.loads(beat.read_text()), "time": 0}))
    assert subprocess.run(check, capture_output=True, env=environment).returncode == 1


needs_compose = pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")


def config(repository: Path, env_file: Path) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDLLM"))}
    command = [
        "docker-compose",
        "--env-file",
        str(env_file),
        "--file",
        str(repository / "docker-compose.yaml"),
        "config",
    ]
    return subprocess.run(command, capture_output=True, text=True, env=outside)


@needs_compose
def test_docker_compose_accepts_it_with_a_new_env_file(
    repository: Path, tmp_path: Path, services: dict[str, dict[str, Any]]
) -> None:
    shutil.copy(repository / ".env.example", tmp_path)
    assert runpy.run_path(str(repository / "docker/make_env.py"))["main"](tmp_path) is None
    done = config(repository, tmp_path / ".env")
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(services)


@needs_compose
def test_docker_compose_refuses_a_missing_secret_and_says_what_to_do(
    repository: Path, tmp_path: Path, secret_names: set[str], example: dict[str, str]
) -> None:
    for missing in sorted(secret_names):
        filled = {name: value or ("x" if name != missing else "") for name, value in example.items()}
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in filled.items()))
        done = config(repository, tmp_path / ".env")
        assert done.returncode != 0, missing
        assert f"${{{missing}:?run python3 docker/make_env.py first}}" in done.stderr

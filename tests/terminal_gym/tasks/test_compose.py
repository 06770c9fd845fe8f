"""docker-compose.yaml: boilerplate is accepted, what would change the task is refused."""

from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.terminal_bench import read_task

BOILERPLATE = """\
services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: [ "sh", "-c", "sleep infinity" ]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
      - LANG=C.UTF-8
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
"""


def test_boilerplate_sets_only_its_own_variables(tmp_path: Path) -> None:
    task = read_task(task_folder(tmp_path, **{"docker-compose_dot_yaml": BOILERPLATE}))
    assert task.env == {"TEST_DIR": "/tests", "LANG": "C.UTF-8"}


def test_another_dockerfile_is_followed(tmp_path: Path) -> None:
    compose = "services: {client: {build: {context: ., dockerfile: My.Dockerfile}, environment: {A: 1}}}\n"
    files = {"docker-compose_dot_yaml": compose, "My_dot_Dockerfile": "FROM other\n"}
    task = read_task(task_folder(tmp_path, **files))
    assert (task.image.name, task.env) == ("other", {"A": "1"})


@pytest.mark.parametrize(
    ("said", "room"),
    [
        ("    deploy: {resources: {limits: {cpus: '1', memory: 2G}}}\n", (1.0, 2048, 4096)),
        ("    deploy: {resources: {limits: {memory: 512mb, pids: 99}}}\n", (4.0, 512, 99)),
        ("    cpus: 0.5\n    mem_limit: 1073741824\n    pids_limit: 64\n", (0.5, 1024, 64)),
        ("    mem_limit: 4g\n    deploy: {resources: {limits: {memory: 3g}}}\n", (4.0, 3072, 4096)),
        ("    deploy: {replicas: 1, resources: {reservations: {memory: 9g}}}\n", (4.0, 8192, 4096)),
        ("    pids_limit: -1\n", (4.0, 8192, 4096)),
    ],
)
def test_the_machine_is_as_large_as_the_file_says(
    tmp_path: Path, said: str, room: tuple[float, int, int]
) -> None:
    files = {"docker-compose_dot_yaml": BOILERPLATE + said, "run-tests_dot_sh": "pytest -rA /tests\n"}
    yaml = "instruction: Write /app/out.txt.\nparser_name: pytest\n"
    folder = task_folder(tmp_path, yaml=yaml, **files)
    limits = read_task(folder).limits
    assert (limits.cpus, limits.memory_mb, limits.pids) == room


@pytest.mark.parametrize(
    ("compose", "line", "field"),
    [
        (BOILERPLATE + "    cpus: many\n", 13, "services.client.cpus"),
        (BOILERPLATE + "    mem_limit: 2 apples\n", 13, "services.client.mem_limit"),
        (BOILERPLATE + "    deploy:\n      replicas: 3\n", 14, "services.client.deploy.replicas"),
        (BOILERPLATE + "    deploy:\n      placement: {}\n", 14, "services.client.deploy.placement"),
        (
            BOILERPLATE
            + "    deploy:\n      resources:\n        reservations:\n          devices: [{count: 1}]\n",
            16,
            "services.client.deploy.resources.reservations.devices",
        ),
        (BOILERPLATE + "  database:\n    environment: {A: 1}\n", 14, "services.database.image"),
        ("version: '3'\n", 1, "services"),
        ("services:\n  client:\n    privileged: true\n", 3, "services.client.privileged"),
        ("services:\n  client:\n    volumes: ['/:/host']\n", 3, "services.client.volumes"),
        ("services:\n  client:\n    build: ../other\n", 3, "services.client.build"),
        ("services:\n  client:\n    build:\n      dockerfile: Nope\n", 4, "services.client.build.dockerfile"),
        ("services:\n  client:\n    environment: [A=$HOME]\n", 3, "services.client.environment"),
        ("services:\n  client:\n    environment: 5\n", 3, "services.client.environment"),
        ("services:\n  client: 5\n", 2, "services.client"),
    ],
)
def test_what_changes_the_task_is_refused(tmp_path: Path, compose: str, line: int, field: str) -> None:
    folder = task_folder(tmp_path, **{"docker-compose_dot_yaml": compose})
    with pytest.raises(BadTaskFormat) as caught:
        read_task(folder)
    assert (caught.value.line, caught.value.field) == (line, field), str(caught.value)

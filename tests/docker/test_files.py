"""Dockerfile and compose files: what they promise, and that they agree with each other and with the settings.

The compose files are also valid by the schema of the compose specification (tried by hand: docs/docker.md).
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

from adapter.settings import FILE, SETTINGS
from tests.docker import composefile, dockerfile
from tests.docker.dockerfile import ROOT
from tests.docker.image import Image

FILE_OF_IMAGE = dockerfile.ours()

BY_NAME = {setting.name: setting for setting in SETTINGS}

KEYS: Mapping[str, type | tuple[type, ...]] = {
    "image": str,
    "build": str,
    "restart": str,
    "stop_grace_period": str,
    "init": bool,
    "env_file": str,
    "environment": dict,
    "secrets": list,
    "volumes": list,
    "read_only": bool,
    "tmpfs": list,
    "cap_drop": list,
    "cap_add": list,
    "security_opt": list,
    "mem_limit": str,
    "memswap_limit": str,
    "pids_limit": int,
    "cpus": float,
    "logging": dict,
    "hostname": str,
    "entrypoint": str,
    "tty": bool,
    "ports": list,
}
"""Keys of a service that we use, with the type that the compose specification gives them."""


# ---- the image


def test_the_image_runs_the_daemon_and_holds_a_refusal() -> None:
    assert FILE_OF_IMAGE.command == ["mikopbx-adapter", "run", "--hold", "60"]
    assert FILE_OF_IMAGE.image.only("ENTRYPOINT").text.startswith("["), "the exec form: no shell swallows the signal"
    assert FILE_OF_IMAGE.image.only("CMD").text.startswith("[")
    assert FILE_OF_IMAGE.image.only("STOPSIGNAL").text == "SIGTERM"


def test_the_health_check_asks_the_command() -> None:
    check = FILE_OF_IMAGE.image.only("HEALTHCHECK")
    assert check.text == 'CMD ["mikopbx-adapter", "health"]'
    assert set(check.options) == {"interval", "timeout", "start-period", "retries"}
    assert composefile.seconds(check.options["timeout"]) < composefile.seconds(check.options["interval"])


def test_the_image_runs_as_a_fixed_user_who_owns_the_volume() -> None:
    stage = FILE_OF_IMAGE.image
    state = stage.only("VOLUME").text
    assert stage.only("USER").text == "10001:10001"
    assert stage.environment()["STATE_DIR"] == state == str(BY_NAME["STATE_DIR"].default)
    assert any(step.text == f"install -d -m 0700 -o 10001 -g 10001 {state}" for step in stage.steps)
    keywords = [step.keyword for step in stage.steps]
    assert keywords.index("USER") > max(i for i, word in enumerate(keywords) if word in {"RUN", "COPY"})


def test_python_is_one_that_the_package_allows() -> None:
    match = re.fullmatch(r"python:(3\.\d+)-slim-\w+", FILE_OF_IMAGE.arguments["PYTHON_IMAGE"])
    assert match
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Programming Language :: Python :: {match[1]}" in project["classifiers"]
    assert {stage.base for stage in FILE_OF_IMAGE.stages} == {FILE_OF_IMAGE.arguments["PYTHON_IMAGE"]}


def test_everything_that_is_fetched_has_a_hash() -> None:
    lines = [line for stage in FILE_OF_IMAGE.stages for step in stage.steps for line in step.text.split("&&")]
    fetching = [line for line in lines if re.search(r"pip.* install", line) and "dist/" not in line]
    assert len(fetching) == 2
    assert all("--require-hashes" in line for line in fetching)
    assert not [line for line in lines if re.search(r"curl|wget|apt-get|ADD |https?://", line)]


def test_the_build_is_given_no_secret_no_state_and_no_history() -> None:
    given = dockerfile.context()
    assert {path.parts[0] for path in given} == {"adapter", "requirements", "pyproject.toml", "README.md", "LICENSE"}
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    for name in (
        ".env",
        "adapter.env",
        "secrets/ami_password",
        ".git/config",
        "adapter/__pycache__/cli.cpython-313.pyc",
    ):
        assert dockerfile.ignored(PurePosixPath(name), rules), name
    assert not dockerfile.ignored(PurePosixPath("adapter/core/call.py"), rules)


def test_an_unknown_instruction_is_an_error() -> None:
    with pytest.raises(ValueError, match="SHELL"):
        dockerfile.read('FROM a\nSHELL ["sh"]\n')


@pytest.mark.timeout(300)  # It may have to be made first.
def test_the_image_holds_compiled_files_and_no_tools(image: Image | None) -> None:
    if image is None:
        return  # Made as root only; the lines above hold everywhere.
    site = next((image.layer.root / "opt/adapter/lib").glob("python3*/site-packages"))
    sources = [file for file in site.rglob("*.py") if "__pycache__" not in file.parts]
    compiled = {file.name.partition(".cpython-")[0] + ".py" for file in site.rglob("*.pyc")}
    assert len(sources) > 500
    assert {file.name for file in sources} <= compiled
    assert not {"pip", "setuptools", "pytest", "aiohttp", "asyncpg"} & {path.name for path in site.iterdir()}
    assert (image.layer.root / "opt/adapter/bin/mikopbx-adapter").is_file()


# ---- compose


SERVICES = [
    pytest.param(service, id=f"{name} {which}")
    for name in ("compose.yaml", "compose.try.yaml")
    for which, service in composefile.ours(name)["services"].items()
]


@pytest.mark.parametrize("service", SERVICES)
def test_services_use_known_keys_with_values_of_the_right_type(service: dict[str, Any]) -> None:
    for key, value in service.items():
        assert isinstance(value, KEYS[key]), key
    for items in (value for value in service.values() if isinstance(value, list)):
        assert all(isinstance(item, str) for item in items)
        assert len(set(items)) == len(items)


def test_the_container_may_do_nothing_but_its_work() -> None:
    service = composefile.adapter()
    assert service["read_only"] is service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service
    assert "user" not in service, "the image's"
    assert service["memswap_limit"] == service["mem_limit"], "no swap"
    assert service["logging"]["driver"] == "json-file"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_it_comes_back_and_has_time_to_stop() -> None:
    service = composefile.adapter()
    assert service["restart"] == "unless-stopped"
    assert composefile.seconds(service["stop_grace_period"]) >= BY_NAME["DRAIN_SECONDS"].default + 5


def test_the_volume_lies_where_the_image_has_its_own() -> None:
    compose = composefile.ours()
    (mount,) = compose["services"]["adapter"]["volumes"]
    name, _, where = mount.partition(":")
    assert name in compose["volumes"], "a named one: Docker gives it the owner that the folder has in the image"
    assert where == FILE_OF_IMAGE.image.only("VOLUME").text


def test_secrets_are_files_that_neither_git_nor_the_build_sees() -> None:
    compose = composefile.ours()
    service = compose["services"]["adapter"]
    given = service["environment"]
    assert {name.removesuffix(FILE) for name in given} == {"SUPABASE_SERVICE_ROLE_KEY", "MIKOPBX_AMI_PASSWORD"}
    assert all(BY_NAME[name.removesuffix(FILE)].secret for name in given)
    assert {str(PurePosixPath("/run/secrets") / name) for name in service["secrets"]} == set(given.values())
    assert set(compose["secrets"]) == set(service["secrets"])
    assert {secret["file"] for secret in compose["secrets"].values()} == {f"./secrets/{n}" for n in service["secrets"]}
    hidden = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {"secrets/", service["env_file"]} <= set(hidden)


def test_the_try_file_changes_settings_that_exist_and_publishes_no_ami() -> None:
    extra = composefile.ours("compose.try.yaml")["services"]
    service = composefile.merged(composefile.ours(), composefile.ours("compose.try.yaml"))["services"]["adapter"]
    assert set(extra["adapter"]) == {"environment"}
    assert set(extra["adapter"]["environment"]) <= set(BY_NAME)
    assert set(composefile.adapter()["environment"]) < set(service["environment"])
    assert service["environment"]["MIKOPBX_HOST"] in extra
    pbx = extra["mikopbx"]
    assert pbx["image"].startswith("${MIKOPBX_IMAGE:?"), "no image is chosen for the owner"
    ports = [port.rpartition(":")[2] for port in pbx["ports"]]
    first, last = pbx["environment"]["RTP_PORT_FROM"], pbx["environment"]["RTP_PORT_TO"]
    assert ports == ["443/tcp", "5060/udp", f"{first}-{last}/udp"]
    assert (last - first + 1) // 2 >= 2 * extra["adapter"]["environment"]["MAX_CALLS"]
    assert not re.search(r"5038|8088|8089", " ".join(ports))


def test_the_guide_tells_what_is_set() -> None:
    page = (ROOT / "docs/docker.md").read_text("utf-8")
    service = composefile.adapter()
    user = FILE_OF_IMAGE.image.only("USER").text.partition(":")[0]
    for words in (
        f"uid {user}",
        f"The limit is {service['mem_limit']}.",
        f"`stop_grace_period` is {service['stop_grace_period']}",
        f"`run --hold {FILE_OF_IMAGE.command[-1]}`",
        f"`init: {str(service['init']).lower()}`",
        *(secret["file"].removeprefix("./") for secret in composefile.ours()["secrets"].values()),
    ):
        assert words in page, words


# ---- the reader


@pytest.mark.parametrize(
    "text",
    ["a: [1]", "a: {b: 1}", "a: &x 1", "a:\n\tb: 1", "a: 1\na: 2", "a: |\n  b", "- a\n", "a: 1 # b", "a:\n  - b: 1"],
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        composefile.read(text)


def test_what_is_plain_is_read() -> None:
    text = '# c\na:\n  b: 1\n  c: "5"\n  d: ${X:?say it}\n  e:\n    - f\n    - 1:2\n  g:\nh: true\ni: 1.5\n'
    inner = {"b": 1, "c": "5", "d": "${X:?say it}", "e": ["f", "1:2"], "g": None}
    assert composefile.read(text) == {"a": inner, "h": True, "i": 1.5}

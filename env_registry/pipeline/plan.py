"""How a repository is built: what stands at its top decides the system, the system decides packages and script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from env_registry.pipeline.stage import Rejected

BASE = "debian:bookworm"


@dataclass(frozen=True)
class System:
    """A build system."""

    name: str
    marks: tuple[str, ...]  # shell patterns at the top of the tree, one of which is there
    packages: tuple[str, ...]  # of the distribution, installed into the image that it builds on
    script: str  # run in /app as an ordinary user
    smoke: str  # run after it; must succeed


@dataclass(frozen=True)
class Plan:
    """How one repository is built."""

    system: str
    script: str
    smoke: str
    packages: tuple[str, ...] = ()  # beyond those of the system


# Beside the tree, without what only its developers need: npm resolves that as well, for minutes, before it leaves it out.
_NPM = """mkdir /tmp/deps && cp package.json /tmp/deps/ && cd /tmp/deps
npm pkg delete devDependencies scripts workspaces
npm install --omit=dev --no-audit --no-fund --ignore-scripts
if [ -d node_modules ]; then mv node_modules /app/; fi
cd /app"""
# Every file that the package exports is there, or its main one: a package of modules alone has no main one.
_NPM_SMOKE = (
    'const leaves = (e) => typeof e == "string" ? [e] : Object.values(e || {}).flatMap(leaves); '
    'const named = leaves(require("/app/package.json").exports).filter((e) => !e.includes("*")); '
    'if (!named.length || !named.every((e) => require("fs").existsSync("/app/" + e))) require.resolve("/app")'
)
# Without a lock file, composer resolves what only developers need as well, and fails where that cannot be had.
_STRIPPED = (
    '$all = json_decode(file_get_contents("composer.json")); unset($all->{"require-dev"}); '
    'file_put_contents("/tmp/composer.json", json_encode($all));'
)
_COMPOSER = f"""cp composer.json /tmp/composer.json
if [ -f composer.lock ]; then cp composer.lock /tmp/; else php -r '{_STRIPPED}'; fi
COMPOSER=/tmp/composer.json composer install --no-dev --no-interaction --no-scripts --no-plugins"""
_C = ("gcc", "g++", "make", "pkg-config", "libc6-dev")
_PYTHON = ("python3", "python3-dev", "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel")
SYSTEMS = {
    system.name: system
    for system in (
        System(
            "pip", ("pyproject.toml", "setup.py"), (*_PYTHON, *_C, "git"),
            "python3 -m venv .venv\n.venv/bin/pip install --no-cache-dir .",
            ".venv/bin/pip check && .venv/bin/python -m compileall -q -x '/(\\.venv|tests?)/' . >/dev/null",
        ),
        System(
            "npm", ("package.json",), ("nodejs", "npm", "git"),
            _NPM,
            f"npm ls --omit=dev --depth=0 >/dev/null && node -e '{_NPM_SMOKE}'",
        ),
        System(
            "go", ("go.mod",), ("golang-go", "git"),
            "export GOPATH=/app/.go GOCACHE=/tmp/go GOFLAGS=-mod=mod\ngo build ./...",
            "test -f go.mod",
        ),
        System(
            "maven", ("pom.xml",), ("maven", "default-jdk-headless"),
            "mvn -q -B -DskipTests -Dmaven.repo.local=/app/.m2 package", "ls target/*.jar",
        ),
        System(
            "gradle", ("build.gradle", "build.gradle.kts"), ("gradle", "default-jdk-headless"),
            "gradle --no-daemon -g /app/.gradle-home assemble", "ls build/libs/*.jar",
        ),
        System(
            "cmake", ("CMakeLists.txt",), (*_C, "cmake"),
            "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release\ncmake --build build -j1", "test -d build",
        ),
        System(
            "autotools", ("configure", "configure.ac", "configure.in"),
            (*_C, "autoconf", "automake", "libtool", "gettext", "autopoint", "texinfo"),
            "if [ -f configure ]; then chmod +x configure; else autoreconf -fi; fi\n./configure\nmake", "test -f Makefile",
        ),
        System("make", ("Makefile", "makefile", "GNUmakefile"), _C, "make", "test -e Makefile -o -e makefile -o -e GNUmakefile"),
        System(
            "composer", ("composer.json",), ("composer", "php-cli", "php-xml", "php-mbstring", "unzip", "git"),
            _COMPOSER,
            "find . -path ./vendor -prune -o -name '*.php' -print0 | head -z -n 200 | xargs -0 -n1 php -l >/dev/null",
        ),
        System("html", ("*.html", "*/*.html"), ("python3",), "true", "find . -name '*.html' | grep -q ."),
    )
}  # fmt: skip


def plan_for(folder: Path) -> Plan:
    """Return how the repository in `folder` is built; the first system whose mark is there counts.

    Raises:
        Rejected: "no-build-system".
    """
    for system in SYSTEMS.values():
        if any(path.is_file() for mark in system.marks for path in folder.glob(mark)):
            return Plan(system.name, system.script, system.smoke)
    raise Rejected("no-build-system", ", ".join(sorted(path.name for path in folder.iterdir())[:20]))


def toolchain(system: str, packages: tuple[str, ...] = ()) -> str:
    """Return the Dockerfile of the image that a system builds on."""
    wanted = " ".join(sorted({*SYSTEMS[system].packages, *packages, "ca-certificates"}))
    install = f"apt-get update && apt-get install -y --no-install-recommends {wanted}"
    return f"FROM {BASE}\nRUN {install} && rm -rf /var/lib/apt/lists/*\n"


def recipe(base: str, plan: Plan) -> str:
    """Return a Dockerfile that does the same on a machine of one's own; kept in the table."""
    body = plan.script.replace("\n", " && \\\n    ")
    return f"{base}WORKDIR /app\nCOPY . /app\nRUN {body}\nRUN {plan.smoke}\n"

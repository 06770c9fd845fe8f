"""The tree stands alone: under a system call trace, on a poisoned machine, nothing of the machine is opened."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from terminal_gym.errors import RuntimeUnavailable
from terminal_gym.trusted_runtime import build
from terminal_gym.trusted_runtime.orders import OK, ShellOrders
from terminal_gym.trusted_runtime.tree import TrustedTree

LIBRARIES = "usr/lib/x86_64-linux-gnu"
ALLOWED = ("/tg/", "/tgt-", "/dev/", "/proc/", "/tmp/tgw-")

# The judge's own work, and what a test may well do that reaches into the C library.
TEST = """
import ctypes, hashlib, hmac, json, locale, sqlite3, threading, pytest

def test_libraries(tmp_path):
    (tmp_path / "x").write_text("é")
    hashlib.new("sha256"), hashlib.md5(), hashlib.sha3_512(), hashlib.blake2b()
    sqlite3.connect(":memory:").execute("select 1")
    thread = threading.Thread(target=ctypes.CDLL(None).pthread_exit, args=(None,))  # loads libgcc_s
    "é".encode("cp1252"), "é".encode("shift_jis", "replace")

def test_locale():
    for name in ("de_DE.UTF-8", "C.UTF-8", "", "ja_JP.SJIS"):
        try: locale.setlocale(locale.LC_ALL, name)
        except locale.Error: pass
    ctypes.CDLL(None).iconv_open(b"SHIFT_JIS", b"UTF-8")

def test_evil_library():
    with pytest.raises(OSError):
        ctypes.CDLL("libevil.so")

def test_maps():
    files = {line.split(None, 5)[5] for line in open("/proc/self/maps") if line.count(" ") > 5 and "/" in line}
    assert all(name.strip().startswith("/tg/") for name in files if name.startswith("/")), files
"""


@pytest.fixture
def poisoned(machine: Any) -> Any:
    """A machine whose own files would be loaded by anything that asks for them."""
    machine.system = False
    root: Path = machine.root
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).unlink()
    evil = next(path for path in (machine.tree / "lib").iterdir() if path.name.startswith("libz.so"))
    for folder in (LIBRARIES, "lib/x86_64-linux-gnu", "lib64", "lib", "usr/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("libevil.so", "libgcc_s.so.1", "libnss_evil.so.2", "libc.so.6", "libm.so.6"):
            shutil.copyfile(evil, root / folder / name)
    for name, text in {
        "etc/ld.so.preload": "/lib/libevil.so\n",
        "etc/nsswitch.conf": "passwd: evil\ngroup: evil\nhosts: evil\n",
        "etc/ssl/openssl.cnf": "openssl_conf = o\n[o]\nproviders = p\n[p]\ne = e\n[e]\nmodule = /lib/libevil.so\n",
        "usr/lib/ssl/openssl.cnf": "openssl_conf = o\n",
        f"{LIBRARIES}/gconv/gconv-modules": "module UTF-8// INTERNAL /lib/libevil 1\n",
        "usr/lib/locale/C.utf8/LC_CTYPE": "\0",
        "usr/lib/locale/locale-archive": "\0",
        "sitecustomize.py": "raise SystemExit(3)",
        "app/sitecustomize.py": "raise SystemExit(3)",
        "app/pytest.ini": "[pytest]\naddopts = --collect-only\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    os.mkfifo(root / "etc/localtime")
    if Path("/etc/ld.so.cache").exists():
        shutil.copyfile("/etc/ld.so.cache", root / "etc/ld.so.cache")
    return machine


def opened(trace: str) -> Iterator[str]:
    """Paths that the guest's processes asked to open or run, found or not; bubblewrap's own are left out."""
    guests: set[str] = set()
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.startswith('execve("/tg/bin/python3"'):
            guests.add(pid)
        if pid not in guests:
            continue
        if found := re.match(r"(?:clone|clone3|fork|vfork)\(.*= (\d+)$", call) or re.match(
            r"<\.\.\. (?:clone|clone3|fork|vfork) resumed>.*= (\d+)$", call
        ):
            guests.add(found[1])
        if found := re.match(r'(?:open|openat|openat2|execve)\((?:[\w]+(?:<[^>]*>)?, )?"([^"]*)"', call):
            yield found[1]


def test_nothing_of_a_poisoned_machine_is_opened(
    poisoned: Any, tmp_path: Path, outcomes: Callable[[dict[str, Any]], dict[str, str]]
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed") if "CI" not in os.environ else pytest.fail("no strace in CI")
    log = tmp_path / "trace"
    calls = "open,openat,openat2,execve,clone,clone3,fork,vfork"
    poisoned.before = ("strace", "-f", "-qq", "-s", "4096", "-e", f"trace={calls}", "-o", str(log))
    result = poisoned.judge({"test_a.py": TEST}, cwd="/app", timeout_s=60.0)
    assert set(outcomes(result).values()) == {"passed"}, result["out"]
    paths = sorted(set(opened(log.read_text(errors="replace"))))
    assert "/tg/guest/__pycache__/" in " ".join(paths)  # the trace did see the guest
    foreign = [path for path in paths if not path.startswith(ALLOWED)]
    assert foreign == []


def test_a_shell_s_keeper_opens_nothing_foreign_either(machine: Any, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed") if "CI" not in os.environ else pytest.fail("no strace in CI")
    (machine.root / "etc/ld.so.preload").write_text("/nothing.so\n")
    log = tmp_path / "trace"
    machine.before = ("strace", "-f", "-qq", "-e", "trace=openat,execve", "-o", str(log))
    child = machine.boot(ShellOrders(nonce="0" * 16, shells=("sh",)))
    child.expect_exact(OK)
    child.send("exit\n")
    child.expect_exact(child.delimiter)
    mine = opened(log.read_text(errors="replace"))  # PID 1's alone: its forks are not in the trace
    foreign = [path for path in mine if not path.startswith(("/tg/", "/proc/"))]
    assert set(foreign) <= {"/etc/passwd", "/etc/group"}


def test_no_file_of_the_tree_points_out_of_it(tree: TrustedTree) -> None:
    files = [path for path in tree.path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.is_symlink()]
    assert not [path for path in files if not path.stat().st_mode & 0o004]
    binaries = [path for path in files if path.read_bytes()[:4] == b"\x7fELF"]
    kept = {"ld.so", "libc.so.6", *(p.name for p in tree.path.glob("lib/ld-linux*"))}
    for path in binaries:
        if path.name not in kept:
            assert build._output([build._patchelf(), "--print-rpath", str(path)]).strip() == "/tg/lib", path
    python = tree.path / "bin/python3"
    assert build._output([build._patchelf(), "--print-interpreter", str(python)]).strip() == "/tg/lib/ld.so"


def test_what_would_read_the_machine_s_settings_is_left_out(tree: TrustedTree) -> None:
    shim = tree.path / "guest/shim"  # has a program called pip, which is ours
    names = {path.name for path in tree.path.rglob("*") if shim not in path.parents}
    assert not {"_ssl", "_hashlib", "_tkinter", "readline"} & {
        name.split(".")[0] for name in names if name.endswith(".so")
    }
    assert not {"sitecustomize.py", "site-packages", "pip", "setuptools", "idlelib", "ensurepip"} & names
    assert not [name for name in names if name.endswith(".pth")]
    code = (tree.path / "lib/ld.so").read_bytes()
    assert b"/etc/ld.so.preload\0" not in code
    assert b"/lib/x86_64-linux-gnu/\0" not in code
    libc = (tree.path / "lib/libc.so.6").read_bytes()
    assert b"/etc/nsswitch.conf\0" not in libc
    assert b"\0/usr/share/locale\0" not in libc


def test_all_is_compiled_and_never_checked_against_a_source(tree: TrustedTree) -> None:
    compiled = [
        path for path in tree.path.rglob("*.pyc") if "guest" in path.parts or path.stem.startswith("os.")
    ]
    assert len(compiled) > 8
    for path in compiled:
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 0b01, (
            path
        )  # hash-based, unchecked: PEP 552
        assert os.fsencode(str(tree.path)) not in path.read_bytes()


def test_a_c_library_that_is_not_known_is_refused() -> None:
    assert build._blank(b"-/etc/x\0-", b"/etc/x") == b"-/tg/xx\0-"
    for code in (b"nothing", b"/etc/x\0/etc/x\0"):
        with pytest.raises(RuntimeUnavailable, match="expected once"):
            build._blank(code, b"/etc/x")


def test_a_failing_helper_is_reported_with_its_words() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"(?s)no-such-file"):
        build._output([build._patchelf(), "--print-rpath", "/no-such-file"])


def test_the_tree_s_python_knows_nothing_of_a_user_s_settings(machine: Any, tree: TrustedTree) -> None:
    machine.options = ["--setenv", "PYTHONPATH", "/app", "--setenv", "PYTHONSTARTUP", "/app/x.py"]
    (machine.root / "app/os.py").write_text("raise SystemExit('poisoned')\n")
    argv = machine.argv()
    at = argv.index("/tg/guest/init.py")
    done = subprocess.run(
        [*argv[:at], "-c", "import os, sys; print(sys.path)"], capture_output=True, check=True
    )
    assert b"/app" not in done.stdout

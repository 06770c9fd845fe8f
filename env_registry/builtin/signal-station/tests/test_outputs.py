"""The boot sector is put on disks made here and booted in QEMU; COM1 is compared byte by byte."""

import os
import random
import selectors
import subprocess
import time
from pathlib import Path

BOOT, SECTOR = Path("/app/boot.bin"), 512
PATIENCE_S = 40.0


def checksum(message):
    total = 0
    for byte in message:
        total = ((total << 5 | total >> 27) & 0xFFFFFFFF) ^ byte
    return total


def signal(message):
    sectors = len(message) // SECTOR
    text = message.partition(b"\0")[0][:SECTOR]
    return b"ORRIN %d %08x\n" % (sectors, checksum(message)) + text + b"\nSTOP\n"


def disk_of(tmp_path, header, message):
    disk = tmp_path / "disk.img"
    filler = random.Random(len(message)).randbytes(SECTOR - len(header))
    spare = b"\xa5" * SECTOR * 4  # a disk is larger than its message
    disk.write_bytes(BOOT.read_bytes()[:SECTOR] + header + filler + message + spare)
    return disk


def boot(disk, size):
    """Return what arrives on COM1: up to `size` bytes and a little more, or what came within the patience."""
    command = ["qemu-system-i386", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "16", "-net", "none",
               "-accel", "tcg", "-drive", f"file={disk},format=raw"]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    sent, deadline = b"", time.monotonic() + PATIENCE_S
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(machine.stdout, selectors.EVENT_READ)
            while time.monotonic() < deadline and selector.select(timeout=max(0.0, deadline - time.monotonic())):
                piece = os.read(machine.stdout.fileno(), 65536)
                if not piece:
                    break
                sent += piece
                if len(sent) >= size:
                    # All of it is there: whatever comes within half a second more is too much.
                    deadline = min(deadline, time.monotonic() + 0.5)
    finally:
        machine.kill()
        machine.wait(timeout=10)
        machine.stdout.close()
    return sent


def assert_signal(tmp_path, header, message, expected):
    assert boot(disk_of(tmp_path, header, message), len(expected)) == expected


def header_of(message):
    return b"ORRN" + (len(message) // SECTOR).to_bytes(2, "little")


def padded(text, sectors):
    return text.ljust(sectors * SECTOR, b"\0")


def test_it_is_a_boot_sector_made_from_its_source(tmp_path):
    boot_sector = BOOT.read_bytes()
    assert len(boot_sector) == SECTOR
    assert boot_sector[510:] == b"\x55\xaa"
    made = tmp_path / "boot.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", str(made), "/app/boot.asm"], check=True, timeout=20)
    assert made.read_bytes() == boot_sector


def test_no_signal(tmp_path):
    assert_signal(tmp_path, b"ORRM\x01\x00", padded(b"never sent", 1), b"NO SIGNAL\n")


def test_a_short_message(tmp_path):
    message = padded("Fog on the sound, ferry late – 3 passengers, 1 goat.".encode(), 1)
    assert_signal(tmp_path, header_of(message), message, signal(message))


def test_no_message(tmp_path):
    assert_signal(tmp_path, header_of(b""), b"", b"ORRIN 0 00000000\n\nSTOP\n")


def test_long_messages(tmp_path):
    for sectors, text in ((3, b"x" * 512 + b"y"), (100, b"first\nsecond"), (200, b"\xff\x01"), (131, b"")):
        noise = random.Random(sectors).randbytes(sectors * SECTOR)
        message = (text + b"\0" + noise)[: sectors * SECTOR]
        assert_signal(tmp_path, header_of(message), message, signal(message))

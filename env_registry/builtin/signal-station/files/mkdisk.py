#!/usr/bin/env python3
"""mkdisk.py BOOT.bin MESSAGE DISK.img: a disk with this boot sector and the bytes of this file as its message."""

import sys
from pathlib import Path

SECTOR = 512


def main(boot, message, disk):
    sectors = -(-len(message) // SECTOR)
    header = b"ORRN" + sectors.to_bytes(2, "little")
    disk.write_bytes(boot[:SECTOR].ljust(SECTOR, b"\0") + header.ljust(SECTOR, b"\0") + message.ljust(sectors * SECTOR, b"\0"))


if __name__ == "__main__":
    boot, message, disk = map(Path, sys.argv[1:])
    main(boot.read_bytes(), message.read_bytes(), disk)

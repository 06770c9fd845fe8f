"""Which licence a text is, whatever stands around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from env_registry.pipeline.licences import is_allowed, licence_of, licences_in

TEXT = dict(LICENSES)
MIT, BSD = TEXT["MIT"], TEXT["BSD-3-Clause"]


@pytest.mark.parametrize("name", sorted(TEXT))
def test_each_licence_is_itself_and_no_other(name: str) -> None:
    assert licences_in(TEXT[name]) == [name]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (MIT.replace("MIT License\n", ""), ["MIT"]),
        (MIT.replace("Copyright (c) [year] [fullname]", "Copyright (C) 2001-24 The Éva Co.\n" * 30), ["MIT"]),
        (BSD.replace("the copyright holder", "the Regents of Somewhere"), ["BSD-3-Clause"]),
        (BSD.replace("1. ", " * ").replace("2. ", " * ").replace("\n", "\r\n"), ["BSD-3-Clause"]),
        (TEXT["Apache-2.0"].split("APPENDIX")[0], ["Apache-2.0"]),
        (f"This is ours:\n\n{MIT}\n\nThis came from elsewhere:\n\n{TEXT['GPL-2.0']}", ["GPL-2.0", "MIT"]),
        (MIT[:400], []),
        ("All rights reserved.\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_variants(text: str, found: list[str]) -> None:
    assert licences_in(text) == found


def test_every_licence_of_a_file_must_be_allowed() -> None:
    allowed = ("MIT", "BSD-3-Clause")
    assert is_allowed("BSD-3-Clause AND MIT", allowed)
    assert not is_allowed("GPL-2.0 AND MIT", allowed)
    assert is_allowed("(GPL-2.0 OR MIT)", allowed)
    assert not is_allowed("GPL-2.0 OR MIT AND ISC", allowed)


@pytest.mark.parametrize(
    "said",
    [
        "Name: x\nLicense: The MIT License\n",
        "License: \nClassifier: License :: OSI Approved :: MIT License\n",
    ],
)
def test_metadata_counts_where_there_is_no_text(tmp_path: Path, said: str) -> None:
    (tmp_path / "PKG-INFO").write_text(said)
    assert licence_of(tmp_path) == ("MIT", "PKG-INFO")
    (tmp_path / "COPYING.txt").write_text(BSD)
    assert licence_of(tmp_path) == ("BSD-3-Clause", "COPYING.txt")

"""The letter and the list of forgeries, worked out again from the pristine scraps."""

from pathlib import Path

SCRAPS = Path("/app/scraps")


def read_scraps():
    """Return {(leaf, line): text} of the genuine scraps and the forged paths."""
    genuine, forged = {}, []
    for path in SCRAPS.rglob("*.txt"):
        place, seal, text = path.read_text("utf-8").rstrip("\n").split("\n")
        _, leaf, _, line = place.split()
        if sum(text.encode("utf-8")) % 10000 == int(seal.split()[1]):
            genuine[int(leaf), int(line)] = text
        else:
            forged.append(path.relative_to(SCRAPS).as_posix())
    return genuine, sorted(forged, key=str.encode)


def test_the_letter_reads_as_it_was_written():
    genuine, _ = read_scraps()
    assert len(genuine) == 31
    leaves = sorted({leaf for leaf, _ in genuine})
    pages = ["\n".join(text for at, text in sorted(genuine.items()) if at[0] == leaf) for leaf in leaves]
    assert Path("/app/letter.txt").read_text("utf-8") == "\n\n".join(pages) + "\n"


def test_the_forgeries_are_named():
    _, forged = read_scraps()
    assert len(forged) == 11
    assert Path("/app/forged.txt").read_text("utf-8") == "\n".join(forged) + "\n"

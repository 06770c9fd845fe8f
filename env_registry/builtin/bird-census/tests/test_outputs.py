"""The census of the summer, and of summers that nobody has seen."""

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

SPECIES = ["Puffin", "Arctic Tern", "Long Tailed Duck", "Great Skua", "Eider"]
PLACES = ["North Cliff", "Jetty", "Seal Bay"]


def tidy(words):
    return " ".join(word.capitalize() for word in words.split())


def expected_of(folder):
    taken = {}
    for path in folder.glob("*.csv"):
        header, *lines = path.read_text("utf-8").split("\n")
        separator = ";" if ";" in header else ","
        columns = header.split(separator)
        for line in filter(str.strip, lines):
            row = dict(zip(columns, line.split(separator)))
            if row["count"].strip() == "-":
                continue
            date = row["date"].strip()
            if "." in date:
                date = "-".join(reversed(date.split(".")))
            key = date, tidy(row["species"]), tidy(row["place"])
            taken[key] = max(taken.get(key, 0), int(row["count"].strip().lstrip("~")))
    species, days = {}, Counter()
    for name in {key[1] for key in taken}:
        mine = {key: count for key, count in taken.items() if key[1] == name}
        places = Counter()
        for (_, _, place), count in mine.items():
            places[place] += count
        best = min(places, key=lambda place: (-places[place], place))
        species[name] = {"total": sum(mine.values()), "first": min(mine)[0], "best_place": best}
    for (date, _, _), count in taken.items():
        days[date] += count
    busiest = min(days, key=lambda day: (-days[day], day), default=None)
    return {"rows": len(taken), "species": species, "busiest_day": busiest}


def census(folder, output):
    subprocess.run(["python3", "/app/census.py", str(folder), str(output)], check=True, timeout=20, cwd="/")
    return json.loads(output.read_text("utf-8"))


def scribble(words, rng):
    return rng.choice([words, words.upper(), f" {words.lower()}", words.replace(" ", "   ")])


def write_counts(folder, rng):
    """Three wardens with few places and days, so that rows meet and sums tie."""
    for warden in "abc":
        columns = ["date", "species", "place", "count", "note", "hat"]
        rng.shuffle(columns)
        separator = rng.choice([",", ";"])
        lines = [separator.join(columns)]
        for _ in range(rng.randint(15, 60)):
            day, month = rng.randint(1, 9), rng.randint(4, 6)
            number = rng.choice([0, 5, 5, 10, 10, 20, 40])
            row = {
                "date": rng.choice([f"2027-{month:02}-{day:02}", f"{day:02}.{month:02}.2027"]),
                "species": scribble(rng.choice(SPECIES), rng),
                "place": scribble(rng.choice(PLACES), rng),
                "count": rng.choice([str(number), str(number), f"~{number}", "-"]),
                "note": rng.choice(["", "fog", "2 seals"]),
                "hat": "yes",
            }
            lines += [separator.join(row[column] for column in columns), *[""] * rng.randint(0, 1)]
        (folder / f"{warden}.csv").write_text("\n".join(lines) + "\n", "utf-8")


def test_the_summer_is_summed_up():
    assert json.loads(Path("/app/summer.json").read_text("utf-8")) == expected_of(Path("/app/counts"))


def test_folders_never_seen(tmp_path):
    for seed in range(6):
        folder = tmp_path / f"summer {seed}"
        folder.mkdir()
        write_counts(folder, random.Random(seed))
        assert census(folder, tmp_path / f"{seed}.json") == expected_of(folder)


def test_an_empty_folder(tmp_path):
    (tmp_path / "none").mkdir()
    answer = census(tmp_path / "none", tmp_path / "none.json")
    assert answer == {"rows": 0, "species": {}, "busiest_day": None}

"""The migration runs on databases made here; what comes out is compared with the same rules in Python."""

import json
import random
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

OLD = "CREATE TABLE bookings_old (ref TEXT, passenger TEXT, contact TEXT, route TEXT, sails TEXT, fare TEXT, state TEXT);"
QUERIES = {
    "passengers": "SELECT id, email, name FROM passengers ORDER BY id",
    "bookings": "SELECT ref, passenger_id, sails_at, fare_cents, typeof(fare_cents) AS kind, paid FROM bookings ORDER BY ref",
    "legs": "SELECT booking_ref, number, from_port, to_port FROM legs ORDER BY booking_ref, number",
    "rejected": "SELECT rowid_old, reason FROM rejected ORDER BY rowid_old",
}
NAMES = ["Carrow, Ines", " CARROW ,  Ines ", "Anselm", "Eld, Vera, jun.", " The Keeper "]
EMAILS = ["a@x.example", " A@x.example", "b@X.example ", "c@y.example", "d@y.example", "", "  "]
ROUTES = ["Skail>Orrin", "Orrin > Holm > Skail", " Vass>Holm>Orrin>Skail>Vass ", "", "Orrin", "Holm>Vass"]
FARES = [("12.50", 1250), ("21,00", 2100), ("0", 0), ("33.05 €", 3305), ("€ 7,5", 750), ("€0.07", 7), ("19,99€", 1999),
         ("1.1", 110), ("2.3 €", 230), ("1234,56", 123456), ("4.35", 435), ("8.2", 820), ("0,29", 29), (" 5 ", 500)]


def sqlite(database, script, *options):
    command = ["sqlite3", "-bail", *options, str(database)]
    ran = subprocess.run(command, input=script, capture_output=True, encoding="utf-8", timeout=20)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def tables(database):
    return {name: json.loads(sqlite(database, sql, "-json") or "[]") for name, sql in QUERIES.items()}


def quoted(value):
    return "'" + value.replace("'", "''") + "'"


def drawn_rows(seed):
    """Rows as the old program writes them, and what each fare and time means."""
    rng = random.Random(seed)
    for number in range(rng.randint(30, 60)):
        moment = datetime.fromtimestamp(rng.randrange(1_700_000_000, 1_900_000_000, 60), timezone.utc)
        sails = rng.choice([moment.strftime("%Y-%m-%d %H:%M"), moment.strftime("%d.%m.%Y %H:%M"),
                            str(int(moment.timestamp()))])
        ref = rng.choice([f"F-{number:04}", f"F-{number:04}", f"F-{rng.randint(0, 20):04}", ""])
        fare, cents = rng.choice(FARES)
        row = (ref, rng.choice(NAMES), rng.choice(EMAILS), rng.choice(ROUTES), sails, fare,
               rng.choice(["paid", "open", "gone"]))
        yield row, moment.strftime("%Y-%m-%d %H:%M"), cents


def expected(rows):
    people, bookings, legs, rejected = {}, {}, [], []
    for rowid, ((ref, name, contact, route, _, _, state), sails_at, cents) in enumerate(rows, 1):
        ports = [port.strip() for port in route.split(">") if port.strip()]
        email = contact.strip().lower()
        reason = ("no ref" if not ref else "no contact" if not email else "no route" if len(ports) < 2
                  else "duplicate" if ref in bookings else "")
        if reason:
            rejected.append({"rowid_old": rowid, "reason": reason})
            continue
        last, comma, first = name.partition(",")
        person = people.setdefault(email, {"id": len(people) + 1, "email": email})
        person["name"] = f"{first.strip()} {last.strip()}" if comma else name.strip()
        bookings[ref] = {"ref": ref, "passenger_id": person["id"], "sails_at": sails_at, "fare_cents": cents,
                         "kind": "integer", "paid": int(state == "paid")}
        legs += [{"booking_ref": ref, "number": n, "from_port": a, "to_port": b}
                 for n, (a, b) in enumerate(zip(ports, ports[1:]), 1)]
    return {"passengers": list(people.values()), "bookings": sorted(bookings.values(), key=lambda b: b["ref"]),
            "legs": sorted(legs, key=lambda leg: (leg["booking_ref"], leg["number"])), "rejected": rejected}


def office(path, rows):
    values = ",\n".join("(" + ", ".join(map(quoted, row)) + ")" for row, _, _ in rows)
    sqlite(path, f"{OLD}\nINSERT INTO bookings_old VALUES\n{values};\n")
    return path


def migrate(database):
    assert sqlite(database, Path("/app/migrate.sql").read_text("utf-8")) == ""
    return database


@pytest.fixture()
def example(tmp_path):
    sqlite(tmp_path / "example.db", Path("/app/legacy.sql").read_text("utf-8"))
    return migrate(tmp_path / "example.db")


def test_the_rows_of_the_example(example):
    after = tables(example)
    assert [p["name"] for p in after["passengers"]] == ["INES CARROW", "Anselm", "Tomé Carrow"]
    assert [b["fare_cents"] for b in after["bookings"]] == [1250, 2100, 0, 3305, 750]
    assert after["bookings"][3]["sails_at"] == "2026-11-03 08:00"
    assert [r["reason"] for r in after["rejected"]] == ["duplicate", "no contact", "no route", "no ref"]
    assert len(after["legs"]) == 8


def test_offices_never_seen(tmp_path):
    for seed in range(8):
        rows = list(drawn_rows(seed))
        assert tables(migrate(office(tmp_path / f"{seed}.db", rows))) == expected(rows)


def test_the_schema_is_the_new_one(example, tmp_path):
    fresh = tmp_path / "fresh.db"
    sqlite(fresh, Path("/app/new.sql").read_text("utf-8"))
    shape = ("SELECT m.type, m.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_master m "
             "LEFT JOIN pragma_table_info(m.name) c WHERE m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid; "
             "SELECT m.name, f.\"table\", f.\"from\", f.\"to\" FROM sqlite_master m "
             "JOIN pragma_foreign_key_list(m.name) f ORDER BY 1, 3; PRAGMA foreign_key_check;")
    assert sqlite(example, shape) == sqlite(fresh, shape)
    refused = "INSERT INTO bookings VALUES ('x', 1, '2026-01-01 00:00', {}, {});"
    for fare, paid in ((-1, 0), (1, 2)):
        with pytest.raises(AssertionError, match="CHECK"):
            sqlite(example, refused.format(fare, paid))
    with pytest.raises(AssertionError, match="UNIQUE"):
        sqlite(example, "INSERT INTO passengers (email, name) SELECT email, name FROM passengers LIMIT 1;")


def test_a_second_run_changes_nothing(tmp_path):
    database = migrate(office(tmp_path / "twice.db", list(drawn_rows(99))))
    before = tables(database)
    assert before["bookings"]
    assert tables(migrate(database)) == before

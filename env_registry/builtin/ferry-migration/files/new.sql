-- The ferry office, as it shall be.
PRAGMA foreign_keys = ON;
CREATE TABLE passengers (
    id    INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name  TEXT NOT NULL
);
CREATE TABLE bookings (
    ref          TEXT PRIMARY KEY,
    passenger_id INTEGER NOT NULL REFERENCES passengers(id),
    sails_at     TEXT NOT NULL,              -- YYYY-MM-DD HH:MM, UTC
    fare_cents   INTEGER NOT NULL CHECK (fare_cents >= 0),
    paid         INTEGER NOT NULL CHECK (paid IN (0, 1))
);
CREATE TABLE legs (
    booking_ref TEXT NOT NULL REFERENCES bookings(ref),
    number      INTEGER NOT NULL,            -- 1, 2, 3 …
    from_port   TEXT NOT NULL,
    to_port     TEXT NOT NULL,
    PRIMARY KEY (booking_ref, number)
);
CREATE TABLE rejected (
    rowid_old INTEGER PRIMARY KEY,           -- bookings_old.rowid
    reason    TEXT NOT NULL
);

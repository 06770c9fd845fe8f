-- The ferry office, as the old program left it: one table, everything is text.
CREATE TABLE bookings_old (ref TEXT, passenger TEXT, contact TEXT, route TEXT, sails TEXT, fare TEXT, state TEXT);
INSERT INTO bookings_old VALUES
('F-0001', 'Carrow, Ines',     'ines@orrin.example',        'Skail>Orrin',             '2026-11-03 08:15', '12.50',   'paid'),
('F-0002', 'CARROW, INES ',    'Ines@Orrin.example',        'Orrin>Holm>Skail',        '07.11.2026 16:40', '21,00',   'paid'),
('F-0003', 'Anselm',           'anselm@abbey.example',      'Orrin > Skail',           '2026-11-03 08:15', '0',       'open'),
('F-0004', 'Vera Eld, Tomé',   'tome@orrin.example',        'Skail>Holm>Orrin>Vass',   '1793692800',       '33.05 €', 'paid'),
('F-0004', 'Vera Eld, Tomé',   'tome@orrin.example',        'Skail>Holm>Orrin>Vass',   '1793692800',       '33.05 €', 'paid'),
('F-0005', 'Carrow, Tomé',     ' TOME@orrin.example ',      'Orrin>Skail',             '2026-12-24 09:00', '€ 7,5',   'gone'),
('F-0006', 'Keeper, The',      '',                          'Orrin>Skail',             '02.11.2026 15:00', '12.50',   'paid'),
('F-0007', 'Eld, Vera',        'vera@skail.example',        '',                        '2026-11-09 11:30', '5',       'paid'),
('',       'Nobody',           'nobody@nowhere.example',    'Orrin>Skail',             '2026-11-09 11:30', '5',       'paid');

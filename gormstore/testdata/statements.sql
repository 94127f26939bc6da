-- PostgreSQL, merged: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
FROM l
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, merged: save
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, o, v, t, s
  FROM l, unnest($6::uuid[], $7::bigint[], $8::text[], $9::bytea[]) AS u(o, v, t, s)
  WHERE (SELECT bool_and(COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = f.o ORDER BY e.originator_version DESC LIMIT 1) = abs(f.v) - 1, f.v < 1)) FROM unnest((SELECT $10::uuid[]), (SELECT $11::bigint[])) AS f(o, v))
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT string_agg(id::text, ' ')
FROM i HAVING count(*) > 0;

-- PostgreSQL, merged: singles
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, o, abs(v), t, s
  FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), (SELECT $8::text[]), (SELECT $9::bytea[])) AS u(o, v, t, s)
  WHERE (SELECT bool_and(COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = f.o ORDER BY e.originator_version DESC LIMIT 1) = abs(f.v) - 1, f.v < 1)) FROM unnest((SELECT $6::uuid[]), (SELECT $7::bigint[])) AS f(o, v))
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT string_agg(id::text, ' ')
FROM i HAVING count(*) > 0;

-- PostgreSQL, merged: batch
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, o, v, t, s
  FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), (SELECT $8::text[]), (SELECT $9::bytea[])) AS u(o, v, t, s)
  WHERE (SELECT bool_and(COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = f.o ORDER BY e.originator_version DESC LIMIT 1) = abs(f.v) - 1, f.v < 1)) FROM unnest((SELECT $10::uuid[]), (SELECT $11::bigint[])) AS f(o, v))
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT string_agg(id::text, ' ')
FROM i HAVING count(*) > 0;

-- PostgreSQL, merged: wary
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, o, v, t, s
FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), (SELECT $8::text[]), (SELECT $9::bytea[]), (SELECT $10::bigint[])) AS u(o, v, t, s, f)
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = u.o ORDER BY e.originator_version DESC LIMIT 1) = abs(u.f) - 1, u.f < 1)
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END, originator_id, originator_version;

-- PostgreSQL, merged: joined
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
b AS MATERIALIZED (SELECT current_setting('lock_timeout') AS v, COALESCE(current_setting('eventsourcing.order_' || to_hex($2::bigint), true), '') AS held),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), CASE WHEN b.held = '' THEN pg_advisory_xact_lock_shared($2::bigint)::text || pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)::text || set_config('eventsourcing.order_' || to_hex($2::bigint), 'held', true) END
  FROM h, b
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, o, v, t, s
  FROM l, unnest($6::uuid[], $7::bigint[], $8::text[], $9::bytea[]) AS u(o, v, t, s)
  WHERE (SELECT bool_and(COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = f.o ORDER BY e.originator_version DESC LIMIT 1) = abs(f.v) - 1, f.v < 1)) FROM unnest((SELECT $10::uuid[]), (SELECT $11::bigint[])) AS f(o, v))
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT i.id, set_config('lock_timeout', b.v, true)
FROM i, b;

-- PostgreSQL, merged: chunk
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($2::bigint, 0)::oid), 0) AS last OFFSET 0) s)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $1::varchar, o, v, t, s
FROM h, unnest($3::uuid[], $4::bigint[], $5::text[], $6::bytea[]) AS u(o, v, t, s)
WHERE (SELECT bool_and(COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $1::varchar AND e.originator_id = f.o ORDER BY e.originator_version DESC LIMIT 1) = abs(f.v) - 1, f.v < 1))
  FROM unnest((SELECT $7::uuid[]), (SELECT $8::bigint[])) AS f(o, v))
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, in a transaction: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
b AS MATERIALIZED (SELECT current_setting('lock_timeout') AS v, COALESCE(current_setting('eventsourcing.order_' || to_hex($2::bigint), true), '') AS held
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), CASE WHEN b.held = '' THEN pg_advisory_xact_lock_shared($2::bigint)::text || pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)::text || set_config('eventsourcing.order_' || to_hex($2::bigint), 'held', true) END
  FROM h, b),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
  FROM l
  WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
  ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT COALESCE(a.ids, ''),
set_config('lock_timeout', b.v, true)
FROM b, (SELECT string_agg(id::text, ' ') AS ids
  FROM i OFFSET 0) a;

-- PostgreSQL, in a transaction: stream
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
b AS MATERIALIZED (SELECT current_setting('lock_timeout') AS v, COALESCE(current_setting('eventsourcing.order_' || to_hex($2::bigint), true), '') AS held
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), CASE WHEN b.held = '' THEN pg_advisory_xact_lock_shared($2::bigint)::text || pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)::text || set_config('eventsourcing.order_' || to_hex($2::bigint), 'held', true) END
  FROM h, b),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
  FROM l
  WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
  ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id),
j AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, $6::uuid, v, t, s
  FROM unnest($11::bigint[], $12::text[], $13::bytea[]) AS u(v, t, s)
  WHERE (SELECT count(*) FROM i) = 1
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT COALESCE(a.ids, ''),
set_config('lock_timeout', b.v, true)
FROM b, (SELECT string_agg(id::text, ' ') AS ids
  FROM (SELECT id FROM i UNION ALL SELECT id FROM j) k OFFSET 0) a;

-- PostgreSQL, in a transaction: own
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $1::uuid, $6::bigint, $7::text, $8::bytea
FROM (SELECT pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid OFFSET 0) l
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $1::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($9::bigint) - 1, $9::bigint < 1)
ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, in a transaction: locked
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $1::uuid, $6::bigint, $7::text, $8::bytea
FROM h
WHERE $2::bigint IS NOT NULL AND '"stored_events"'::regclass::oid = $4::bigint::oid AND COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $1::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($9::bigint) - 1, $9::bigint < 1)
ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, in strict order: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock($2::bigint)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
FROM l
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, in strict order, in a transaction: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
b AS MATERIALIZED (SELECT current_setting('lock_timeout') AS v, '' AS held
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock($2::bigint)
  FROM h, b),
i AS (INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
  SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
  FROM l
  WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
  ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING
  RETURNING CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END AS id)
SELECT COALESCE(a.ids, ''),
set_config('lock_timeout', b.v, true)
FROM b, (SELECT string_agg(id::text, ' ') AS ids
  FROM i OFFSET 0) a;

-- PostgreSQL, in the order of the table: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock(($2::bigint[])[1]), pg_advisory_xact_lock(($2::bigint[])[2])
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
FROM l
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- PostgreSQL, with signals: event
WITH h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM "stored_events" a WHERE a.id > s.last), s.last) AS floor
  FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF($5::bigint, 0)::oid), 0) AS last OFFSET 0) s),
l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint), pg_advisory_xact_lock_shared(($2::bigint >> 32)::int4, (h.floor << 32 >> 32)::int4), pg_notify($11::text, $3::varchar)
  FROM h
  WHERE '"stored_events"'::regclass::oid = $4::bigint::oid)
INSERT INTO "stored_events" (application_name, originator_id, originator_version, topic, state)
SELECT $3::varchar, $6::uuid, $7::bigint, $8::text, $9::bytea
FROM l
WHERE COALESCE((SELECT e.originator_version FROM "stored_events" e WHERE e.application_name = $3::varchar AND e.originator_id = $6::uuid ORDER BY e.originator_version DESC LIMIT 1) = abs($10::bigint) - 1, $10::bigint < 1)
RETURNING CASE WHEN id > (SELECT floor
  FROM h) THEN id ELSE ('eventsourcing: id ' || id || ' of ' || (SELECT floor FROM h))::bigint END;

-- SQLite: event
INSERT INTO `stored_events` (id, application_name, originator_id, originator_version, topic, state)
VALUES (CASE WHEN (NOT EXISTS (SELECT 1 FROM `stored_events` e WHERE e.application_name = ?1 AND e.originator_id = ?2 AND e.originator_version >= abs(?6)) AND (EXISTS (SELECT 1 FROM `stored_events` e WHERE e.application_name = ?1 AND e.originator_id = ?2 AND e.originator_version = abs(?6) - 1) OR ?6 < 1 AND NOT EXISTS (SELECT 1 FROM `stored_events` e WHERE e.application_name = ?1 AND e.originator_id = ?2 AND e.originator_version < abs(?6)))) THEN NULL ELSE 'not continued' END, ?1, ?2, ?3, ?4, ?5);

-- PostgreSQL: a snapshot and events
WITH s AS MATERIALIZED (SELECT originator_version, topic, state
  FROM "snapshots"
  WHERE application_name = $1 AND originator_id = $2 AND originator_version <= $3 ORDER BY originator_version DESC LIMIT 1)
SELECT 0, originator_version, topic, state
FROM s UNION ALL
SELECT 1, originator_version, topic, state
FROM (SELECT originator_version, topic, state
  FROM "stored_events"
  WHERE application_name = $4 AND originator_id = $5 AND originator_version BETWEEN COALESCE((SELECT originator_version FROM s), 0) AND $6 ORDER BY originator_version LIMIT $7) e;


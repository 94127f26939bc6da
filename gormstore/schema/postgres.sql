CREATE TABLE "stored_events" ("id" bigserial,"application_name" varchar(32) NOT NULL,"originator_id" uuid NOT NULL,"originator_version" bigint NOT NULL,"topic" text NOT NULL,"state" bytea NOT NULL,PRIMARY KEY ("id"));

CREATE UNIQUE INDEX IF NOT EXISTS "idx_stored_events_originator" ON "stored_events" ("application_name","originator_id","originator_version");

CREATE UNIQUE INDEX IF NOT EXISTS "idx_stored_events_position" ON "stored_events" ("application_name","id");

CREATE TABLE "snapshots" ("uid" bigserial,"application_name" varchar(32) NOT NULL,"originator_id" uuid NOT NULL,"originator_version" bigint NOT NULL,"topic" text NOT NULL,"state" bytea NOT NULL,PRIMARY KEY ("uid"));

CREATE UNIQUE INDEX IF NOT EXISTS "idx_snapshots_originator" ON "snapshots" ("application_name","originator_id","originator_version");

CREATE TABLE "notification_tracking" ("uid" bigserial,"application_name" varchar(32) NOT NULL,"upstream_application_name" varchar(32) NOT NULL,"notification_id" bigint NOT NULL,PRIMARY KEY ("uid"));

CREATE UNIQUE INDEX IF NOT EXISTS "idx_notification_tracking_position" ON "notification_tracking" ("application_name","upstream_application_name","notification_id");

CREATE TABLE "follower_status" ("application_name" varchar(32),"upstream_application_name" varchar(32),"state" varchar(16) NOT NULL,"error" text NOT NULL,"notification_id" bigint NOT NULL,"ahead" bigint NOT NULL,"since" timestamptz,"next_retry" timestamptz,"heartbeat" timestamptz NOT NULL,"process" text NOT NULL,PRIMARY KEY ("application_name","upstream_application_name"));

CREATE TABLE "parked_events" ("application_name" varchar(32),"upstream_application_name" varchar(32),"notification_id" bigint,"originator_id" uuid NOT NULL,"originator_version" bigint NOT NULL,"topic" text NOT NULL,"error" text NOT NULL,"parked_at" timestamptz NOT NULL,PRIMARY KEY ("application_name","upstream_application_name","notification_id"));

CREATE TABLE "follower_runners" ("application_name" varchar(32),"upstream_application_name" varchar(32),"process" text,"state" varchar(16) NOT NULL,"heartbeat" timestamptz NOT NULL,PRIMARY KEY ("application_name","upstream_application_name","process"));

CREATE TABLE "follower_settings" ("application_name" varchar(32),"upstream_application_name" varchar(32),"began" bigint,"topics" text,"topic_changes" bigint NOT NULL,"paused_at" timestamptz,"paused_by" text NOT NULL,"updated_at" timestamptz NOT NULL,PRIMARY KEY ("application_name","upstream_application_name"));

CREATE TABLE "follower_partitions" ("application_name" varchar(32),"upstream_application_name" varchar(32),"number" bigint,"partitions" bigint NOT NULL,"partition_key" text NOT NULL,"position" bigint NOT NULL,"fence" bigint NOT NULL,"owner" text NOT NULL,"successor" text NOT NULL,"leased_until" bigint NOT NULL,"error" text NOT NULL,"notification_id" bigint NOT NULL,"since" timestamptz,PRIMARY KEY ("application_name","upstream_application_name","number"));

-- What the source needs before DMS may read it. `smartstream aws seed` runs it in the database, as its
-- master user; without SmartStream:
--   psql --single-transaction -v ON_ERROR_STOP=1 -f source-setup.sql
-- It may run again, and sets no password: seed or psql's \password do, and send only its hash.

-- The login that the stack's secret names. rds_replication lets it make and read slots.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'dms_replication') THEN
        CREATE ROLE dms_replication LOGIN;
    END IF;
END
$$;
GRANT rds_replication TO dms_replication;

-- Tables of today and of tomorrow. Repeat these three for each further schema of
-- dms_source_schemas; tables that another role will make need ALTER DEFAULT PRIVILEGES FOR ROLE.
GRANT USAGE ON SCHEMA public TO dms_replication;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO dms_replication;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO dms_replication;

-- DMS keeps its heartbeat here. The master user is no superuser, so it may give away a schema
-- only to a role that it is a member of.
GRANT dms_replication TO CURRENT_USER;
CREATE SCHEMA IF NOT EXISTS awsdms AUTHORIZATION dms_replication;

-- How DMS sees DDL in the WAL: a row for each statement, inserted and deleted again at once. DMS
-- prescribes the names and the columns' order; without it a new column would go unnoticed.
SET ROLE dms_replication;

CREATE TABLE IF NOT EXISTS awsdms.awsdms_ddl_audit (
    c_key bigserial PRIMARY KEY,
    c_time timestamp,
    c_user varchar(64),
    c_txn varchar(16),
    c_tag varchar(24),
    c_oid integer,
    c_name varchar(64),
    c_schema varchar(64),
    c_ddlqry text
);

-- SECURITY DEFINER, so that nobody else needs rights in this schema. It keeps the caller's
-- search_path, because c_schema is how DMS completes names without a schema; everything it uses
-- itself is named in full.
CREATE OR REPLACE FUNCTION awsdms.awsdms_intercept_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF tg_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'ALTER TABLE', 'DROP TABLE') THEN
        INSERT INTO awsdms.awsdms_ddl_audit VALUES (
            DEFAULT, pg_catalog.now(), current_user, pg_catalog.txid_current()::varchar(16),
            tg_tag, 0, '', current_schema, pg_catalog.current_query());
        DELETE FROM awsdms.awsdms_ddl_audit;
    END IF;
END
$$;

RESET ROLE;

-- Needs rds_superuser, which the master user has and dms_replication has not.
DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl;
CREATE EVENT TRIGGER awsdms_intercept_ddl ON ddl_command_end
    EXECUTE FUNCTION awsdms.awsdms_intercept_ddl();

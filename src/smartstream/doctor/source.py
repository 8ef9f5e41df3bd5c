"""Checks of the server: version, settings, rights, the slot."""

from __future__ import annotations

from datetime import timedelta

from psycopg import sql

from smartstream.capture import identity, slot
from smartstream.capture.transactions import oldest_open
from smartstream.doctor.check import Check, Patient, Status, failed, ok
from smartstream.errors import SlotInUse, SmartStreamError, WalLevelTooLow
from smartstream.lsn import format_lsn
from smartstream.manifest import LakeState
from smartstream.units import format_size

VERSION_MAX = 18
"""The latest PostgreSQL that the tests run on."""
MINOR_MIN = {13: 21, 14: 18, 15: 13, 16: 9, 17: 5}
"""Releases of May 2025: decoding hears of a changed publication inside of open transactions."""
CLOCK_DIFFERENCE_S_MAX = 2.0
SAFE_WAL_BYTES_MIN = 512 << 20
OPEN_MAX = timedelta(minutes=10)

# Roles of managed services that carry the right to replicate.
REPLICATION_ROLES = ("rds_replication", "rds_superuser", "alloydbreplication", "azure_pg_admin")


def version(patient: Patient) -> Check:
    """PostgreSQL 13 to 18; connect() has refused older ones."""
    major = patient.connection.info.server_version // 10000
    if major > VERSION_MAX:
        return Check(
            "version",
            Status.WARN,
            f"PostgreSQL {major}",
            why=f"SmartStream is tested with PostgreSQL 13 to {VERSION_MAX}.",
            fix="Run `smartstream verify` after the first copy, and look for a newer SmartStream.",
        )
    minor = patient.connection.info.server_version % 10000
    if minor < MINOR_MIN.get(major, 0):
        return Check(
            "version",
            Status.WARN,
            f"PostgreSQL {major}.{minor}",
            why="When a table is published while an older transaction has written to it, this release may not"
            " send later changes of the table.",
            fix=f"Update the server to {major}.{MINOR_MIN[major]} or later.",
        )
    return ok("version", f"PostgreSQL {major}")


def wal_level(patient: Patient) -> Check:
    """wal_level = logical."""
    level = patient.setting("wal_level")
    if level == "logical":
        return ok("wal_level", level)
    why = "The write-ahead log lacks what logical decoding needs."
    if patient.setting("rds.logical_replication"):
        fix = "Set rds.logical_replication = 1 in the parameter group, then reboot the instance."
        return Check("wal_level", Status.FAIL, level, why, fix)
    if patient.setting("cloudsql.logical_decoding"):
        fix = "Set the flag cloudsql.logical_decoding = on; the instance restarts."
        return Check("wal_level", Status.FAIL, level, why, fix)
    return Check(
        "wal_level",
        Status.FAIL,
        level,
        why,
        fix="Set wal_level = logical, then restart the server (once).",
        sql=("ALTER SYSTEM SET wal_level = logical;  -- then restart the server",),
    )


def same_source(patient: Patient) -> Check:
    """The cluster and the database that the lake follows, or nothing is followed yet."""
    state = patient.state or LakeState()
    try:
        mark = identity.check(patient.settings.source, patient.connection, state)
    except SmartStreamError as error:
        return failed("identity", error)
    found = f"cluster {mark.system}, timeline {mark.timeline}"
    return ok("identity", f"{found}: the one that the lake follows" if state.source else found)


def replication_right(patient: Patient) -> Check:
    """REPLICATION, superuser, or membership in a managed service's role."""
    name = "replication right"
    (has, is_super), roles = patient.row(_ROLE), patient.rows(_MEMBER, list(REPLICATION_ROLES))
    if is_super or has:
        return ok(name, f"role {patient.role} {'is superuser' if is_super else 'has REPLICATION'}")
    members = [role for role, member in roles if member]
    if members:
        return ok(name, f"role {patient.role} is a member of {members[0]}")
    role = sql.Identifier(patient.role)
    statement = sql.SQL("ALTER ROLE {} REPLICATION;").format(role)
    if any(found == "rds_replication" for found, _ in roles):
        statement = sql.SQL("GRANT rds_replication TO {};").format(role)
    return Check(
        name,
        Status.FAIL,
        f"role {patient.role} may not replicate",
        why="Reading the write-ahead log needs the REPLICATION right.",
        fix="Give the role the right.",
        sql=(statement.as_string(None),),
    )


def encoding(patient: Patient) -> Check:
    """UTF8, or one that the server converts to it."""
    found = patient.setting("server_encoding")
    if found == "SQL_ASCII":
        return Check(
            "encoding",
            Status.WARN,
            found,
            why="The server does not know what its bytes mean; values that are not UTF-8 stop the pipeline.",
            fix="Make sure that every text is UTF-8, or move to a database with ENCODING 'UTF8'.",
        )
    return ok("encoding", found if found == "UTF8" else f"{found}, converted to UTF8 by the server")


def free_slots(patient: Patient) -> Check:
    """One slot for the pipeline, one for verify."""
    name = "free slots"
    used, ours = patient.row(_SLOTS, patient.settings.source.slot.name)
    most = int(patient.setting("max_replication_slots"))
    free = most - used
    found = f"{used} of {most} replication slots in use{', one of them ours' if ours else ''}"
    raise_it = f"ALTER SYSTEM SET max_replication_slots = {used + 5};  -- then restart the server"
    if free < 1 and not ours:
        why = "The server must remember in a slot how far SmartStream has read."
        return Check(name, Status.FAIL, found, why, _FREE_A_SLOT, (raise_it,))
    if free < (1 if ours else 2):
        why = "`smartstream verify` needs a temporary slot."
        return Check(name, Status.WARN, found, why, _FREE_A_SLOT, (raise_it,))
    return ok(name, found)


def free_senders(patient: Patient) -> Check:
    """A walsender for the stream."""
    name = "free senders"
    (used,) = patient.row("SELECT count(*) FROM pg_catalog.pg_stat_replication")
    most = int(patient.setting("max_wal_senders"))
    found = f"{used} of {most} WAL senders in use"
    info = slot.inspect(patient.connection, patient.settings.source.slot.name)
    if used >= most and not (info and info.active):
        return Check(
            name,
            Status.FAIL,
            found,
            why="Streaming changes needs a WAL sender.",
            fix="End one that nobody needs (pg_stat_replication), or raise max_wal_senders and restart.",
            sql=(f"ALTER SYSTEM SET max_wal_senders = {used + 5};  -- then restart the server",),
        )
    return ok(name, found)


def slot_state(patient: Patient) -> Check:
    """The slot exists or can be created, and the lake can go on from it."""
    settings = patient.settings.source.slot
    info = slot.inspect(patient.connection, settings.name)
    try:
        slot.check(patient.connection, settings.name, patient.state or LakeState())
    except WalLevelTooLow:
        return Check("slot", Status.WARN, "not checked: see wal_level")
    except SlotInUse as error:
        ours = info is not None and info.active and info.plugin == slot.PLUGIN
        if not ours or info is None or info.database != patient.connection.info.dbname:
            return failed("slot", error)
        return _slot_size(patient, info, f"slot {info.name} is being read, by a running pipeline it seems")
    except SmartStreamError as error:
        return failed("slot", error)
    if info is None:
        return ok("slot", f"slot {settings.name} does not exist yet; `smartstream run` creates it")
    return _slot_size(patient, info, f"slot {info.name} at {format_lsn(info.confirmed_flush_lsn)}")


def _can_sync(patient: Patient) -> bool:
    """Whether the server has failover slots, and a standby that could use one."""
    if patient.connection.info.server_version < 170000:
        return False
    (count,) = patient.row(
        "SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical'"
    )
    return bool(count)


def _slot_size(patient: Patient, info: slot.SlotInfo, found: str) -> Check:
    """How much WAL a slot in good order holds back."""
    retained, most = info.retained_bytes, patient.settings.source.slot.max_retained
    found = f"{found}, holds back {format_size(retained >> 20 << 20)} of WAL"
    if not info.failover and patient.settings.source.slot.failover and _can_sync(patient):
        return Check(
            "slot",
            Status.WARN,
            f"{found}; standbys do not get a copy of it",
            why="After a promotion the slot would be missing, and all tables be copied again.",
            fix="Stop the pipeline and run the command over a replication connection "
            "(psql 'replication=database …'), or set source.slot.failover: false.",
            sql=(f"ALTER_REPLICATION_SLOT {info.name} (FAILOVER);",),
        )
    if info.safe_wal_size is not None and info.safe_wal_size < SAFE_WAL_BYTES_MIN:
        why = f"The server gives the slot up after {info.safe_wal_size:,} more bytes of WAL."
    elif retained > most:
        why = f"That is more than source.slot.max_retained ({format_size(most)})."
    else:
        return ok("slot", found)
    return Check("slot", Status.WARN, found, why, fix="Start `smartstream run` and let it catch up.")


def open_transactions(patient: Patient) -> Check:
    """No transaction that has been open for so long that somebody may have forgotten it."""
    name = "open transactions"
    oldest = oldest_open(patient.connection)
    if oldest is None or oldest.age < OPEN_MAX:
        return ok(name, f"none older than {OPEN_MAX.total_seconds() / 60:.0f} minutes")
    info = slot.inspect(patient.connection, patient.settings.source.slot.name)
    retained = f"{format_size(info.retained_bytes >> 20 << 20)} now, " if info else ""
    return Check(
        name,
        Status.WARN,
        f"{oldest} has been open for {timedelta(seconds=int(oldest.age.total_seconds()))}",
        why=f"The slot keeps all WAL since it began ({retained}growing), and a restart reads it again;"
        " a slot can't be created, and tables can't be verified, before it has ended.",
        fix="Find out who holds it; commit it or end it.",
        sql=(oldest.end_it,),
    )


def wal_keep_size(patient: Patient) -> Check:
    """A limit, so that a forgotten slot cannot fill the server's disk."""
    name, most = "max_slot_wal_keep_size", patient.settings.source.slot.max_retained
    (megabytes,) = patient.row(_KEEP_SIZE)
    if megabytes < 0:
        limit = max(2 * most >> 20, 1024)
        return Check(
            name,
            Status.WARN,
            "no limit",
            why="While SmartStream is down its slot holds back WAL, until the server's disk is full.",
            fix="Set a limit: beyond it the slot is lost and the tables must be copied again.",
            sql=(f"ALTER SYSTEM SET {name} = '{limit}MB';", "SELECT pg_reload_conf();"),
        )
    if megabytes << 20 < most:
        return Check(
            name,
            Status.WARN,
            f"{megabytes} MB",
            why=f"The slot is lost before source.slot.max_retained ({format_size(most)}) warns.",
            fix="Lower source.slot.max_retained in smartstream.yaml, or raise the server's limit.",
        )
    return ok(name, f"{megabytes} MB")


def clock_difference(patient: Patient) -> Check:
    """The two clocks agree: the lag is measured with both."""
    before = patient.clock()
    (there,) = patient.row("SELECT pg_catalog.clock_timestamp()")
    after = patient.clock()
    difference = (there - (before + (after - before) / 2)).total_seconds()
    found = f"{abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} this machine"
    if abs(difference) > CLOCK_DIFFERENCE_S_MAX:
        why = "The lag is measured from the server's clock to this machine's."
        return Check(
            "clock", Status.WARN, f"the server is {found}", why, fix="Synchronise both clocks (NTP)."
        )
    return ok("clock", f"the server is {found}")


_FREE_A_SLOT = (
    "Drop a slot that nobody reads (pg_replication_slots), or raise max_replication_slots and restart."
)

_ROLE = "SELECT rolreplication, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_MEMBER = """
SELECT rolname, pg_catalog.pg_has_role(current_user, oid, 'USAGE')
FROM pg_catalog.pg_roles WHERE rolname = ANY (%s::text[])
"""
_SLOTS = """
SELECT count(*), coalesce(bool_or(slot_name = %s), false) FROM pg_catalog.pg_replication_slots
"""
_KEEP_SIZE = "SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'"

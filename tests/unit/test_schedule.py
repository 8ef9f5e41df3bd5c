"""Schedules: what is understood, what is refused, and when something is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from smartstream.errors import ExitCode, ScheduleInvalid
from smartstream.inference.schedule import due, parse_schedule

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)  # a Thursday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def at(text: str) -> datetime:
    """An instant; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def runs(text: str, zone: str, after: str, count: int) -> list[datetime]:
    """The next runs."""
    schedule, found = parse_schedule(text, zone), [at(after)]
    for _ in range(count):
        following = schedule.next_after(found[-1])
        assert following is not None and following > found[-1]
        found.append(following)
    return found[1:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cron(0 6 * * ? *)", ["2026-01-02 06:00", "2026-01-03 06:00"]),
        ("cron(0/20 12 ? * * *)", ["2026-01-01 12:20", "2026-01-01 12:40", "2026-01-02 12:00"]),
        ("cron(*/30 8-9,17 1 * ? *)", ["2026-01-01 17:00", "2026-01-01 17:30", "2026-02-01 08:00"]),
        ("cron(0 0 L * ? *)", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("cron(0 0 LW * ? *)", ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29"]),
        ("cron(0 0 1W * ? *)", ["2026-02-02", "2026-03-02", "2026-04-01", "2026-05-01", "2026-06-01",
                                "2026-07-01", "2026-08-03"]),
        ("cron(0 0 15W * ? *)", ["2026-01-15", "2026-02-16", "2026-03-16", "2026-04-15"]),
        ("cron(0 0 31W * ? *)", ["2026-01-30", "2026-03-31", "2026-05-29", "2026-07-31"]),
        ("cron(0 0 ? * L *)", ["2026-01-03", "2026-01-10"]),
        ("cron(0 0 ? * 6L *)", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("cron(0 0 ? * FRIL *)", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("cron(0 0 ? * 6#2 *)", ["2026-01-09", "2026-02-13"]),
        ("cron(0 0 ? * SUN#5 *)", ["2026-03-29", "2026-05-31"]),
        ("cron(0 0 ? * MON-WED *)", ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-12"]),
        ("cron(0 0 ? * 1 *)", ["2026-01-04", "2026-01-11"]),
        ("cron(0 0 1 JAN,JUL ? 2027/2)", ["2027-01-01", "2027-07-01", "2029-01-01"]),
        ("0 0 * * 0", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * 7", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * fri-7", ["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-09"]),
        ("0 0 29 feb *", ["2028-02-29", "2032-02-29"]),
        ("0 0 13 * fri", ["2026-01-02", "2026-01-09", "2026-01-13", "2026-01-16"]),  # either: both restricted
        ("0 0 */15 * 1", ["2026-02-16", "2026-03-16", "2026-06-01"]),  # both: one begins with *
        ("5/20 12 * * *", ["2026-01-01 12:05", "2026-01-01 12:25", "2026-01-01 12:45", "2026-01-02 12:05"]),
    ],
)  # fmt: skip
def test_schedules_run_when_they_say(text: str, expected: list[str]) -> None:
    assert runs(text, "UTC", "2026-01-01 12:00", len(expected)) == [at(moment) for moment in expected]


@pytest.mark.parametrize(
    ("text", "zone", "words"),
    [
        ("", "UTC", 'schedule is "".*rate.*cron.*five fields'),
        ("hourly", "UTC", "hourly.*allowed are rate"),
        ("@daily", "UTC", "allowed are rate"),
        ("0 0 6 * * *", "UTC", "allowed are rate"),
        ("rate(1 hours)", "UTC", r"rate\(1 hours\).*rate\(1 hour\)"),
        ("rate(2 hour)", "UTC", "from 2 on"),
        ("rate(0 hours)", "UTC", "from 2 on"),
        ("rate(1 week)", "UTC", "rate is"),
        ("rate(36501 days)", "UTC", "at most 36500 days"),
        ("cron(61 * * * ? *)", "UTC", 'minute is "61": 61 is no value; allowed are 0 to 59'),
        ("cron(0 24 * * ? *)", "UTC", 'hour is "24"'),
        ("cron(0 0 0 * ? *)", "UTC", 'day-of-month is "0".*1 to 31.*L LW 15W'),
        ("cron(0 0 1 13 ? *)", "UTC", 'month is "13".*1 to 12 or JAN to DEC'),
        ("cron(0 0 ? * 0 *)", "UTC", 'day-of-week is "0".*1 to 7 or SUN to SAT.*6#2'),
        ("cron(0 0 ? * mon *)", "UTC", 'day-of-week is "mon"'),
        ("cron(0 0 1 * ? 1969)", "UTC", 'year is "1969".*1970 to 2199'),
        ("cron(0 0 * * * *)", "UTC", r"exactly one of them must be \?"),
        ("cron(0 0 ? * ? *)", "UTC", r"exactly one of them must be \?"),
        ("cron(0 ? 1 * ? *)", "UTC", r'hour is "\?"'),
        ("cron(0 0 1,L * ? *)", "UTC", 'day-of-month is "1,L": L .*alone'),
        ("cron(0 0 ? * 3#1,6#3 *)", "UTC", "3#1 is not understood"),
        ("cron(0 0 ? * 6#6 *)", "UTC", "6#6 is not understood"),
        ("cron(0 0 32W * ? *)", "UTC", "32 is no value"),
        ("cron(9-3 * * * ? *)", "UTC", "range 9-3 ends before it begins"),
        ("cron(0/0 * * * ? *)", "UTC", "0 is no step"),
        ("*/90 * * * *", "UTC", "90 is no step"),
        ("1,,2 * * * *", "UTC", "nothing is not understood"),
        ("cron(0 3 * * ?)", "UTC", "six fields"),
        ("cron(0 3 * * ? *", "UTC", "six fields"),
        ("0 0 L * *", "UTC", 'day-of-month is "L"'),
        ("0 0 ? * 1", "UTC", r'day-of-month is "\?"'),
        ("0 0 30 2 *", "UTC", "never runs"),
        ("0 0 31 4,6,9,11 *", "UTC", "never runs"),
        ("cron(0 0 29 2 ? 2027)", "UTC", "never runs"),
        ("cron(0 0 31W 4 ? *)", "UTC", "never runs"),
        ("0 0 * * *", "Europe/Berln", 'zone is "Europe/Berln"'),
        ("0 0 * * *", "../etc", "zone is"),
        ("0 0 * * *", "", "zone is"),
        ("cron(0 6 * * ? *)", "Europe/Berlin", r"cron\(…\) is in UTC; allowed are UTC"),
        ("0 0 " + "1," * 600 + "1 * *", "UTC", "characters"),
        ("٣ 0 * * *", "UTC", "minute is"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is_allowed(text: str, zone: str, words: str) -> None:
    with pytest.raises(ScheduleInvalid, match=words) as raised:
        parse_schedule(text, zone)
    assert raised.value.exit_code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    "text", ["rate(5 minutes)", "rate(1 day)", "cron(0 6 ? * MON-FRI *)", "*/15 8-17 * * mon"]
)
def test_a_schedule_prints_as_it_was_written(text: str) -> None:
    assert str(parse_schedule(f"  {text} ")) == text


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        # Berlin's clocks skip 02:00 to 03:00 on 2026-03-29 and show it twice on 2026-10-25.
        ("30 2 * * *", BERLIN, "2026-03-28T03:00+01:00",
         ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("15,45 2 * * *", BERLIN, "2026-03-28T03:00+01:00",
         ["2026-03-29T03:00+02:00", "2026-03-30T02:15+02:00"]),
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00+01:00",
         ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("30 2 * * *", BERLIN, "2026-10-24T12:00+02:00",
         ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 2 * * *", BERLIN, "2026-10-25T02:10+01:00", ["2026-10-26T02:30+01:00"]),
        ("30 * * * *", BERLIN, "2026-03-29T01:00+01:00",
         ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        ("30 * * * *", BERLIN, "2026-10-25T01:40+02:00",
         ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]),
        # Half an hour on Lord Howe; a day that Samoa never had; one minute past midnight in St. John's.
        ("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00"]),
        ("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00-10:00",
         ["2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
        ("*/30 * * * *", "America/St_Johns", "2010-11-06T23:45-02:30",
         ["2010-11-07T00:00-02:30", "2010-11-06T23:30-03:30", "2010-11-07T00:00-03:30"]),
        ("0 0 * * *", "Asia/Beirut", "2022-03-26T12:00+02:00", ["2022-03-27T01:00+03:00"]),
    ],
)  # fmt: skip
def test_clocks_that_change_neither_lose_nor_repeat_a_named_time(
    text: str, zone: str, after: str, expected: list[str]
) -> None:
    assert runs(text, zone, after, len(expected)) == [at(moment) for moment in expected]


def test_the_end_of_all_runs_is_said() -> None:
    schedule = parse_schedule("cron(0 0 1 1 ? 2027)")
    only = at("2027-01-01")
    assert schedule.next_after(NOON) == schedule.previous_before(datetime.max.replace(tzinfo=UTC)) == only
    assert schedule.next_after(only) is None
    assert schedule.previous_before(only) is None
    assert schedule.next_after(datetime.min.replace(tzinfo=UTC)) == only
    rate = parse_schedule("rate(2 days)")
    assert rate.next_after(datetime.max.replace(tzinfo=UTC)) is None
    assert rate.previous_before(datetime.min.replace(tzinfo=UTC)) is None


def test_the_rarest_day_is_found() -> None:
    # 29 February on a Sunday, over 2100, which is no leap year.
    assert runs("0 0 29 2 */7", "UTC", "2088-01-01", 2) == [at("2088-02-29"), at("2128-02-29")]


def test_a_rate_runs_at_once_and_then_from_the_start_of_the_last_run() -> None:
    schedule = parse_schedule("rate(1 hour)")

    def moment(last: datetime | None, *, catch_up: bool = True) -> datetime | None:
        return due(schedule, last_run_started=last, now=NOON, catch_up=catch_up)

    assert moment(None) == moment(None, catch_up=False) == NOON
    assert moment(NOON - HOUR) == moment(NOON - HOUR, catch_up=False) == NOON
    assert moment(NOON - HOUR + MINUTE) is None
    assert moment(NOON - 7 * HOUR - 10 * MINUTE) == NOON - 10 * MINUTE, "missed runs are one"
    assert moment(NOON - 7 * HOUR - 10 * MINUTE, catch_up=False) is None
    assert moment(NOON + DAY) is None, "clocks were set back"


def test_a_cron_runs_once_for_all_that_was_missed() -> None:
    schedule, six = parse_schedule("0 6 * * *"), NOON - 6 * HOUR

    def moment(last: datetime | None, now: datetime = NOON, *, catch_up: bool = True) -> datetime | None:
        return due(schedule, last_run_started=last, now=now, catch_up=catch_up)

    assert moment(None) is None, "nothing was missed before it existed"
    assert moment(None, six) == moment(None, six + MINUTE) == six
    assert moment(six - DAY) == moment(six - 9 * DAY) == six
    assert moment(six - 9 * DAY, catch_up=False) is None
    assert moment(six - 9 * DAY, six + MINUTE, catch_up=False) == six
    assert moment(six) is None
    assert moment(six - DAY, six - MINUTE) is None


@pytest.mark.parametrize("text", ["*/5 * * * *", "rate(5 minutes)", "cron(0/5 * * * ? *)"])
@pytest.mark.parametrize("catch_up", [True, False])
def test_looking_every_second_runs_each_time_once(text: str, catch_up: bool) -> None:
    schedule, now, last, started = parse_schedule(text), NOON, NOON, []
    for second in range(1, 3601):
        now = NOON + timedelta(seconds=second)
        if due(schedule, last_run_started=last, now=now, catch_up=catch_up):
            last = now
            started.append(now)
    assert len(started) == 12
    assert all(later - earlier == 5 * MINUTE for earlier, later in pairwise(started))

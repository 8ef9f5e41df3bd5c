"""Random schedules: against cronsim where both mean the same, against every minute of a year elsewhere."""

from __future__ import annotations

import calendar
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError

from smartstream.errors import ScheduleInvalid
from smartstream.inference.schedule import parse_schedule

ZONES = ("Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Asia/Beirut",
         "Pacific/Apia", "Africa/Casablanca", "Asia/Kolkata")  # fmt: skip
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def a_field(first: int, last: int, names: list[str] | None = None, *, star: float = 0.4) -> str:
    """One random field; ``names`` are those of the values from ``first`` on."""

    def value(number: int) -> str:
        named = names is not None and number - first < len(names) and random.random() < 0.3
        return names[number - first] if names is not None and named else str(number)

    def part() -> str:
        # Two different ones: cronsim takes 3-3/2 for 3/2.
        low, high = sorted(random.sample(range(first, last + 1), k=2))
        step = random.randint(1, max(2, (last - first) // 2))
        return random.choice(
            [value(low), f"{value(low)}-{value(high)}", f"{value(low)}-{value(high)}/{step}", f"{low}/{step}"]
        )

    if random.random() < star:
        return random.choice(["*", "*", f"*/{random.randint(1, last)}"])
    return ",".join(part() for _ in range(random.choice([1, 1, 2, 3])))


def a_cron() -> str:
    fields = [a_field(0, 59), a_field(0, 23), a_field(1, 31, star=0.6)]
    return " ".join([*fields, a_field(1, 12, MONTHS, star=0.8), a_field(0, 7, WEEKDAYS, star=0.6)])


def a_moment(year_first: int = 2000, year_last: int = 2035) -> datetime:
    start = datetime(random.randint(year_first, year_last), 1, 1, tzinfo=UTC)
    return start + timedelta(
        seconds=random.randrange(366 * 86400), microseconds=random.choice([0, 1, 999999])
    )


def like_cronsim(text: str, moment: datetime, *, reverse: bool = False, count: int = 5) -> list[datetime]:
    """What cronsim says, without the repetitions that it has in a gap."""
    found: list[datetime] = []
    for run in CronSim(text, moment, reverse=reverse):
        if run.astimezone(UTC) not in found:
            found.append(run.astimezone(UTC))
        if len(found) == count:
            break
    return found


def ours(text: str, zone: str, moment: datetime, *, reverse: bool = False, count: int = 5) -> list[datetime]:
    schedule, found = parse_schedule(text, zone), [moment]
    for _ in range(count):
        run = schedule.previous_before(found[-1]) if reverse else schedule.next_after(found[-1])
        if run is None:
            break
        found.append(run)
    return found[1:]


def test_five_fields_mean_what_cronsim_says(seed: str) -> None:
    compared = 0
    for _ in range(1500):
        text, moment = a_cron(), a_moment()
        try:
            expected = like_cronsim(text, moment)
        except CronSimError:
            with pytest.raises(ScheduleInvalid):
                parse_schedule(text)
            continue
        if not expected:
            with pytest.raises(ScheduleInvalid, match="never runs"):
                parse_schedule(text)
            continue
        compared += 1
        assert ours(text, "UTC", moment) == expected, f"{text} after {moment}, {seed}"
        before = like_cronsim(text, moment, reverse=True, count=2)
        assert ours(text, "UTC", moment, reverse=True, count=2) == before, f"{text} before {moment}, {seed}"
    assert compared > 1000


def test_five_fields_in_zones_mean_what_cronsim_says_where_it_agrees(seed: str) -> None:
    """Named hours are Debian's fixed times to cronsim, unless the minute begins with *; so are ours."""
    for _ in range(600):
        zone = random.choice(ZONES)
        clocks = ZoneInfo(zone)
        # Every hour, cronsim steps over the half hour of Lord Howe; the test below does not.
        if random.random() < 0.7 or zone == "Australia/Lord_Howe":
            hour, day = random.choice(["0", "1,2", "2", "1-3", "2,14", "23", "0-5"]), random.choice("**15")
            text = f"{random.choice(['0', '30', '15,45', '59', '0-59/20'])} {hour} {day} * *"
        else:
            text = f"{random.choice(['*', '*/15', '30', '0'])} * * * *"
        moment = random.choice([a_moment(), near_a_change(clocks)])
        # cronsim looks at the wall clock from where it starts, so it starts where clocks are plain.
        start = moment.astimezone(clocks).replace(hour=12, minute=0, second=0, microsecond=0, fold=0)
        expected = like_cronsim(text, start, count=40)
        assert ours(text, zone, start.astimezone(UTC), count=40) == expected, f"{text} {zone} {start}, {seed}"


def near_a_change(zone: ZoneInfo) -> datetime:
    """A moment within two days before the clocks of a zone change, if they do within a year."""
    day = a_moment(2005, 2024).replace(microsecond=0)
    for _ in range(366):
        if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset():
            return day - timedelta(minutes=random.randrange(1440))
        day += DAY
    return day


def shown_by_brute_force(text: str, zone: ZoneInfo, start: datetime, minutes: int) -> list[datetime]:
    """Every minute, looked at by itself: ``*`` hours run whenever the clocks show the minute."""
    wanted = parse_schedule(text).minutes  # type: ignore[attr-defined]
    moments = (start + number * MINUTE for number in range(minutes))
    return [moment for moment in moments if moment.astimezone(zone).minute in wanted]


def test_every_hour_runs_whenever_the_clocks_show_the_minute(seed: str) -> None:
    for _ in range(16):
        zone = random.choice(ZONES)
        clocks, text = ZoneInfo(zone), f"{a_field(0, 59, star=0.1)} * * * *"
        start = near_a_change(clocks).replace(second=0, microsecond=0)
        expected = shown_by_brute_force(text, clocks, start, 3 * 1440)
        found = ours(text, zone, start - MINUTE / 2, count=len(expected))
        assert found == expected, f"{text} {zone} {start}, {seed}"
        found = ours(text, zone, start + 3 * DAY - MINUTE / 2, reverse=True, count=len(expected))
        assert found == expected[::-1], f"{text} {zone} {start}, {seed}"


def an_aws_day() -> tuple[str, str]:
    kind = random.randrange(8)
    weekday = random.choice([str(random.randint(1, 7)), random.choice(WEEKDAYS)])
    if kind < 4:
        return [a_field(1, 31), "L", "LW", f"{random.randint(1, 31)}W"][kind], "?"
    return "?", [a_field(1, 7, WEEKDAYS), "L", f"{weekday}L", f"{weekday}#{random.randint(1, 5)}"][kind - 4]


def means(field: str, value: int, first: int, last: int, names: list[str]) -> bool:
    """Whether a field of values, ranges and steps holds a value, read again and in another way."""
    number = {name: first + index for index, name in enumerate(names)}
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        begin = first if low == "*" else number.get(low) or int(low)
        end = number.get(high) or int(high) if high else (last if step or low == "*" else begin)
        if begin <= value <= end and (value - begin) % int(step or 1) == 0:
            return True
    return False


def is_aws_day(month_day: str, weekday: str, day: date) -> bool:
    """Whether a day is meant, by counting days around it."""
    length, number = calendar.monthrange(day.year, day.month)[1], (day.isoweekday() % 7) + 1
    workdays = [d for d in range(1, length + 1) if day.replace(day=d).weekday() < 5]
    if weekday == "?":
        if month_day in ("L", "LW"):
            return day.day == (length if month_day == "L" else workdays[-1])
        if month_day.endswith("W"):
            near = int(month_day[:-1])
            # Saturday is nearer to Friday, Sunday to Monday.
            nearest = min(workdays, key=lambda d: (abs(d - near), d))
            return near <= length and day.day == nearest
        return means(month_day, day.day, 1, 31, [])
    wanted = weekday.rstrip("L").split("#")[0]
    if weekday == "L":
        return number == 7
    if weekday.endswith("L") or "#" in weekday:
        named = WEEKDAYS.index(wanted) + 1 if wanted in WEEKDAYS else int(wanted)
        nth = (day.day - 1) // 7 + 1
        return number == named and (day.day + 7 > length if "#" not in weekday else nth == int(weekday[-1]))
    return means(weekday, number, 1, 7, WEEKDAYS)


def aws_by_brute_force(fields: list[str], start: datetime, days: int) -> Iterator[datetime]:
    """Every minute of some days, looked at by itself."""
    minute, hour, month_day, month, weekday, year = fields
    hours = [h for h in range(24) if means(hour, h, 0, 23, [])]
    minutes = [m for m in range(60) if means(minute, m, 0, 59, [])]
    for number in range(days):
        day = start + number * DAY
        if not means(month, day.month, 1, 12, MONTHS) or not means(year, day.year, 1970, 2199, []):
            continue
        if is_aws_day(month_day, weekday, day.date()):
            yield from (day.replace(hour=h, minute=m) for h in hours for m in minutes)


def test_eventbridge_means_what_every_minute_says(seed: str) -> None:
    for _ in range(200):
        month_day, weekday = an_aws_day()
        month, year = a_field(1, 12, MONTHS, star=0.8), random.choice(["*", "*", "2020-2030", "2025/2"])
        fields = [a_field(0, 59, star=0.2), a_field(0, 23), month_day, month, weekday, year]
        text = f"cron({' '.join(fields)})"
        start = datetime(random.randint(2019, 2028), random.randint(1, 12), 1, tzinfo=UTC)
        expected = list(aws_by_brute_force(fields, start, 800))
        try:
            found = ours(text, "UTC", start - MINUTE / 2, count=min(len(expected), 40))
        except ScheduleInvalid:
            assert not expected, f"{text}, {seed}"
            continue
        assert found == expected[:40], f"{text} from {start}, {seed}"
        end = start + 800 * DAY - MINUTE / 2
        back = ours(text, "UTC", end, reverse=True, count=min(len(expected), 40))
        assert back == expected[::-1][:40], f"{text} before {end}, {seed}"


def test_next_and_previous_are_inverse(seed: str) -> None:
    for _ in range(400):
        zone, moment = random.choice(ZONES), a_moment()
        try:
            schedule = parse_schedule(a_cron(), zone)
        except ScheduleInvalid:
            continue
        first = schedule.next_after(moment)
        second = first and schedule.next_after(first)
        assert first and second and moment < first < second, f"{schedule} {zone} {moment}, {seed}"
        assert schedule.previous_before(second) == first, f"{schedule} {zone} {moment}, {seed}"
        before = schedule.previous_before(moment)
        assert before and schedule.next_after(before) in (moment, first), f"{schedule} {moment}, {seed}"


def test_text_that_is_none_is_refused_and_nothing_else_is_raised(seed: str) -> None:
    letters = "0123456789*/,-?LW# ()ratecron MONhours"
    for _ in range(3000):
        text = random.choice(["", "cron(", "rate("]) + "".join(
            random.choices(letters, k=random.randrange(24))
        )
        try:
            schedule = parse_schedule(text)
        except ScheduleInvalid:
            continue
        upcoming = [run for run in ours(text, "UTC", a_moment()) if run]
        assert all(later > earlier for earlier, later in pairwise(upcoming)), f"{schedule}, {seed}"

"""The arithmetic of the cost estimate, the price file, schedules, and variables as Terraform reads them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartstream.aws.cost.estimate import Configuration, Estimate, Load, estimate, usage
from smartstream.aws.cost.markdown import bill, profiles, quantity, unit_price, usd, with_table
from smartstream.aws.cost.prices import PRICE_FILE, Prices
from smartstream.aws.cost.schedules import runs_per_month
from smartstream.aws.cost.variables import read_stack
from smartstream.errors import PriceUnknown, TerraformInvalid

PLAIN = Configuration(
    region="eu-north-1",
    egress_mode="nat",
    az_count=2,
    enable_flow_logs=True,
    use_customer_managed_key=False,
    db_instance_class="db.t3.micro",
    db_allocated_storage_gb=20,
    db_multi_az=False,
    dms_instance_class="dms.t3.micro",
    dms_multi_az=False,
    kinesis_stream_mode="PROVISIONED",
    kinesis_shards=2,
    kinesis_retention_hours=24,
    firehose_buffer_size_mb=64,
    firehose_buffer_interval_seconds=60,
    transform_memory_mb=512,
    ml_memory_mb=1024,
    ml_schedule_expression="rate(1 hour)",
    crawler_schedule="cron(0 3 * * ? *)",
)
IDLE = Load(records_per_s=0, tables=0)


def made(load: Load = IDLE, **changes: Any) -> Estimate:
    return estimate(replace(PLAIN, **changes), load, Prices.load())


def of(found: Estimate, item: str) -> float:
    """What the lines of one item cost, in cents."""
    return round(sum(line.monthly_usd for line in found.lines if line.item == item), 2)


def service(name: str, load: Load = IDLE, **changes: Any) -> float:
    return round(made(load, **changes).by_service().get(name, 0.0), 2)


def test_what_stands_still_costs_what_the_price_pages_say() -> None:
    assert service("Network") == 37.23  # 33.58 for NAT, 3.65 for its address
    assert service("RDS") == 14.71
    assert service("DMS") == 13.14
    assert service("Kinesis") == 21.90
    assert service("Glue") == 8.80
    assert service("Secrets and keys") == 1.80
    assert service("Firehose") == service("S3") == 0


def test_endpoints_are_paid_by_service_and_zone() -> None:
    assert service("Network", egress_mode="vpc_endpoints") == 29.20
    assert service("Network", egress_mode="vpc_endpoints", az_count=3) == 43.80


def test_a_standby_costs_as_much_again() -> None:
    assert service("RDS", db_multi_az=True) == 29.42
    assert service("DMS", dms_multi_az=True) == 26.28


def test_a_key_of_ones_own_costs_a_dollar() -> None:
    assert service("Secrets and keys", use_customer_managed_key=True) == 2.80


def test_crawlers_every_hour_cost_211_and_none_cost_nothing() -> None:
    assert service("Glue", crawler_schedule="cron(0 * * * ? *)") == 211.20
    assert service("Glue", crawler_schedule=None) == 0


def test_firehose_bills_records_in_steps_of_5_kb() -> None:
    small, exact, over = (made(Load(10, size, 0)) for size in (1, 5120, 5121))
    assert of(small, "data delivered") == of(exact, "data delivered") == 3.63  # 125.3 GB
    assert of(over, "data delivered") == 7.27


def test_kinesis_counts_records_in_units_of_25_kb() -> None:
    assert of(made(Load(100, 25_600, 1)), "records written") == 3.68
    assert of(made(Load(100, 25_601, 1)), "records written") == 7.36


def test_a_stream_on_demand_is_paid_by_data() -> None:
    found = made(Load(100, 1, 1), kinesis_stream_mode="ON_DEMAND")
    assert of(found, "stream on demand") == 29.20
    assert of(found, "data written") == 20.05  # each record counts as 1 KB
    assert "2 shards" not in {line.item for line in found.lines}


@pytest.mark.parametrize(
    ("hours", "extended", "long_term"),
    [(24, 0.0, 0.0), (25, 29.20, 0.0), (168, 29.20, 0.0), (8760, 29.20, 67.85)],
)
def test_retention_costs_by_shard_for_a_week_and_by_data_after_it(
    hours: int, extended: float, long_term: float
) -> None:
    found = made(Load(100, 1024, 1), kinesis_retention_hours=hours)
    assert of(found, "retention over a day") == extended
    assert of(found, "retention over a week") == long_term


def test_objects_end_by_time_when_little_comes_and_by_size_when_much_comes() -> None:
    assert usage(PLAIN, Load(1, 1024, 3)).objects == 3 * 730 * 60
    assert usage(PLAIN, Load(0.001, 1024, 3)).objects == pytest.approx(2628)  # no object without a record
    full = usage(PLAIN, Load(10_000, 65_536, 1))
    assert full.objects == pytest.approx(full.bytes / (64 << 20))


def test_a_longer_interval_makes_fewer_objects_and_calls() -> None:
    often, rarely = (made(Load(), firehose_buffer_interval_seconds=s).monthly_usd for s in (60, 900))
    assert 2 < often - rarely < 4


def test_no_load_has_no_lines_that_cost_nothing() -> None:
    assert all(line.quantity > 0 for line in made().lines)
    assert "data delivered" not in {line.item for line in made().lines}


def test_what_has_no_price_in_its_region_is_an_estimate_and_said_to_be() -> None:
    found = made()
    by_item = {line.item: line.price for line in found.lines}
    assert by_item["NAT gateway"].region == "eu-north-1"
    assert not by_item["NAT gateway"].estimate
    assert by_item["2 shards"].region == "us-east-1"
    assert by_item["2 shards"].estimate
    assert not by_item["public IPv4 address"].estimate  # the same everywhere
    assert found.notes == ("Lines with ~ are estimates: most have the price of us-east-1.",)


def test_a_region_without_prices_is_named() -> None:
    found = made(region="ap-south-1")
    assert found.notes[0].startswith("There are no prices for ap-south-1: all are those of us-east-1")
    everywhere = {"public IPv4 address", "dashboard"}
    assert all(line.price.estimate for line in found.lines if line.item not in everywhere)


def test_the_reference_region_needs_no_note_and_confirmed_prices_no_mark() -> None:
    found = made(region="us-east-1")
    assert found.notes == ()
    assert not any(line.price.estimate for line in found.lines)


def test_a_load_that_the_shards_cannot_carry_is_noted() -> None:
    assert "This load needs 3 shards; 2 would throttle it" in made(Load(2001, 10, 1)).notes[-1]
    assert "This load needs 5 shards; 2 would throttle it" in made(Load(100, 51_200, 1)).notes[-1]
    assert len(made(Load(2000, 10, 1)).notes) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"db_instance_class": "db.t3.mikro"}, "no price for db.t3.mikro; did you mean db.t3.micro?"),
        ({"dms_instance_class": "dms.zz.metal"}, "no price for dms.zz.metal"),
    ],
)
def test_a_class_without_price_is_named_with_one_that_has_it(changes: Any, words: str) -> None:
    with pytest.raises(PriceUnknown, match=re.escape(words)) as refused:
        made(**changes)
    assert "prices.json" in refused.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"egress_mode": "proxy"}, "egress_mode is proxy; it can be nat or vpc_endpoints"),
        ({"kinesis_stream_mode": "AUTO"}, "kinesis_stream_mode is AUTO"),
        ({"kinesis_shards": -1}, "kinesis_shards is negative"),
        ({"region": None}, "region is null"),
    ],
)
def test_values_that_mean_nothing_are_refused(changes: dict[str, Any], words: str) -> None:
    values = {name: getattr(PLAIN, name) for name in PLAIN.__dataclass_fields__}
    with pytest.raises(TerraformInvalid, match=words):
        Configuration.of({**values, **changes})
    assert Configuration.of({**values, "unpriced": 1}) == PLAIN
    with pytest.raises(TerraformInvalid, match="no value for region, az_count"):
        Configuration.of(
            {name: value for name, value in values.items() if name not in ("region", "az_count")}
        )


def test_every_price_has_its_unit_region_source_and_date() -> None:
    prices = Prices.load()
    for price in prices.all():
        assert price.usd >= 0
        assert price.per
        assert re.fullmatch(r"\*|[a-z]{2}-[a-z]+-\d", price.region)
        assert price.source.endswith(" pricing")
        assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", price.date)
    content = json.loads(PRICE_FILE.read_text(encoding="utf-8"))
    assert len(content["prices"]) == len(prices.all()), "an item has two prices in one region"


def test_every_price_is_used() -> None:
    classes = {price.item.partition(".")[2] for price in Prices.load().all()}
    loaded = Load(3, 99_999, 2)
    used = set()
    for mode in ("PROVISIONED", "ON_DEMAND"):
        for egress in ("nat", "vpc_endpoints"):
            for name in sorted(classes):
                key = "db_instance_class" if name.startswith("db.") else "dms_instance_class"
                change: dict[str, Any] = {key: name} if name.startswith(("db.", "dms.")) else {}
                found = made(
                    loaded,
                    kinesis_stream_mode=mode,
                    egress_mode=egress,
                    kinesis_retention_hours=500,
                    use_customer_managed_key=True,
                    **change,
                )
                used |= {line.price.item for line in found.lines}
    assert {price.item for price in Prices.load().all()} == used


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "prices.json:1: not JSON"),
        ("[]", "not a file of prices"),
        ('{"prices": [{"item": "x"}], "reference_region": "us-east-1"}', "not a file of prices"),
    ],
)
def test_a_price_file_that_is_none_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(content)
    with pytest.raises(PriceUnknown, match=words):
        Prices.load(tmp_path / "prices.json")
    with pytest.raises(PriceUnknown, match="cannot be read"):
        Prices.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("expression", "runs"),
    [
        ("rate(1 hour)", 720),
        ("rate(15 minutes)", 2880),
        ("rate(2 days)", 15),
        ("at(2026-01-01T00:00:00)", 1),
        ("", 0),
        (None, 0),
        ("cron(0 3 * * ? *)", 30),
        ("cron(0 * * * ? *)", 720),
        ("cron(0/15 * * * ? *)", 2880),
        ("cron(*/20 8-17 ? * MON-FRI *)", 3 * 10 * 30 * 5 / 7),
        ("cron(0 6,18 ? * 2 *)", 2 * 30 / 7),
        ("cron(0 0 1,15 * ? *)", 2),
        ("cron(0 0 L * ? *)", 1),
        ("cron(0 0 ? * 6#1 *)", 1),
        ("cron(0 0 1 JAN,JUL ? 2027)", 2 / 12),
    ],
)
def test_runs_of_a_schedule_are_counted(expression: str | None, runs: float) -> None:
    assert runs_per_month(expression, "s") == pytest.approx(runs)


@pytest.mark.parametrize(
    "expression",
    ["hourly", "rate(0 hours)", "rate(1 week)", "cron(0 3 * * ?)", "cron(61 * * * ? *)", "cron(a * * * ? *)",
     "cron(9-3 * * * ? *)", "cron(0/0 * * * ? *)", "cron(0 0 ? * 8 *)", "at()"],
)  # fmt: skip
def test_a_schedule_that_aws_would_refuse_is_refused(expression: str) -> None:
    with pytest.raises(TerraformInvalid, match=r"^crawler_schedule"):
        runs_per_month(expression, "crawler_schedule")


def test_numbers_are_written_for_people() -> None:
    lines = {line.item: line for line in made(Load()).lines}
    assert quantity(lines["2 shards"]) == "1,460 shard-hour"
    assert quantity(lines["records written"]) == "2.63 million PUT units of 25 KB"
    assert unit_price(lines["2 shards"].price) == "0.015"
    assert unit_price(lines["alarms"].price) == "0.10"
    assert unit_price(lines["ML, 1024 MB"].price) == "0.0000133334"
    assert usd(lines["2 shards"]) == "~21.90"
    assert usd(lines["NAT gateway"]) == "33.58"
    assert usd(replace(lines["alarms"], quantity=0.001)) == "<0.01"


def test_the_bill_ends_with_its_sum() -> None:
    found = made(Load())
    assert bill(found).splitlines()[-1].startswith("| **total** |")
    assert f"**{found.monthly_usd:,.2f}**" in bill(found).splitlines()[-1]
    assert found.monthly_usd == pytest.approx(sum(found.by_service().values()))


def test_a_page_keeps_all_but_the_table_between_its_markers() -> None:
    estimates = {"default": made()}
    page = "before\n<!-- cost:begin -->\nold | table\n<!-- cost:end -->\nafter\n"
    written = with_table(page, estimates)
    assert written.startswith("before\n<!-- cost:begin -->\n| $ per month | default |\n")
    assert written.endswith("|\n<!-- cost:end -->\nafter\n")
    assert profiles(estimates) in written
    assert with_table(written, estimates) == written
    assert with_table("no markers\n", estimates) == "no markers\n"


VARIABLES = """
variable "name" {
  type    = string
  default = "a-\\"b\\""
}
variable "count_of" {
  type        = number
  default     = 2
  nullable    = false
  description = "How many: 1-3."
  validation {
    condition     = var.count_of > 0
    error_message = "not ${var.count_of}"
  }
}
variable "on" {
  type    = bool
  default = false
}
variable "some" {
  type    = list(string)
  default = ["x"]
}
variable "tags" {
  type    = map(string)
  default = {}
}
variable "mail" {
  type    = string
  default = null
}
variable "password" {
  type      = string
  ephemeral = true
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "variables.tf").write_text(VARIABLES)
    return tmp_path


def values(folder: Path, text: str = "", *pairs: str, name: str = "x.tfvars") -> dict[str, Any]:
    (folder / name).write_text(text)
    return read_stack(folder).values([folder / name], pairs)


def test_defaults_stand_where_nothing_else_is_given(folder: Path) -> None:
    expected = {"name": 'a-"b"', "count_of": 2, "on": False, "some": ["x"], "tags": {}, "mail": None}
    assert values(folder) == expected


def test_a_file_beats_defaults_and_the_command_line_beats_files(folder: Path) -> None:
    text = '# comment\nname = "file"\ncount_of = 3\nsome = ["a", "b"]\ntags = { "k e" = "v" }\n'
    found = values(folder, text, "name=cl=i", "on=true", 'some=["c"]')
    assert (found["name"], found["count_of"], found["on"]) == ("cl=i", 3, True)
    assert (found["some"], found["tags"]) == (["c"], {"k e": "v"})


def test_a_json_file_is_read_too(folder: Path) -> None:
    assert values(folder, '{"count_of": 7, "mail": null}', name="x.tfvars.json")["count_of"] == 7


def test_values_are_converted_as_terraform_does(folder: Path) -> None:
    found = values(folder, 'count_of = "5"\non = "true"\nname = 7\n')
    assert (found["count_of"], found["on"], found["name"]) == (5, True, "7")


def test_null_is_a_value_unless_the_variable_forbids_it(folder: Path) -> None:
    found = values(folder, "name = null\ncount_of = null\n")
    assert (found["name"], found["count_of"]) == (None, 2)


def test_files_that_terraform_reads_unasked_come_in_its_order(folder: Path) -> None:
    for name in ("b.auto.tfvars", "terraform.tfvars", "a.auto.tfvars", "other.tfvars"):
        (folder / name).write_text("")
    found = [path.name for path in read_stack(folder).automatic_files()]
    assert found == ["terraform.tfvars", "a.auto.tfvars", "b.auto.tfvars"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n# x\ncount = 1\n", r"x\.tfvars:3: there is no variable count; did you mean count_of\?"),
        ("zzz = 1\n", r"x\.tfvars:1: there is no variable zzz$"),
        ('\ncount_of = "many"\n', r"x\.tfvars:2: count_of: expected number, found a string$"),
        ("count_of = true\n", "expected number, found a bool"),
        ("on = 3\n", "expected bool, found a number"),
        ('some = "x"\n', r"expected list\(string\), found a string"),
        ("name = {}\n", "expected string, found an object"),
        ("tags = []\n", r"expected map\(string\), found a list"),
        ("name = var.other\n", r"x\.tfvars:1: only literal values"),
        ('name = "${var.other}"\n', r"x\.tfvars:1: only literal values"),
        ("count_of = 1 + 1\n", "only literal values"),
        ('variable "x" {\n}\n', r"x\.tfvars:1: variable is a block"),
        ('name = "a"\ncount_of = = 3\n', r"x\.tfvars:2: not HCL"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(folder: Path, text: str, words: str) -> None:
    with pytest.raises(TerraformInvalid, match=words):
        values(folder, text)


@pytest.mark.parametrize("text", ['password = ["canary"]\n', 'password = { a = "canary" }\n'])
def test_values_never_stand_in_an_error(folder: Path, text: str) -> None:
    with pytest.raises(TerraformInvalid) as refused:
        values(folder, text)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("canary", "^-var: expected name=value$"),
        ("conut_of=1", "^-var conut_of: there is no variable conut_of; did you mean count_of"),
        ("count_of=many", "^-var count_of: only literal values"),
        ("count_of=", "^-var count_of:?.*not HCL"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(folder: Path, pair: str, words: str) -> None:
    with pytest.raises(TerraformInvalid, match=words):
        values(folder, "", pair)


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    stack = read_stack(folder)
    (folder / "latin.tfvars").write_bytes(b'name = "\xe9"')
    (folder / "bad.tfvars.json").write_text('{\n"name": }')
    (folder / "list.tfvars.json").write_text("[]")
    for name, words in {
        "none.tfvars": "there is no .*none.tfvars",
        "latin.tfvars": "latin.tfvars:1: is not UTF-8",
        "bad.tfvars.json": "bad.tfvars.json:2: not JSON",
        "list.tfvars.json": "not a JSON object of variables",
        "": "cannot be read",
    }.items():
        with pytest.raises(TerraformInvalid, match=words):
            stack.values([folder / name])
    with pytest.raises(TerraformInvalid, match=r"there is no .*variables\.tf") as refused:
        read_stack(folder / "nowhere")
    assert "--stack" in refused.value.hint

"""What the stack costs: the defaults, the examples, the command, and pages that are current."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smartstream.aws.cost import estimate as assumed
from smartstream.aws.cost.markdown import BEGIN, END, profiles
from smartstream.cli import main
from smartstream.cli.aws import EXAMPLES, estimates
from smartstream.cli.docs import cost_pages
from smartstream.errors import ExitCode
from tests.aws.terraform_runner import ROOT, STACK


def test_the_default_stack_costs_about_a_hundred_dollars() -> None:
    assert 90 < estimates(STACK)["default"].monthly_usd < 115


def test_the_examples_are_priced_and_in_order() -> None:
    found = estimates(STACK)
    assert list(found) == ["default", *EXAMPLES]
    assert found["low-cost"].monthly_usd < found["dev"].monthly_usd < found["default"].monthly_usd
    assert found["prod"].monthly_usd > found["default"].monthly_usd


@pytest.mark.parametrize("path", sorted(cost_pages(ROOT)), ids=lambda path: str(path.name))
def test_pages_show_the_figures_of_today(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == cost_pages(ROOT)[path], "run: python -m smartstream.cli.docs"


def test_the_readme_has_the_table_when_it_has_its_markers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (BEGIN in text) == (END in text)
    if BEGIN in text:
        assert f"{BEGIN}\n{profiles(estimates(STACK))}{END}" in text


def test_what_is_always_there_is_counted_as_it_is_planned(default_plan: dict[str, Any]) -> None:
    planned = [
        change["change"]["after"] | {"type": change["type"]}
        for change in default_plan["resource_changes"]
        if "create" in change["change"]["actions"]
    ]
    counts = Counter(resource["type"] for resource in planned)
    assert counts["aws_cloudwatch_metric_alarm"] == assumed.ALARMS
    assert counts["aws_cloudwatch_composite_alarm"] == assumed.COMPOSITE_ALARMS
    assert counts["aws_cloudwatch_log_metric_filter"] == assumed.METRIC_FILTERS
    assert counts["aws_cloudwatch_dashboard"] == assumed.DASHBOARDS
    assert counts["aws_glue_crawler"] == assumed.CRAWLERS
    assert counts["aws_nat_gateway"] == counts["aws_eip"] == 1
    managed = [one for one in planned if one.get("manage_master_user_password")]
    assert counts["aws_secretsmanager_secret"] + len(managed) == assumed.SECRETS
    assert counts["aws_kms_key"] == assumed.KEYS


def test_the_endpoints_that_are_priced_are_those_of_the_stack() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in STACK.glob("*.tf"))
    (listed,) = re.findall(r"interface_endpoints\s*=[^\[]*\[([^\]]+)\]", text)
    assert sorted(re.findall(r'"([^"]+)"', listed)) == sorted(assumed.INTERFACE_ENDPOINTS)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command on the stack of this checkout."""
    code = main(["aws", "cost", "--stack", str(STACK), *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_command_takes_terraforms_own_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.tfvars").write_text('kinesis_shards = 4\negress_mode = "nat"\n')
    options = [
        "-var-file",
        str(tmp_path / "mine.tfvars"),
        "-var",
        "egress_mode=vpc_endpoints",
        "-var=region=us-east-1",
    ]
    code, out, _ = run(capsys, *options, "--json")
    answer = json.loads(out)
    items = {line["item"] for line in answer["lines"]}
    assert code == ExitCode.OK
    assert answer["region"] == "us-east-1"
    assert {"4 shards", "4 interface endpoints"} <= items
    assert answer["monthly_usd"] == pytest.approx(
        sum(line["monthly_usd"] for line in answer["lines"]), abs=0.01
    )
    assert {"usd", "per", "region", "source", "date", "estimate"} == set(answer["lines"][0]["price"])


def test_the_command_shows_a_table_its_sum_and_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == ExitCode.OK
    assert re.search(r"NAT gateway +│ +730 hour │ +0\.046 │ +33\.58", out)
    assert re.search(r"^total .* 1\d\d\.\d\d$", out, flags=re.MULTILINE)
    assert "not included:" in out
    assert "next: " in out


def test_a_heavier_load_costs_more(capsys: pytest.CaptureFixture[str]) -> None:
    light = json.loads(run(capsys, "--json")[1])["monthly_usd"]
    load = ("--records-per-second", "500", "--record-bytes", "6000", "--tables", "40")
    code, out, _ = run(capsys, *load, "--json")
    heavy = json.loads(out)
    assert code == ExitCode.OK
    assert heavy["monthly_usd"] > light + 100
    assert "This load needs 3 shards" in heavy["notes"][-1]


def test_markdown_is_the_table_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--markdown")
    assert code == ExitCode.OK
    if not list(STACK.glob("*.tfvars")):
        assert out in (ROOT / "docs" / "aws-cost.md").read_text(encoding="utf-8")
    assert run(capsys, "--markdown", "--json")[0] == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-var", "kinesis_shrads=3"], "there is no variable kinesis_shrads; did you mean kinesis_shards?"),
        (
            ["-var", "db_instance_class=db.t9.micro"],
            "there is no price for db.t9.micro; did you mean db.t3.micro?",
        ),
        (["-var-file", "none.tfvars"], "there is no none.tfvars"),
        (["-var", "crawler_schedule=hourly"], "crawler_schedule: hourly is not rate"),
        (["--stack", "nowhere"], "there is no nowhere/variables.tf"),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == ExitCode.CONFIGURATION
    assert words in err
    assert "\nnext: " in err
    assert out == ""


def test_a_password_given_by_the_way_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "-var", "dms_source_password=canary-0123456789", "--json")
    assert code == ExitCode.OK
    assert "canary" not in out + err

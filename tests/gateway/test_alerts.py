"""Alarms as data: they name metrics that there are, they fire when they should, and they say what to do, twice."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import REGISTRY

import gateway
from runtime import crowd

RULES: Final = Path(gateway.__file__).with_name("alerts.yaml")
DOCS: Final = Path(gateway.__file__).parents[1] / "docs"
NAME: Final = re.compile(r"\bkwbp_[a-z_]+\b")
# What must alarm somebody, by the metric that knows it.
NEEDED: Final = {
    "kwbp_gateway_unknown_outcomes_count",
    "kwbp_gateway_oldest_reversal_age_seconds",
    "kwbp_gateway_link_up",
    "kwbp_gateway_shed_total",
    "kwbp_gateway_zone_key_age_seconds",
    "kwbp_log_unsigned_entries",
    "kwbp_gateway_open_day_overdue_seconds",
    "kwbp_gateway_open_differences_count",
    "kwbp_gateway_returned_payouts_count",
    "kwbp_gateway_oldest_unanswered_payout_seconds",
    "kwbp_work_ended_total",
}


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def metrics() -> set[str]:
    """Names of the samples that a gateway shows."""
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    assert crowd.__name__ in sys.modules
    found = set()
    for family in REGISTRY.collect():
        found |= {family.name, *(sample.name for sample in family.samples)}
        found |= {f"{family.name}_total"} if family.type == "counter" else set()
    return {name for name in found if name.startswith(("kwbp_gateway", "kwbp_log", "kwbp_server", "kwbp_work"))}


def test_every_metric_of_a_rule_is_one_of_the_gateways() -> None:
    named = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    assert named <= metrics()
    assert named >= NEEDED


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alarm_says_what_it_is_and_what_to_do_in_both_languages(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert said.keys() == {"summary", "summary_fa", "action", "action_fa"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    for name in ("summary_fa", "action_fa"):
        assert re.search("[\u0600-\u06ff]{3}", said[name])
    assert not re.search("[\u0600-\u06ff]", said["summary"] + said["action"])


@pytest.mark.parametrize("guide", ["gateway-operations.md", "gateway-operations.fa.md"])
def test_the_guide_explains_every_metric(guide: str) -> None:
    text = (DOCS / guide).read_text("utf-8")
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in REGISTRY.collect()
        if family.name.startswith(("kwbp_gateway", "kwbp_server", "kwbp_work")) and metrics()
    }
    assert sorted(name for name in families if f"`{name}`" not in text) == []


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@promtool
def test_promtool_finds_nothing_wrong() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


FIRING: Final = {
    "GatewayAway": [],
    "GatewayDependencyAway": ['kwbp_gateway_dependency_up{instance="g",what="keys"}', "0x60"],
    "GatewayNoLine": ['kwbp_gateway_link_up{instance="g",connector="switch",line="0"}', "0x60"],
    "GatewayNetworkClock": [
        'kwbp_gateway_link_alarm{instance="g",connector="s",alarm="the network\'s clock is another"}',
        "1x60",
    ],
    "GatewayAnswersNotBelieved": ['kwbp_gateway_link_refused_total{instance="g",connector="s",why="mac"}', "0+60x60"],
    "GatewayUnknownOutcomes": ['kwbp_gateway_unknown_outcomes_count{instance="g"}', "21x60"],
    "GatewayReversalOld": ['kwbp_gateway_oldest_reversal_age_seconds{instance="g"}', "901x60"],
    "GatewayHandedOver": ['kwbp_gateway_open_orders_count{instance="g",state="REV_FAILED"}', "1x60"],
    "GatewayShedsLoad": ['kwbp_gateway_shed_total{instance="g",reason="queue"}', "0+120x60"],
    "GatewayConnectionsRefused": [
        'kwbp_server_connections_refused_total{instance="g",port="cards",reason="total"}',
        "0+600x60",
    ],
    "GatewayZoneKeyOld": ['kwbp_gateway_zone_key_age_seconds{instance="g",zone="switch",key="zone-mac"}', "172801x60"],
    "GatewayJournalNotSigned": ['kwbp_log_unsigned_entries{instance="g",log="log-gateway"}', "5x60"],
    "GatewayDayNotReconciled": ['kwbp_gateway_open_day_overdue_seconds{instance="g"}', "21601x60"],
    "GatewayDifferencesOpen": ['kwbp_gateway_open_differences_count{instance="g"}', "1x60"],
    "GatewayListMissing": ['kwbp_gateway_missing_lists_count{instance="g",route="switch"}', "1x60"],
    "GatewayListRefused": ['kwbp_gateway_refused_lists_count{instance="g",route="switch"}', "1x60"],
    "GatewayListWaiting": ['kwbp_gateway_waiting_lists_count{instance="g",route="switch"}', "1x60"],
    "GatewayWorkEnded": ['kwbp_work_ended_total{instance="g",work="reconciliation"}', "0+1x60"],
    "GatewayPayoutReturned": ['kwbp_gateway_returned_payouts_count{instance="g"}', "1x60"],
    "GatewayPayoutNotAnswered": ['kwbp_gateway_oldest_unanswered_payout_seconds{instance="g"}', "172801x60"],
}
BESIDE: Final = {"GatewayJournalNotSigned": ['kwbp_log_checkpoints_total{instance="g",log="log-gateway"}', "7x60"]}


@promtool
def test_every_alarm_fires_for_what_it_is_about_and_for_nothing_else(tmp_path: Path) -> None:
    """By promtool itself, on made-up series: half an hour of trouble, and half an hour of none."""
    assert FIRING.keys() == {rule["alert"] for rule in rules()}
    quiet = {'kwbp_gateway_dependency_up{instance="g",what="database"}': "1x60"}
    tests = []
    for name, series in FIRING.items():
        inputs = [] if name == "GatewayAway" else [{"series": each, "values": value} for each, value in quiet.items()]
        for each in (series, BESIDE.get(name, [])):
            inputs += [{"series": each[0], "values": each[1]}] if each else []
        conditions = [
            {"expr": f'count(ALERTS{{alertname="{each}",alertstate="firing"}}) or vector(0)', "eval_time": "45m",
             "exp_samples": [{"value": int(each == name)}]}
            for each in FIRING
        ]  # fmt: skip
        tests.append({"interval": "1m", "input_series": inputs, "promql_expr_test": conditions, "name": name})
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    checked = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

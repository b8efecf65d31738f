"""Every table in a terminal of 80 columns: nothing is cut off, no line is longer, no word of a heading is broken."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from orchestrator.aggregator import CostLedger, StageCost
from orchestrator.audit.attack_results import read_attack
from orchestrator.audit.leakage_results import read_audit
from orchestrator.audit.transcript_results import read_transcript_file
from orchestrator.cli.audit_tables import print_attack, print_audit, print_transcript
from orchestrator.cli.fairness_tables import print_fairness
from orchestrator.cli.fleet_tables import print_plan, print_policies
from orchestrator.cli.output import new_table, screen
from orchestrator.cli.privacy import _show as show_privacy
from orchestrator.cli.tables import print_comparison, print_costs, print_predictions
from orchestrator.evaluation.costs import Costs, NotSummed
from orchestrator.evaluation.device_costs import OnPhones, Speed
from orchestrator.evaluation.privacy import MechanismCost, RunPrivacy
from orchestrator.evaluation.results import read_evaluation
from orchestrator.fairness.results import FairnessResult, Part, PartByGroup, PerClient, Recall, RecallByGroup
from orchestrator.fleet.results import GroupShares, Hours, PlanFigures, Traffic
from orchestrator.fleet.self_check import Check
from orchestrator.settings.kinds import MECHANISM_TRAITS, SUM_TRAITS

OLD_RUN = Path(__file__).parents[2] / "data" / "run_of_0_1" / "run"


def show_evaluation():
    evaluation = read_evaluation(OLD_RUN)
    print_comparison(evaluation)
    print_predictions(evaluation.examples)


def show_attack():
    """With the longest name that a view can have."""
    attack = read_attack(OLD_RUN)
    views = {**attack.views, "sum_10000": attack.views["sum_2"]}
    print_attack(msgspec.structs.replace(attack, views=views, baselines={**attack.baselines, "sum_10000": 0.5}))


def show_fairness():
    row = Recall(131_072, 562_681, 0.1945, 0.3152, 0.0357, PerClient(131_072, 0.2092, 0.06, 0.1133, 0.9227))
    about = "share of a person's words outside the 1,000 most frequent, in thirds"
    groups = {"below 12.5%": row, "12.5% to 17%": row, "17% or more": row}
    attribute = RecallByGroup(about, groups, 0, 0, 0.0413, 0.8219, 0.0465, 0.009, 9999)
    part = Part(131_072, 100_000, 1_234_567, 1_234_567, 0.3333, 0.3333)
    heard = PartByGroup(dict.fromkeys(groups, part), 0, 0, 0.25, False)
    print_fairness(
        FairnessResult(
            1000, "0" * 64, "test", "encrypted", 10, 20, row.clients, row.positions, row.top1, row.top3, row.oov_rate,
            row.per_client, (0,) * 100, {"vocabulary": attribute}, {"vocabulary": heard}, {"time zone": "nobody knows"},
        )
    )  # fmt: skip


def show_costs():
    stages = {
        name: StageCost(91_234_567, 91_234_567, 123.456) for name in ("advertise", "consistency_check", "encrypt")
    }
    bill = CostLedger(per_client=stages, server=stages, decryptor=stages, helpers=stages)
    names = list(SUM_TRAITS)
    networks = ("worldwide, fixed", "China, 4G", "China, WiFi 4")
    on_phones = OnPhones(
        networks={name: Speed(1.0, 1.0) for name in networks},
        slowdown={"low": 30.0, "mid": 20.0, "high": 10.0},
        model_s=dict.fromkeys(networks, 3599.0),
        transfer_s={name: dict.fromkeys(networks, 3599.0) for name in names},
        cpu_s_at_most={name: dict.fromkeys(("low", "mid", "high"), 3599.0) for name in names},
        sources={},
    )
    same = {**dict.fromkeys(names, bill), "impossible": NotSummed("too few clients")}
    print_costs(Costs(stages, stages, stages, stages, "encrypted", 12_000, 1000, 5_689_000, 5_689_000, same, on_phones))


def show_plan():
    shares = GroupShares(1000, 0.3333, 0.3333, 0.3333, 0.3333, 0.3333)
    groups = {"speed": dict.fromkeys(("low", "middle", "high"), shares), "time_zone": {"UTC-10": shares}}
    hours = Hours((98_765.0,) * 24, (98_765.0,) * 24, (98_765,) * 24)
    lost = {"interrupted": {"upload": 12_345}}
    figures = PlanFigures(
        "fedbuff", "encrypted", 100_000, 24, 12_345, 12, 12, {"p10": 600.0, "p50": 700.0, "p90": 4000.0},
        {"selection": 60.0, "download": 10.0, "train": 440.0}, 123_456, 12_345.0, 0.12, lost,
        1.3, 4.2, {"completed": 123_456, "refused": 1_234}, hours, groups, Traffic(12_345.0, 6_789.0), 12_345_678, 99.0,
        1234.0,
    )  # fmt: skip
    source = "Bonawitz et al. 2019, Towards Federated Learning at Scale, section 9 and figure 5"
    print_plan(figures, [Check("rounds an hour", "about 1 every 2 to 3 minutes", 20.0, 30.0, 12_345.678, source)])


def show_policies():
    own = {
        "aggregator": "encrypted", "rounds": 12_345, "round_s": {"p50": 12_345.6}, "updates_per_hour": 123_456.0,
        "drop_out_rate": 0.1234, "bytes_per_update": 123_456_789,
        "curve": [{"round_num": 12_345, "virtual_hours": 123.4, "gigabytes": 1234.56, "dev_top1": 0.1234}],
    }  # fmt: skip
    print_policies({"hours": 1, "policies": {"sync": own, "fedbuff": own}})


def show_one_runs_privacy():
    costs = tuple(
        MechanismCost(name, 12.3456, 12.3456, 0.012345, np.ones(2)) for name in MECHANISM_TRAITS if name != "none"
    )
    show_privacy(
        RunPrivacy(
            mechanism="distributed", noise_multiplier=1.2345, clip_norm=0.5, separation=1, population=1, delta=1e-5,
            budget=10.0, rounds_charged=1, most_participations=1, zcdp=0.5, epsilon={1e-5: 9.87654321, 1e-6: None},
            word_list=None, total=None, assumptions=("One person is all their text.",), target=10.0, costs=costs,
            bands=1, band_choices=(), start=None, ngram=None,
        )
    )  # fmt: skip


SHOWN = {
    "evaluate": (show_evaluation, "top-1 95 % top-3 nats per person"),
    "attack": (show_attack, "view rule precision recall F1 best AUC guess row_direction encrypted sum_10000"),
    "audit": (lambda: print_audit(read_audit(OLD_RUN)), "epsilon of kind how upper bound"),
    "transcript": (lambda: print_transcript(read_transcript_file(OLD_RUN)), "plain secagg encrypted uniform?"),
    "fairness": (
        show_fairness,
        "people words top-1 562,681 1,234,567 unknown worst tenth selected summed updates 12.5% more",
    ),
    "costs": (show_costs, "stage sent received CPU plain secagg encrypted receive model consistency check"),
    "fleet": (show_plan, "fleet selected counted never published band simulated source"),
    "policies": (show_policies, "sync fedbuff encrypted"),
    "privacy": (show_one_runs_privacy, "mechanism noise multiplier running epsilon distributed"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_table_fits_80_columns_and_cuts_nothing_off(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show, words = SHOWN[name]
    show()
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert set(words.split()) <= set(re.split(r"[\s│]+", shown)), name


def test_what_is_too_wide_is_folded_and_not_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    table = new_table("", ("a", "b"))
    table.add_row("x" * 30, "y")
    screen().print(table)
    assert capsys.readouterr().out.count("x") == 30


def test_counts_of_one_are_singular(capsys):
    show_one_runs_privacy()
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 person, 1 charge, at most 1 of one person, at least 1 round apart" in shown
    show_policies()
    assert re.search(r"The same phones for 1 virtual hour\s", capsys.readouterr().out)

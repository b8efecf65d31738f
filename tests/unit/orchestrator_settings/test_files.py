from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.errors import ConfigError
from orchestrator.settings.describe import describe_config
from orchestrator.settings.files import config_digest, preset, read_config, write_config
from orchestrator.settings.presets import PRESETS
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import DataConfig


def _toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_over_the_preset_over_the_defaults(tmp_path: Path) -> None:
    path = _toml(tmp_path, "seed = 7\n[rounds]\ncount = 30\ncohort_size = 6\n")
    config = read_config(path, "gboard", {"rounds.cohort_size": 3, "rounds.keep_checkpoints": None})
    assert config.rounds.cohort_size == 3  # flag
    assert config.rounds.count == 30  # file
    assert config.model.num_cells == 670  # preset
    assert config.rounds.keep_checkpoints == RunConfig().rounds.keep_checkpoints  # a flag that was not given
    assert config.seed == 7


def test_the_defaults_are_the_preset_small() -> None:
    assert preset("small") == read_config() == RunConfig()


def test_gboard_has_the_published_number_of_weights() -> None:
    model = preset("gboard").model
    rows, width, cells = model.vocabulary_size, model.embedding_size, model.num_cells
    embedding, kernel, bias, projection = rows * width, 2 * width * 3 * cells, 3 * cells, cells * width
    assert embedding + kernel + bias + projection + rows == 1_422_250


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_is_read_back_equal(name: str, tmp_path: Path) -> None:
    config = msgspec.structs.replace(preset(name), seed=2**63 - 1, data=DataConfig(source='a "path"\n\\ü'))
    write_config(config, tmp_path / "config.toml")
    again = read_config(tmp_path / "config.toml")
    assert again == config
    assert config_digest(again) == config_digest(config)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_the_digest_is_the_same_in_another_process_and_another_for_any_change() -> None:
    program = "from orchestrator.settings.files import config_digest, preset; print(config_digest(preset('gboard')))"
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == config_digest(preset("gboard"))
    assert config_digest(preset("gboard")) != config_digest(read_config(preset="gboard", overrides={"seed": 1}))


@pytest.mark.parametrize(
    ("preset_name", "overrides", "digest"),
    [
        ("small", {}, "097b7aa1d01392dc33278b23105c184ae22e86dccf5387be613b8bebc91e9b0a"),
        (
            "private",
            {  # as the preset was
                "audit.canaries": 20,
                "client.epochs": 1,
                "server.learning_rate": 1.0,
                "data.vocabulary": "pooled",
            },
            "6a0eb4f0861107d2086ed7bf4cf3cbe0bb30a6d97d2eaa1545cd12f14a39f1c1",
        ),
        ("small", {"aggregation.helpers": 1}, "097b7aa1d01392dc33278b23105c184ae22e86dccf5387be613b8bebc91e9b0a"),
        ("small", {"fleet.policy": "sync"}, "f7a25a829822a38233b01c9f1b97a563c585f4ec27a0b592064004eca08b9886"),
    ],
)
def test_kept_runs_can_go_on_since_digests_stay(preset_name: str, overrides: dict[str, Any], digest: str) -> None:
    """What version 0.1.0 wrote into run.json: a new setting at its default must leave these as they are."""
    assert config_digest(read_config(preset=preset_name, overrides=overrides, of_run=True)) == digest


def test_the_description_names_and_explains_every_setting_and_reads_as_the_defaults(tmp_path: Path) -> None:
    text = describe_config()
    assert read_config(_toml(tmp_path, text)) == RunConfig()
    lines = text.splitlines()
    settings = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    defaults = msgspec.to_builtins(RunConfig())
    assert len(settings) == sum(len(value) if isinstance(value, dict) else 1 for value in defaults.values())
    assert all(lines[number - 1].startswith("# ") for number in settings)


@pytest.mark.parametrize("name", PRESETS)
def test_the_description_of_a_preset_reads_as_the_preset(tmp_path: Path, name: str) -> None:
    assert read_config(_toml(tmp_path, describe_config(preset(name), "the preset's values"))) == preset(name)


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("rounds.cout", 3, "there is no setting rounds.cout, did you mean rounds.count?"),
        ("cohort_size", 3, "there is no setting cohort_size, did you mean rounds.cohort_size?"),
        ("client.batch", 3, "there is no setting client.batch, did you mean client.batch_size?"),
        ("xyzzy", 3, "there is no setting xyzzy (`fedkeys config`"),
        ("xyzzy", {}, "there is no setting xyzzy"),
        ("client", 3, "client = 3, but client is a section"),
        ("client.batch_size", {"x": 1}, "there is no setting client.batch_size.x"),
        ("client.batch_size", "16", "client.batch_size = '16': must be a whole number"),
        ("client.batch_size", 16.0, "client.batch_size = 16.0: must be a whole number"),
        ("client.batch_size", True, "client.batch_size = True: must be a whole number"),
        ("client.batch_size", [16], "client.batch_size = [16]: must be a whole number"),
        ("client.batch_size", 0, "client.batch_size = 0: must be at least 1"),
        ("rounds.cohort_size", 0, "rounds.cohort_size = 0: must be at least 1"),
        ("rounds.count", 2**40, "must be at least 1, at most 2147483647"),
        ("seed", -1, "seed = -1: must be at least 0"),
        ("client.learning_rate", "fast", "client.learning_rate = 'fast': must be a number"),
        ("client.learning_rate", 0.0, "client.learning_rate = 0.0: must be above 0"),
        ("client.learning_rate", float("inf"), "client.learning_rate = inf is not a finite number"),
        ("client.clip_norm", float("nan"), "client.clip_norm = nan"),
        ("server.decay_start", 1.5, "server.decay_start = 1.5: must be at least 0, at most 1"),
        ("server.momentum", 1.0, "server.momentum = 1.0: must be at least 0, below 1"),
        ("data.dev_share", 0.0, "data.dev_share = 0.0: must be above 0, below 1"),
        ("data.source", "", "data.source = '': must be a text that is not empty"),
        ("model.start_from_word_counts", 1, "model.start_from_word_counts = 1: must be true or false"),
        ("server.algorithm", "fedadm", "or fedadagrad, did you mean fedadam?"),
        ("server.schedule", 3, "server.schedule = 3: must be constant, linear or cosine"),
        ("runtime.clients_per_call", 101, "runtime.clients_per_call = 101: must be at least 1, at most 100"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(setting: str, value: Any, complaint: str, tmp_path: Path) -> None:
    import tomli_w

    section, _, field = setting.rpartition(".")
    tree = {section: {field: value}} if section else {field: value}
    path = _toml(tmp_path, tomli_w.dumps(tree))
    with pytest.raises(ConfigError) as raised:
        read_config(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert complaint in message
    assert "\n" not in message
    assert raised.value.exit_code == 2


def test_a_wrong_flag_is_laid_to_the_command_line_and_not_to_the_file(tmp_path: Path) -> None:
    path = _toml(tmp_path, "[rounds]\ncount = 30\n")
    with pytest.raises(ConfigError, match=r"^command line: rounds\.count = 0"):
        read_config(path, overrides={"rounds.count": 0})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model.vocabulary_size": 9000, "data.vocabulary_size": 8000}, "9000, data.vocabulary_size = 8000"),
        ({"data.dev_share": 0.6, "data.test_share": 0.4}, "data.dev_share = 0.6, data.test_share = 0.4"),
        ({"data.min_sentences": 50, "data.max_sentences_train": 40}, "50, data.max_sentences_train = 40"),
        ({"client.length_buckets": 21}, "client.length_buckets = 21, data.max_words = 20"),
        ({"server.warmup_rounds": 9, "rounds.count": 9}, "server.warmup_rounds = 9, rounds.count = 9"),
        (
            {"server.warmup_rounds": 5, "rounds.count": 10, "server.decay_start": 0.4},
            "server.warmup_rounds = 5, server.decay_start = 0.4, rounds.count = 10",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(overrides=settings)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_warm_up_into_a_constant_rate_may_be_long() -> None:
    settings: dict[str, Any] = {"server.warmup_rounds": 9, "rounds.count": 10, "server.schedule": "constant"}
    assert read_config(overrides=settings).server.warmup_rounds == 9


def test_a_configuration_made_in_python_obeys_the_rules_too() -> None:
    with pytest.raises(ConfigError, match="nobody is left to train"):
        RunConfig(data=DataConfig(dev_share=0.5, test_share=0.5))


@pytest.mark.parametrize("spec", ["auto", "1", "16", "phone.example:8000", "a:1,b:65535", "[::1]:8000"])
def test_workers_that_can_be(spec: str) -> None:
    assert read_config(overrides={"runtime.workers": spec}).runtime.workers == spec


@pytest.mark.parametrize("spec", ["", "0", "-1", "two", "a", "a:", ":80", "a:0", "a:65536", "a:1,,b:2", "a:1;b:2"])
def test_workers_that_can_not_be(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.workers = "):
        read_config(overrides={"runtime.workers": spec})


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'smok', did you mean smoke\?: it is one of smoke, small"):
        read_config(preset="smok")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"seed = 1\n[rounds\n", "is not TOML: .*line 2"),
        (b"seed = 1\nseed = 2\n", "is not TOML"),
        (b"# caf\xe9\n", "is not UTF-8, at byte 5"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"run.toml: {complaint}"):
        read_config(path)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml: can't read the configuration: No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_config(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of a file makes the kernel refuse the write, as a full disk does."""
    write_config(RunConfig(), tmp_path / "config.toml")
    before = (tmp_path / "config.toml").read_bytes()
    program = (
        "import resource, signal, sys; from orchestrator.settings.files import preset, write_config;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "write_config(preset('gboard'), sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(tmp_path / "config.toml")], capture_output=True, text=True
    )
    assert "config.toml: can't write the configuration: File too large" in done.stderr
    assert (tmp_path / "config.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_run_of_before_a_setting_is_read_as_it_was_trained(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text("[rounds]\ncount = 7\n")
    old, new = read_config(tmp_path / "old.toml", of_run=True).data, read_config(tmp_path / "old.toml").data
    assert (old.tokeniser, old.min_people, old.language) == (1, 1, "none")
    assert (new.tokeniser, new.min_people, new.language) == (2, 10, "en")
    write_config(read_config(), tmp_path / "new.toml")
    assert read_config(tmp_path / "new.toml", of_run=True).data.tokeniser == 2


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "notepad.toml").write_bytes(b"\xef\xbb\xbf[rounds]\r\ncount = 7\r\n")
    assert read_config(tmp_path / "notepad.toml").rounds.count == 7


def test_workers_may_be_written_as_a_number(tmp_path: Path) -> None:
    assert read_config(_toml(tmp_path, "[runtime]\nworkers = 3\n")).runtime.workers == "3"
    assert read_config(overrides={"runtime.workers": 2}).runtime.workers == "2"
    with pytest.raises(ConfigError, match="runtime.workers"):
        read_config(_toml(tmp_path, "[runtime]\nworkers = true\n"))
    with pytest.raises(ConfigError, match="runtime.workers"):
        read_config(_toml(tmp_path, "[runtime]\nworkers = 0\n"))

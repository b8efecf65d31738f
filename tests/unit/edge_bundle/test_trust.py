"""The key of an app's first bundle is remembered, and bundles of another key are refused."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from stand_in_bundle import FILES, manifest_of, refusal

from edge.bundle.folder import write_bundle
from edge.bundle.signing import generate_key
from edge.bundle.verification import verify_bundle
from edge.errors import BundleError
from orchestrator.cli.commands import cli


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", FILES, manifest_of(FILES))
    return tmp_path / "bundle"


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """(a bundle of one key, a bundle of another key, the public half of the other)."""
    monkeypatch.setenv("FEDKEYS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("edge.bundle.verification._check_model", lambda *_: "")
    monkeypatch.setattr("edge.bundle.verification.check_golden", lambda *_: "")
    monkeypatch.setattr("edge.bundle.verification._check_key_stroke", lambda *_: "")
    bundles = []
    for name in ("one", "two"):
        generate_key(tmp_path / f"{name}.key")
        write_bundle(tmp_path / name, FILES, manifest_of(FILES), tmp_path / f"{name}.key")
        bundles.append(tmp_path / name)
    return (*bundles, tmp_path / "two.key.pub")


def test_the_key_of_an_apps_first_bundle_is_remembered(signed, bundle):
    one, two, _ = signed
    assert [check.name for check in verify_bundle(one, app="keyboard")][-1] == "app"
    list(verify_bundle(one, app="keyboard"))
    assert "is signed with another key" in refusal(lambda: list(verify_bundle(two, app="keyboard")))
    assert "is not signed" in refusal(lambda: list(verify_bundle(bundle, app="keyboard")))
    list(verify_bundle(two, app="another"))  # each app has its own


def test_an_unsigned_first_bundle_of_an_app_is_refused(signed, bundle):
    assert "is not signed" in refusal(lambda: list(verify_bundle(bundle, app="keyboard")))


def test_a_key_that_is_named_takes_the_place_of_the_one_remembered(signed):
    one, two, public = signed
    list(verify_bundle(one, app="keyboard"))
    list(verify_bundle(two, public, app="keyboard"))
    list(verify_bundle(two, app="keyboard"))
    assert "is signed with another key" in refusal(lambda: list(verify_bundle(one, app="keyboard")))


def test_the_key_of_a_bundle_that_fails_is_not_remembered(signed, monkeypatch):
    def fails(*_):
        raise BundleError("the golden batch comes out wrong")

    one, two, _ = signed
    with monkeypatch.context() as patch:
        patch.setattr("edge.bundle.verification.check_golden", fails)
        refusal(lambda: list(verify_bundle(one, app="keyboard")))
    list(verify_bundle(two, app="keyboard"))


def test_of_two_first_bundles_at_once_one_is_accepted(signed):
    """Both are looked at before either key is remembered."""
    one, two, _ = signed
    slow, fast = verify_bundle(one, app="keyboard"), verify_bundle(two, app="keyboard")
    for check in slow:
        if check.name == "golden batch":
            break
    list(fast)
    assert "holds another key than the bundle's" in refusal(lambda: list(slow))
    list(verify_bundle(two, app="keyboard"))


def test_a_remembered_key_that_is_a_link_to_nowhere_is_not_a_first_bundle(signed, tmp_path):
    one, two, _ = signed
    list(verify_bundle(one, app="keyboard"))
    key = tmp_path / "data" / "app_keys" / "keyboard.pub"
    key.unlink()
    key.symlink_to(tmp_path / "nowhere")
    assert f"{key}: can't be read" in refusal(lambda: list(verify_bundle(two, app="keyboard")))
    assert key.is_symlink()


@pytest.mark.parametrize("app", ["", "../x", "a/b", ".hidden", "x" * 65, "a\nb"])
def test_an_apps_name_is_a_files_name(signed, app):
    assert "--app" in refusal(lambda: list(verify_bundle(signed[0], app=app)))


def test_the_command_takes_them(signed, bundle):
    one, two, _ = signed
    for words, code in (
        (["verify", str(one), "--app", "keyboard"], 0),
        (["verify", str(two), "--app", "keyboard"], 2),
        (["verify", str(one), "--require-signature"], 0),
        (["verify", str(bundle), "--require-signature"], 2),
    ):
        assert CliRunner().invoke(cli, words).exit_code == code, words


def test_no_app_ships_a_model_in_which_an_audit_hid_something(signed, tmp_path):
    files = {**FILES, "AUDITED.txt": b"three phrases"}
    write_bundle(tmp_path / "audited", files, manifest_of(files), tmp_path / "one.key")
    assert "use" in [check.name for check in verify_bundle(tmp_path / "audited")]
    assert "not to be used" in refusal(lambda: list(verify_bundle(tmp_path / "audited", app="keyboard")))
    list(verify_bundle(signed[1], app="keyboard"))  # no key was remembered

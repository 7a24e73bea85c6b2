# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json as text."""

from __future__ import annotations

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_json as dj


def test_no_text_is_no_settings() -> None:
    assert dj.parse("", "p") == {}
    assert dj.parse("\ufeff\n", "p") == {}


@pytest.mark.parametrize("text", ["{,}", '{"a": 1', "[1]", "3"])
def test_what_is_no_object_is_refused_with_the_path(text: str) -> None:
    with pytest.raises(dj.DaemonConfigError, match=r"/etc/docker/daemon\.json .*left untouched"):
        dj.parse(text, "/etc/docker/daemon.json")


@pytest.mark.parametrize(("text", "indent"), [("{}", 2), ('{\n    "a": 1\n}', 4), ('{\n\t"a": 1\n}', "\t")])
def test_the_users_indentation_is_seen(text: str, indent: object) -> None:
    assert dj.indent_of(text) == indent


def test_order_and_indentation_stay() -> None:
    text = '{\n    "zebra": 1,\n    "apple": "ä"\n}\n'
    assert dj.render(dj.parse(text, "p"), text) == text


def test_secrets_are_not_shown() -> None:
    document = {"log-opts": {"splunk-token": "s3cret"}, "registry-mirrors": ["https://me:pw@mirror.example"], "n": 1}
    text = dj.shown(document, "")
    assert "s3cret" not in text
    assert "pw@" not in text
    assert "mirror.example" in text

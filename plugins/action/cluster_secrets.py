# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the cluster's secrets: takes together what the store's hosts keep. Nothing is run on any host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.module_utils._secrets import (
    AUTHORITIES,
    STEPS,
    SecretsError,
    choose,
    tokens,
    trusted,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, registered

# What the hosts' task registered; role overlay_consul uses this name.
READ = "__overlay_consul_secrets_read"
Json = dict[str, Any]


def name_of(certificate: str) -> str:
    """The CN of the first certificate of a PEM file, which is the one that issues."""
    # ansible-core brings it; but who only looks at this file need not have it.
    from cryptography import x509

    try:
        subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    except ValueError as exc:
        raise AnsibleActionFail(f"the certificate of the CA is not PEM: {exc}") from exc
    names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def authority(chosen: Json, name: str) -> Json:
    """One of the CAs, as roles want it."""
    certificate = chosen[f"{name}_certificate"]
    return {"name": name_of(certificate), "certificate": certificate, "key": chosen[f"{name}_key"]}


class ActionModule(ActionBase):
    """Chooses the secrets, and derives the tokens."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(["keepers", "hosts", "given", "step"])

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Read what was registered; fail in words where nothing can be chosen."""
        result: Json = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "keepers": {"type": "list", "elements": "str", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "given": {"type": "dict", "default": {}, "no_log": True},
                "step": {"type": "str", "choices": list(STEPS), "default": "none"},
            }
        )
        args = plain(args)
        found = registered((task_vars or {})["hostvars"], args["keepers"], READ, "")
        refused = [str(answer["msg"]) for answer in found.values() if "msg" in answer and not answer.get("unreachable")]
        if refused:
            raise AnsibleActionFail("; ".join(refused))
        read = {host: answer["secrets"] for host, answer in found.items() if "secrets" in answer}
        try:
            chosen = choose(read, args["given"], [host for host in args["keepers"] if host not in read])
        except SecretsError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        chosen = STEPS[args["step"]](chosen)
        result.update({name: authority(chosen, name) for name in AUTHORITIES if f"{name}_key" in chosen})
        if "ca_next" in result and result["ca_next"]["name"] == result["ca"]["name"]:
            # By its name a certificate tells who has issued it.
            raise AnsibleActionFail(
                f"the new CA has the common name of the present one, {result['ca']['name']}: give it another"
            )
        lacking = [host for host in args["keepers"] if read.get(host) != chosen]
        result.update(changed=False, secrets=chosen, tokens=tokens(chosen, args["hosts"]), lacking=lacking)
        # Here and not at the task, which then says why it fails.
        result.update(trusted=trusted(chosen), _ansible_no_log=True)
        return result

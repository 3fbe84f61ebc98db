"""What makes a pod break the Pod Security Standard `restricted`, or what Millrace asks beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millrace.spec.compute import SECRET

VOLUMES = ("config_map", "csi", "downward_api", "empty_dir", "ephemeral", "persistent_volume_claim", "projected",
           "secret")  # fmt: skip
SYSCTLS = ("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
           "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range")  # fmt: skip


SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


def loosened(pod: Any) -> list[str]:
    """Every way in which a pod, as it would be sent to the cluster, is looser than allowed; empty if it is not.

    Looks at all containers, init and ephemeral ones too, and at all volumes.
    """
    spec = pod.spec
    found = [f"{field} is set" for field in ("host_network", "host_pid", "host_ipc") if getattr(spec, field)]
    if spec.automount_service_account_token is not False:
        found.append("the service account's token is mounted")
    for volume in spec.volumes or []:
        if not any(getattr(volume, kind) for kind in VOLUMES):
            found.append(f"volume '{volume.name}' is of a kind that reaches the node")
        projected = volume.projected.sources if volume.projected else None
        if any(source.service_account_token for source in projected or []):
            found.append(f"volume '{volume.name}' holds the service account's token")
    context = spec.security_context
    for sysctl in (context.sysctls if context else None) or []:
        if sysctl.name not in SYSCTLS:
            found.append(f"sysctl {sysctl.name} is set")
    for container in [*(spec.init_containers or []), *spec.containers, *(spec.ephemeral_containers or [])]:
        found += [f"container '{container.name}': {why}" for why in _container(container, context)]
    return found


def _container(container: Any, pod: Any) -> Iterator[str]:
    own = container.security_context

    def given(field: str) -> Any:
        value = getattr(own, field, None) if own else None
        return value if value is not None else getattr(pod, field, None) if pod else None

    if given("run_as_non_root") is not True:
        yield "run_as_non_root is not true"
    if given("run_as_user") == 0:
        yield "runs as root"
    seccomp = given("seccomp_profile")
    if seccomp is None or seccomp.type not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if own is None or own.allow_privilege_escalation is not False:
        yield "allow_privilege_escalation is not false"
    if own is not None and own.privileged:
        yield "is privileged"
    if own is None or own.read_only_root_filesystem is not True:
        yield "may write to its root filesystem"
    for held in (own, pod):
        yield from _isolation(held)
    if own is not None and own.proc_mount not in (None, "Default"):
        yield "has another proc mount"
    capabilities = own.capabilities if own else None
    if capabilities is None or "ALL" not in (capabilities.drop or []):
        yield "does not drop ALL capabilities"
    if capabilities is not None and set(capabilities.add or []) - {"NET_BIND_SERVICE"}:
        yield f"adds capabilities {', '.join(capabilities.add)}"
    if any(port.host_port for port in container.ports or []):
        yield "takes a port of the node"
    for variable in container.env or []:
        if variable.value and SECRET.search(variable.name):
            yield f"variable {variable.name} holds a literal secret"


def _isolation(context: Any) -> Iterator[str]:
    """What a security context, a container's or the pod's, takes away of the kernel's own barriers."""
    if context is None:
        return
    selinux, apparmor, windows = context.se_linux_options, context.app_armor_profile, context.windows_options
    if selinux is not None and (selinux.type not in SELINUX or selinux.user or selinux.role):
        yield "has SELinux options of its own"
    if apparmor is not None and apparmor.type == "Unconfined":
        yield "is not confined by AppArmor"
    if windows is not None and windows.host_process:
        yield "is a process of the host"

"""What a Sensor says about its pods: where they run, what they are labelled with, and what is mounted into them.

Everything here is additional. What the operator sets itself (labels, volumes, mounts, the restricted Pod Security level) has
names of its own, and those are refused at admission (docs/decisions/0088).
"""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from attune_contract import environment
from attune_contract.resources.common import FreeForm, Model, cel

#: Names of Kubernetes objects: an RFC 1123 subdomain.
_OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_OBJECT_NAME)]
VolumeName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
FileMode = Annotated[int, Field(ge=0, le=0o777)]

_NAME: Final = "([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]"
_KEY: Final = f"^([a-z0-9][-a-z0-9.]{{0,251}}[a-z0-9]/)?{_NAME}$"
#: Labels by which the operator and Kubernetes find the pods.
_OUR_LABELS: Final = (
    r"^([^/]*\\.)?attune\\.dev/|^app\\.kubernetes\\.io/(name|instance|part-of|managed-by)$|^pod-template-hash$"
)
#: Annotations of the operator, of kubectl, and those that would lift the restricted Pod Security level.
_OUR_ANNOTATIONS: Final = (
    r"^([^/]*\\.)?attune\\.dev/|^kubectl\\.kubernetes\\.io/|^deprecated\\.daemonset\\.|"
    r"^(container\\.)?(apparmor|seccomp)\\.security\\.(alpha|beta)\\.kubernetes\\.io/"
)
#: Names of the operator's own volumes (attune_operator.resources.deployment).
_OUR_VOLUMES: Final = "^(credentials|spool|tmp|config|scripts|stdio|secret-[0-9]+)$"
#: Folders that are the operator's or the container's, with what is in them.
_OUR_FOLDERS: Final = (
    "/etc/attune",
    "/var/lib/attune",
    "/var/run/attune",
    "/run/attune",
    "/var/run/secrets",
    "/run/secrets",
    environment.SPOOL_MOUNT,
    "/tmp",  # noqa: S108 - in the container
    "/proc",
    "/sys",
    "/dev",
)
#: What contains one of those: to mount there would hide it.
_ABOVE: Final = ("/etc", "/var", "/var/lib", "/var/run", "/var/spool", "/run")


def _list_of(*keys: str) -> JsonDict:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _texts(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _keys(*, called: str, ours: str, refusal: str) -> dict[str, Any]:
    """The rules for the keys of labels or annotations: how they are written, and that none is ours."""
    return {
        "x-kubernetes-validations": [
            cel(
                f"self.all(key, key.matches('{_KEY}'))",
                f"{called} key is a name of at most 63 letters, digits, '-', '_' and '.', with a domain and '/' before it if "
                "there is one",
            ),
            cel(f"self.all(key, !key.matches('{ours}'))", refusal),
        ]
    }


class PodMetadata(Model):
    """Labels and annotations of the pods."""

    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63, pattern=rf"^({_NAME})?$")]],
        Field(
            max_length=32,
            json_schema_extra=_keys(
                called="a label's",
                ours=_OUR_LABELS,
                refusal="labels of attune.dev, app.kubernetes.io/name, instance, part-of and managed-by, and "
                "pod-template-hash are set by the operator and Kubernetes; choose others",
            ),
        ),
    ] = Field(default_factory=dict)
    """Labels of the pods, in addition to the operator's."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=16_384)]],
        Field(
            max_length=32,
            json_schema_extra=_keys(
                called="an annotation's",
                ours=_OUR_ANNOTATIONS,
                refusal="annotations of attune.dev and kubectl.kubernetes.io, and those about AppArmor and seccomp, are not "
                "allowed; choose others",
            ),
        ),
    ] = Field(default_factory=dict)
    """Annotations of the pods, in addition to the operator's. Those of prometheus.io replace the operator's."""


class KeyPath(Model):
    """One key as a file."""

    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key."""
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """The file's path in the volume."""
    mode: FileMode | None = None
    """The file's permissions."""


_ITEMS: Final = "As in a volume: the keys that become files; all of them by default."


class _Source(Model):
    """What volumes of ConfigMaps and Secrets have in common."""

    items: Annotated[list[KeyPath], Field(max_length=64)] | None = None
    """The keys that become files; all of them by default."""
    optional: bool | None = None
    """Whether the pods start without it."""


class ConfigMapVolume(_Source):
    """A ConfigMap of the Sensor's namespace."""

    name: ObjectName
    """The ConfigMap's name."""
    default_mode: FileMode | None = None
    """The files' permissions; 0644 by default."""


class SecretVolume(_Source):
    """A Secret of the Sensor's namespace."""

    secret_name: ObjectName
    """The Secret's name."""
    default_mode: FileMode | None = None
    """The files' permissions; 0644 by default."""


class ClaimVolume(Model):
    """A PersistentVolumeClaim of the Sensor's namespace."""

    claim_name: ObjectName
    """The claim's name. While a change rolls out, an old and a new pod mount it at the same time."""
    read_only: bool | None = None
    """Whether nobody may write to it."""


class EmptyDirVolume(Model):
    """An empty folder that ends with its pod."""

    medium: Literal["", "Memory"] | None = None
    """Memory for a folder in memory, which counts against the container's limit."""
    size_limit: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$")] | None = None
    """How much it may hold, like 100Mi."""


class ProjectedConfigMap(_Source):
    """A ConfigMap as part of a volume."""

    name: ObjectName
    """The ConfigMap's name."""


class ProjectedSecret(_Source):
    """A Secret as part of a volume."""

    name: ObjectName
    """The Secret's name."""


class ProjectedToken(Model):
    """A token of the pod's ServiceAccount, renewed by the kubelet."""

    audience: Annotated[str, Field(max_length=1024)] | None = None
    """For whom it is; the API server by default."""
    expiration_seconds: Annotated[int, Field(ge=600, le=4_294_967_296)] | None = None
    """How long it is valid; an hour by default."""
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """The file's path in the volume."""


class DownwardApi(Model):
    """Fields of the pod as files."""

    items: Annotated[list[FreeForm], Field(max_length=32)] = Field(default_factory=list)
    """As in a volume: path, and fieldRef or resourceFieldRef."""


class Projection(Model):
    """One part of a projected volume."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "[has(self.configMap), has(self.secret), has(self.serviceAccountToken), has(self.downwardAPI)]"
                    ".filter(given, given).size() == 1",
                    "a source is exactly one of configMap, secret, serviceAccountToken and downwardAPI",
                )
            ]
        }
    )

    config_map: ProjectedConfigMap | None = None
    """A ConfigMap."""
    secret: ProjectedSecret | None = None
    """A Secret."""
    service_account_token: ProjectedToken | None = None
    """A token of the pod's ServiceAccount."""
    downward_api: Annotated[DownwardApi | None, Field(alias="downwardAPI")] = None
    """Fields of the pod."""


class ProjectedVolume(Model):
    """Several sources in one folder."""

    sources: Annotated[list[Projection], Field(min_length=1, max_length=16)]
    """Its parts."""
    default_mode: FileMode | None = None
    """The files' permissions; 0644 by default."""


class Volume(Model):
    """A volume of the pods, of the kinds that hold in the Sensor's namespace only."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "[has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), has(self.projected), "
                    "has(self.emptyDir)].filter(given, given).size() == 1",
                    "a volume is exactly one of configMap, secret, persistentVolumeClaim, projected and emptyDir",
                )
            ]
        }
    )

    name: VolumeName
    """The volume's name, for spec.volumeMounts."""
    config_map: ConfigMapVolume | None = None
    """A ConfigMap's keys as files."""
    secret: SecretVolume | None = None
    """A Secret's keys as files. spec.secrets is simpler, where the place does not matter."""
    persistent_volume_claim: ClaimVolume | None = None
    """A PersistentVolumeClaim."""
    projected: ProjectedVolume | None = None
    """Several sources in one folder, or a token of the pod's ServiceAccount for others than the API server."""
    empty_dir: EmptyDirVolume | None = None
    """An empty folder."""


class VolumeMount(Model):
    """Where a volume is in the container."""

    name: VolumeName
    """The volume's name in spec.volumes."""
    mount_path: Annotated[str, Field(min_length=2, max_length=512, pattern=r"^(/[-._a-zA-Z0-9]+)+$")]
    """The path in the container."""
    sub_path: Annotated[str, Field(max_length=512, pattern=r"^[-._a-zA-Z0-9]+(/[-._a-zA-Z0-9]+)*$")] | None = None
    """A path in the volume, instead of all of it. Such a file or folder is not updated when its source changes."""
    read_only: bool | None = None
    """Whether the program may not write to it."""


class TopologySpread(Model):
    """How pods are spread, as in a pod. Without a labelSelector it counts this Sensor's pods."""

    max_skew: Annotated[int, Field(ge=1)]
    """By how many pods two places may differ."""
    topology_key: Annotated[str, Field(min_length=1, max_length=316)]
    """The label of nodes that says what a place is, like kubernetes.io/hostname or topology.kubernetes.io/zone."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What happens to a pod that would be one too many."""
    label_selector: FreeForm | None = None
    """The pods that are counted; this Sensor's by default."""
    match_label_keys: Annotated[list[Annotated[str, Field(max_length=316)]], Field(max_length=8)] | None = None
    """As in a pod."""
    min_domains: Annotated[int, Field(ge=1)] | None = None
    """As in a pod."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """As in a pod."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """As in a pod."""


class DnsOption(Model):
    """An option of the resolver."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Its name, like ndots."""
    value: Annotated[str, Field(max_length=253)] | None = None
    """Its value."""


class DnsConfig(Model):
    """The resolver's settings, as in a pod."""

    nameservers: Annotated[list[Annotated[str, Field(max_length=45)]], Field(max_length=3)] | None = None
    """Addresses of name servers."""
    searches: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=32)] | None = None
    """Domains in which short names are searched."""
    options: Annotated[list[DnsOption], Field(max_length=16)] | None = None
    """Options of the resolver."""


class HostAlias(Model):
    """Names for an address, as in a pod."""

    ip: Annotated[str, Field(min_length=2, max_length=45)]
    """The address."""
    hostnames: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(min_length=1, max_length=32)]
    """The names."""


class DisruptionBudget(Model):
    """A PodDisruptionBudget for the Sensor's pods."""

    max_unavailable: Annotated[int, Field(ge=1, le=16)] = 1
    """How many pods may be evicted at the same time, when nodes are drained. At least one, so that a node always can be."""


class PodOptions(Model):
    """The part of a Sensor's spec that is about its pods."""

    pod_metadata: PodMetadata | None = None
    """Labels and annotations of the pods. A change rolls them."""
    volumes: Annotated[
        list[Volume],
        Field(
            max_length=16,
            json_schema_extra={
                **_list_of("name"),
                "x-kubernetes-validations": [
                    cel(
                        f"self.all(volume, !volume.name.matches('{_OUR_VOLUMES}'))",
                        "volumes named credentials, spool, tmp, config, scripts, stdio and secret-<number> are the operator's; "
                        "choose another name",
                    )
                ],
            },
        ),
    ] = Field(default_factory=list)
    """Volumes of the pods, in addition to the operator's."""
    volume_mounts: Annotated[
        list[VolumeMount],
        Field(
            max_length=16,
            json_schema_extra={
                **_list_of("mountPath"),
                "x-kubernetes-validations": [
                    cel(
                        f"self.all(mount, {_texts(_OUR_FOLDERS)}.all(own, "
                        "mount.mountPath != own && !mount.mountPath.startsWith(own + '/')))",
                        f"nothing can be mounted at or below {', '.join(_OUR_FOLDERS)}; choose another path",
                    ),
                    cel(
                        f"self.all(mount, !(mount.mountPath in {_texts(_ABOVE)}))",
                        f"to mount at {', '.join(_ABOVE)} would hide the operator's files; choose a folder below it",
                    ),
                    cel(
                        "self.all(mount, !mount.mountPath.matches('/[.]{1,2}(/|$)') && "
                        "(!has(mount.subPath) || !mount.subPath.matches('(^|/)[.]{1,2}(/|$)')))",
                        "paths of mounts have no parts . and ..; write the path itself",
                    ),
                ],
            },
        ),
    ] = Field(default_factory=list)
    """Where volumes of spec.volumes are in the container."""
    topology_spread_constraints: Annotated[
        list[TopologySpread],
        Field(max_length=8, json_schema_extra=_list_of("topologyKey", "whenUnsatisfiable")),
    ] = Field(default_factory=list)
    """As in a pod. Without a labelSelector, this Sensor's pods are spread."""
    pod_disruption_budget: DisruptionBudget | None = None
    """With several replicas: how many of them may be evicted at the same time. Without it there is no limit."""
    runtime_class_name: ObjectName | None = None
    """As in a pod."""
    dns_policy: Literal["ClusterFirst", "Default", "None"] | None = None
    """As in a pod."""
    dns_config: DnsConfig | None = None
    """As in a pod."""
    host_aliases: Annotated[list[HostAlias], Field(max_length=32, json_schema_extra=_list_of("ip"))] = Field(
        default_factory=list
    )
    """As in a pod."""


#: Rules about several of these fields at once, for the spec that contains them.
POD_RULES: Final[list[Any]] = [
    cel(
        "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && "
        "self.volumes.exists(volume, volume.name == mount.name))",
        "spec.volumeMounts names a volume that is not in spec.volumes",
    ),
    cel(
        "!has(self.dnsPolicy) || self.dnsPolicy != 'None' || (has(self.dnsConfig) && has(self.dnsConfig.nameservers) && "
        "size(self.dnsConfig.nameservers) > 0)",
        "dnsPolicy: None needs nameservers in spec.dnsConfig",
    ),
]

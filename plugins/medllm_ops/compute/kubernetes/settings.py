"""The cluster that jobs run in, as one YAML file describes it.

The file is ``include/kubernetes/cluster.yaml``, or the one that ``MEDLLM_KUBERNETES`` names. How many GPUs and nodes a
job needs is the job's own, and stands in its recipe.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from medllm_ops.errors import MedllmError
from medllm_ops.home import home, include
from medllm_ops.yaml_file import problems_in_words, read_yaml

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|[kMGTP]|[KMGTP]i)?$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Part(BaseModel):
    # Not strict about numbers: ``cpu: 8`` is how people write it.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Volume(_Part):
    """A claim that every pod mounts, under the path that the tasks see it under."""

    claim: Name = Field(description="Name of the PersistentVolumeClaim; ReadWriteMany, unless it is only read.")
    path: str = Field(pattern=r"^/.+", description="Where it is mounted, absolute: the same path as in the tasks.")
    sub_path: str | None = Field(default=None, pattern=r"^[^/].*", description="A folder of the volume; none: all.")
    read_only: bool = Field(default=False, description="For models and recipes that no job writes.")


class Toleration(_Part):
    """A taint of nodes that the pods do not mind; Kubernetes' own fields."""

    key: str | None = Field(default=None, description="The taint's key; none, with Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="Exists minds no value.")
    value: str | None = Field(default=None, description="The taint's value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; none: all of them."
    )


class SecretKey(_Part):
    """One value of a Secret of the namespace."""

    secret: Name = Field(description="The Secret's name.")
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", description="The key in it.")


class ClusterSettings(_Part):
    """Where and how pods are made. Every field is explained in ``docs/operations/kubernetes.md``."""

    image: str = Field(min_length=1, description="The trainer image (docker/trainer.Dockerfile), with a fixed tag.")
    volumes: list[Volume] = Field(min_length=1, description="What pods mount; one of them holds MEDLLM_HOME.")
    namespace: Namespace = Field(default="medllm", description="Where the pods are made.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: list[Name] = Field(default=[], description="Secrets with the registry's login.")
    service_account: Name = Field(default="default", description="What the pods run as; they need no rights.")
    user: int | None = Field(default=10001, ge=0, description="User id of the processes: the owner of the volume.")
    group: int | None = Field(default=10001, ge=0, description="Group id of the processes and of new files.")
    gpu_resource: str | None = Field(
        default="nvidia.com/gpu", description="What a GPU is called by the device plugin; null: a cluster without GPUs."
    )
    cpu: Quantity | None = Field(default=None, description="Cores that a pod asks for.")
    memory: Quantity | None = Field(default=None, description="Memory that a pod asks for and may use, as 64Gi.")
    shared_memory: Quantity = Field(default="8Gi", description="Size of /dev/shm; it counts as memory of the pod.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: list[Toleration] = []
    runtime_class: Name | None = Field(default=None, description="The RuntimeClass, such as nvidia.")
    priority_class: Name | None = Field(default=None, description="The PriorityClass; a low one is preempted first.")
    labels: dict[str, str] = Field(default={}, description="Further labels, such as kueue.x-k8s.io/queue-name.")
    annotations: dict[str, str] = {}
    environment: dict[Variable, str] = Field(default={}, description="Further variables of the processes.")
    secrets: dict[Variable, SecretKey] = Field(default={}, description="Variables out of Secrets, such as HF_TOKEN.")
    grace_seconds: int = Field(default=60, ge=20, le=3600, description="From SIGTERM to SIGKILL when a pod is ended.")
    node_wait_minutes: float = Field(default=720, gt=0, description="How long a pod may wait for a node with room.")
    start_minutes: float = Field(default=30, gt=0, description="How long it may take to start on a node (image).")
    replacements: int = Field(
        default=3, ge=0, le=100, description="How often a pod that the cluster took away is replaced in one try."
    )
    kubeconfig: str | None = Field(default=None, description="File of the login; none: the pod's own, or ~/.kube.")
    context: str | None = Field(default=None, description="The context in that file; none: its current one.")
    connection: str | None = Field(
        default=None, description="Id of an Airflow connection of type Kubernetes; goes before kubeconfig in tasks."
    )

    @field_validator("image")
    @classmethod
    def _fixed(cls, image: str) -> str:
        if "@" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest")):
            raise ValueError("give a tag other than latest, or a digest: a resumed training needs the same image")
        return image

    def volume_of(self, path: Path) -> Volume | None:
        """The volume that a path of a task lies on in a pod; None if pods do not see it."""
        found = [volume for volume in self.volumes if path.is_relative_to(volume.path)]
        return max(found, key=lambda volume: len(volume.path), default=None)

    def check_writable(self, *folders: Path) -> None:
        """Refuse folders that pods would not see, or could not write into; the home of all state is one of them.

        :raises MedllmError: naming the folder, and what is mounted.
        """
        for folder in (home(), *folders):
            volume = self.volume_of(folder)
            if volume is None or volume.read_only:
                mounted = ", ".join(each.path for each in self.volumes if not each.read_only) or "nothing"
                raise MedllmError(
                    f"pods cannot write into {folder}: what they mount to write is {mounted}; in {settings_file()}, "
                    "give the volume of MEDLLM_HOME the path that it has here"
                )


def settings_file() -> Path:
    """Where the settings lie: ``MEDLLM_KUBERNETES``, or ``kubernetes/cluster.yaml`` of the include folder."""
    named = os.environ.get("MEDLLM_KUBERNETES")
    return Path(named).expanduser().absolute() if named else include() / "kubernetes" / "cluster.yaml"


def read_settings(path: Path | None = None) -> ClusterSettings:
    """Read and check the settings of the cluster.

    :param path: by default, :func:`settings_file`.
    :raises MedllmError: one sentence with all that is wrong; for an unknown key, the one that was meant.
    """
    path = path or settings_file()
    if not path.is_file():
        raise MedllmError(f"{path} is not there: it describes the cluster; docs/operations/kubernetes.md tells how")
    try:
        values = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedllmError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    try:
        return ClusterSettings.model_validate(values)
    except ValidationError as error:
        raise MedllmError(f"{path}: {problems_in_words(error, ClusterSettings)}") from error

"""How many accelerators an instance type holds, as far as its name tells.

Price lists get this wrong: one counts 4 K80 in a p2.8xlarge, one 12 H100 in a Standard_ND96isr_H100_v5, and catalogues
of pod slices count a whole slice as 1. Here are the large families only; None stands for every other type.

Sources: AWS, "Amazon EC2 instance types: accelerated computing" (docs.aws.amazon.com/ec2/latest/instancetypes);
Microsoft, "GPU accelerated virtual machine sizes" (learn.microsoft.com/azure/virtual-machines/sizes/overview);
Google, "GPU machine types" (cloud.google.com/compute/docs/gpus), where the name ends in the number, and "TPU versions"
(cloud.google.com/tpu/docs), where the number of v2, v3, v5e and v6e counts devices and that of v4 and v5p two per chip.
"""

from __future__ import annotations

import re

_ONE = dict.fromkeys(("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge"), 1)
_ONE_FOUR_EIGHT = _ONE | {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_AWS = {
    "p2": {"xlarge": 1, "8xlarge": 8, "16xlarge": 16},
    "p3": {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"4xlarge": 1, "48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "g3s": {"xlarge": 1},
    "g3": {"4xlarge": 1, "8xlarge": 2, "16xlarge": 4},
    "g4ad": {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 2, "16xlarge": 4},
    "g4dn": _ONE | {"12xlarge": 4, "metal": 8},
    "g5": _ONE_FOUR_EIGHT,
    "g5g": _ONE | {"16xlarge": 2, "metal": 2},
    "g6": _ONE_FOUR_EIGHT,
    "g6e": _ONE_FOUR_EIGHT,
    "gr6": {"4xlarge": 1, "8xlarge": 1},
    "trn1": {"2xlarge": 1, "32xlarge": 16},
    "trn1n": {"32xlarge": 16},
    "inf1": {"xlarge": 1, "2xlarge": 1, "6xlarge": 4, "24xlarge": 16},
    "inf2": {"xlarge": 1, "8xlarge": 1, "24xlarge": 6, "48xlarge": 12},
}
_AZURE = {
    "NC6": 1, "NC12": 2, "NC24": 4, "NC24r": 4,
    "NC6s_v3": 1, "NC12s_v3": 2, "NC24s_v3": 4, "NC24rs_v3": 4,
    "NC4as_T4_v3": 1, "NC8as_T4_v3": 1, "NC16as_T4_v3": 1, "NC64as_T4_v3": 4,
    "NC24ads_A100_v4": 1, "NC48ads_A100_v4": 2, "NC96ads_A100_v4": 4,
    "NC40ads_H100_v5": 1, "NC80adis_H100_v5": 2,
    "ND40rs_v2": 8, "ND96asr_v4": 8, "ND96amsr_A100_v4": 8, "ND96isr_H100_v5": 8, "ND96isr_H200_v5": 8,
    "NV36ads_A10_v5": 1, "NV72ads_A10_v5": 2,
}  # fmt: skip
_GCP_G2 = {4: 1, 8: 1, 12: 1, 16: 1, 32: 1, 24: 2, 48: 4, 96: 8}  # accelerators by vCPUs, the number in the name

_ACCELERATED = {
    "aws": re.compile(r"(?:p|g|gr|trn|inf|dl)\d"),
    "azure": re.compile(r"Standard_N[CDGV]"),  # NP holds FPGAs
    "gcp": re.compile(r"(?:a2|a3|a4x?|g2|g4)-|tpu-"),
}
_GCP_COUNT = re.compile(r"-(\d{1,4})g(?:-|$)")
_GCP_G2_SIZE = re.compile(r"g2-standard-(\d{1,4})$")
_TPU = re.compile(r"tpu-(v\d+[a-z]*)-(\d{1,6})$")
_TWO_CORES_A_DEVICE = ("v4", "v5p")


def has_accelerators(cloud: str, instance: str) -> bool:
    """Whether every type of that family holds accelerators."""
    family = _ACCELERATED.get(cloud)
    return family is not None and family.match(instance) is not None


def accelerators_of(cloud: str, instance: str) -> int | None:
    """Number of accelerators, each as a program sees them; None where the name does not tell."""
    if cloud == "aws":
        family, _, size = instance.partition(".")
        return _AWS.get(family, {}).get(size)
    if cloud == "azure":
        return _AZURE.get(instance.removeprefix("Standard_"))
    return _gcp_accelerators(instance) if cloud == "gcp" and has_accelerators(cloud, instance) else None


def _gcp_accelerators(instance: str) -> int | None:
    if tpu := _TPU.match(instance):
        cores = int(tpu[2])
        return max(1, cores // 2) if tpu[1] in _TWO_CORES_A_DEVICE else cores
    if g2 := _GCP_G2_SIZE.match(instance):
        return _GCP_G2.get(int(g2[1]))
    count = _GCP_COUNT.search(instance)
    return int(count[1]) if count else None

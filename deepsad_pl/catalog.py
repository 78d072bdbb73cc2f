"""What the methods are: what each may start from and what it needs. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodKind:
    """Facts about a method that a configuration must respect.

    Attributes:
        schema: name of its type of configuration in :data:`~deepsad_pl.schema.METHOD_CONFIGS`.
        pretrain: the choices of ``pretrain`` that it can start from.
        why: the reason, as the second half of an error message.
        needs_labeled_anomalies: whether it cannot be trained without one.
        column: of the paper's tables, where it is not the method's own name: the best of several variants.
        without_labels: the method that it is where nothing is labeled.
    """

    schema: str
    pretrain: tuple[str, ...]
    why: str
    needs_labeled_anomalies: bool = False
    column: str | None = None
    without_labels: str | None = None


_PHI = ("autoencoder", "none"), "starts from an autoencoder's encoder or from Glorot weights"
_RAW = ("none",), "works on the inputs themselves"
_HYBRID = ("autoencoder",), "works on the bottleneck of a pre-trained autoencoder"

METHODS: dict[str, MethodKind] = {
    "deep_sad": MethodKind("deep_sad", *_PHI),
    "deep_svdd": MethodKind("deep_svdd", *_PHI),
    "soft_boundary_svdd": MethodKind("soft_boundary_svdd", *_PHI, column="deep_svdd"),
    "autoencoder": MethodKind("autoencoder", ("none",), "trains one itself", column="cae"),
    "classifier": MethodKind("classifier", *_PHI, needs_labeled_anomalies=True),
    "ss_dgm_m2": MethodKind(
        "ss_dgm", ("none",), "starts from Glorot weights", needs_labeled_anomalies=True, column="ss_dgm"
    ),
    "ss_dgm_m1m2": MethodKind(
        "ss_dgm", ("vae",), "works on the latent variables of M1", needs_labeled_anomalies=True, column="ss_dgm"
    ),
    **{f"{name}_raw": MethodKind(name, *_RAW) for name in ("ocsvm", "iforest", "kde")},
    **{f"{name}_hybrid": MethodKind(name, *_HYBRID) for name in ("ocsvm", "iforest", "kde")},
    "ssad_raw": MethodKind("ssad", *_RAW, without_labels="ocsvm_raw"),
    "ssad_hybrid": MethodKind("ssad", *_HYBRID, without_labels="ocsvm_hybrid"),
}

# Estimators on arrays: nothing of theirs is trained by the Trainer.
SHALLOW = frozenset({"ocsvm", "iforest", "kde", "ssad"})


def is_shallow(method: str) -> bool:
    """Whether a method is an estimator on arrays."""
    return METHODS[method].schema in SHALLOW

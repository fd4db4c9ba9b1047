"""What the report shows of a text classifier: which classes it takes for which, and how sure it is of some texts."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import confusion_matrix
from torch import Tensor

from switch_ema.bench.exhibit import Counts, Passage

_SHOWN = 20  # classes at most of which the report shows a text
_WORDS = 25


def confusion(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Counts:
    """Count how often each class is taken for each.

    Args:
        logits: Floats of shape (n, classes), on the CPU.
        labels: The true classes, int64 of shape (n,).
        class_names: Name of each class.
    """
    counts = confusion_matrix(labels, logits.argmax(1), labels=range(len(class_names)))
    return Counts(
        "confusion", "Classes taken for each other", "Test texts: a row for each true class, a column for each answer.",
        class_names, class_names, counts.tolist(),
    )  # fmt: skip


def doubts(logits: Tensor, labels: Tensor, texts: Sequence[str], class_names: Sequence[str]) -> Passage:
    """Show the first test text of each class, the darker the less likely its true class is to the network.

    Args:
        logits: Floats of shape (n, classes), on the CPU.
        labels: The true classes, int64 of shape (n,).
        texts: The texts.
        class_names: Name of each class; of the first 20 a text is shown.
    """
    shares = logits.softmax(1)
    pieces = []
    for label, name in enumerate(class_names[:_SHOWN]):
        found = (labels == label).nonzero()
        if not len(found):
            continue
        number = int(found[0])
        said = int(shares[number].argmax())
        right, wrong = f"{shares[number, label]:.0%}", f", {class_names[said]}: {shares[number, said]:.0%}"
        words = texts[number].split()
        cut = " ".join(words[:_WORDS]) + (" ..." if len(words) > _WORDS else "")
        head = f"{name}: {right}{wrong if said != label else ''}"
        pieces += [(f"[{head}] {cut}", 1 - shares[number, label].item()), ("\n\n", 0.0)]
    return Passage(
        "doubts", "How sure of the true class", "One test text of each class, the same ones for all methods, with the "
        "probability of its true class, and of another where that is larger. The darker, the less sure.", pieces[:-1],
    )  # fmt: skip

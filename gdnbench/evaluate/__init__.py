"""What a trained model is worth: validation loss, and word perplexities under named conventions."""

from gdnbench.evaluate.perplexity import METRICS, WordPerplexity, evaluate_wikitext
from gdnbench.evaluate.scoring import score_documents, token_nll
from gdnbench.evaluate.validation import ValidationLoss, validation_loss

__all__ = [
    "METRICS",
    "ValidationLoss",
    "WordPerplexity",
    "evaluate_wikitext",
    "score_documents",
    "token_nll",
    "validation_loss",
]

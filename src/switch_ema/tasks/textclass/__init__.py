"""Text classification: name the class of a text, by an encoder trained from scratch or from a checkpoint folder."""

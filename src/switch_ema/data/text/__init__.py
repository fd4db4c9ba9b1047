"""Texts: vocabularies, and corpora for language modelling and for naming the class of a text."""

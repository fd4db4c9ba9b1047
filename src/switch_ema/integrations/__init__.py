"""Weight averaging inside other training frameworks: one module for each, imported by nothing else in the package."""

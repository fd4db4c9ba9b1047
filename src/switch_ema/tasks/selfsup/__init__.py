"""Self-supervised learning: the methods as modules of their own, and the task that trains and measures them."""

"""Language modelling: the networks, how they are measured, and the task that trains them."""

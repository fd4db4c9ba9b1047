"""Switch EMA in a JAX training loop: one transformation more at the end of the chain.

Run it with `python examples/optax_loop.py`; it takes a few seconds on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from switch_ema.integrations.optax import averaged_params, switch_ema


def logits(params: Any, images: jax.Array) -> jax.Array:
    return jax.nn.relu(images @ params["hidden"]) @ params["out"]


def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def main() -> float:
    images, labels = (jnp.asarray(array) for array in load_digits(return_X_y=True))
    images = images / 16
    keys = jax.random.split(jax.random.key(0), 2)
    params = {"hidden": jax.random.normal(keys[0], (64, 128)) / 8, "out": jax.random.normal(keys[1], (128, 10)) / 11}
    optimizer = optax.chain(
        optax.sgd(0.2, momentum=0.9),
        switch_ema(decay=0.9, switch_every="1 epoch", steps_per_epoch=28),  # added, last in the chain
    )

    def step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(params, images, labels), state, params)
        return optax.apply_updates(params, updates), state

    state, compiled = optimizer.init(params), jax.jit(step)
    for epoch in range(4):
        for batch in jax.random.permutation(jax.random.key(epoch), 1400).reshape(28, 50):
            params, state = compiled(params, state, images[batch], labels[batch])
    average = averaged_params(state, params)
    accuracy = float((logits(average, images[1400:]).argmax(1) == labels[1400:]).mean())
    print(f"accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    assert main() > 0.85

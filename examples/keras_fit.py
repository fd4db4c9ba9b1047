"""Switch EMA in Keras, on the backend that KERAS_BACKEND names: one callback.

Run it with `KERAS_BACKEND=jax python examples/keras_fit.py` (or `torch`); it takes a few seconds on a CPU.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from sklearn.datasets import load_digits

from switch_ema.integrations.keras import WeightAveraging


def main() -> float:
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    dense = [keras.layers.Dense(128, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss, metrics=["accuracy"])
    averaging = WeightAveraging(decay=0.9, switch_every="1 epoch")  # added
    model.fit(
        images[:1400],
        labels[:1400],
        batch_size=50,
        epochs=3,
        validation_data=(images[1400:], labels[1400:]),  # on the average
        callbacks=[averaging],  # added
        verbose=0,
    )
    accuracy = model.evaluate(images[1400:], labels[1400:], verbose=0)[1]
    print(f"accuracy {accuracy:.3f} after {averaging.n_averaged} updates and {averaging.n_switches} switches")
    return float(accuracy)


if __name__ == "__main__":
    assert main() > 0.85

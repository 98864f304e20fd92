"""A real training for the demo: one scikit-learn model on bundled data, logged step by step.

usage: train.py MODEL [--seconds S] [--fail-at EPOCH] [--workers N]
"""

import argparse
import multiprocessing
import time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import trainledger

DATA = {"digits": load_digits, "cancer": load_breast_cancer}


def make_model(name: str, rate: float, seed: int) -> SGDClassifier | MLPClassifier:
    """A classifier that can be trained a pass at a time."""
    if name == "mlp":
        return MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=rate, random_state=seed)
    return SGDClassifier(loss="log_loss", alpha=rate, random_state=seed)


def train(options: argparse.Namespace, seed: int) -> None:
    """Train until the time is up; every pass logs its losses and accuracy."""
    images, labels = DATA[options.data](return_X_y=True)
    scaled = StandardScaler().fit_transform(images)
    train_x, test_x, train_y, test_y = train_test_split(scaled, labels, test_size=0.25, random_state=0)
    model = make_model(options.model, options.rate, seed)
    generator = np.random.default_rng(seed)
    started = time.monotonic()
    epoch = 0
    while time.monotonic() - started < options.seconds:
        order = generator.permutation(len(train_x))
        for batch in np.array_split(order, 16):
            model.partial_fit(train_x[batch], train_y[batch], classes=np.unique(labels))
        trainledger.log(
            {
                "train/loss": log_loss(train_y, model.predict_proba(train_x), labels=np.unique(labels)),
                "eval/loss": log_loss(test_y, model.predict_proba(test_x), labels=np.unique(labels)),
                "eval/accuracy": model.score(test_x, test_y),
            },
            step=epoch,
        )
        epoch += 1
        if options.fail_at and epoch == options.fail_at:
            raise ValueError(f"loss exploded in epoch {epoch} (asked for by --fail-at)")
    print(f"{options.model} on {options.data}: {epoch} epochs, accuracy {model.score(test_x, test_y):.4f}")


def main() -> None:
    """Parse, start the run, train; with --workers, that many processes of one run side by side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=("mlp", "sgd"))
    parser.add_argument("--data", choices=sorted(DATA), default="digits")
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--fail-at", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    run = trainledger.init(config={k: v for k, v in vars(options).items() if k != "fail_at"})
    run.define_metric("eval/accuracy", goal="max")
    run.define_metric("eval/loss", goal="min")
    if options.workers == 1:
        train(options, seed=0)
        return
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=train, args=(options, seed)) for seed in range(options.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()

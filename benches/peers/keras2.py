"""tf.keras 2.12's Adafactor: `python keras2.py eager|function|xla THREADS`."""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf
from contestant import GRADIENT, LEARNING_RATE, PARAMETER, arrays, change, serve


class Contestant:
    def __init__(self, mode):
        self.mode = mode

    def prepare(self, shapes):
        self.apply = self.optimizer = self.parameters = self.gradients = None
        self.parameters = [tf.Variable(p) for p in arrays(PARAMETER, shapes)]
        self.gradients = [tf.constant(g) for g in arrays(GRADIENT, shapes)]

    def build(self):
        self.optimizer = tf.keras.optimizers.experimental.Adafactor(
            learning_rate=LEARNING_RATE, jit_compile=False
        )
        self.optimizer.build(self.parameters)

        def apply(gradients):
            self.optimizer.apply_gradients(zip(gradients, self.parameters))

        if self.mode == "eager":
            self.apply = apply
        else:
            self.apply = tf.function(apply, jit_compile=self.mode == "xla")

    def step(self, count):
        for _ in range(count):
            self.apply(self.gradients)
        # Reading a value waits for everything before it.
        self.optimizer.iterations.numpy()

    def facts(self):
        variables = self.optimizer.variables
        state = sum(v.shape.num_elements() * v.dtype.size for v in variables)
        moved = change(tf.reshape(p, [-1])[:65536].numpy() for p in self.parameters)
        return {"state_bytes": state, "change": moved}


def main():
    mode, threads = sys.argv[1], int(sys.argv[2])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    versions = {"tensorflow": tf.__version__, "keras": tf.keras.__version__}
    serve(Contestant(mode), mode, versions)


main()

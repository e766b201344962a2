"""Records what tf.keras does, as golden traces for goldstep (see golden/README.md)."""

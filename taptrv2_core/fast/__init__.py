"""A network that will not change any more, made fast: fewer operations, in the processor's own number format."""

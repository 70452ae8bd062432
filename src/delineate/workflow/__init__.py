"""The order of the stages: the only package that knows all of them. It calls and passes, and computes nothing."""

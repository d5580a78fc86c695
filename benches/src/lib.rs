//! Load client, floors and micro-benchmarks.

//! Properties of the decoder, as one function that a fuzzer and a test call.
